"""What a run counted, in one value that adds up over steps, bundles and workers."""

from collections.abc import Iterable, Sequence

import msgspec

from schemas import Record
from transforms.accounting.accounts import Accounts
from transforms.reading.bucket_blobs import ReadCounts
from transforms.sessions.derivation import Counts


class Sample(msgspec.Struct, frozen=True, order=True):
    """One payload that a forwarder would get: of all candidates the first by time, then id."""

    timestamp: int
    id: str
    payload: bytes


class Summary(msgspec.Struct):
    """A part of a run in numbers; add the parts up with `add` or `total`.

    `records` counts derived records of the run's window and kinds, by kind; `shared_sessions` session ids that more
    than one user of a store has; `samples` and `kept` are by forwarder: a dry run's samples, and the reasons for which
    a redrive left dead letters where they were. `state_parts`: what was written of the session state, by bucket
    (`transforms.sessions.state.commit`). `stopped`: some work was left because the run was told to stop.
    """

    read: ReadCounts = msgspec.field(default_factory=ReadCounts)
    derivation: Counts = msgspec.field(default_factory=Counts)
    records: dict[str, int] = {}
    shared_sessions: int = 0
    books: Accounts = msgspec.field(default_factory=Accounts)
    samples: dict[str, Sample] = {}
    kept: dict[str, dict[str, int]] = {}
    explanation: list[str] = []
    state_parts: dict[int, str] = {}
    stopped: bool = False

    def add(self, other: "Summary") -> None:
        """Adds `other`, which is left as it was."""
        self.read = self.read + other.read
        self.derivation.add(other.derivation)
        for kind, count in other.records.items():
            self.records[kind] = self.records.get(kind, 0) + count
        self.shared_sessions += other.shared_sessions
        self.books.merge(other.books)
        for forwarder_id, sample in other.samples.items():
            self.offer_sample(forwarder_id, sample)
        for forwarder_id, reasons in other.kept.items():
            for reason, count in reasons.items():
                self.keep(forwarder_id, reason, count)
        self.explanation.extend(other.explanation)
        self.state_parts.update(other.state_parts)
        self.stopped |= other.stopped

    def count_records(self, records: Iterable[Record]) -> None:
        for record in records:
            self.records[record.kind] = self.records.get(record.kind, 0) + 1
            self.books.see(record.organisation, record.lrs_id)

    def offer_sample(self, forwarder_id: str, sample: Sample) -> None:
        known = self.samples.get(forwarder_id)
        self.samples[forwarder_id] = sample if known is None else min(known, sample)

    def keep(self, forwarder_id: str, reason: str, count: int = 1) -> None:
        reasons = self.kept.setdefault(forwarder_id, {})
        reasons[reason] = reasons.get(reason, 0) + count

    def too_many_rejects(self, max_ratio: float) -> bool:
        """Whether more than `max_ratio` of what was read was rejected (forwarders.md section 4)."""
        read = self.read.accepted + self.read.rejected
        return self.read.rejected > max_ratio * read


def total(parts: Sequence[Summary] | Iterable[Summary]) -> Summary:
    """The sum of `parts`; fits beam.CombineGlobally."""
    whole = Summary()
    for part in parts:
        whole.add(part)
    return whole
