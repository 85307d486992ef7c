"""The end of a part, for whoever wants to see what came last: its last blocks, without reading those before."""

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from transforms.receipts.avro_container import Reader, TornError, header
from transforms.receipts.parts import rows_of

WINDOW = 1024 * 1024
"""Bytes at the end of a part that are read."""

LARGEST_WINDOW = 16 * WINDOW
"""Bytes that are read if no block begins in fewer. A block that is longer is not read: it holds one very large row."""


def last_rows(stream: BinaryIO, name: str, shape: str) -> Iterator[dict[str, Any]]:
    """The rows of the last blocks of a part, from the earlier to the later.

    Every block ends with the part's sync marker, so the next block begins behind the first marker in the window.

    Args:
        stream: the part. It must be able to seek.
        name: what errors call it.
        shape: `receipt` or `dead_letter`.

    Raises:
        NotAContainerError: the file is no part of the job's.
        TornError: its header is cut short.
    """
    whole = Reader(stream, name).header
    size = stream.seek(0, os.SEEK_END)
    blocks = _last_blocks(stream, size, whole.length, whole.sync)
    reader = Reader(io.BytesIO(header(whole.schema, whole.sync) + blocks), name)
    yield from rows_of(whole.schema, _until_torn(reader), shape)


def _last_blocks(stream: BinaryIO, size: int, first: int, sync: bytes) -> bytes:
    """The bytes of the last blocks of a file of `size` bytes whose first block begins at byte `first`."""
    window = WINDOW
    while True:
        start = max(first, size - window)
        data = _read(stream, start, size - start)
        if start == first:
            return data
        marker = data.find(sync)
        # What is behind a marker is a block only if there is something.
        if 0 <= marker < len(data) - len(sync):
            return data[marker + len(sync) :]
        if window >= LARGEST_WINDOW:
            return b""
        window *= 4


def _read(stream: BinaryIO, start: int, size: int) -> bytes:
    stream.seek(start)
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            break
        data += piece
    return data


def _until_torn(reader: Reader) -> Iterator[Any]:
    try:
        yield from reader
    except TornError:
        return  # The part was cut short by a kill. What could be read was.
