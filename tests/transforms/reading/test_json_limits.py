"""What JSON may cost: values, and pieces of input, held at a time."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.activity import activity
from tests.support.parts import Items, chunked, read, taken
from transforms.reading.activity import ActivityDecoder, ActivityError, TooManyValuesError, check_values, encode
from transforms.reading.admission import admit_message
from transforms.reading.blocks import Block, Broken
from transforms.reading.json_text import JsonText
from transforms.reading.limits import LIMITS, ReadLimits
from transforms.reading.xapi import StatementDecoder

FEW = ReadLimits(items=3, values=10)
START = encode(activity("START"))
DENSE = START[:-1] + b',"x":[' + b"0," * LIMITS.values + b"0]}"
TOLD = f"{DENSE.count(b',') + 2} values, of at most {LIMITS.values}"


def everything(parts: Iterable[Block | Broken]) -> tuple[Items, list[Any], list[int | None]]:
    lines: list[int | None] = []
    kept = []
    for part in parts:
        kept.append(part)
        if isinstance(part, Block):
            assert len(part.items) <= FEW.items
            lines += [part.line_of(index) for index in range(len(part.items))]
    return (*read(kept), lines)


TEXTS = st.lists(
    st.sampled_from(
        [
            b'{"a":1}',
            b'{"a":[{},{},[1,2,3,[]]]}',
            b"[",
            b"]",
            b"\n",
            b"\n",
            b",",
            b" ",
            b'"x',
            b"}",
            b"12",
            b"\r\n",
            b"",
        ]
    ),
    max_size=30,
).map(b"".join)


@given(TEXTS, st.integers(1, 40))
def test_what_is_given_on_a_few_at_a_time_is_the_same(content: bytes, size: int) -> None:
    """Whole, with its places and lines, and what is refused of it."""
    items, broken, lines = everything(JsonText(chunked(content, size), limits=ReadLimits(items=3)))
    whole = list(JsonText(chunked(content, size)))
    assert (items, broken) == read(whole)
    assert lines == [
        part.line_of(index) for part in whole if isinstance(part, Block) for index in range(len(part.items))
    ]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_objects_of_many_values_are_found_by_their_brackets(size: int) -> None:
    long = b'{"a":[%s]}' % b",".join([b'{"}":"]"}'] * 20)
    for content in (long + b'{"b":2}', b"[" + long + b',{"b":2}]', b'[{"b":[' + b"1," * 30, long[:-3]):
        for part, whole in zip(
            read(JsonText(chunked(content, size), by_value=True, limits=ReadLimits(values=10))),
            read(JsonText(chunked(content, size), by_value=True)),
            strict=True,
        ):
            assert part == whole


def test_values_are_counted_by_the_marks_before_them() -> None:
    for text in (b'{"a":[1,2,{"b":3}],"c":4}', '{"a":[1,2,{"b":3}],"c":4}'):
        check_values(text, ReadLimits(values=6))
        with pytest.raises(TooManyValuesError, match="6 values, of at most 5"):
            check_values(text, ReadLimits(values=5))


def test_a_line_of_too_many_values_is_one_reject_and_the_rest_is_read() -> None:
    content = b"\n".join([START, DENSE, START.replace(b"START", b"SAVE"), b""])
    activities, counts, (reject,) = taken(JsonText(chunked(content, 100_000)))
    assert (len(activities), counts.rejected, counts.rejected_bytes) == (2, 1, len(DENSE))
    assert (reject.reason, reject.position, reject.length) == (TOLD, len(START) + 1, len(DENSE))


def test_an_element_of_too_many_values_is_one_reject_and_the_rest_is_read() -> None:
    activities, _, (reject,) = taken(JsonText(chunked(b"[" + START + b",\n" + DENSE + b"," + START + b"]", 100_000)))
    assert (len(activities), reject.position, reject.reason) == (2, 1, TOLD)


def test_a_message_of_too_many_values_is_refused() -> None:
    (outcome,) = admit_message(DENSE, ActivityDecoder())
    assert isinstance(outcome, ActivityError)
    assert str(outcome) == TOLD


def test_a_row_whose_text_has_too_many_values_is_refused() -> None:
    row = {"record_id": "r", "responses": "[" + "0," * LIMITS.values + "0]"}
    with pytest.raises(ActivityError, match=f"{LIMITS.values + 1} values, of at most {LIMITS.values}"):
        ActivityDecoder().admit_row(row)


def test_an_answer_of_too_many_pieces_is_one_reject() -> None:
    answer = b'{"statements":[' + b"0," * LIMITS.pieces + b"0]}"
    (outcome,) = admit_message(answer, StatementDecoder())
    assert str(outcome) == f"it holds {LIMITS.pieces + 1} pieces of input, of at most {LIMITS.pieces}"


def test_refusals_of_many_pieces_hold_no_text() -> None:
    """An error of a parser has the text that was parsed."""
    for outcome in admit_message(b'{"statements":[{"a":1},7,"x"]}', StatementDecoder()):
        assert isinstance(outcome, ActivityError)
        assert (outcome.__context__, outcome.__cause__, outcome.__traceback__) == (None, None, None)
