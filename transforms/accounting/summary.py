"""All that a run counted, in one value that adds up over steps, bundles and workers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from schemas import Record
from schemas.record import encode_record
from transforms.accounting.accounts import Accounts
from transforms.accounting.board import OTHER_REASONS
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.reasons import name_of
from transforms.sessions.derivation import Counts
from transforms.sessions.state import WrittenPart
from transforms.statements.passage import CONFLICT, StatementCounts


class Sample(msgspec.Struct, frozen=True, order=True):
    """A payload that a forwarder would get. Of all its payloads a dry run shows the first by time, then by id.

    Attributes:
        timestamp: the record's, in epoch ms.
        id: the record's.
        payload: what would be sent.
    """

    timestamp: int
    id: str
    payload: bytes


class LetterPlan(msgspec.Struct):
    """What a redrive does with a forwarder's dead letters of one reason.

    Attributes:
        open: letters that were found: not delivered since.
        not_selected: those that were not asked for.
        sent: those of them that are sent again.
        ahead: those of `sent` that leave before an earlier letter of their user, which stays and is still due.
    """

    open: int = 0
    not_selected: int = 0
    sent: int = 0
    ahead: int = 0

    def merge(self, other: Self) -> None:
        """Add the counts of `other`, which is left as it was."""
        self.open += other.open
        self.not_selected += other.not_selected
        self.sent += other.sent
        self.ahead += other.ahead


_TYPICAL_ROW = 256
"""About how many bytes an activity has. It counts where none was accepted that would tell."""


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """How much of the input may be rejected before nothing is delivered.

    Attributes:
        ratio: the share of what was read, by rows or by bytes, 0 to 1 (`--max_reject_ratio`).
        floor: fewer rejects are never too many (`--max_rejects`). One reject may be a whole file. So the rejected bytes
            count too, as so many rows as they would be at the size of the accepted ones.
    """

    ratio: float = 1.0
    floor: int = 0

    def is_exceeded(self, read: ReadCounts) -> bool:
        """Whether too much of what was read was rejected (docs/spec/forwarders.md section 4)."""
        typical = read.accepted_bytes / read.accepted if read.accepted else _TYPICAL_ROW
        rows = max(read.rejected, read.rejected_bytes / typical if typical else 0)
        return rows >= self.floor and reject_share(read) > self.ratio


ANY_REJECTS = RejectLimit()
"""However much is rejected, the rest is delivered."""


def reject_share(read: ReadCounts) -> float:
    """The share of what was read that was rejected, 0 to 1: by rows or by bytes, whichever is more."""
    rows = read.rejected / max(read.read, 1)
    return max(rows, read.rejected_bytes / max(read.accepted_bytes + read.rejected_bytes, 1))


BUSIEST = 20
"""Users that are kept of those with the most records."""

MOST_EXAMPLES = 24
"""Records that are kept as examples: each forwarder that got nothing is held against them."""

_USERS_AT_ONCE = 2_000
"""Users that are counted before the others are forgotten: to sort them costs something."""


class Summary(msgspec.Struct):
    """A part of a run in numbers. `add` and `total` add parts up.

    Every step counts in its own field: reading, deriving, delivering, and looking without sending.

    Attributes:
        read: what was counted of the input.
        derivation: what was counted of the sessions and their activity.
        statements: what was counted of statements that are forwarded as they are.
        records: by kind; only those of the window and kinds that the run was asked for.
        examples: one record as a line of each kind (of events: of each name), organisation and store, but no more than
            MOST_EXAMPLES.
        shared_sessions: session ids that more than one user of a store has.
        busiest: records by user, of the BUSIEST users that have the most. No user's records are counted in two places.
        books: what became of the records that each forwarder was due.
        samples: a dry run's sample for each forwarder, by its id.
        kept: by forwarder and reason the dead letters that a redrive left as they were, and the records that a dry run
            could not decide.
        letters: by forwarder, and by the reason for which they were given up, what a redrive does with dead letters.
        explanation: the lines that `--explain` prints.
        state_parts: the parts of the session state that were written, by bucket (`transforms.sessions.state.commit`).
        blocked: forwarder and user, where a record of a user who has a voiding statement was given up, and the user's
            later ones are to be given up, too (`--on_failure block_user`).
        unavailable: forwarders that made no progress for the outage budget.
        passed_over: what was read and neither used nor refused, such as a score that is no number, by a name of the
            kind.
        stopped: whether work was left because the run was told to stop.
    """

    read: ReadCounts = msgspec.field(default_factory=ReadCounts)
    derivation: Counts = msgspec.field(default_factory=Counts)
    statements: StatementCounts = msgspec.field(default_factory=StatementCounts)
    records: dict[str, int] = {}
    examples: dict[str, bytes] = {}
    shared_sessions: int = 0
    busiest: dict[str, int] = {}
    books: Accounts = msgspec.field(default_factory=Accounts)
    samples: dict[str, Sample] = {}
    kept: dict[str, dict[str, int]] = {}
    letters: dict[str, dict[str, LetterPlan]] = {}
    explanation: list[str] = []
    state_parts: dict[int, WrittenPart] = {}
    blocked: set[tuple[str, str]] = set()
    unavailable: set[str] = set()
    passed_over: dict[str, int] = {}
    stopped: bool = False

    @property
    def rejected(self) -> int:
        """Pieces of input that were refused, when they were read or when they were held against each other."""
        return self.read.rejected + self.statements.conflicts

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """The same by reason, as the board calls it."""
        counts = rejected_by_reason(self.read)
        return counts | {CONFLICT: self.statements.conflicts} if self.statements.conflicts else counts

    def add(self, other: "Summary") -> None:
        """Add the counts of `other`, which is left as it was."""
        self.read = self.read + other.read
        self.derivation.add(other.derivation)
        self.statements.add(other.statements)
        for kind, count in other.records.items():
            self.records[kind] = self.records.get(kind, 0) + count
        for name, line in other.examples.items():
            if name in self.examples or len(self.examples) < MOST_EXAMPLES:
                self.examples[name] = min(line, self.examples.get(name, line))
        self.shared_sessions += other.shared_sessions
        for user_id, count in other.busiest.items():
            self.busiest[user_id] = self.busiest.get(user_id, 0) + count
        self.keep_busiest()
        self.books.merge(other.books)
        for forwarder_id, sample in other.samples.items():
            self.offer_sample(forwarder_id, sample)
        for forwarder_id, reasons in other.kept.items():
            for reason, count in reasons.items():
                self.keep(forwarder_id, reason, count)
        for forwarder_id, plans in other.letters.items():
            for reason, plan in plans.items():
                self.plan(forwarder_id, reason).merge(plan)
        self.explanation.extend(other.explanation)
        self.state_parts.update(other.state_parts)
        self.blocked |= other.blocked
        self.unavailable |= other.unavailable
        for name, count in other.passed_over.items():
            self.pass_over(name, count)
        self.stopped |= other.stopped

    def count_records(self, records: Sequence[Record]) -> None:
        """Count records that are given on."""
        for kind, count in Counter([record.kind for record in records]).items():
            self.records[kind] = self.records.get(kind, 0) + count
        kinds_of_tenants = {
            (record.organisation, record.lrs_id, record.message.get("event", record.kind)): record for record in records
        }
        for (organisation, lrs_id, event), record in kinds_of_tenants.items():
            self.books.see(organisation, lrs_id)
            name = f"{event} {organisation} {lrs_id}"
            if name not in self.examples and len(self.examples) < MOST_EXAMPLES:
                self.examples[name] = encode_record(record)

    def count_user(self, user_id: str, records: int) -> None:
        """Count the records of one user."""
        self.busiest[user_id] = self.busiest.get(user_id, 0) + records
        if len(self.busiest) > _USERS_AT_ONCE:
            self.keep_busiest()

    def keep_busiest(self) -> None:
        """Forget all users but those with the most records."""
        if len(self.busiest) > BUSIEST:
            self.busiest = dict(sorted(self.busiest.items(), key=lambda user: (-user[1], user[0]))[:BUSIEST])

    def offer_sample(self, forwarder_id: str, sample: Sample) -> None:
        """Keep the sample if it comes before the forwarder's present one."""
        known = self.samples.get(forwarder_id)
        self.samples[forwarder_id] = sample if known is None else min(known, sample)

    def keep(self, forwarder_id: str, reason: str, count: int = 1) -> None:
        """Count what is left as it was, and why."""
        reasons = self.kept.setdefault(forwarder_id, {})
        reasons[reason] = reasons.get(reason, 0) + count

    def plan(self, forwarder_id: str, reason: str) -> LetterPlan:
        """What is counted of the dead letters to a forwarder that were given up for this reason."""
        return self.letters.setdefault(forwarder_id, {}).setdefault(reason, LetterPlan())

    def pass_over(self, name: str, count: int) -> None:
        """Count what was read and neither used nor refused."""
        self.passed_over[name] = self.passed_over.get(name, 0) + count


def total(parts: Sequence[Summary] | Iterable[Summary]) -> Summary:
    """The sum of `parts`. It fits `beam.CombineGlobally`."""
    whole = Summary()
    for part in parts:
        whole.add(part)
    return whole


def rejected_by_reason(read: ReadCounts) -> dict[str, int]:
    """How many pieces were refused as they were read, by what the board calls the reason: without values."""
    if not read.rejected:
        return {}
    counts: dict[str, int] = {}
    for reason in read.reasons.commonest():
        name = name_of(reason.field, reason.rule)
        counts[name] = counts.get(name, 0) + reason.count
    others = read.rejected - sum(counts.values())
    return counts | {OTHER_REASONS: others} if others > 0 else counts
