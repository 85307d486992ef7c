import bz2
import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.reject import CONTENT_LIMIT
from tests.support.parts import Items, chunked, read
from transforms.reading import json_array, jsonl
from transforms.reading.activity import TOO_LONG
from transforms.reading.blocks import CHUNK, Compression
from transforms.reading.compression import decompressed
from transforms.reading.files import FormatError, format_of, lines_or_elements
from transforms.reading.json_array import array_elements
from transforms.reading.jsonl import json_lines


def lines_at(content: bytes) -> Items:
    """What the lines of `content` are, told in the plainest way."""
    lines = content.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:index]) for index in range(len(lines))]
    found = list(zip(starts, lines, strict=True))
    return found[:-1] if lines[-1] == b"" else found


LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12)


@given(LINES, st.booleans(), st.integers(1, 40))
def test_lines_are_the_same_however_they_are_read(lines: list[bytes], ends: bool, size: int) -> None:
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    assert read(json_lines(chunked(content, size))) == (lines_at(content), [])


@given(LINES, st.booleans(), st.integers(1, 9), st.sets(st.integers(1, 100), max_size=6))
def test_ranges_share_out_the_lines(lines: list[bytes], ends: bool, size: int, splits: set[int]) -> None:
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    edges = [0, *sorted(split for split in splits if split < len(content)), len(content)]
    found: Items = []
    for start, end in pairwise(edges):
        items, broken = read(json_lines(chunked(content[max(start - 1, 0) :], size), start, end))
        assert not broken
        assert all(start <= position < end for position, _ in items)
        found += items
    assert found == lines_at(content)


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 20)
    monkeypatch.setattr(json_array, "MAX_LINE", 20)


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize("size", [1, 3, 10, 21, 22, 64])
def test_a_line_too_long_is_one_reject_and_the_next_is_read(size: int) -> None:
    content = b"one\n" + b"x" * 50 + b"\ntwo\n" + b"y" * 60
    items, broken = read(json_lines(chunked(content, size)))
    short = [(position, line) for position, line in items if len(line) <= 20]
    assert short == [(0, b"one"), (55, b"two")]
    # A long line that came whole is left to the decoder, which refuses it with the same words.
    found = [(part.position, part.length, part.reason) for part in broken]
    found += [(position, len(line), TOO_LONG) for position, line in items if len(line) > 20]
    assert sorted(found) == [(4, 50, TOO_LONG), (59, 60, TOO_LONG)]


def test_ranges_share_out_long_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 20)
    monkeypatch.setattr(json_array, "MAX_LINE", 20)
    content = b"one\n" + b"x" * 50 + b"\ntwo\n" + b"y" * 60
    for split in range(1, len(content)):
        for size in (1, 9, 30):
            found = []
            for start, end in ((0, split), (split, len(content))):
                items, broken = read(json_lines(chunked(content[max(start - 1, 0) :], size), start, end))
                found += [(position, len(line)) for position, line in items]
                found += [(part.position, part.length) for part in broken]
            assert sorted(found) == [(0, 3), (4, 50), (55, 3), (59, 60)], (split, size)


def test_a_long_line_is_not_held() -> None:
    """A line of 200 MiB: its head and its length are known, and only about one limit's worth was in memory."""
    chunk = b"x" * CHUNK
    lines = iter([b"a\n", *[chunk] * 200, b"\nb"])
    items, (broken,) = read(json_lines(lines))
    assert items == [(0, b"a"), (2 + 200 * len(chunk) + 1, b"b")]
    assert (broken.position, broken.length, len(broken.content)) == (2, 200 * len(chunk), CONTENT_LIMIT)


def gz_members(content: bytes) -> bytes:
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


COMPRESSORS: list[tuple[Compression, Callable[[bytes], bytes]]] = [
    ("gz", gzip.compress),
    ("gz", gz_members),
    ("bz2", bz2.compress),
    ("bz2", lambda content: bz2.compress(content[:100]) + bz2.compress(content[100:])),
    ("zst", zstandard.ZstdCompressor(write_content_size=True, write_checksum=True).compress),
    ("zst", lambda content: zstandard.compress(content[:100]) + zstandard.compress(content[100:])),
]
NUMBERED = b"".join(b'{"n":%d,"x":"%d"}\n' % (n, pow(7, n, 10**17 + 3)) for n in range(500))


