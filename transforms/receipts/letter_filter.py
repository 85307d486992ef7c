"""Which dead letters a redrive is asked for: by forwarder, reason, record, kind, and by when they were given up."""

from dataclasses import dataclass

from schemas import KINDS, DeadLetter, Kind


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Chooses among dead letters. What is empty or None does not choose.

    Attributes:
        forwarders: ids of forwarders.
        reasons: for which a record was given up, such as `http_503`.
        record_ids: ids of records.
        since: epoch ms; letters that were given up before this time are left out. It is the time at which the letter
            was written (`settled_at`), not that of the activity: an outage is known by when it was.
        until: epoch ms; letters that were given up at this time or after it are left out.
        kinds: of records.
    """

    forwarders: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    record_ids: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    kinds: tuple[Kind, ...] = KINDS

    def concerns(self, forwarder_id: str) -> bool:
        """Whether the letters to this forwarder are looked at."""
        return not self.forwarders or forwarder_id in self.forwarders

    def selects(self, letter: DeadLetter) -> bool:
        """Whether the letter is chosen, if its forwarder is."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.record_ids or letter.id in self.record_ids)
            and (self.since is None or letter.settled_at >= self.since)
            and (self.until is None or letter.settled_at < self.until)
            and letter.kind in self.kinds
        )


ALL_LETTERS = LetterFilter()
