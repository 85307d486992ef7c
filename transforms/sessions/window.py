"""Which of the derived records a run gives on (`--since`, `--until`, `--kind`, `--id`).

Activity that causes no record within the window still counts as the history of its session.
"""

from dataclasses import dataclass

from schemas import KINDS, Kind, Record


@dataclass(frozen=True, slots=True)
class Window:
    """The records of some kinds and times.

    Attributes:
        since: epoch ms; records before this time are left out. None: there is no such time.
        until: epoch ms; records at this time or after it are left out. None: there is no such time.
        kinds: of the records.
        record_ids: of the records; empty: all.
    """

    since: int | None = None
    until: int | None = None
    kinds: tuple[Kind, ...] = KINDS
    record_ids: frozenset[str] = frozenset()

    def select(self, records: list[Record]) -> list[Record]:
        """Those of `records` that are within the window, in their order."""
        if self.since is not None:
            records = [record for record in records if record.timestamp >= self.since]
        if self.until is not None:
            records = [record for record in records if record.timestamp < self.until]
        if len(self.kinds) < len(KINDS):
            records = [record for record in records if record.kind in self.kinds]
        if self.record_ids:
            records = [record for record in records if record.id in self.record_ids]
        return records


EVERYTHING = Window()
