"""The bucket of a user: one of 64 parts of all users. The shuffle and the receipts are by bucket."""

from zlib import crc32

BUCKETS = 64


def bucket_of(user_id: str) -> int:
    """The bucket of a user, from 0 to BUCKETS - 1. It is the same in every process and on every run."""
    return crc32(user_id.encode("utf-8", "surrogatepass")) % BUCKETS
