"""Files of frames on local disk: a length in four bytes, then that many bytes."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FRAME = struct.Struct("<I")


def bucket_file(scratch: Path, what: str, bucket: int) -> Path:
    return scratch / f"{what}-{bucket:02}"


def write_frame(stream: BinaryIO, data: bytes) -> None:
    stream.write(FRAME.pack(len(data)))
    stream.write(data)


def read_frames(stream: BinaryIO, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Each frame with its offset, from where the stream is, at `offset`, to `end` or the end of the stream."""
    while offset != end and (head := stream.read(FRAME.size)):
        (size,) = FRAME.unpack(head)
        yield offset, stream.read(size)
        offset += FRAME.size + size


def frame_at(stream: BinaryIO, offset: int) -> bytes:
    """The frame with its length, ready to be written elsewhere."""
    stream.seek(offset)
    head = stream.read(FRAME.size)
    return head + stream.read(FRAME.unpack(head)[0])
