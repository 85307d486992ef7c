"""Which open dead letters fail though their forwarder takes others. After some runs they are set aside.

Where a run catches up, nothing of a user passes a record that the next run tries again. So a record that its receiver
answers with 500 for ever would hold its user up for good. Whether the receiver is down or the record is at fault, the
forwarder's other records tell, when the run has tried them.
"""

from collections.abc import Sequence

import msgspec

from transforms.accounting.accounts import Accounts
from transforms.sinks.base import Settlement
from transforms.sinks.outages import BLOCKED_BY_EARLIER, KEEPS_FAILING, is_of_outage, was_tried

SET_ASIDE_AFTER = 5
"""Runs in which a letter fails though its forwarder takes at least as many records as it fails."""

_MOST = 1_000
"""Letters of a forwarder that are counted in a run, for each worker. With more of them it is not the records."""


class FailingLetters:
    """Counts the runs in which letters fail. It has no lock."""

    def __init__(self) -> None:
        self._failed: dict[str, list[Settlement]] = {}

    def note(self, settlements: Sequence[Settlement]) -> None:
        """Take note of what was settled. Only letters that were tried, and failed as in an outage, matter."""
        for settlement in settlements:
            item = settlement.item
            if item.is_letter and not settlement.delivered and was_tried(settlement.outcome.reason):
                failed = self._failed.setdefault(item.forwarder_id, [])
                if len(failed) < _MOST:
                    failed.append(settlement)

    def take(self, books: Accounts) -> list[tuple[Settlement, Settlement]]:
        """The letters that have failed though their forwarder takes others, to be written anew. Each is given once.

        Args:
            books: what became of the run's records so far.

        Returns:
            How each ended, and how it is to be written: with one more of `failed_runs`, and with KEEPS_FAILING if it
            is set aside.
        """
        taken = [id_ for id_ in self._failed if _takes_others(books, id_)]
        return [(settlement, _counted(settlement)) for id_ in taken for settlement in self._failed.pop(id_)]


def _takes_others(books: Accounts, forwarder_id: str) -> bool:
    accounts = (books.account(forwarder_id), books.of_letters(forwarder_id))
    delivered = sum(account.delivered for account in accounts)
    failed = sum(
        count
        for account in accounts
        for reason, count in account.dead_lettered.items()
        if is_of_outage(reason) and reason != BLOCKED_BY_EARLIER
    )
    return 0 < delivered >= failed


def _counted(settlement: Settlement) -> Settlement:
    item, outcome = settlement.item, settlement.outcome
    item.failed_runs += 1
    if item.failed_runs >= SET_ASIDE_AFTER:
        answer = f"{outcome.reason} in {item.failed_runs} runs" + (f": {outcome.response}" if outcome.response else "")
        outcome = msgspec.structs.replace(outcome, reason=KEEPS_FAILING, response=answer)
    return Settlement(item, outcome)