@pytest.mark.parametrize(("compression", "compress"), COMPRESSORS)
@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_compressed(compression: Compression, compress: Callable[[bytes], bytes], size: int) -> None:
    packed = compress(NUMBERED)
    assert b"".join(decompressed(chunked(packed, size), compression)) == NUMBERED
    assert b"".join(decompressed(chunked(packed + b"\0" * 512, size), compression)) == NUMBERED


@pytest.mark.parametrize(("compression", "compress"), COMPRESSORS)
def test_compressed_and_cut_short(compression: Compression, compress: Callable[[bytes], bytes]) -> None:
    """Wherever the cut: whole lines from the beginning, then one reject, and never silence."""
    packed = compress(NUMBERED)
    whole = {len(compress(NUMBERED[:half])) for half in (100, len(NUMBERED) // 2)}
    lines = lines_at(NUMBERED)
    for cut in [*range(1, len(packed), 97), len(packed) - 1, len(packed) - 4]:
        if cut in whole:
            continue  # the end of a first stream is a proper end
        items, broken = read(json_lines(decompressed(chunked(packed[:cut], 1000), compression)))
        assert items == lines[: len(items)]
        assert len(broken) == 1
        assert broken[0].reason == f"the {compression} stream is cut short"
        assert broken[0].position == (lines[len(items)][0] if len(items) < len(lines) else len(NUMBERED))
        assert NUMBERED[broken[0].position :].startswith(broken[0].content)


@pytest.mark.parametrize(("compression", "compress"), COMPRESSORS)
def test_compressed_and_damaged(compression: Compression, compress: Callable[[bytes], bytes]) -> None:
    packed = bytearray(compress(NUMBERED))
    packed[-3] ^= 255  # in the checksum, or the data where there is none
    items, broken = read(json_lines(decompressed(chunked(bytes(packed), 1000), compression)))
    assert items == lines_at(NUMBERED)[: len(items)]
    assert len(broken) <= 1
    items, (tail,) = read(json_lines(decompressed(chunked(compress(NUMBERED) + b"tail"), compression)))
    assert items == lines_at(NUMBERED)
    assert tail.reason.startswith(f"the {compression} stream is ")


def test_an_empty_compressed_file_is_empty() -> None:
    assert list(decompressed(iter(()), "gz")) == []


@pytest.mark.slow
def test_a_bomb_is_taken_in_pieces() -> None:
    packed = gzip.compress(b"\n" * 300_000_000, compresslevel=1)
    assert max(map(len, decompressed(chunked(packed, CHUNK), "gz"))) < 16_000_000


ELEMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(ELEMENTS, max_size=6), st.integers(1, 30), st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_array_elements_are_the_same_however_they_are_read(
    values: list[Any], size: int, indent: int | None, ascii_only: bool, bom: bool
) -> None:
    content = b"\xef\xbb\xbf" * bom + b" \r\n" + json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    items, broken = read(lines_or_elements(chunked(content + b" \n", size)))
    assert not broken
    assert [(index, json.loads(item)) for index, item in items] == list(enumerate(values))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("content", "items", "position", "rest", "reason"),
    [
        (b'[{"a":1},{"b":', [b'{"a":1}'], 1, b'{"b":', "the array is not closed"),
        (b'[{"a":1}', [b'{"a":1}'], 1, b"", "the array is not closed"),
        (b'[{"a":1},', [b'{"a":1}'], 1, b"", "the array is not closed"),
        (b"[", [], 0, b"", "the array is not closed"),
        (b'[{"a":1},{"b":}, {"c":1}]', [b'{"a":1}'], 1, b'{"b":}, {"c":1}]', "a syntax error"),
        (b'[{"a":1},{"b":]}, {"c":1}]', [b'{"a":1}'], 1, b'{"b":]}, {"c":1}]', "a syntax error"),
        (b'[{"a":1} {"b":1}]', [b'{"a":1}'], 1, b'{"b":1}]', "a syntax error"),
        (b'[{"a":1},]', [b'{"a":1}'], 1, b"]", "a syntax error"),
        (b'[,{"a":1}]', [], 0, b',{"a":1}]', "a syntax error"),
        (b'[{"a":1}] {"b":1}', [b'{"a":1}'], 1, b'{"b":1}', "more follows the array"),
    ],
)
def test_a_broken_array(size: int, content: bytes, items: list[bytes], position: int, rest: bytes, reason: str) -> None:
    found, broken = read(lines_or_elements(chunked(content, size)))
    assert [item for _, item in found] == items
    (part,) = broken
    assert (part.position, part.content, part.length, part.reason) == (position, rest, len(rest), reason)


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "spoiled", [b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":"\x01"}', b'{"a":"\\ud800"}', b"[" * 4000 + b"]" * 4000]
)
def test_a_spoiled_element_spoils_only_itself(size: int, spoiled: bytes) -> None:
    found, broken = read(array_elements(chunked(b'[{"a":1} ,' + spoiled + b' ,{"b":"]"}]', size)))
    assert not broken
    assert [item for _, item in found] == [b'{"a":1}', spoiled, b'{"b":"]"}']


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize("size", [1, 4, 25, 1000])
def test_an_element_too_long_is_one_reject(size: int) -> None:
    long = b'{"a":"' + b"]" * 30 + b'"}'
    found, broken = read(array_elements(chunked(b'[{"a":1},' + long + b',{"b":2}]', size)))
    refused = [(part.position, part.length, part.reason) for part in broken]
    # A long element that came whole is left to the decoder.
    refused += [(index, len(element), TOO_LONG) for index, element in found if len(element) > 20]
    assert refused == [(1, len(long), TOO_LONG)]
    assert [pair for pair in found if len(pair[1]) <= 20] == [(0, b'{"a":1}'), (2, b'{"b":2}')]


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize("size", [1, 4, 25])
def test_an_element_too_long_that_never_ends_is_the_rest(size: int) -> None:
    found, (broken,) = read(array_elements(chunked(b'[{"a":1},{"b":"' + b"]" * 50, size)))
    assert found == [(0, b'{"a":1}')]
    assert (broken.position, broken.length, broken.reason) == (1, 56, "the array is not closed")


def test_a_json_file_of_lines() -> None:
    content = b' \n{"a":1}\n\n{"b":2}'
    assert read(lines_or_elements(chunked(content, 2))) == read(json_lines(chunked(content, 2)))
    assert read(lines_or_elements(iter(()))) == ([], [])
    assert read(lines_or_elements(iter([b" \n "]))) == ([], [])
    assert read(lines_or_elements(iter([b"\xef", b"\xbb\xbf"]))) == ([], [])
    assert read(lines_or_elements(iter([b"\xef"]))) == ([(0, b"\xef")], [])


def test_an_array_cut_short_inside_gzip() -> None:
    content = b"[" + b",".join(NUMBERED.splitlines()) + b"]"
    packed = gzip.compress(content)
    for cut in (5, 40, len(packed) // 2, len(packed) - 1):
        items, (broken,) = read(lines_or_elements(decompressed(chunked(packed[:cut], 100), "gz")))
        assert [item for _, item in items] == NUMBERED.splitlines()[: len(items)]
        assert broken.reason == "the gz stream is cut short"
        assert broken.position == len(items)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("s3://b/c.d/a.ndjson.gz", ("jsonl", "gz")),
        ("a.JSON.BZ2", ("json", "bz2")),
        ("a.json.zst", ("json", "zst")),
        ("a.avro", ("avro", None)),
        ("a.parquet", ("parquet", None)),
    ],
)
def test_format_by_extension(path: str, expected: tuple[str, str | None]) -> None:
    assert format_of(path) == expected


def test_format_as_told() -> None:
    assert format_of("part-0001", "jsonl") == ("jsonl", None)
    assert format_of("log.txt.gz", "json") == ("json", "gz")


@pytest.mark.parametrize(
    ("path", "told", "expected"),
    [
        ("a.csv", None, "its extension does not tell the format"),
        ("in.d/part-0001", None, "its extension does not tell the format"),
        ("a.gz", None, "its extension does not tell the format"),
        ("a.parquet.gz", None, "compressed inside"),
        ("a.jsonl", "csv", "allowed: jsonl, json, avro, parquet"),
    ],
)
def test_formats_that_are_refused(path: str, told: str | None, expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        format_of(path, told)
