"""What of a run somebody must be told: rules over successive looks at the board, as a state machine without a clock.

A rule tells a thing once, when it begins, and tells it again only after it was over. The caller looks at the board
about once a second, and gives `AlertRules` what was seen:

    alerts = rules.saw(snapshot, now)         while the run goes on, and once more when its work has ended
    alerts = rules.read_all(counts, now)      when all is read
    alerts = rules.failed(reason, now)        if the run has failed

Alerts come in the order in which they are to be sent: of one look by forwarder, and there what began first.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from transforms.accounting.board import PHASES, Snapshot, Standing
from transforms.accounting.summary import RejectLimit, reject_share
from transforms.reading.bucket_blobs import ReadCounts

AlertType = Literal[
    "forwarder.failing",
    "forwarder.unavailable",
    "forwarder.dead_letters",
    "forwarder.recovered",
    "run.rejects",
    "run.failed",
]
"""What is told: a forwarder has failed for long; its outage budget is over; its records begin to be given up; it takes
records again; many rejects; the run has failed."""

ALERT_TYPES: tuple[AlertType, ...] = (
    "forwarder.failing",
    "forwarder.unavailable",
    "forwarder.dead_letters",
    "forwarder.recovered",
    "run.rejects",
    "run.failed",
)

QUIET_SECONDS = 3600.0
"""Seconds without a new dead letter after which the next one is told again. Bounded runs are seldom that long."""

REJECTS_TOLD = 0.1
"""The share of the reject limit from which on rejects are told."""

_UNAVAILABLE = "unavailable"
"""The reason of dead letters of a forwarder whose outage budget is over."""

_DELIVERING = PHASES.index("delivering")


class Alert(msgspec.Struct, frozen=True):
    """One thing that somebody must be told. No part of it holds a secret.

    Attributes:
        type: what has happened.
        at: when it was noticed, in unix seconds.
        number: how many of this type and forwarder there have been, with this one.
        forwarder_id: None if it is of the run.
        since: when it began, in unix seconds; None where that is not known.
        answer: the forwarder's last bad answer, such as `503` or `timeout`; empty where there was none.
        waiting: records of the forwarder that are not settled.
        dead_letters: records of the forwarder that were given up, by reason.
        share: of rejects in what was read, 0 to 1.
        reason: why the run has failed, in a sentence.
    """

    type: AlertType
    at: float
    number: int = 1
    forwarder_id: str | None = None
    since: float | None = None
    answer: str = ""
    waiting: int = 0
    dead_letters: dict[str, int] = {}
    share: float | None = None
    reason: str = ""


@dataclass(slots=True)
class _Forwarder:
    """What is known of one forwarder from earlier looks.

    Attributes:
        failing_since: of the present failure, unix seconds; None while it takes records.
        told_failing: whether that is told.
        told_unavailable: whether it is told that the outage budget is over.
        unavailable_dead: records that were given up for that, at the last look.
        dead: dead letters at the last look.
        dead_at: when there were last more of them; None before the first.
        numbers: how many alerts there have been, by type.
    """

    failing_since: float | None = None
    told_failing: bool = False
    told_unavailable: bool = False
    unavailable_dead: int = 0
    dead: int = 0
    dead_at: float | None = None
    numbers: dict[AlertType, int] = field(default_factory=dict)


class AlertRules:
    """The rules, and what they have told so far. One thread uses it.

    Args:
        after: seconds that a forwarder must have failed before that is told (`--alert_after`).
        limit: of rejects; None where rejects end no run.
    """

    def __init__(self, after: float, limit: RejectLimit | None) -> None:
        self._after = after
        self._limit = limit
        self._forwarders: dict[str, _Forwarder] = {}
        self._told_rejects = False
        self._told_failed = False

    def saw(self, snapshot: Snapshot, now: float) -> list[Alert]:
        """What a look at the board makes due.

        Args:
            snapshot: of the board.
            now: when that was, in unix seconds; not before the last look.
        """
        alerts: list[Alert] = []
        job = snapshot.job
        if PHASES.index(job.phase) >= _DELIVERING and job.read:
            # By rows alone: the board does not say how large what was refused is.
            alerts += self.read_all(ReadCounts(accepted=job.read - job.rejects, rejected=job.rejects), now)
        for forwarder_id in sorted(snapshot.forwarders):
            known = self._forwarders.get(forwarder_id)
            if known is None:
                known = self._forwarders[forwarder_id] = _Forwarder()
            alerts += self._of(forwarder_id, known, snapshot.forwarders[forwarder_id], now)
        return alerts

    def _of(self, forwarder_id: str, known: _Forwarder, standing: Standing, now: float) -> list[Alert]:
        alerts: list[Alert] = []

        def tell(type_: AlertType, since: float | None) -> None:
            number = known.numbers[type_] = known.numbers.get(type_, 0) + 1
            alerts.append(
                Alert(
                    type_,
                    now,
                    number,
                    forwarder_id,
                    since,
                    standing.failing.answer if standing.failing else standing.last_answer,
                    standing.waiting + standing.in_flight,
                    dict(standing.dead),
                )
            )

        failing = standing.failing
        if self._is_back(known, standing):
            if known.told_failing or known.told_unavailable:
                tell("forwarder.recovered", standing.last_success)
            known.failing_since, known.told_failing, known.told_unavailable = None, False, False
        if failing is not None:
            known.failing_since = failing.since
            if not known.told_failing and now - failing.since >= self._after:
                known.told_failing = True
                tell("forwarder.failing", failing.since)
        # Between two looks a short backlog may be given up, and the run be over.
        given_up = standing.dead.get(_UNAVAILABLE, 0)
        if (standing.unavailable or given_up > known.unavailable_dead) and not known.told_unavailable:
            known.told_unavailable = True
            tell("forwarder.unavailable", known.failing_since)
            known.failing_since = now if known.failing_since is None else known.failing_since
        known.unavailable_dead = given_up
        if standing.dead_letters > known.dead:
            if known.dead_at is None or now - known.dead_at > QUIET_SECONDS:
                tell("forwarder.dead_letters", None)
            known.dead_at = now
            known.dead = standing.dead_letters
        return alerts

    def _is_back(self, known: _Forwarder, standing: Standing) -> bool:
        """Whether the forwarder has taken a record since it began to fail.

        That it fails no longer is not enough: of a worker that is gone nothing is known.
        """
        if known.failing_since is None or standing.unavailable:
            return False
        if standing.failing is not None:
            # It was back between two looks, and fails anew.
            return standing.failing.since > known.failing_since and self._took_since(known.failing_since, standing)
        return self._took_since(known.failing_since, standing)

    @staticmethod
    def _took_since(since: float, standing: Standing) -> bool:
        return standing.last_success is not None and standing.last_success >= since

    def read_all(self, read: ReadCounts, now: float) -> list[Alert]:
        """What the rejects make due, once all is read.

        Args:
            read: what was read, and what of it was refused.
            now: unix seconds.
        """
        limit = self._limit
        if self._told_rejects or limit is None or not read.rejected:
            return []
        tenth = RejectLimit(limit.ratio * REJECTS_TOLD, max(1, round(limit.floor * REJECTS_TOLD)))
        if not tenth.is_exceeded(read):
            return []
        self._told_rejects = True
        return [Alert("run.rejects", now, share=reject_share(read))]

    def failed(self, reason: str, now: float) -> list[Alert]:
        """The alert that the run has failed. Only the first one counts.

        Args:
            reason: a sentence.
            now: unix seconds.
        """
        if self._told_failed:
            return []
        self._told_failed = True
        return [Alert("run.failed", now, reason=reason)]
