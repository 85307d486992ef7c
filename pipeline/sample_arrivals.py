"""What the samples of activity and of statements share: their clock, ids, and the order in which things arrive."""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import TypeVar

FIRST_MS = 1_704_693_600_000
"""Epoch ms at which the samples' clock starts: 2024-01-08T06:00:00Z."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_T = TypeVar("_T")


def in_order_of_arrival(sessions: Iterable[tuple[int, Iterable[tuple[int, _T]]]]) -> Iterator[_T]:
    """What all sessions hold, in the order in which it arrives.

    Only what has yet to arrive is held.

    Args:
        sessions: (start, (arrival, thing) of all that is in the session), in the order of their starts. Times are in
            epoch ms, and nothing arrives before its session starts.
    """
    pending: list[tuple[int, int, _T]] = []
    arrivals = 0
    for start, things in sessions:
        for arrival, thing in things:
            heappush(pending, (arrival, arrivals, thing))
            arrivals += 1
        while pending and pending[0][0] <= start:
            yield heappop(pending)[2]
    while pending:
        yield heappop(pending)[2]


def starts(sessions: int, seed: int) -> Iterator[tuple[int, int, Random]]:
    """(number, start in epoch ms, chance of its own) of each session: one in ten seconds on average."""
    clock = FIRST_MS
    for index in range(sessions):
        chance = Random(f"{seed}/{index}")  # noqa: S311
        clock += int(chance.expovariate(1 / (10 * SECOND)))
        yield index, clock, chance


def user_of(seed: int, index: int, sessions: int, hot_share: float) -> int:
    """The number of the user of a session. Some users have several sessions at once, and user 0 has very many."""
    chance = Random(f"{seed}/{index}/user")  # noqa: S311
    if chance.random() < hot_share:
        return 0
    if index and chance.random() < 0.05:
        chance = Random(f"{seed}/{index - 1}/user")  # noqa: S311
        chance.random()
    return 1 + int(chance.random() * max(1, sessions // 4))


def random_uuid(chance: Random) -> str:
    """A UUID of version 4."""
    digits = f"{chance.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
