from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.parts import chunked, read
from transforms.reading.json_ranges import begin_of, owned_part
from transforms.reading.json_text import JsonText

PIECES = st.lists(
    st.sampled_from(
        [
            b'{"a":1}',
            b'{\n  "a": [\n    {},\n    {}\n  ]\n}',
            b'{"a":"}\\n{"}',
            b'[{"a":1},\n{"a":2}]',
            b"garbage",
            b'{"cut":',
            b"\n",
            b"\r\n",
            b"\n\xef\xbb\xbf",
            b",\n",
            b"",
        ]
    ),
    max_size=14,
)


@given(st.one_of(PIECES.map(b"".join), st.binary(max_size=60)), st.integers(1, 40), st.sets(st.integers(1, 200)))
def test_ranges_share_out_every_byte_of_any_text(content: bytes, size: int, splits: set[int]) -> None:
    edges = [0, *sorted(split for split in splits if split < len(content)), len(content)]
    shared = b""
    for start, end in pairwise(edges):
        begin = begin_of(start)
        at, chunks = owned_part(chunked(content[begin:], size), begin, start, end)
        part = b"".join(chunks)
        if part:
            assert at == len(shared)
            assert start <= at < end or start == 0
        shared += part
    assert shared == content or len(edges) == 2


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\xef\xbb\xbf"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_are_shared_out_where_they_begin(newline: bytes, size: int) -> None:
    content = newline.join(b'{"n":%d}' % number for number in range(30))
    for split in range(1, len(content)):
        found = []
        line_ends = 0
        for start, end in ((0, split), (split, len(content))):
            begin = begin_of(start)
            at, chunks = owned_part(chunked(content[begin:], size), begin, start, end)
            text = JsonText(chunks, at)
            items, broken = read(text)
            assert not broken
            assert all(start <= position < end for position, _ in items)
            found += [item.strip(b"\xef\xbb\xbf\r") for _, item in items]
            line_ends += text.line_ends
        assert found == [b'{"n":%d}' % number for number in range(30)]
        assert line_ends == 29


def test_a_text_without_boundaries_is_the_first_range_s() -> None:
    content = b"[\n" + b",\n".join(b'{"n":%d}' % number for number in range(100)) + b"\n]\n"
    for split in range(1, len(content), 11):
        begin = begin_of(split)
        _, second = owned_part(chunked(content[begin:], 50), begin, split, len(content))
        assert b"".join(second) == b""
        assert b"".join(owned_part(chunked(content, 50), 0, 0, split)[1]) == content
