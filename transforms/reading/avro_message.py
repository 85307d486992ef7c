"""Activity in Avro, as a message of a stream may hold it."""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import avro_schema
from transforms.reading.activity import BOM, ActivityError
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import BLANK, Block

_CONTAINER = b"Obj\x01"
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
    r"""The rows of a message, for `ActivityDecoder.admit_row`. If it cannot be read on, the last is the error.

    How the message begins says what it is:
        `Obj\x01`: an object container file, of any schema and with any number of rows;
        `\xc3\x01`: one row in the single-object encoding of `schemas/session_activity.avsc`;
        anything else: one row of that schema, and nothing else.
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
def _parsed_schema() -> Any:
    return fastavro.parse_schema(avro_schema(_SCHEMA))


def _datum(encoded: bytes) -> dict[str, Any]:
    stream = BytesIO(encoded)
    try:
        # Invalid UTF-8 is escaped here, and ActivityDecoder refuses it by its field.
        row = fastavro.schemaless_reader(stream, _parsed_schema(), None, handle_unicode_errors="surrogateescape")
    except Exception as error:  # fastavro raises whatever the damage leads to
        raise ActivityError(_not_readable(str(error) or type(error).__name__)) from None
    if stream.tell() < len(encoded):
        raise ActivityError(_not_readable(f"{len(encoded) - stream.tell()} bytes are left over"))
    return cast(dict[str, Any], row)


def _not_readable(reason: str) -> str:
    return f"neither a JSON object nor Avro of {_SCHEMA}.avsc: {reason[:200]}"
