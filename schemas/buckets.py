"""Which part of the users a user belongs to: the one hash that shuffling and receipts share."""

from zlib import crc32

BUCKETS = 64


def bucket_of(user_id: str) -> int:
    """In [0, BUCKETS), the same in every process and on every run."""
    return crc32(user_id.encode("utf-8", "surrogatepass")) % BUCKETS
