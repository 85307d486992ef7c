"""What a run tells its user: the table on the terminal, and `report.json`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import msgspec

from pipeline.cells import ANY_WIDTH, Column, clean, columns
from pipeline.next_steps import next_commands
from pipeline.options import Job
from schemas import DERIVED_KINDS
from schemas.record import decode_record
from schemas.times import rfc3339
from transforms.accounting.accounts import Account
from transforms.accounting.summary import Summary, reject_share
from transforms.accounting.words import counted
from transforms.forwarders import Forwarder, HttpTarget
from transforms.matching.explanation import Sample, nearest_miss, sample_of
from transforms.matching.scope import Tenant, out_of_scope
from transforms.matching.statement import StatementBuilder
from transforms.reading.exact_json import loads
from transforms.reading.reasons import Reason

State = Literal["done", "stopped", "failed", "too_many_rejects", "source_unread"]

DONE = 0
FAILED = 1
USAGE = 2
LEFT_OVER = 3

_TENANTS_SHOWN = 10
_REASONS_SHOWN = 5

_FORWARDER, _TO = Column("forwarder", least=10), Column("to", rank=1, least=13)
_DELIVERED = (
    _FORWARDER,
    _TO,
    Column("matched", right=True),
    Column("delivered", right=True),
    Column("already", rank=2, right=True),
    Column("dead", right=True),
    Column("pending", right=True),
    Column("attempts", rank=6, right=True),
    Column("calls", rank=4, right=True),
    Column("p50 ms", rank=5, right=True),
    Column("p99 ms", rank=3, right=True),
)
"""The accounts of a run. What a narrow terminal does not show is in report.json."""

_PLANNED = (
    Column("dead letters to", least=15),
    Column("given up for", least=12),
    *(Column(title, right=True) for title in ("open", "sent again", "not chosen")),
)


@dataclass(frozen=True)
class Report:
    """The end of a run.

    Attributes:
        state: how the run ended.
        summary: what the workers counted.
        forwarders: those that took part.
        inactive: ids of the documents that are not active.
        warnings: what was found before the run started.
        files: how many files were read.
        digest: of the forwarder documents that the run went by; None in a run without forwarders.
        started: epoch ms.
        elapsed: seconds.
        rejects: the files that this run wrote its rejects to.
        sources: the names of the live sources that were read.
        delivered_since: of a redrive, by forwarder, how many dead letters have been delivered since.
    """

    job: Job
    run_id: str
    state: State
    summary: Summary
    forwarders: tuple[Forwarder, ...]
    inactive: tuple[str, ...]
    warnings: tuple[str, ...]
    files: int
    digest: str | None
    started: int
    elapsed: float
    rejects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    delivered_since: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 all delivered; 1 failed, stopped or unbalanced; 3 dead letters or rejects, or nothing to explain.

        The numbers are those of docs/spec/forwarders.md section 4.
        """
        if not self.complete:
            return FAILED
        if self.job.explain is not None:
            return DONE if self.summary.explanation else LEFT_OVER
        if self.job.dry_run:
            return DONE
        books = self.summary.books
        accounts = (*books.accounts.values(), *books.letters.values())
        # A letter that nobody asks for any more was told of by the run that wrote it. Only a redrive was to send it.
        kept = self.job.redrive and self.summary.kept
        if self.summary.rejected or kept or any(account.dead for account in accounts):
            return LEFT_OVER
        return DONE

    @property
    def complete(self) -> bool:
        """Whether everything that was read was worked on to its end, so that no other run has to go on with it."""
        return self.state == "done" and not self.summary.stopped and not (self.job.delivers and self.unbalanced)

    @property
    def unbalanced(self) -> list[str]:
        """The ids of the forwarders whose counts do not add up: records were matched of which no end is known."""
        return self.summary.books.unbalanced()

    def found(self) -> list[str]:
        """What the input made worth a warning."""
        users = self.summary.derivation.users_of_several_home_pages
        if not users:
            return []
        return [
            f"{users:,} user ids stand for accounts of several home pages: their sessions are kept apart, but not the "
            "ids; --qualify_users tells them apart"
        ]

    @cached_property
    def hints(self) -> list[str]:
        """A line for each forwarder that got nothing.

        Its kinds are not those of the run, or no record was in its scope, or its query matched none of them.
        """
        if (
            self.job.redrive
            or self.job.explain is not None
            or self.state in ("failed", "too_many_rejects", "source_unread")
        ):
            return []
        books = self.summary.books
        if not books.seen:
            return []  # there was no record to get, as when nothing is new to a state
        seen = sorted(books.seen, key=str)
        shown = ", ".join(f"{organisation or '-'}/{lrs_id or '-'}" for organisation, lrs_id in seen[:_TENANTS_SHOWN])
        if len(seen) > _TENANTS_SHOWN or books.more_seen:
            shown += ", ..."
        lines = []
        for forwarder in self.forwarders:
            if (
                books.account(forwarder.id).matched
                or forwarder.id in self.summary.kept
                or forwarder.id in books.letters
            ):
                continue
            if forwarder.kinds is not None and not set(forwarder.kinds) & set(self.job.window.kinds):
                lines.append(
                    f"forwarder {forwarder.id}: its kinds are {', '.join(forwarder.kinds)}, and the run forwards "
                    f"{', '.join(self.job.window.kinds)} (--kind)"
                )
                continue
            if any(out_of_scope(Tenant(*pair), forwarder) is None for pair in seen):
                lines.append(f"forwarder {forwarder.id}: its query matched no record; {self._miss(forwarder)}")
                continue
            lines.append(
                f"forwarder {forwarder.id}: no record is in its scope; organisations/stores seen: {shown or 'none'}"
            )
        return lines

    def _miss(self, forwarder: Forwarder) -> str:
        """Why a query that matched nothing refuses what comes nearest to it."""
        return nearest_miss(self._samples, forwarder) or "--explain ID says of a record which clause decided"

    @cached_property
    def _samples(self) -> list[Sample]:
        """One record of each kind; none that is a statement which is nested deeper than can be read."""
        statements = StatementBuilder(self.job.actor_home_page, self.job.session_duration_unit)
        samples = []
        for line in self.summary.examples.values():
            with suppress(RecursionError):
                samples.append(sample_of(decode_record(line), statements))
        return samples

    def as_json(self) -> dict[str, Any]:
        """The contents of `report.json`. Counts are of records unless their name says otherwise. Times are RFC 3339."""
        summary, window = self.summary, self.job.window
        return {
            "run_id": self.run_id,
            "state": "stopped" if summary.stopped and self.state == "done" else self.state,
            "exit_status": self.exit_status,
            "started": rfc3339(self.started),
            "elapsed_seconds": round(self.elapsed, 3),
            "runner": self.job.runner,
            "mode": self.job.mode,
            "dry_run": self.job.dry_run,
            **({"letters": self._chosen()} if self.job.redrive else {}),
            "window": {
                "since": rfc3339(window.since) if window.since is not None else None,
                "until": rfc3339(window.until) if window.until is not None else None,
            },
            "input": {
                "files": self.files,
                "sources": list(self.sources),
                "bytes": summary.read.size,
                "read": summary.read.read,
                "rejected": summary.read.rejected,
                "blank_lines": summary.read.blank,
                "passed_over": dict(sorted(summary.passed_over.items())),
                "accepted_bytes": summary.read.accepted_bytes,
                "rejected_bytes": summary.read.rejected_bytes,
                "reject_reasons": [self._reason(reason) for reason in summary.read.reasons.commonest()],
                "reject_files": list(self.rejects),
                "failures": sorted(summary.read.failures),
            },
            "sessions": summary.derivation.sessions,
            "session_outcomes": dict(sorted(summary.derivation.outcomes.items())),
            "duplicates": summary.derivation.duplicates,
            "conflicting_duplicates": summary.derivation.conflicting_duplicates,
            "repeated_starts": summary.derivation.repeated_starts,
            "submits_after_discard": summary.derivation.submits_after_discard,
            "activity_id_disagreements": summary.derivation.activity_id_disagreements,
            "negative_durations": summary.derivation.negative_durations,
            "duplicate_statements": summary.statements.duplicates,
            "conflicting_statements": summary.statements.conflicts,
            "sessions_of_several_users": summary.shared_sessions,
            "users_of_several_home_pages": summary.derivation.users_of_several_home_pages,
            "records": {kind: summary.records.get(kind, 0) for kind in self.job.window.kinds},
            "forwarder_documents": self.digest,
            "inactive_forwarders": list(self.inactive),
            "forwarders": [self._forwarder(forwarder) for forwarder in self.forwarders],
            "balanced": not self.unbalanced if self.job.delivers else None,
            "hints": self.hints,
            "warnings": [*self.warnings, *self.found()],
        }

    def _chosen(self) -> dict[str, Any]:
        """Which dead letters a redrive was asked for. Times are those at which a record was given up."""
        chosen = self.job.chosen_letters
        return {
            "forwarders": list(chosen.forwarders),
            "reasons": list(chosen.reasons),
            "record_ids": list(chosen.record_ids),
            "since": rfc3339(chosen.since) if chosen.since is not None else None,
            "until": rfc3339(chosen.until) if chosen.until is not None else None,
            "kinds": list(chosen.kinds),
        }

    def _reason(self, reason: Reason) -> dict[str, Any]:
        first = reason.first
        number = self.summary.read.line_of(first)
        return {
            "count": reason.count,
            "field": reason.field,
            "reason": first.reason,
            "guess": reason.guess,
            "file": first.file,
            "position": first.position,
            **({first.unit: first.position + 1} if number is None else {"line": number}),
        }

    def _forwarder(self, forwarder: Forwarder) -> dict[str, Any]:
        account = self.summary.books.account(forwarder.id)
        entry: dict[str, Any] = {"id": forwarder.id, "description": forwarder.description, "target": target(forwarder)}
        if self.job.dry_run:
            entry["matched"] = account.matched
            sample = self.summary.samples.get(forwarder.id)
            if sample is not None:
                entry["sample"] = _as_value(sample.payload)
        else:
            entry |= {
                "matched": account.matched,
                "delivered": account.delivered,
                "already_delivered": account.already_delivered,
                "dead_lettered": account.dead,
                "dead_letter_reasons": dict(sorted(account.dead_lettered.items())),
                "pending": account.pending,
                "attempts": account.attempts,
                "calls": account.calls,
                "bytes": account.bytes,
                "p50_ms": account.latencies.percentile(0.5),
                "p99_ms": account.latencies.percentile(0.99),
                "ambiguous": account.ambiguous,
                "hashed_partition_keys": account.hashed_keys,
                "remarks": dict(sorted(account.remarks.items())),
            }
        if self.job.catches_up:
            entry["caught_up"] = self._caught_up(forwarder.id)
        if self.job.redrive:
            entry["letters"] = self._letters(forwarder.id)
        if forwarder.id in self.summary.kept:
            entry["kept"] = dict(sorted(self.summary.kept[forwarder.id].items()))
        return entry

    def _caught_up(self, forwarder_id: str) -> dict[str, Any]:
        """What became of the dead letters of earlier runs that this one has tried again, or would."""
        account = self.summary.books.letters.get(forwarder_id, Account())
        if self.job.dry_run:
            return {"would_try": account.matched}
        return {
            "tried": account.matched,
            "delivered": account.delivered + account.already_delivered,
            "still_dead": account.dead,
            "reasons": dict(sorted(account.dead_lettered.items())),
            "pending": account.pending,
            "attempts": account.attempts,
            "bytes": account.bytes,
            "ambiguous": account.ambiguous,
            "remarks": dict(sorted(account.remarks.items())),
        }

    def _caught_up_lines(self) -> Iterable[str]:
        for forwarder in self.forwarders:
            account = self.summary.books.letters.get(forwarder.id)
            if account is None:
                continue
            letters = counted(account.matched, "dead letter")
            if self.job.dry_run:
                yield f"forwarder {forwarder.id}: {letters} of earlier runs would be tried first"
                continue
            line = f"forwarder {forwarder.id}: caught up with {account.delivered + account.already_delivered:,} of "
            line += f"{letters} of earlier runs"
            if account.dead:
                line += f"; still dead: {_counts(account.dead_lettered)}"
            if account.pending:
                line += f"; {account.pending:,} pending"
            yield line

    def _letters(self, forwarder_id: str) -> dict[str, Any]:
        """What a redrive does with the dead letters to a forwarder, by the reason for which they were given up."""
        reasons = self.summary.letters.get(forwarder_id, {})
        return {
            "delivered_since": self.delivered_since.get(forwarder_id, 0),
            "by_reason": {reason: msgspec.structs.asdict(plan) for reason, plan in sorted(reasons.items())},
        }

    def _plan_lines(self, width: int) -> Iterable[str]:
        """What a redrive makes of the dead letters, by forwarder and reason."""
        plans = self.summary.letters
        rows = [
            (id_, reason, *(f"{count:,}" for count in (plan.open, plan.sent, plan.not_selected)))
            for id_, reasons in sorted(plans.items())
            for reason, plan in sorted(reasons.items())
        ]
        if rows:
            yield ""
            yield from columns(_PLANNED, [[clean(cell) for cell in row] for row in rows], width)
        for id_, count in sorted(self.delivered_since.items()):
            if count and self.job.chosen_letters.concerns(id_):
                yield f"forwarder {id_}: delivered since they were dead letters: {count:,}"
        for id_, reasons in sorted(plans.items()):
            ahead = sum(plan.ahead for plan in reasons.values())
            if ahead:
                yield (
                    f"forwarder {id_}: {ahead:,} of these leave before an earlier dead letter of their user, which "
                    "stays; with --on_failure block_user they stay too"
                )
        if not any(plan.sent for reasons in plans.values() for plan in reasons.values()):
            yield "there is no open dead letter" if not rows else "none of the open dead letters is sent again"

    def as_text(self, width: int = ANY_WIDTH) -> str:
        """What the terminal shows. A run that failed has no counts, since its workers did not hand them over.

        Args:
            width: cells of a line of a table.
        """
        if self.state == "failed":
            return self.verdict()
        summary = self.summary
        if self.job.explain is not None and self.complete:
            return "\n".join(self._explanation(self.job.explain))
        lines = []
        if not self.job.redrive:
            lines += [*self._read_lines(), *self._passed_over_lines()]
            lines += self._reject_lines()
        else:
            lines += self._plan_lines(width)
        lines += [f"warning: {warning}" for warning in self.found()]
        has_matches = any(account.matched for account in summary.books.accounts.values())
        if self.forwarders and self.job.explain is None and (has_matches or not self.job.redrive):
            lines += ["", *self._table(width)]
        lines += self._caught_up_lines()
        for forwarder_id, reasons in sorted(summary.kept.items()):
            letters = "dead letters of earlier runs " if self.job.catches_up and not self.job.dry_run else ""
            lines.append(f"forwarder {forwarder_id}: {letters}left as they were: {_counts(reasons)}")
        lines += [*self.hints, *self._remark_lines(), *self._dead_letter_lines(), "", self.verdict()]
        lines += self._next_lines()
        return "\n".join(lines)

    def _explanation(self, id_: str) -> Iterable[str]:
        summary = self.summary
        if summary.explanation:
            yield from summary.explanation
            return
        yield (
            f"{id_}: none of the {sum(summary.records.values()):,} records of this run has this id, nor its session or "
            "its activity"
        )
        yield (
            "an id is that of a record (`session-forwarder show receipts` has them, and so has the Idempotency-Key of "
            "a request), a session_id, or the record_id of an activity"
        )
        if summary.rejected:
            yield f"{summary.rejected:,} of the {summary.read.read:,} pieces of input were rejected: it may be there"

    def _read_lines(self) -> Iterable[str]:
        summary, read, kinds = self.summary, self.summary.read, self.job.window.kinds
        what = ("activity", "activities") if self.job.input_format == "activity" else ("statement", "statements")
        duplicates = summary.statements.duplicates if self.job.forwards_statements else summary.derivation.duplicates
        found = f"{summary.rejected:,} rejected, {counted(duplicates, 'duplicate')}"
        yield f"read      {counted(read.read, *what)} in {self._places()}, {found}"
        if self.job.forwards_statements:
            yield f"given on  {counted(summary.records.get('statement', 0), 'statement')} as they are"
        derived = [kind for kind in kinds if kind in DERIVED_KINDS]
        if derived:
            yield f"derived   {counted(summary.derivation.sessions, 'session')}: " + ", ".join(
                f"{summary.records.get(kind, 0):,} {kind}" for kind in derived
            )

    def _places(self) -> str:
        if self.sources:
            return counted(len(self.sources), "source")
        return counted(self.files, "file")

    def _passed_over_lines(self) -> Iterable[str]:
        if self.summary.passed_over:
            told = ", ".join(f"{count:,} {name}" for name, count in sorted(self.summary.passed_over.items()))
            yield f"passed over: {told}"

    def _reject_lines(self) -> Iterable[str]:
        """The commonest reasons of rejects, each with its count, its first place and what that looks like."""
        read = self.summary.read
        if not self.summary.rejected:
            return
        reasons = read.reasons.commonest()
        yield ""
        yield "rejected, by reason:"
        for reason in reasons[:_REASONS_SHOWN]:
            first, number = reason.first, read.line_of(reason.first)
            place = f"{first.unit} {first.position + 1:,}" if number is None else f"line {number:,}"
            count = f"{reason.count:9,}  "
            yield f"{count}{first.reason}"
            yield f"{' ' * len(count)}first in {first.file}, {place}"
            if reason.guess:
                yield f"{' ' * len(count)}it looks like {reason.guess}"
        others = read.reasons.others + sum(reason.count for reason in reasons[_REASONS_SHOWN:])
        if others:
            yield f"{others:9,}  for other reasons" + (", see report.json" if self.job.output else "")
        conflicts = self.summary.statements.conflicts
        if conflicts:
            yield f"{conflicts:9,}  the id stands for another statement, which is forwarded"
        if len(self.rejects) == 1:
            yield f"all of them, with what they hold: {self.rejects[0]}"
        elif self.rejects:
            more = counted(len(self.rejects) - 1, "more file")
            yield f"all of them, with what they hold: {self.rejects[0]} and {more}"

    def _table(self, width: int) -> list[str]:
        accounts = [(forwarder, self.summary.books.account(forwarder.id)) for forwarder in self.forwarders]
        if self.job.dry_run:
            header: Sequence[Column] = (_FORWARDER, _TO, Column("would get", right=True))
            rows: list[Sequence[str]] = [
                (forwarder.id, target(forwarder), f"{account.matched:,}") for forwarder, account in accounts
            ]
        else:
            header = _DELIVERED
            rows = [(forwarder.id, target(forwarder), *_numbers(account)) for forwarder, account in accounts]
        lines = columns(header, [[clean(cell) for cell in row] for row in rows], width)
        if self.job.dry_run:
            for forwarder in self.forwarders:
                sample = self.summary.samples.get(forwarder.id)
                if sample is not None:
                    lines += ["", f"sample for {forwarder.id}:", sample.payload.decode()]
        return lines

    def _dead_letter_lines(self) -> Iterable[str]:
        for forwarder in self.forwarders:
            reasons = self.summary.books.account(forwarder.id).dead_lettered
            if reasons:
                yield f"forwarder {forwarder.id}: dead letters: {_counts(reasons)}"

    def _next_lines(self) -> Iterable[str]:
        """The commands that come next, after a run that has left dead letters."""
        if not self.complete or not self.job.delivers:
            return
        dead = {forwarder.id: self.summary.books.account(forwarder.id).dead_lettered for forwarder in self.forwarders}
        commands = next_commands(self.job, {id_: reasons for id_, reasons in dead.items() if reasons})
        if commands:
            yield "next, to look at the dead letters, and to send them again:"
        yield from (f"  {command}" for command in commands)

    def _remark_lines(self) -> Iterable[str]:
        for forwarder in self.forwarders:
            remarks = self.summary.books.account(forwarder.id).remarks
            if remarks:
                yield f"forwarder {forwarder.id}: remarks: {_counts(remarks)}"

    def verdict(self) -> str:
        """How the run ended, and what to do, in one or a few lines."""
        details = f" (details in {self.job.output}/report.json)" if self.job.output else ""
        if self.state == "too_many_rejects":
            read = self.summary.read
            share = reject_share(read)
            of_what = "the input" if read.rejected >= share * read.read else "the input's bytes"
            return (
                f"failed: {share:.1%} of {of_what} was rejected, more than --max_reject_ratio "
                f"{self.job.max_reject_ratio:.1%}; nothing was delivered{details}\n"
                "do as the reasons above say; or, if these rejects may be left out, allow more with --max_reject_ratio"
            )
        if self.state == "source_unread":
            told = "\n".join(sorted(self.summary.read.failures))
            return f"failed: a source could not be read to its end, and nothing was delivered{details}\n{told}"
        if self.state == "failed":
            return f"failed{details}"
        if self.state == "stopped" or self.summary.stopped:
            return f"stopped before the end; run the same command again to go on{details}"
        if self.job.delivers and self.unbalanced:
            return f"failed: the books do not balance for {', '.join(self.unbalanced)}{details}"
        read = self.summary.read
        if read.rejected and not read.accepted:
            return f"finished, but nothing in the input could be read{details}"
        if self.exit_status == LEFT_OVER:
            return f"finished with dead letters or rejects after {self.elapsed:.1f} s{details}"
        return f"finished after {self.elapsed:.1f} s{details}"


def _as_value(payload: bytes) -> Any:
    """A payload as it goes into the report: its text, if that has numbers which few readers of JSON can read."""
    value = loads(payload)
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return payload.decode()
    return value


def target(forwarder: Forwarder) -> str:
    """Where a forwarder sends to, without anything that could be secret."""
    if isinstance(forwarder.target, HttpTarget):
        return f"http {forwarder.target.host}"
    kind = "stream" if forwarder.target.service == "streams" else "firehose"
    return f"{kind} {forwarder.target.stream_name}"


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))


def _numbers(account: Account) -> tuple[str, ...]:
    counts = (account.matched, account.delivered, account.already_delivered, account.dead, account.pending)
    latencies = (account.latencies.percentile(0.5), account.latencies.percentile(0.99))
    return (
        *(f"{count:,}" for count in (*counts, account.attempts, account.calls)),
        *("-" if latency is None else f"{latency:,}" for latency in latencies),
    )
