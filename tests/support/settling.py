"""A run of one worker that goes on: it settles what a test says, and leaves receipts and dead letters."""

from itertools import count
from pathlib import Path

from tests.support.settlements import delivered, given_up
from transforms.receipts.journal import Journal


def run_id(number: int) -> str:
    """The id of a run of that number."""
    return f"r{number:06}-20270115T080000Z-{number:06x}"


class SettlingRun:
    """A run that has begun. A record is settled a millisecond after the one before.

    Args:
        output: of the run.
        number: of the run.
        start: epoch ms.
    """

    def __init__(self, output: Path, number: int, start: int) -> None:
        self.now = count(start)
        clock = lambda: next(self.now)  # noqa: E731 - it is asked anew each time, whatever `now` is then
        self._journal = Journal(str(output), run_id(number), "000001-w", durability="none", clock=clock)

    def settle(self, name: str, forwarder: str, reason: str | None = None) -> str:
        """Settle a record: delivered, or given up for a reason. Returns its id."""
        settlement = delivered(name, forwarder) if reason is None else given_up(name, forwarder, reason)
        self._journal.settle([settlement])
        return settlement.item.record.id

    def end(self) -> None:
        """Close the journal, so that it becomes a part."""
        self._journal.close()
