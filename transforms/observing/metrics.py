"""What the board says, as metrics: their names, what they mean, and their values at one moment.

The names follow Prometheus' conventions (https://prometheus.io/docs/practices/naming): base units, and `_total` on what
only grows. Whoever exports them puts them into the form of its protocol.

How many values there are is bounded, whatever the number of forwarders: see `Forwarders`. No label holds a url, a
description or anything that a receiver wrote. A label is the id of a forwarder, a reason, a phase, or the run's id.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from transforms.accounting.board import LATENCY_BOUNDS, PHASES, JobCounts, LatencyHistogram, Snapshot, Standing

PREFIX = "session_forwarder_"

MOST_FORWARDERS = 1_000
"""Forwarders that have values of their own. Those that come later are added up under OTHER_FORWARDERS."""

OTHER_FORWARDERS = "others"

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: whole, as Prometheus has it.
        kind: a counter only grows while a process lives.
        help: what it says, in one sentence.
        labels: their names.
        unit: of its values, by UCUM (https://ucum.org): `s`, `By`, or what is counted in braces.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Bins:
    """The value of a histogram.

    Attributes:
        counts: of each bin of LATENCY_BOUNDS and of what is beyond, not cumulated.
        sum: in seconds.
    """

    counts: tuple[int, ...]
    sum: float


Value = float | Bins
Sample = tuple[tuple[str, ...], Value]
"""The values of the labels, and that of the metric."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its values. No two of them have the same labels."""

    metric: Metric
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    Attributes:
        at: in unix seconds.
        exit_status: as the job's process gives it.
    """

    at: float
    exit_status: int


@dataclass(frozen=True, slots=True)
class Told:
    """What the board does not know.

    Attributes:
        version: of the project.
        run_id: None before it has one.
        started: in unix seconds.
        reject_limit: the share of rejects that ends the run; None where there is none.
        end: None while the run goes on.
    """

    version: str
    started: float
    run_id: str | None = None
    reject_limit: float | None = None
    end: End | None = None


_JobValue = Callable[[Snapshot, Told], Iterable[Sample]]
_ForwarderValue = Callable[[Standing, float], Value]
_BREAKERS = {"closed": 0, "half_open": 1, "open": 2}


def _job(name: str, kind: Kind, help_: str, unit: str = "", *labels: str) -> Metric:
    return Metric(PREFIX + name, kind, help_, labels, unit)


def _of_forwarder(name: str, kind: Kind, help_: str, unit: str = "", *labels: str) -> Metric:
    return Metric(PREFIX + name, kind, help_, ("forwarder", *labels), unit)


def _one(value: Callable[[JobCounts], float]) -> _JobValue:
    return lambda snapshot, told: [((), value(snapshot.job))]


def _if_known(value: Callable[[Snapshot, Told], float | None]) -> _JobValue:
    def samples(snapshot: Snapshot, told: Told) -> Iterable[Sample]:
        known = value(snapshot, told)
        return [] if known is None else [((), known)]

    return samples


_JOB: tuple[tuple[Metric, _JobValue], ...] = (
    (
        _job("run_info", "gauge", "The run and the version that it is of; always 1.", "", "run_id", "version"),
        lambda snapshot, told: [((told.run_id or "", told.version), 1)],
    ),
    (
        _job("run_start_time_seconds", "gauge", "When the run, or on Flink this worker, started.", "s"),
        lambda snapshot, told: [((), told.started)],
    ),
    (
        _job("run_phase", "gauge", "1 for what the run does now, 0 for everything else.", "", "phase"),
        lambda snapshot, told: [((phase,), float(phase == snapshot.job.phase)) for phase in PHASES],
    ),
    (
        _job("run_workers", "gauge", "Worker processes that are alive.", "{worker}"),
        lambda snapshot, told: [((), snapshot.workers)],
    ),
    (
        _job("run_end_time_seconds", "gauge", "When the run ended; only once it has.", "s"),
        _if_known(lambda snapshot, told: None if told.end is None else told.end.at),
    ),
    (
        _job("run_exit_status", "gauge", "The exit status of the run; only once it has ended."),
        _if_known(lambda snapshot, told: None if told.end is None else told.end.exit_status),
    ),
    (
        _job("input_bytes_total", "counter", "Bytes of the input that were read.", "By"),
        _one(lambda job: job.size),
    ),
    (
        _job("input_read_total", "counter", "Pieces of the input that were read, good and bad.", "{piece}"),
        _one(lambda job: job.read),
    ),
    (
        _job("input_rejected_total", "counter", "Pieces of the input that were refused.", "{piece}", "reason"),
        lambda snapshot, told: [((reason,), count) for reason, count in sorted(snapshot.job.rejected.items())],
    ),
    (
        _job("reject_limit_ratio", "gauge", "The share of rejects above which the run ends (--max_reject_ratio).", "1"),
        _if_known(lambda snapshot, told: told.reject_limit),
    ),
    (
        _job("input_folded_total", "counter", "Pieces of the input that records were made of.", "{piece}"),
        _one(lambda job: job.folded),
    ),
    (
        _job("records_derived_total", "counter", "Records that were derived, or forwarded as they are.", "{record}"),
        _one(lambda job: job.derived),
    ),
    (
        _job(
            "stream_lag_seconds",
            "gauge",
            "How long what records were derived from had been in the stream, the longest of the last minute; only with "
            "--streaming.",
            "s",
        ),
        _if_known(lambda snapshot, told: snapshot.job.lag),
    ),
)

_FORWARDER: tuple[tuple[Metric, _ForwarderValue], ...] = (
    (
        _of_forwarder("records_due_total", "counter", "Records that were to go to the forwarder.", "{record}"),
        lambda standing, now: standing.due,
    ),
    (
        _of_forwarder("records_delivered_total", "counter", "Records that the forwarder got.", "{record}"),
        lambda standing, now: standing.delivered,
    ),
    (
        _of_forwarder(
            "records_already_delivered_total", "counter", "Records that it had got in an earlier run.", "{record}"
        ),
        lambda standing, now: standing.already_delivered,
    ),
    (
        _of_forwarder("records_dead_total", "counter", "Records that were given up, for every reason.", "{record}"),
        lambda standing, now: standing.dead_letters,
    ),
    (
        _of_forwarder("records_waiting", "gauge", "Records that are neither settled nor being sent.", "{record}"),
        lambda standing, now: standing.waiting,
    ),
    (
        _of_forwarder("records_in_flight", "gauge", "Records that are being sent.", "{record}"),
        lambda standing, now: standing.in_flight,
    ),
    (
        _of_forwarder(
            "records_deferred", "gauge", "Unsettled records that a streaming bundle has ended without.", "{record}"
        ),
        lambda standing, now: standing.deferred,
    ),
    (
        _of_forwarder(
            "oldest_unsent_age_seconds", "gauge", "How long the oldest unsent record has waited; 0 if none waits.", "s"
        ),
        lambda standing, now: 0.0 if standing.oldest_unsent is None else max(0.0, now - standing.oldest_unsent),
    ),
    (
        _of_forwarder(
            "last_success_timestamp_seconds", "gauge", "When the forwarder last took a record; 0 before the first.", "s"
        ),
        lambda standing, now: standing.last_success or 0.0,
    ),
    (
        _of_forwarder("failing_seconds", "gauge", "For how long the forwarder has taken nothing; 0 if it does.", "s"),
        lambda standing, now: 0.0 if standing.failing is None else max(0.0, now - standing.failing.since),
    ),
    (
        _of_forwarder("breaker_state", "gauge", "Whether calls are made: 0 yes, 1 one to see (half open), 2 no."),
        lambda standing, now: _BREAKERS[standing.breaker],
    ),
    (
        _of_forwarder(
            "unavailable", "gauge", "1 while records are given up unsent, since the outage budget is over; else 0."
        ),
        lambda standing, now: float(standing.unavailable),
    ),
    (
        _of_forwarder("calls_total", "counter", "Requests, and calls of AWS' APIs, that were made.", "{call}"),
        lambda standing, now: standing.calls,
    ),
    (
        _of_forwarder("delivered_bytes_total", "counter", "Bytes of payload that were delivered.", "By"),
        lambda standing, now: standing.bytes,
    ),
    (
        _of_forwarder("delivery_duration_seconds", "histogram", "From the first attempt at a record to its end.", "s"),
        lambda standing, now: _bins(standing.latency),
    ),
)

_DEAD_LETTERS = _of_forwarder(
    "dead_letters_total", "counter", "Records that were given up, by reason.", "{record}", "reason"
)

METRICS: tuple[Metric, ...] = (
    *(metric for metric, _ in _JOB),
    *(metric for metric, _ in _FORWARDER),
    _DEAD_LETTERS,
)
"""All metrics that there are."""


class Forwarders:
    """Which forwarders have values of their own: the first MOST_FORWARDERS that are met.

    What has a value of its own keeps it for as long as the process lives, since a counter must not fall. Of the others
    those that fail now have the values by which that is seen, for as many as there are places.

    Args:
        most: how many have values of their own.
    """

    def __init__(self, most: int = MOST_FORWARDERS) -> None:
        self._most = most
        self._own: set[str] = set()

    def sorted_in(self, standings: Mapping[str, Standing]) -> tuple[dict[str, Standing], dict[str, Standing]]:
        """The standings with the others added up to one; and those of them that fail."""
        own: dict[str, Standing] = {}
        failing: dict[str, Standing] = {}
        others: Standing | None = None
        for forwarder_id, standing in standings.items():
            if forwarder_id not in self._own and len(self._own) < self._most and forwarder_id != OTHER_FORWARDERS:
                self._own.add(forwarder_id)
            if forwarder_id in self._own:
                own[forwarder_id] = standing
                continue
            others = others or Standing()
            others.add(standing)
            if standing.failing is not None and len(failing) < self._most and forwarder_id != OTHER_FORWARDERS:
                failing[forwarder_id] = standing
        if others is not None:
            own[OTHER_FORWARDERS] = others
        return own, failing


_OF_TROUBLE = frozenset(
    PREFIX + name for name in ("oldest_unsent_age_seconds", "failing_seconds", "breaker_state", "unavailable")
)
"""What a forwarder shows, while it fails, that has no values of its own. A gauge may come and go."""


def families(snapshot: Snapshot, now: float, told: Told, forwarders: Forwarders) -> Iterator[Family]:
    """All metrics with their values.

    Args:
        snapshot: of the board.
        now: unix seconds.
        told: what the board does not know.
        forwarders: of all calls of this process.
    """
    for metric, samples in _JOB:
        yield Family(metric, list(samples(snapshot, told)))
    own, failing = forwarders.sorted_in(snapshot.forwarders)
    for metric, value in _FORWARDER:
        shown = own | failing if metric.name in _OF_TROUBLE else own
        yield Family(metric, [((forwarder_id,), value(standing, now)) for forwarder_id, standing in shown.items()])
    yield Family(
        _DEAD_LETTERS,
        [
            ((forwarder_id, reason), count)
            for forwarder_id, standing in own.items()
            for reason, count in sorted(standing.dead.items())
        ],
    )


def _bins(latency: LatencyHistogram) -> Bins:
    if not latency.counts:
        return Bins((0,) * (len(LATENCY_BOUNDS) + 1), 0.0)
    if len(latency.counts) != len(LATENCY_BOUNDS) + 1:
        raise ValueError(f"a histogram of {len(latency.counts)} bins, and {len(LATENCY_BOUNDS)} bounds")
    return Bins(tuple(latency.counts), latency.sum_ms / 1000)
