"""An LRS's answer, cut into statements."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading import lrs_pages
from transforms.reading.activity import TOO_LONG
from transforms.reading.blocks import Block, Broken
from transforms.reading.lrs_pages import PageError, StatementPage


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[begin : begin + size] for begin in range(0, len(content), size))


def read(content: bytes, size: int = 1 << 18) -> tuple[list[bytes], str]:
    page = StatementPage(pieces(content, size))
    items = [item for block in page for item in (block.items if isinstance(block, Block) else ())]
    return items, page.more


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """A value as JSON, with blanks and escapes as no encoder of ours would have them."""
    indent = draw(st.sampled_from((None, 1)))
    return json.dumps(value, indent=indent, ensure_ascii=draw(st.booleans()))


@given(st.lists(OBJECTS.flatmap(spelled), max_size=5), st.text(), st.integers(1, 50), st.booleans(), st.booleans())
def test_every_statement_is_the_bytes_that_were_sent(
    statements: list[str], more: str, size: int, more_first: bool, with_mark: bool
) -> None:
    between = " ,\n".join(statements)
    members = [f'"statements" : [ {between} ]', f'"more":{json.dumps(more)}', '"other": {"a": [1]}']
    if more_first:
        members.reverse()
    content = ("\ufeff" * with_mark + "{ " + ", ".join(members) + " }\n").encode()
    assert read(content, size) == ([each.encode() for each in statements], more)


@pytest.mark.parametrize("number", ["1.0", "1e400", "9223372036854775809", "-0.0", "1E+2", "0.10"])
def test_a_number_keeps_its_spelling(number: str) -> None:
    statement = f'{{"result": {{"score": {{"raw": {number}}}}}}}'.encode()
    assert read(b'{"statements":[%b]}' % statement) == ([statement], "")


@pytest.mark.parametrize("more", [b'"more":null,', b'"more":"",', b""])
def test_there_may_be_no_more(more: bytes) -> None:
    assert read(b'{%b"statements":[]}' % more) == ([], "")


def test_a_statement_that_is_too_long_is_a_reject_and_those_beside_it_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrs_pages, "MAX_LINE", 100)
    long = b'{"a":"' + b'x\\"]}' * 100 + b'"}'
    for size in (7, 1 << 18):
        blocks = list(StatementPage(pieces(b'{"statements":[{"b":1},%b,{"c":2}],"more":"m"}' % long, size), start=5))
        good = [item for block in blocks if isinstance(block, Block) for item in block.items]
        (broken,) = (block for block in blocks if isinstance(block, Broken))
        assert good == [b'{"b":1}', b'{"c":2}']
        assert (broken.position, broken.reason, broken.content, broken.length) == (6, TOO_LONG, long, len(long))
        assert [block.start for block in blocks if isinstance(block, Block)] == [5, 7]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is no object with statements"),
        (b"<html>", "is no object with statements"),
        (b"[]", "is no object with statements"),
        (b"{}", "holds no statements"),
        (b'{"id":"1","verb":{}}', "holds no statements"),
        (b'{"statements":{}}', "holds no statements"),
        (b'{"statements":[{"a":1}', "breaks off"),
        (b'{"statements":[{"a":1},', "breaks off"),
        (b'{"statements":[{"a":', "breaks off"),
        (b'{"statements":[{"a" 1}],"more":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', "is no JSON"),
        (b'{"statements":[{} {}],"more":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', "is no JSON"),
        (b'{"statements":[],"more":{}}', "has a `more` that is no text"),
    ],
)
def test_what_is_no_answer_is_told(content: bytes, what: str) -> None:
    for size in (1, 1 << 18):
        with pytest.raises(PageError, match=what):
            list(StatementPage(pieces(content, size)))
