"""Compressed content, decompressed piece by piece. What it is compressed with is told by its first bytes."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Literal

import zstandard

from transforms.reading.blocks import CHUNK, CutShortError, beginning_and_length
from transforms.reading.limits import Allowance, ReadLimits, TooLargeError

Compression = Literal["gz", "bz2", "zst", "xz"]

_PIECES: dict[Compression, int] = {"gz": 8192, "bz2": 8192, "zst": 512, "xz": 8192}
"""Bytes decompressed at a time. What these can blow up to bounds the memory, whatever the file claims: a byte of gzip
to 1 KiB, a byte of zstd to 32 KiB. bz2 and xz give their content in parts."""
_LAYERS = 2
"""Files that were compressed already are compressed once more by some tools."""

_ZSTD_SKIPPABLE = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))
_MAGIC: dict[Compression, tuple[bytes, ...]] = {
    "gz": (b"\x1f\x8b",),
    "bz2": tuple(b"BZh%d" % level for level in range(1, 10)),
    "zst": (b"\x28\xb5\x2f\xfd", *_ZSTD_SKIPPABLE),
    "xz": (b"\xfd7zXZ\0",),
}
MAGIC_LENGTH = 6

_STREAMS: dict[Compression, Callable[[ReadLimits], Any]] = {
    "gz": lambda _: zlib.decompressobj(wbits=31),
    "bz2": lambda _: bz2.BZ2Decompressor(),
    "zst": lambda limits: zstandard.ZstdDecompressor(max_window_size=limits.window).decompressobj(),
    "xz": lambda limits: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.window),
}


def compression_of(head: bytes) -> Compression | None:
    """What content is compressed with that begins with `head`, MAGIC_LENGTH bytes of it or more; None if it is not.

    Fewer bytes are all that there is: then the beginning of what tells a compression is enough.
    """
    for compression, magics in _MAGIC.items():
        for magic in magics:
            if head.startswith(magic) or (head and len(head) < MAGIC_LENGTH and magic.startswith(head)):
                return compression
    return None


def decompressed(chunks: Iterator[bytes], allowance: Allowance | None = None) -> Iterator[bytes]:
    """The content of `chunks`, never b"": as it is, or decompressed, also twice if it was compressed twice.

    Raises CutShortError after the last readable byte of a damaged or incomplete stream, and where more would come of
    it than is allowed.

    Args:
        chunks: the bytes of a file.
        allowance: for the file, whose bytes it counts; None: `chunks` are the file.
    """
    if allowance is None:
        allowance = Allowance()
        chunks = allowance.counting(chunks)
    for _ in range(_LAYERS):
        head, chunks = peeked(chunks, MAGIC_LENGTH)
        compression = compression_of(head)
        if compression is None:
            break
        chunks = _inflated(chunks, compression, allowance)
    return chunks


def peeked(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of `chunks`, `size` of them or more if there are as many, and all of `chunks` again."""
    head: list[bytes] = []
    rest: Iterator[bytes] = chunks
    try:
        while sum(map(len, head)) < size:
            chunk = next(chunks, b"")
            if not chunk:
                break
            head.append(chunk)
    except CutShortError as cut:
        rest = _raising(cut)
    return b"".join(head), chain(head, rest)


def _raising(cut: CutShortError) -> Iterator[bytes]:
    raise cut
    yield  # a generator: it raises when it is asked for more


def _inflated(chunks: Iterator[bytes], compression: Compression, allowance: Allowance) -> Iterator[bytes]:
    """Any number of compressed streams one after the other, as the formats allow; zero bytes may follow them."""
    stream: Any = None
    began = False
    gathered: list[bytes] = []
    size = 0
    made = 0
    waiting = 0  # bytes taken since the last that something came of
    problem: CutShortError | None = None
    pieces = _pieces(chunks, _PIECES[compression])
    while problem is None:
        try:
            left = next(pieces, b"")
        except CutShortError as cut:
            problem = cut
            break
        if not left:
            break
        while left:
            if stream is None:
                left = left.lstrip(b"\0") if began else left
                if not left:
                    break
                stream, began = _STREAMS[compression](allowance.limits), True
            waiting += len(left)
            try:
                for content in _decompress(stream, left, compression):
                    made += len(content)
                    allowance.check(made, f"the {compression} stream")
                    gathered.append(content)
                    size += len(content)
                    waiting = 0
                    if size >= CHUNK:
                        yield from _cut(b"".join(gathered))
                        gathered, size = [], 0
            except TooLargeError as error:
                problem = _damaged(str(error), left, pieces)
                break
            except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                problem = _damaged(_problem(error, compression, allowance.limits), left, pieces)
                break
            left = b""
            if stream.eof:
                left, stream, waiting = stream.unused_data, None, 0
    if size:
        yield b"".join(gathered)
    if problem is not None:
        raise problem
    if stream is not None:
        raise CutShortError(f"the {compression} stream is cut short", length=waiting)


def _problem(error: Exception, compression: Compression, limits: ReadLimits) -> str:
    if "memory" in str(error).lower():  # the one word that both libraries have for a window that is too large
        return f"the {compression} stream refers back further than the {limits.window} bytes that are kept for it"
    return f"the {compression} stream is damaged: {error}"


def _cut(content: bytes) -> Iterator[bytes]:
    """`content` in chunks, if it is much more than one."""
    if len(content) <= 2 * CHUNK:
        yield content
    else:
        for at in range(0, len(content), CHUNK):
            yield content[at : at + CHUNK]


def _decompress(stream: Any, data: bytes, compression: Compression) -> Iterator[bytes]:
    """What comes of `data`, in parts that are not too large, none of them b""."""
    bounded = compression in ("bz2", "xz")
    while True:
        content = stream.decompress(data, CHUNK) if bounded else stream.decompress(data)
        if content:
            yield content
        if not bounded or stream.eof or stream.needs_input:
            return
        data = b""


def _damaged(reason: str, content: bytes, pieces: Iterator[bytes]) -> CutShortError:
    """The error for content that cannot be decompressed, from `content` on to the end of `pieces`, which are read."""
    return CutShortError(reason, *beginning_and_length(content, pieces))


def _pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), size):
            yield chunk[at : at + size]
