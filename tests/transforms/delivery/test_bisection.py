"""What a bisection promises, whoever is guilty: order, every guilty record found, and how many calls it costs."""

import math
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.delivery.bisection import Bisection


def bisected(records: Sequence[int], guilty: set[int], most: int | None = None) -> tuple[list[int], list[int], int]:
    """(taken, given up, calls) of a receiver that takes all of a request or nothing, and `most` records at a time."""
    bisection = Bisection(records)
    taken: list[int] = []
    given_up: list[int] = []
    sent = -1
    calls = 0
    while part := bisection.next():
        calls += 1
        assert part[0] > sent, "a record is sent before one that stands before it has ended"
        if most is not None and len(part) > most:
            bisection.refused(for_its_size=True)
        elif guilty.isdisjoint(part):
            taken += part
            sent = part[-1]
            bisection.taken()
        elif len(part) == 1:
            given_up += part
            sent = part[0]
            bisection.judged()
        else:
            bisection.refused()
    return taken, given_up, calls


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, set[int]]:
    count = draw(st.integers(1, 300))
    return count, draw(st.sets(st.integers(0, count - 1)))


@settings(max_examples=60)
@given(cases())
def test_the_guilty_are_given_up_and_all_others_taken_in_order(case: tuple[int, set[int]]) -> None:
    count, guilty = case
    taken, given_up, calls = bisected(range(count), guilty)
    assert taken == [record for record in range(count) if record not in guilty]
    assert given_up == sorted(guilty)
    more = calls - 1
    assert more <= 2 * len(guilty) * math.ceil(math.log2(max(count, 2)))
    if count & (count - 1) == 0 and count > 1:
        assert more <= 2 * len(guilty) * math.log2(count)


def test_one_guilty_record_of_a_hundred_costs_what_is_said_wherever_it_is() -> None:
    costs = [bisected(range(100), {guilty})[2] - 1 for guilty in range(100)]
    assert max(costs) <= 2 * math.log2(100)
    assert min(costs) >= math.log2(100) - 1


@settings(max_examples=60)
@given(cases(), st.integers(1, 300))
def test_a_batch_that_is_too_large_is_taken_in_parts(case: tuple[int, set[int]], most: int) -> None:
    count, guilty = case
    taken, given_up, _ = bisected(range(count), guilty, most)
    assert taken == [record for record in range(count) if record not in guilty]
    assert given_up == sorted(guilty)


def test_size_alone_costs_the_halves_and_no_more() -> None:
    assert bisected(range(64), set(), 16) == (list(range(64)), [], 1 + 2 + 4)


def test_what_is_left_is_in_order() -> None:
    bisection = Bisection(list(range(8)))
    bisection.refused()
    bisection.refused()
    assert bisection.next() == [0, 1]
    bisection.taken()
    assert bisection.left() == [2, 3, 4, 5, 6, 7]
    assert not bisection.next()
