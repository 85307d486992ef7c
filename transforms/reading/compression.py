"""Compressed files, decompressed piece by piece."""

import bz2
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import zstandard

from transforms.reading.blocks import CHUNK, Compression, CutShortError


def decompressed(chunks: Iterable[bytes], compression: Compression | None) -> Iterator[bytes]:
    """What `chunks` hold, decompressed, in pieces of about CHUNK bytes and never empty.

    Raises:
        CutShortError: after the last byte that could be decompressed, when the stream is damaged or incomplete.
    """
    if compression is None:
        return iter(chunks)
    return _inflated(chunks, compression)


def _inflated(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """All three formats allow several streams, one after the other, and zero bytes after the last."""
    stream: Any = None
    began = False
    gathered: list[bytes] = []
    size = 0
    problem = ""
    for piece in _pieces(chunks):
        left = piece
        while left and not problem:
            if stream is None:
                left = left.lstrip(b"\0") if began else left
                if not left:
                    break
                stream, began = _STREAMS[compression](), True
            try:
                content = stream.decompress(left)
            except (zlib.error, zstandard.ZstdError, OSError, EOFError, ValueError) as error:
                problem = f"the {compression} stream is damaged: {error}"
                break
            gathered.append(content)
            size += len(content)
            left = b""
            if stream.eof:
                left, stream = stream.unused_data, None
        if size >= CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
        if problem:
            break
    if size:
        yield b"".join(gathered)
    if stream is not None:
        raise CutShortError(problem or f"the {compression} stream is cut short")


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # Small, so that memory is bounded by what 8 KiB can decompress to.
    for chunk in chunks:
        for offset in range(0, len(chunk), 8192):
            yield chunk[offset : offset + 8192]


_STREAMS: dict[Compression, Callable[[], Any]] = {
    "gz": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
