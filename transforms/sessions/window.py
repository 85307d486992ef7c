"""Which of the derived records a run gives on (`--since`, `--until`, `--kind`). The others only count as history."""

from dataclasses import dataclass

from schemas import KINDS, Kind, Record


@dataclass(frozen=True, slots=True)
class Window:
    """The records of some `kinds` whose timestamp is in [`since`, `until`), in epoch ms; None: without that bound."""

    since: int | None = None
    until: int | None = None
    kinds: tuple[Kind, ...] = KINDS

    def select(self, records: list[Record]) -> list[Record]:
        """Those of `records` that are within the window, in their order."""
        if self.since is not None:
            records = [record for record in records if record.timestamp >= self.since]
        if self.until is not None:
            records = [record for record in records if record.timestamp < self.until]
        if len(self.kinds) < len(KINDS):
            records = [record for record in records if record.kind in self.kinds]
        return records


EVERYTHING = Window()
