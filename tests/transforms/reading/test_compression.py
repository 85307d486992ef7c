import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard

from tests.support.parts import Items, chunked, read
from transforms.reading.blocks import CHUNK, CutShortError
from transforms.reading.compression import decompressed
from transforms.reading.files import blocks
from transforms.reading.json_text import JsonText
from transforms.reading.limits import Allowance, ReadLimits

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
@pytest.mark.parametrize("name", ["gzip", "bzip2", "zstd", "xz"])
def test_much_of_little_is_taken_in_pieces(name: str) -> None:
    packed = COMPRESSORS[name][1](b"\n" * 10_000_000)
    pieces = [len(piece) for piece in decompressed(chunked(packed, CHUNK))]
    assert sum(pieces) == 10_000_000
    assert max(pieces) <= 2 * CHUNK


FEW = ReadLimits(ratio=20, ratio_from=10_000)


@each_compressor
def test_no_more_comes_of_a_stream_than_may(name: str, compress: Compress) -> None:
    fits = compress(b"\n" * 10_000)
    assert b"".join(decompressed(chunked(fits, CHUNK), Allowance(FEW))) == b"\n" * 10_000
    packed = compress(b"\n" * 1_000_000)
    allowance = Allowance(FEW)
    pieces: list[bytes] = []
    with pytest.raises(CutShortError, match="unpacks to more than") as cut:
        pieces.extend(decompressed(allowance.counting(chunked(packed, CHUNK)), allowance))
    assert sum(map(len, pieces)) <= allowance.most() == 10_000 + 20 * len(packed)
    assert f"the {name} stream" in str(cut.value)
    assert str(allowance.most()) in str(cut.value)
    assert cut.value.length


def test_what_may_come_of_a_stream_grows_with_what_is_read() -> None:
    content = b"".join(b"%d " % number for number in range(20_000))
    allowance = Allowance(FEW)
    packed = gzip.compress(content)
    assert len(packed) * 20 > len(content) > 10_000
    assert b"".join(decompressed(allowance.counting(chunked(packed, 100)), allowance)) == content


def test_what_was_compressed_twice_is_measured_by_what_was_read() -> None:
    inner = gzip.compress(b"\n" * 1_000_000)
    allowance = Allowance(FEW)
    with pytest.raises(CutShortError, match="unpacks to more than"):
        list(decompressed(allowance.counting(chunked(bz2.compress(inner), CHUNK)), allowance))


def test_the_rest_of_a_file_that_is_refused_is_one_reject() -> None:
    content = gzip.compress(b'{"a":1}\n' * 5) + gzip.compress(b"\n" * 1_000_000)
    items, (broken,) = read(blocks(io.BytesIO(content), "jsonl", limits=FEW))
    assert [item for _, item in items] == [b'{"a":1}'] * 5
    assert broken.unread
    assert "unpacks to more than" in broken.reason


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        (
            "xz",
            lambda content: lzma.compress(
                content, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 22}]
            ),
        ),
        (
            "zst",
            zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=22)).compress,
        ),
    ],
)
def test_a_stream_that_refers_back_too_far_is_refused(name: str, compress: Compress) -> None:
    packed = compress(NUMBERED * 100)
    assert b"".join(decompressed(chunked(packed, CHUNK))) == NUMBERED * 100
    with pytest.raises(CutShortError, match=f"the {name} stream refers back further than the 1000000 bytes"):
        list(decompressed(chunked(packed, CHUNK), Allowance(ReadLimits(window=1_000_000))))
