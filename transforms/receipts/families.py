"""Families of merged parts, by their names: which runs they stand for, and what they stand in the place of.

`transforms.receipts.compaction` makes them, and says why.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from transforms.receipts.runs import run_number

MERGED = re.compile(
    r"(?P<last>.+)-000000-merged-(?P<first>\d{6,18})-(?P<turn>\d{6})-(?P<part>\d{6})(?P<end>-end)?\.avro"
)
"""The name of a merged part: the last run in it, the number of the first, which compaction made it, and its number."""


@dataclass(frozen=True)
class Family:
    """Merged parts that were made together: of all parts of the runs from `first` to `last`."""

    first: int
    last: int
    turn: int
    parts: tuple[str, ...]
    whole: bool


def families(names: Iterable[str]) -> list[Family]:
    """The families among the parts of a directory, the latest made first.

    Args:
        names: of the parts, each with the directory.
    """
    members: dict[tuple[str, str, str], list[re.Match[str]]] = {}
    for name in names:
        match = MERGED.fullmatch(name.rpartition("/")[2])
        if match:
            members.setdefault((match["last"], match["first"], match["turn"]), []).append(match)
    found = []
    directory = next(iter(names), "").rpartition("/")[0]
    for (last, first, turn), matches in members.items():
        matches.sort(key=lambda match: match["part"])
        whole = matches[-1]["end"] is not None and len(matches) == int(matches[-1]["part"]) + 1
        parts = tuple(f"{directory}/{match[0]}" for match in matches)
        found.append(Family(int(first), run_number(last), int(turn), parts, whole))
    return sorted(found, key=lambda family: family.turn, reverse=True)


def obsolete_parts(names: Iterable[str]) -> set[str]:
    """Those of the parts of a directory that do not count beside the others.

    What a whole family stands for does not, nor does what is there of a family that is not whole.

    Args:
        names: of the parts, each with the directory.
    """
    names = list(names)
    obsolete: set[str] = set()
    for family in families(names):
        if obsolete.issuperset(family.parts):
            continue
        if family.whole:
            obsolete.update(
                name
                for name in names
                if family.first <= run_number(name) <= family.last and turn_of(name) < family.turn
            )
        else:
            obsolete.update(family.parts)
    return obsolete


def turn_of(name: str) -> int:
    """The number of the compaction that made a part; 0 for one that a run wrote."""
    match = MERGED.fullmatch(name.rpartition("/")[2])
    return int(match["turn"]) if match else 0


def first_number(name: str) -> int:
    """The number of the first run that a part is of."""
    match = MERGED.fullmatch(name.rpartition("/")[2])
    return int(match["first"]) if match else run_number(name)
