"""What a Kinesis data stream takes (limits: AWS' documentation of PutRecords). It brings no client of AWS."""

import hashlib
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

MAX_KEY_UNITS = 256
"""UTF-16 units that a partition key may have."""

SHORT_KEY = MAX_KEY_UNITS // 2
"""A key of so many characters fits in any case, since each is one or two UTF-16 units. So it need not be counted."""

UTF8_BYTES = 4
"""Bytes that a character takes, at most."""


def partition_key(user_id: str) -> str:
    """The partition key of a user's records: the user id, or its SHA-256 in hex if it is too long for a key.

    With one key for all of them a user's records go to one shard, which keeps their order.
    """
    if len(user_id) <= SHORT_KEY or len(user_id.encode("utf-16-le")) <= 2 * MAX_KEY_UNITS:
        return user_id
    return hashlib.sha256(user_id.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a data stream takes. The defaults are those of a stream that was not configured otherwise.

    Attributes:
        record_bytes: bytes of one record: its data and its partition key.
        request_bytes: bytes of one PutRecords request.
    """

    record_bytes: int = 1 * MIB
    request_bytes: int = 5 * MIB

    @classmethod
    def for_record_size(cls, kib: int | None) -> "StreamLimits":
        """The limits of a stream that takes records of up to `kib` KiB; a request may then be larger, too.

        Args:
            kib: `MaxRecordSizeInKiB` of DescribeStreamSummary; None if that has none, which means 1,024.
        """
        kib = 1024 if kib is None else kib
        return cls(kib * KIB, 10 * MIB if kib > 1024 else 5 * MIB)
