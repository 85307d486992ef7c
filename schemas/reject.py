"""Input that is not session activity: `reject.avsc` as a type."""

import msgspec

CONTENT_LIMIT = 64 * 1024


class Reject(msgspec.Struct, frozen=True, gc=False):
    """Why and where. `position`: byte offset of a line in the decompressed file; else an element's index."""

    file: str
    position: int
    reason: str
    content: bytes
    length: int
