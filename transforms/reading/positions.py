"""How far a live source of statements was read: what `--state` keeps of it, and where the next run goes on."""

from collections.abc import Mapping

import msgspec

OVERLAP_MS = 10 * 60 * 1000
"""Milliseconds before a position from which the next run reads again.

A statement may become visible after one that was stored later: a transaction took long, a replica lagged, or the clocks
of two writers differ. What is read twice is known by its id.
"""


class Position(msgspec.Struct, frozen=True):
    """Up to where a source was read, by the source's own clock.

    Attributes:
        stored: epoch ms up to which all is read that has a time of storage; 0 if that is not known.
        created: epoch s up to which all is read whose `_id` is an ObjectId, which begins with the time of its creation;
            0 if that is not known.
    """

    stored: int = 0
    created: int = 0

    @property
    def is_known(self) -> bool:
        """Whether a run can go on from it. Where it cannot, the next run reads the whole source again."""
        return self != NOWHERE

    def __or__(self, other: "Position") -> "Position":
        """The later of the two, field by field."""
        return Position(max(self.stored, other.stored), max(self.created, other.created))


NOWHERE = Position()
"""The position in a source that cannot be read from a time of storage on."""

Positions = Mapping[str, Position]
"""By the key of the source (`StatementSource.key`)."""


def later(one: Positions, other: Positions) -> Positions:
    """The positions of both, and the later one of a source that is in both."""
    if not one or not other:
        return one or other
    return {key: one.get(key, Position()) | other.get(key, Position()) for key in {**one, **other}}


def going_on(before: Positions, reached: Positions) -> dict[str, Position]:
    """The positions after a run: none goes back, but for one that turned out to be of no use.

    Args:
        before: those that the run found.
        reached: those of the run. Positions of other sources stay.
    """
    after = dict(before)
    for key, position in reached.items():
        after[key] = before.get(key, NOWHERE) | position if position.is_known else NOWHERE
    return after
