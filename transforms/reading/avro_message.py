"""Activity in Avro, as one message of a stream holds it."""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import avro_schema
from transforms.reading.activity import BOM, ActivityError
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import Block

_CONTAINER = b"Obj\x01"
_SINGLE_OBJECT = b"\xc3\x01"
_FINGERPRINT = 8
_SCHEMA = "session_activity"
_JSON = (b"{", b"[")


def is_avro(message: bytes) -> bool:
    """Whether `message` cannot be a JSON object or array. An Avro record that begins with a string begins with neither
    bracket: as its length both are negative."""
    return bool(message) and not message.removeprefix(BOM).lstrip(b" \t\r\n").startswith(_JSON)


def avro_activities(message: bytes) -> Iterator[dict[str, Any] | ActivityError]:
    r"""The rows that `message` holds, for `ActivityDecoder.admit_row`; at the end an error if it cannot be read on.

    By how it begins: `Obj\x01`, an object container file, of any schema, with any number of activities; `\xc3\x01`,
    the single-object encoding, of `schemas/session_activity.avsc`; anything else, the bare datum of that schema.
    """
    try:
        if message.startswith(_CONTAINER):
            for block in avro_rows(iter([message])):
                if not isinstance(block, Block):
                    raise ActivityError(block.reason)
                yield from block.items
        else:
            yield _datum(_without_marker(message) if message.startswith(_SINGLE_OBJECT) else message)
    except ActivityError as error:
        yield error


def _without_marker(message: bytes) -> bytes:
    start = len(_SINGLE_OBJECT) + _FINGERPRINT
    given, known = message[len(_SINGLE_OBJECT) : start], _known_fingerprint()
    if given != known:
        raise ActivityError(
            f"Avro of a schema that is not known (CRC-64-AVRO {given.hex()}); known is {_SCHEMA}.avsc "
            f"({known.hex()}): use that, or send Avro object container files"
        )
    return message[start:]


@cache
def _known_fingerprint() -> bytes:
    """CRC-64-AVRO of the schema, in the byte order of the single-object encoding."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(avro_schema(_SCHEMA)), "CRC-64-AVRO"))


@cache
def _parsed_schema() -> Any:
    return fastavro.parse_schema(avro_schema(_SCHEMA))


def _datum(encoded: bytes) -> dict[str, Any]:
    stream = BytesIO(encoded)
    try:
        # Invalid UTF-8 is found, and named, by the decoder of activity.
        row = fastavro.schemaless_reader(stream, _parsed_schema(), None, handle_unicode_errors="surrogateescape")
    except Exception as error:  # fastavro raises whatever the damage leads to
        raise ActivityError(_not_readable(str(error) or type(error).__name__)) from None
    if stream.tell() < len(encoded):
        raise ActivityError(_not_readable(f"{len(encoded) - stream.tell()} bytes are left over"))
    return cast(dict[str, Any], row)


def _not_readable(reason: str) -> str:
    return f"neither a JSON object nor Avro of {_SCHEMA}.avsc: {reason[:200]}"
