"""The statements of a user as records, each once and in the order in which they leave (docs/spec/statements.md)."""

from collections import defaultdict
from collections.abc import Callable

import msgspec

from schemas import Record, Reject
from schemas.reject import CONTENT_LIMIT
from schemas.times import rfc3339
from transforms.reading.originals import Original
from transforms.statements.comparison import equal_statements

OnConflict = Callable[[Original, Original], None]
"""Called with the statement that counts, and another one of its id that does not."""


class StatementCounts(msgspec.Struct):
    """What was met among the statements. It adds up.

    Attributes:
        duplicates: statements that were there already.
        conflicts: statements with the id of another, but other content.
    """

    duplicates: int = 0
    conflicts: int = 0

    def add(self, other: "StatementCounts") -> None:
        """Add `other`, which is left as it was."""
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts


class Passage:
    """Gives statements on.

    Args:
        on_conflict: told of two different statements with one id.

    Attributes:
        counts: of all statements so far.
    """

    def __init__(self, on_conflict: OnConflict | None = None) -> None:
        self.counts = StatementCounts()
        self._on_conflict = on_conflict

    def records(self, user_id: str, originals: list[Original]) -> list[Record]:
        """All statements of a user as records, in their order: by `stored`, else `timestamp`, then by their place.

        Of several with one id in one store one is given on: the earliest by `stored`, then by `timestamp`, then by its
        bytes.
        """
        if len(originals) > 1:
            if len({original.id for original in originals}) < len(originals):
                originals = self._each_once(originals)
            times = [_leaves_at(original) for original in originals]
            if len(set(times)) < len(times):
                originals.sort(key=_leaving_order)
            elif times != sorted(times):
                originals.sort(key=_leaves_at)
        return [record_of(user_id, original, index) for index, original in enumerate(originals)]

    def _each_once(self, originals: list[Original]) -> list[Original]:
        same: defaultdict[tuple[str, str | None, str | None], list[Original]] = defaultdict(list)
        for original in originals:
            same[original.id, original.organisation, original.lrs_id].append(original)
        kept = []
        for copies in same.values():
            first = min(copies, key=_precedence) if len(copies) > 1 else copies[0]
            kept.append(first)
            for copy in copies:
                if copy is not first:
                    self._count(first, copy)
        return kept

    def _count(self, kept: Original, other: Original) -> None:
        if equal_statements(kept.text, other.text):
            self.counts.duplicates += 1
            return
        self.counts.conflicts += 1
        if self._on_conflict is not None:
            self._on_conflict(kept, other)


CONFLICT = "id: it stands for another statement, which is forwarded"
"""What the board calls the reason of `reject_of`: without the id."""


def record_of(user_id: str, original: Original, place: int = 0) -> Record:
    """A statement as a record. `place`: among those of its user."""
    return Record(
        original.id,
        "statement",
        original.organisation,
        original.lrs_id,
        user_id,
        original.timestamp,
        original.id,
        place,
        {},
        original.text,
        {},
        original.stored,
        original.document,
        original.voids,
        original.due,
    )


def original_of(record: Record) -> Original:
    """The statement that a record of the kind `statement` is. Where it was read is not known any more."""
    return Original(
        record.id,
        record.timestamp,
        record.stored,
        record.organisation,
        record.lrs_id,
        record.voids,
        record.body,
        record.document,
        due=record.due,
    )


def reject_of(other: Original, file: str, kept: Original | None = None) -> Reject:
    """A statement whose id stands for another one, as a reject.

    Args:
        other: the statement.
        file: where it was read.
        kept: the one that is forwarded; None: the one that arrived before.
    """
    which = "arrived before"
    if kept is not None:
        which = f"is of {rfc3339(kept.timestamp if kept.stored is None else kept.stored)}"
    reason = f"the id stands for another statement, which {which} and is forwarded: {other.id}"
    return Reject(file, other.position, reason, other.text[:CONTENT_LIMIT], len(other.text))


def _leaves_at(original: Original) -> int:
    stored = original.stored
    return original.timestamp if stored is None else stored


def _leaving_order(original: Original) -> tuple[int, int, int, int]:
    return _leaves_at(original), original.file, original.position, original.part


def _precedence(original: Original) -> tuple[bool, int, int, bytes, int, int, int]:
    """The earliest `stored` first. What a store has never taken comes last."""
    stored = original.stored
    place = (original.file, original.position, original.part)
    return (stored is None, stored or 0, original.timestamp, original.text, *place)
