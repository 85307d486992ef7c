"""Activity in Avro, as a message of a stream may hold it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import avro_schema
from transforms.reading.activity import BOM, ActivityError
from transforms.reading.avro_datum import DamagedError, OddRowError, RowReader
from transforms.reading.avro_file import MAGIC, avro_rows
from transforms.reading.avro_schema import parse_schema
from transforms.reading.blocks import BLANK, Block
from transforms.reading.compression import compression_of
from transforms.reading.signatures import HEAD, problem

_SINGLE_OBJECT = b"\xc3\x01"
_FINGERPRINT = 8
_SCHEMA = "session_activity"
_JSON = (b"{", b"[")


def is_avro(message: bytes) -> bool:
    """Whether `message` is anything but a JSON object or array.

    No Avro record of our schema can be mistaken for one. It begins with the length of a string, and the bytes of both
    brackets stand for negative numbers there.
    """
    return bool(message) and not message.removeprefix(BOM).lstrip(BLANK).startswith(_JSON)


def avro_activities(message: bytes) -> Iterator[dict[str, Any] | ActivityError]:
    r"""The rows of a message, for `ActivityDecoder.admit_row`, and an error for each part that cannot be read.

    How the message begins says what it is:
        `Obj\x01`: an object container file, of any schema and with any number of rows;
        `\xc3\x01`: one row in the single-object encoding of `schemas/session_activity.avsc`;
        anything else: one row of that schema, and nothing else.
    """
    try:
        if message.startswith(MAGIC):
            for block in avro_rows(iter([message])):
                if isinstance(block, Block):
                    yield from block.items
                else:
                    yield ActivityError(block.reason)
        else:
            yield _datum(_without_marker(message) if message.startswith(_SINGLE_OBJECT) else message)
    except ActivityError as error:
        # Only when it is no row: the length of an id may begin as something else does.
        compression = compression_of(message)
        other = f"a message that is compressed ({compression})" if compression else problem(message[:HEAD], "avro")
        yield ActivityError(other) if other else error


def _without_marker(message: bytes) -> bytes:
    start = len(_SINGLE_OBJECT) + _FINGERPRINT
    theirs, ours = message[len(_SINGLE_OBJECT) : start], _our_fingerprint()
    if theirs != ours:
        raise ActivityError(
            f"Avro of a schema that is not known (CRC-64-AVRO {theirs.hex()}); known is {_SCHEMA}.avsc "
            f"({ours.hex()}): use that, or send Avro object container files"
        )
    return message[start:]


@cache
def _our_fingerprint() -> bytes:
    """CRC-64-AVRO of the schema, in the byte order of the single-object encoding."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(avro_schema(_SCHEMA)), "CRC-64-AVRO"))


@cache
def _reader() -> RowReader:
    return RowReader(parse_schema(json.dumps(avro_schema(_SCHEMA))))


def _datum(encoded: bytes) -> dict[str, Any]:
    try:
        row, end = _reader().read(encoded, 0)
    except OddRowError as error:
        whole = error.end == len(encoded)
        raise ActivityError(str(error) if whole else _not_readable(str(error))) from None
    except DamagedError as error:
        raise ActivityError(_not_readable(str(error))) from None
    if end < len(encoded):
        raise ActivityError(_not_readable(f"{len(encoded) - end} bytes are left over"))
    return row


def _not_readable(reason: str) -> str:
    return f"neither a JSON object nor Avro of {_SCHEMA}.avsc: {reason[:200]}"
