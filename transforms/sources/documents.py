"""Documents of MongoDB as lines of canonical Extended JSON, version 2.

https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/. Every number says its type, so that a decimal, a
64-bit integer and a double arrive as what they are.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import bson
import orjson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.int64 import Int64
from bson.objectid import ObjectId

from schemas.times import millis_of

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class DocumentError(ValueError):
    """A document cannot be written as JSON. The text says why."""


def decoded(raw: bytes) -> dict[str, Any]:
    """The document that `raw` is in BSON. Raises DocumentError if it is damaged, or holds text that is not UTF-8."""
    try:
        return bson.decode(raw, _OPTIONS)
    except (BSONError, ValueError, OverflowError) as error:
        raise DocumentError(f"the document is no valid BSON ({type(error).__name__})") from None


def canonical_line(document: dict[str, Any]) -> bytes:
    """`document`, as `decoded` gave it, on one line.

    Raises:
        DocumentError: it is nested too deep.
    """
    try:
        return orjson.dumps(_extended(document))
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise DocumentError(f"the document cannot be written as JSON ({type(error).__name__})") from None


def _extended(value: Any) -> Any:
    convert = _TYPES.get(type(value))
    if convert is not None:
        return convert(value)
    # Binary, decimals, regular expressions and what else is rare in a document of statements.
    return json_util.default(value, json_util.CANONICAL_JSON_OPTIONS)


def _same(value: Any) -> Any:
    return value


def _double(value: float) -> dict[str, str]:
    spelled = repr(value)
    return {"$numberDouble": {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(spelled, spelled)}


_TYPES: dict[type, Callable[[Any], Any]] = {
    str: _same,
    bool: _same,
    type(None): _same,
    dict: lambda value: {name: _extended(entry) for name, entry in value.items()},
    list: lambda value: [_extended(entry) for entry in value],
    int: lambda value: {"$numberInt": str(value)},
    Int64: lambda value: {"$numberLong": str(int(value))},
    float: _double,
    ObjectId: lambda value: {"$oid": str(value)},
    datetime: lambda value: {"$date": {"$numberLong": str(millis_of(value))}},
}
