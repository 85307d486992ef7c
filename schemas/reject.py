"""Input that was refused: `reject.avsc` as a type."""

import msgspec

CONTENT_LIMIT = 64 * 1024
"""Bytes of a refused piece of input that are kept."""


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A piece of input that was refused.

    Attributes:
        file: its path, or kinesis://STREAM/SHARD:SEQUENCE; of a statement that arrived after another of its id the
            stream alone.
        position: of a line, its byte offset in the decompressed file; else its index in the file or message.
        reason: why, in words for the user.
        content: the first CONTENT_LIMIT bytes of it.
        length: all its bytes; 0 where that is not known.
    """

    file: str
    position: int
    reason: str
    content: bytes
    length: int
