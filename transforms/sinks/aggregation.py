"""Several records in one record of a stream (docs/spec/forwarders.md section 3, *Aggregation*).

For data streams it is the aggregated record of the Kinesis Producer Library
(https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md): four bytes that say so, a
protobuf message, and the MD5 of the message. The message is

    AggregatedRecord: 1 repeated string partition_key_table, 3 repeated Record records
    Record:           1 uint64 partition_key_index, 3 bytes data

It is written here by hand: three kinds of fields, and a schema that has not changed since 2014.
"""

import hashlib
from collections.abc import Sequence

from schemas.aggregated_records import DIGEST_BYTES, MAGIC
from transforms.sinks.batches import one_line

RECORD_OVERHEAD = 2 + 2 * 6
"""Bytes that a record takes beside its data, at most: the index of its key, and two fields with their lengths."""

_KEY = b"\x0a"  # field 1, of bytes
_RECORD = b"\x1a"  # field 3, of bytes
_FIRST_KEY = b"\x08\x00"  # field 1, a number: 0
_DATA = b"\x1a"  # field 3, of bytes


def overhead(key: str) -> int:
    """Bytes of an aggregated record with this partition key beside its records, at most."""
    return len(MAGIC) + DIGEST_BYTES + 6 + len(key.encode())


def aggregated(key: str, payloads: Sequence[bytes]) -> bytes:
    """The data of one aggregated record.

    Args:
        key: the partition key, of all of them: a consumer drops records whose key does not belong to the shard.
        payloads: in their order.
    """
    encoded_key = key.encode()
    pieces = [_KEY, _varint(len(encoded_key)), encoded_key]
    for payload in payloads:
        length = _varint(len(payload))
        pieces += (
            _RECORD,
            _varint(len(_FIRST_KEY) + 1 + len(length) + len(payload)),
            _FIRST_KEY,
            _DATA,
            length,
            payload,
        )
    message = b"".join(pieces)
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def lines(payloads: Sequence[bytes]) -> bytes:
    """The data of one record of a delivery stream: each payload in a line of its own, with its line end."""
    return b"".join([one_line(payload) + b"\n" for payload in payloads])


def _varint(number: int) -> bytes:
    """A number in protobuf: seven bits a byte, the lowest first, and a bit that says whether more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
