"""Sums of scores: exact on the shortest decimals, integral ones as integers."""

import json
import math
import sys
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.sessions.scores import ScoreSum

LARGEST = sys.float_info.max


def total(values: Iterable[Any]) -> int | float | None:
    scores = ScoreSum()
    scores.add(values)
    return scores.total()


@pytest.mark.parametrize(
    ("values", "printed"),
    [
        ([], "null"),
        ([None, None], "null"),
        ([None, 0], "0"),
        ([None, 1, 2], "3"),
        ([0.1, 0.2], "0.3"),
        ([0.1] * 10, "1"),
        ([1.0, 2.0], "3"),
        ([0.5, 0.5], "1"),
        ([-0.0], "0"),
        ([0.1, -0.1], "0"),
        ([-1.5, 1], "-0.5"),
        ([1e16, 1.5, -1e16], "1.5"),
        ([1e-7], "1e-7"),
        ([2**53, 1], "9007199254740993"),
        ([2**62, 2**62 - 1], "9223372036854775807"),
        ([-(2**62), -(2**62 - 1)], "-9223372036854775807"),
        ([1.2345678901234570e17], "123456789012345700"),
        ([1e300, 1e-300, -1e300], "1e-300"),
        ([5e-324], "5e-324"),
    ],
)
def test_a_sum_prints_as_a_person_would_add_it(values: list[Any], printed: str) -> None:
    assert orjson.dumps(total(values)).decode() == printed


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ([2**63], float(2**63)),
        ([2**62, 2**62], float(2**63)),
        ([1e23, 8388608], 1.0000000000000001e23),  # 1e23 is 10 to the 23rd, not the double nearest to it
        ([LARGEST, LARGEST], LARGEST),
        ([-LARGEST, -LARGEST], -LARGEST),
        ([LARGEST, 0.5], LARGEST),
    ],
)
def test_what_64_bits_cannot_hold_is_the_nearest_finite_double(values: list[Any], nearest: float) -> None:
    result = total(values)
    assert isinstance(result, float)
    assert result == nearest


_numbers = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-1000, 1000, places=2).map(float),
)


@given(st.lists(_numbers, max_size=8))
def test_any_sum_is_the_nearest_number_to_that_of_the_shortest_decimals(values: list[Any]) -> None:
    known = [Fraction(repr(value)) for value in values if value is not None]
    result = total(values)
    if not known:
        assert result is None
        return
    wanted = sum(known, Fraction())
    if wanted.denominator == 1 and abs(wanted) < 2**63:
        assert isinstance(result, int)
        assert result == wanted
        return
    assert isinstance(result, float)
    assert math.isfinite(result)
    if abs(wanted) <= Fraction(LARGEST):
        assert result == wanted.numerator / wanted.denominator
    else:
        assert result == (LARGEST if wanted > 0 else -LARGEST)
    json.loads(orjson.dumps(result))


@given(st.lists(_numbers, max_size=8).flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_the_order_of_addition_does_not_matter(orders: tuple[list[Any], list[Any]]) -> None:
    assert orjson.dumps(total(orders[0])) == orjson.dumps(total(orders[1]))


@given(st.lists(_numbers, max_size=8), st.lists(_numbers, max_size=8))
def test_what_has_come_and_left_leaves_nothing_behind(stay: list[Any], leave: list[Any]) -> None:
    scores = ScoreSum()
    scores.add([*leave, *stay])
    scores.remove(leave)
    assert orjson.dumps(scores.total()) == orjson.dumps(total(stay))
