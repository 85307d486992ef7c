import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard

from tests.support.parts import Items, chunked, read
from transforms.reading.blocks import CHUNK, CutShortError
from transforms.reading.compression import decompressed
from transforms.reading.json_text import JsonText

Compress = Callable[[bytes], bytes]

SKIPPABLE = b"\x5a\x2a\x4d\x18\x04\0\0\0note"


def in_two(compress: Compress) -> Compress:
    """Two streams, one after the other."""
    return lambda content: compress(content[: len(content) // 2]) + compress(content[len(content) // 2 :])


COMPRESSORS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gz", gzip.compress),
    "gzip members": ("gz", in_two(gzip.compress)),
    "bzip2": ("bz2", bz2.compress),
    "bzip2 streams": ("bz2", in_two(bz2.compress)),
    "zstd": ("zst", zstandard.ZstdCompressor(write_content_size=True, write_checksum=True).compress),
    "zstd frames": ("zst", in_two(zstandard.compress)),
    "zstd after a skippable frame": ("zst", lambda content: SKIPPABLE + zstandard.compress(content)),
    "xz": ("xz", lzma.compress),
    "xz streams": ("xz", in_two(lzma.compress)),
}
each_compressor = pytest.mark.parametrize(("name", "compress"), COMPRESSORS.values(), ids=list(COMPRESSORS))
NUMBERED = b"".join(b'{"n":%d,"x":"%d"}\n' % (n, pow(7, n, 10**17 + 3)) for n in range(500))


def lines_at(content: bytes) -> Items:
    """The lines of `content`, without their newlines, and where each begins."""
    found: Items = []
    at = 0
    for line in content.splitlines(keepends=True):
        found.append((at, line.rstrip(b"\n")))
        at += len(line)
    return found


@each_compressor
@pytest.mark.parametrize("size", [1, 5, 1000, 1_000_000])
def test_what_content_is_compressed_with_is_told_by_its_first_bytes(name: str, compress: Compress, size: int) -> None:
    packed = compress(NUMBERED)
    assert b"".join(decompressed(chunked(packed, size))) == NUMBERED
    assert b"".join(decompressed(chunked(packed + b"\0" * 512, size))) == NUMBERED, "blocks on a tape are padded"


@pytest.mark.parametrize("content", [b"", b"{", b"{}\n", b"PK", b"BZip", NUMBERED])
def test_plain_content_is_given_as_it_is(content: bytes) -> None:
    assert b"".join(decompressed(chunked(content, 3))) == content


@each_compressor
@pytest.mark.parametrize("outer", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_what_was_compressed_twice_is_decompressed_twice(name: str, compress: Compress, outer: Compress) -> None:
    assert b"".join(decompressed(chunked(outer(compress(NUMBERED)), 1000))) == NUMBERED


@each_compressor
def test_cut_short_anywhere(name: str, compress: Compress) -> None:
    """Whole lines from the beginning, then one reject, and never silence."""
    packed = compress(NUMBERED)
    first = len(compress(NUMBERED)) - len(packed)
    lines = lines_at(NUMBERED)
    ends = {len(SKIPPABLE)} if packed.startswith(SKIPPABLE) else set()
    for cut in [*range(1, len(packed), 97), len(packed) - 1, len(packed) - 4]:
        items, broken = read(JsonText(decompressed(chunked(packed[:cut], 1000))))
        assert items == lines[: len(items)]
        if not broken:
            # The end of a first stream is a proper end.
            assert len(items) in (0, len(lines) // 2, len(lines) // 2 + 1) or cut in ends, (cut, first)
            continue
        (part,) = broken
        assert part.reason == f"the {name} stream is cut short"
        assert part.unread
        assert NUMBERED[part.position :].startswith(part.content)


@each_compressor
def test_damaged_or_followed_by_something_else(name: str, compress: Compress) -> None:
    packed = bytearray(compress(NUMBERED))
    packed[-3] ^= 255  # in the checksum, or the data where there is none
    items, broken = read(JsonText(decompressed(chunked(bytes(packed), 1000))))
    assert items == lines_at(NUMBERED)[: len(items)]
    assert len(broken) <= 1
    items, (tail,) = read(JsonText(decompressed(chunked(compress(NUMBERED) + b"tail" * 100_000, 1000))))
    assert items == lines_at(NUMBERED)
    assert tail.reason.startswith(f"the {name} stream is ")
    assert tail.unread
    if "damaged" in tail.reason:
        assert (tail.length, tail.content[:8]) == (400_000, b"tailtail"), "all that is lost is known by its bytes"


def test_damage_in_the_middle_knows_how_much_is_lost() -> None:
    packed = bytearray(bz2.compress(NUMBERED) * 5)
    size = len(packed) // 5
    packed[3 * size] ^= 255
    read_so_far = b""
    with pytest.raises(CutShortError, match="the bz2 stream is damaged") as cut:  # noqa: PT012
        for chunk in decompressed(chunked(gzip.compress(bytes(packed)), 1000)):
            read_so_far += chunk
    assert read_so_far == NUMBERED * 3
    assert cut.value.length == 2 * size
    assert packed[3 * size :].startswith(cut.value.content)


def test_a_cut_inside_another_compression_gives_what_came_before() -> None:
    inner = gzip.compress(NUMBERED)
    packed = zstandard.compress(inner)[:-10]
    items, (broken,) = read(JsonText(decompressed(chunked(gzip.compress(inner)[:-200], 1000))))
    assert items == lines_at(NUMBERED)[: len(items)]
    assert len(items) > 100
    assert broken.unread
    assert len(read(JsonText(decompressed(chunked(packed, 1000))))[1]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("compress", [lambda content: gzip.compress(content, 1), bz2.compress, lzma.compress])
def test_a_bomb_is_taken_in_pieces(compress: Compress) -> None:
    packed = compress(b"\n" * 300_000_000)
    assert max(map(len, decompressed(chunked(packed, CHUNK)))) < 16_000_000
