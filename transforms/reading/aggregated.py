"""Several records in one record of a Kinesis data stream, as the Kinesis Producer Library writes them.

The format (https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md) is four bytes that say
so, a protobuf message, and the MD5 of the message. Of the message only the data of the records is read:

    AggregatedRecord: 3 repeated Record records
    Record:           3 bytes data

Beam's Java source takes such records apart itself, and gives on what it cannot take apart as it is. So in a streaming
job on Flink what comes here is broken.
"""

import hashlib
from collections.abc import Iterator

from schemas.aggregated_records import DIGEST_BYTES, MAGIC
from transforms.reading.activity import ActivityError

_RECORDS, _DATA = 3, 3
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_FIXED = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10
_WHAT = "an aggregated record of the Kinesis Producer Library"


class _BrokenError(ValueError):
    """It is no protobuf message. The text says how."""


def is_aggregated(message: bytes) -> bool:
    """Whether a message of a stream is an aggregated record, sound or not."""
    return message.startswith(MAGIC)


def inner_records(message: bytes) -> list[bytes]:
    """The data of the records in an aggregated record, in their order.

    Raises:
        ActivityError: it is broken. Then no part of it is to be trusted.
    """
    if len(message) < len(MAGIC) + DIGEST_BYTES:
        raise ActivityError(f"{_WHAT} of {len(message)} bytes, which is cut short", rule=f"{_WHAT} that is cut short")
    content, digest = message[len(MAGIC) : -DIGEST_BYTES], message[-DIGEST_BYTES:]
    if hashlib.md5(content, usedforsecurity=False).digest() != digest:
        raise ActivityError(f"{_WHAT} that is damaged: its MD5 does not fit")
    try:
        return [_data(record) for number, record in _fields(content) if number == _RECORDS]
    except _BrokenError as error:
        raise ActivityError(f"{_WHAT} that cannot be read: {error}", rule=f"{_WHAT} that cannot be read") from None


def _data(record: bytes) -> bytes:
    found = None
    for number, value in _fields(record):
        if number == _DATA:
            found = value
    if found is None:
        raise _BrokenError("a record in it has no data")
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that are bytes. All others are passed over."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise _BrokenError(f"a field of type {kind} at byte {at}")
        if length > end - at:
            raise _BrokenError(f"a field of {length} bytes at byte {at}, where {end - at} are left")
        if kind == _BYTES:
            yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends: seven bits a byte, the lowest first; the eighth says if more follow."""
    number = 0
    for index, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise _BrokenError(f"a number without an end at byte {at}")
