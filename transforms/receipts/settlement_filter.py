"""Which receipts and dead letters are asked for: by forwarder, reason, record, user, kind, run, and by when.

A redrive chooses its dead letters so, and whoever looks at an output the rows to see.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from schemas import DeadLetter, Kind


@dataclass(frozen=True, slots=True)
class SettlementFilter:
    """Chooses among receipts or dead letters. What is empty or None does not choose.

    Attributes:
        forwarders: ids of forwarders.
        reasons: for which a record was given up, such as `http_503`. A receipt has none.
        record_ids: ids of records.
        since: epoch ms; what was settled before this time is left out. It is the time at which the letter or receipt
            was written (`settled_at`), not that of the activity: an outage is known by when it was.
        until: epoch ms; what was settled at this time or after it is left out.
        kinds: of records.
        users: their ids.
        runs: their ids.
    """

    forwarders: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    record_ids: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    kinds: tuple[Kind, ...] = ()
    users: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    def concerns(self, forwarder_id: str) -> bool:
        """Whether what is settled with this forwarder is looked at."""
        return not self.forwarders or forwarder_id in self.forwarders

    def selects(self, settled: DeadLetter | Mapping[str, Any]) -> bool:
        """Whether a dead letter, or the row of one or of a receipt, is chosen."""
        value: Callable[[str], Any] = settled.get if isinstance(settled, Mapping) else partial(getattr, settled)
        at = value("settled_at")
        return (
            self.concerns(value("forwarder_id"))
            and (not self.reasons or value("reason") in self.reasons)
            and (not self.record_ids or value("id") in self.record_ids)
            and (not self.users or value("user_id") in self.users)
            and (not self.kinds or value("kind") in self.kinds)
            and (not self.runs or value("run_id") in self.runs)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
        )


EVERYTHING_SETTLED = SettlementFilter()
