"""The codecs of Avro's container files: those of its specification, and lz4 as fastavro writes it."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

import pyarrow as pa
import zstandard


def decompressor(codec: str) -> Callable[[bytes], bytes] | None:
    """Turns the bytes of a block into its rows. It raises what its library raises. None for a codec not known."""
    return _DECOMPRESSORS.get(codec)


def _same(block: bytes) -> bytes:
    return block


def _deflate(block: bytes) -> bytes:
    # Raw deflate. Some writers leave the end of a checksum behind it.
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(block)


def _snappy(block: bytes) -> bytes:
    """Snappy, and after it the checksum of what was compressed, which most readers do not look at."""
    compressed, checksum = block[:-4], block[-4:]
    size = shift = 0
    for byte in compressed[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size > _MOST_FOLD * len(block):
        raise ValueError(f"{len(block)} bytes that say they hold {size}")
    content: bytes = pa.Codec("snappy").decompress(compressed, decompressed_size=size, asbytes=True)
    if zlib.crc32(content) != struct.unpack(">I", checksum)[0]:
        raise ValueError("the checksum does not fit")
    return content


def _zstandard(block: bytes) -> bytes:
    content = []
    while block:
        stream = zstandard.ZstdDecompressor().decompressobj()
        content.append(stream.decompress(block))
        if not stream.eof:
            raise ValueError("cut short")
        block = stream.unused_data
    return b"".join(content)


def _lz4(block: bytes) -> bytes:
    size = struct.unpack("<I", block[:4])[0]
    if size > _MOST_FOLD * len(block):
        raise ValueError(f"{len(block)} bytes that say they hold {size}")
    content: bytes = pa.Codec("lz4_raw").decompress(block[4:], decompressed_size=size, asbytes=True)
    return content


_MOST_FOLD = 256
"""Above what snappy and lz4 make of anything. They take the memory before they look at the content."""

_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "null": _same,
    "deflate": _deflate,
    "bzip2": bz2.decompress,
    "snappy": _snappy,
    "xz": lzma.decompress,
    "zstandard": _zstandard,
    "lz4": _lz4,
}

CODECS = tuple(_DECOMPRESSORS)
