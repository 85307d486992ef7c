"""The codecs of Avro's container files: those of its specification, and lz4 as fastavro writes it.

A block is decompressed no further than it may be, so that a few bytes cannot fill the memory.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import zstandard

from transforms.reading.limits import LIMITS, TooLargeError

Decompress = Callable[[bytes, int], bytes]
"""Turns the bytes of a block into its rows, which take at most so many bytes."""


def decompressor(codec: str) -> Decompress | None:
    """The function for a codec; None if it is not known.

    It raises what its library raises, and TooLargeError for a block that holds more bytes than it was told.
    """
    return _DECOMPRESSORS.get(codec)


def _same(block: bytes, most: int) -> bytes:
    return block


def _deflate(block: bytes, most: int) -> bytes:
    # Raw deflate. Some writers leave the end of a checksum behind it.
    return _at_most(zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(block, most + 1), most)


def _bzip2(block: bytes, most: int) -> bytes:
    return _streams(bz2.BZ2Decompressor, block, most)


def _xz(block: bytes, most: int) -> bytes:
    return _streams(lambda: lzma.LZMADecompressor(memlimit=LIMITS.window), block, most)


def _streams(new: Callable[[], Any], block: bytes, most: int) -> bytes:
    """What streams hold that follow each other. What follows the last one and is none is passed over."""
    contents: list[bytes] = []
    size = 0
    while block or not contents:
        stream = new()
        try:
            contents.append(stream.decompress(block, most + 1 - size))
        except (OSError, lzma.LZMAError):
            if not contents:
                raise
            break
        size += len(_at_most(contents[-1], most - size))
        if not stream.eof:
            raise ValueError("cut short")
        block = stream.unused_data
    return b"".join(contents)


def _snappy(block: bytes, most: int) -> bytes:
    """Snappy, and after it the checksum of what was compressed, which most readers do not look at."""
    compressed, checksum = block[:-4], block[-4:]
    size = shift = 0
    for byte in compressed[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    _check_told(size, len(block), most)
    content: bytes = pa.Codec("snappy").decompress(compressed, decompressed_size=size, asbytes=True)
    if zlib.crc32(content) != struct.unpack(">I", checksum)[0]:
        raise ValueError("the checksum does not fit")
    return content


def _zstandard(block: bytes, most: int) -> bytes:
    contents: list[bytes] = []
    size = 0
    at = 0
    while at < len(block):
        stream = zstandard.ZstdDecompressor(max_window_size=LIMITS.window).decompressobj()
        while at < len(block) and not stream.eof:
            contents.append(stream.decompress(block[at : at + _PIECE]))
            at += _PIECE
            size += len(_at_most(contents[-1], most - size))
        if not stream.eof:
            raise ValueError("cut short")
        at = min(at, len(block)) - len(stream.unused_data)
    return b"".join(contents)


def _lz4(block: bytes, most: int) -> bytes:
    size = struct.unpack("<I", block[:4])[0]
    _check_told(size, len(block), most)
    content: bytes = pa.Codec("lz4_raw").decompress(block[4:], decompressed_size=size, asbytes=True)
    return content


def _at_most(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise TooLargeError(f"it holds more than {most} bytes")
    return content


def _check_told(size: int, packed: int, most: int) -> None:
    """Raise an error if a block holds more than it may, by what it says before its content is looked at."""
    if size > _MOST_FOLD * packed:
        raise ValueError(f"{packed} bytes that say they hold {size}")
    if size > most:
        raise TooLargeError(f"it holds {size} bytes, of at most {most}")


_MOST_FOLD = 256
"""Above what snappy and lz4 make of anything. They take the memory before they look at the content."""

_PIECE = 512
"""Bytes that zstd is given at a time. Of one byte it makes no more than 32 KiB."""

_DECOMPRESSORS: dict[str, Decompress] = {
    "null": _same,
    "deflate": _deflate,
    "bzip2": _bzip2,
    "snappy": _snappy,
    "xz": _xz,
    "zstandard": _zstandard,
    "lz4": _lz4,
}

CODECS = tuple(_DECOMPRESSORS)
