"""The board: what the processes of a run tell each other while it goes on.

Each worker posts about once a second what it knows of the job and of each forwarder that it was given something for. A
reader adds up what all of them have posted. The launcher says what the run is, and may ask all workers to stop.

They do so by files in the run's directory, so that it works the same for one process and for several. On a distributed
runner workers do not see that directory: there each has its own board, in memory, and runs to its end.

Nothing on the board is secret: no payload, no url, nothing that a receiver wrote but the status of its answer.
"""

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

INTERVAL = 1.0
"""Seconds from one post of a worker to the next, at least."""

_SHARE = 0.01
"""The share of a worker's time that its posts may take: with very many forwarders they come less often."""

MOST_REASONS = 64
"""Reasons of rejects that a worker tells apart. Those of later ones are counted as OTHER_REASONS."""

OTHER_REASONS = "others"

LAG_SPAN = 60.0
"""Seconds for which a worker tells of a lag, so that who looks once a minute misses none."""

LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: the upper bounds of the bins of a `LatencyHistogram`. One more bin has what is beyond the last."""

_STOP = "stop"
"""The name of the file that asks to stop."""

_RUN = "run.json"
"""The name of the file that says what the run is."""

_POSTS = "board"
"""The directory in which each worker has one file."""

Phase = Literal["starting", "reading", "delivering", "ending"]
"""What a run does. They follow each other; in streaming the last of them is never reached."""

PHASES: tuple[Phase, ...] = ("starting", "reading", "delivering", "ending")

BreakerName = Literal["closed", "half_open", "open"]

_BREAKERS: tuple[BreakerName, ...] = ("closed", "half_open", "open")


class LatencyHistogram(msgspec.Struct, omit_defaults=True):
    """How long records took from the first attempt to their end.

    Attributes:
        counts: of each bin of LATENCY_BOUNDS and of what is beyond, not cumulated; empty where there is none.
        sum_ms: milliseconds of all of them.
    """

    counts: list[int] = []
    sum_ms: int = 0

    def add(self, other: Self) -> None:
        """Add the counts of `other`, which is left as it was."""
        if not other.counts:
            return
        if self.counts:
            self.counts = [mine + others for mine, others in zip(self.counts, other.counts, strict=True)]
        else:
            self.counts = list(other.counts)
        self.sum_ms += other.sum_ms


class Failing(msgspec.Struct, frozen=True):
    """What is wrong with a forwarder that takes nothing at present.

    Attributes:
        since: when it first gave a bad answer after its last good one, in unix seconds.
        answer: the last bad one: a status such as `503`, or a word such as `timeout`.
        attempt: which attempt at a record the next one is, from 1, of the record that was tried most.
        attempts: how many a record gets.
        next_try: when that is, in unix seconds; None while one is under way, or where none waits.
    """

    since: float
    answer: str
    attempt: int = 1
    attempts: int = 1
    next_try: float | None = None

    def _key(self) -> tuple[float, str, int, int, float]:
        next_try = float("inf") if self.next_try is None else self.next_try
        return self.since, self.answer, self.attempt, self.attempts, next_try


class Standing(msgspec.Struct, omit_defaults=True):
    """How one forwarder stands. All counts are of records of this run, unless something else is said.

    due = delivered + already_delivered + those in `dead` + waiting + in_flight

    Attributes:
        due: that were to go to it.
        delivered: that it got.
        already_delivered: that it had got in an earlier run.
        dead: that were given up, by reason.
        waiting: that are neither settled nor being sent.
        in_flight: that are being sent.
        deferred: those of `waiting` and `in_flight` that a streaming bundle has ended without.
        calls: requests over HTTP, and calls of AWS' APIs, that were made.
        bytes: of payload that was delivered.
        oldest_unsent: a unix time; one of the records that wait has waited since then, or longer. None if none waits.
        last_success: when it last took a record, in unix seconds.
        last_refusal: when a record was last given up, or an attempt was last answered badly, in unix seconds.
        last_answer: that answer, as in `Failing`; empty while there was none.
        failing: None unless it takes nothing (docs/operations.md says from when on).
        breaker: whether calls are made.
        unavailable: whether the outage budget is over, and records are given up unsent.
        latency: of the records that have ended.
    """

    due: int = 0
    delivered: int = 0
    already_delivered: int = 0
    dead: dict[str, int] = {}
    waiting: int = 0
    in_flight: int = 0
    deferred: int = 0
    calls: int = 0
    bytes: int = 0
    oldest_unsent: float | None = None
    last_success: float | None = None
    last_refusal: float | None = None
    last_answer: str = ""
    failing: Failing | None = None
    breaker: BreakerName = "closed"
    unavailable: bool = False
    latency: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)

    @property
    def dead_letters(self) -> int:
        """Records that were given up, of every reason."""
        return sum(self.dead.values())

    @property
    def done(self) -> int:
        """Records that have ended, one way or the other."""
        return self.delivered + self.already_delivered + self.dead_letters

    def add(self, other: Self) -> None:
        """Add what another worker knows of the same forwarder. `other` is left as it was.

        It comes to the same in whichever order workers are added.
        """
        self.due += other.due
        self.delivered += other.delivered
        self.already_delivered += other.already_delivered
        _add_counts(self.dead, other.dead)
        self.waiting += other.waiting
        self.in_flight += other.in_flight
        self.deferred += other.deferred
        self.calls += other.calls
        self.bytes += other.bytes
        self.oldest_unsent = _chosen(min, self.oldest_unsent, other.oldest_unsent)
        self.last_success = _chosen(max, self.last_success, other.last_success)
        if (other.last_refusal or 0.0, other.last_answer) > (self.last_refusal or 0.0, self.last_answer):
            self.last_refusal, self.last_answer = other.last_refusal, other.last_answer
        if other.failing and (self.failing is None or other.failing._key() < self.failing._key()):
            self.failing = other.failing
        self.breaker = max(self.breaker, other.breaker, key=_BREAKERS.index)
        self.unavailable = self.unavailable or other.unavailable
        self.latency.add(other.latency)

    def ended(self) -> "Standing":
        """What is left of it when the worker is gone: what was settled. The rest is due to whoever takes over."""
        return Standing(
            due=self.done,
            delivered=self.delivered,
            already_delivered=self.already_delivered,
            dead=dict(self.dead),
            calls=self.calls,
            bytes=self.bytes,
            last_success=self.last_success,
            last_refusal=self.last_refusal,
            last_answer=self.last_answer,
            unavailable=self.unavailable,
            latency=msgspec.structs.replace(self.latency),
        )


class JobCounts(msgspec.Struct):
    """How far the job is.

    Attributes:
        phase: what the furthest worker does.
        size: bytes of the input that were read.
        read: pieces of the input that were read, good and bad.
        accepted: those that are good.
        rejected: those that were refused, by a name of their reason.
        folded: accepted ones from which records were derived, or that are forwarded as they are.
        derived: records that were given on.
        lag: seconds from when a stream took a piece in until records were derived from it: the longest of those that
            were derived from within LAG_SPAN; 0 if there was none; None where there is no stream.
    """

    phase: Phase = "starting"
    size: int = 0
    read: int = 0
    accepted: int = 0
    rejected: dict[str, int] = {}
    folded: int = 0
    derived: int = 0
    lag: float | None = None

    @property
    def rejects(self) -> int:
        """Pieces of the input that were refused, for every reason."""
        return sum(self.rejected.values())

    def add(self, other: Self) -> None:
        """Add what another worker has done. `other` is left as it was. The order of workers does not matter."""
        self.phase = max(self.phase, other.phase, key=PHASES.index)
        self.size += other.size
        self.read += other.read
        self.accepted += other.accepted
        _add_counts(self.rejected, other.rejected)
        self.folded += other.folded
        self.derived += other.derived
        self.lag = _chosen(max, self.lag, other.lag)


class Post(msgspec.Struct):
    """What one worker says.

    Attributes:
        worker: a name that no other process has.
        pid: of its process.
        at: when it was written, in unix seconds.
        job: what this worker has done.
        forwarders: by id; those alone that this worker has something to tell of.
    """

    worker: str
    pid: int
    at: float
    job: JobCounts
    forwarders: dict[str, Standing] = {}


class ForwarderName(msgspec.Struct, frozen=True):
    """What a forwarder is called.

    Attributes:
        description: of its document; may be empty.
        target: where it sends to, without anything that could be secret.
    """

    description: str
    target: str


class RunInfo(msgspec.Struct, frozen=True):
    """What the run is.

    Attributes:
        pid: of the launcher.
        started: unix seconds.
        output: None where nothing is kept.
        total_bytes: of the input; None where that is not known.
        forwarders: those that take part, by id, in the order of the documents.
    """

    run_id: str
    pid: int
    started: float
    output: str | None = None
    total_bytes: int | None = None
    forwarders: dict[str, ForwarderName] = {}


@dataclass(frozen=True)
class Snapshot:
    """The whole board at one moment.

    Attributes:
        at: when the latest post was written, in unix seconds; 0 before the first.
        run: None before the launcher has said what it is.
        job: of all workers.
        forwarders: of all workers, by id; those alone that were due something.
        workers: how many have posted, and live.
        stopping: whether the run was asked to stop.
    """

    at: float = 0.0
    run: RunInfo | None = None
    job: JobCounts = field(default_factory=JobCounts)
    forwarders: Mapping[str, Standing] = field(default_factory=dict)
    workers: int = 0
    stopping: bool = False

    @property
    def phase(self) -> Phase:
        """What the job does. A redrive reads and derives nothing: it delivers as soon as anything is due."""
        return "delivering" if self.forwarders and self.job.phase in ("starting", "reading") else self.job.phase


def add_up(posts: Iterable[Post], alive: Callable[[int], bool] = lambda pid: True) -> Snapshot:
    """The sum of what workers have posted. It is the same in whichever order they come.

    Args:
        posts: the last one of each worker.
        alive: whether there is a process of this id. Of a worker that is gone only what it settled counts.
    """
    at, job, workers = 0.0, JobCounts(), 0
    forwarders: dict[str, Standing] = {}
    for post in posts:
        lives = alive(post.pid)
        workers += lives
        at = max(at, post.at)
        job.add(post.job)
        for forwarder_id, standing in post.forwarders.items():
            known = forwarders.get(forwarder_id)
            if known is None:
                known = forwarders[forwarder_id] = Standing()
            known.add(standing if lives else standing.ended())
    return Snapshot(at=at, job=job, forwarders=forwarders, workers=workers)


Watched = Callable[[float], Mapping[str, Standing]]
"""Gives how forwarders stand at a unix time, by id. Called by any thread."""


class Lags:
    """The lags of the last LAG_SPAN seconds.

    One shard may be hours behind while another is not, and a process reads both: so it is the longest that counts.
    """

    def __init__(self) -> None:
        # (when, lag): each lag is longer than all that follow it.
        self._lags: deque[tuple[float, float]] = deque()

    def saw(self, lag: float, now: float) -> None:
        """Take in a lag, in seconds, at `now`, in monotonic seconds."""
        while self._lags and self._lags[-1][1] <= lag:
            self._lags.pop()
        self._lags.append((now, lag))

    def longest(self, now: float) -> float:
        """The longest of them, in seconds; 0 if there is none."""
        while self._lags and self._lags[0][0] < now - LAG_SPAN:
            self._lags.popleft()
        return self._lags[0][1] if self._lags else 0.0


class _Worker:
    """What this process knows of one run."""

    def __init__(self) -> None:
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.job = JobCounts()
        # None where there is no stream.
        self.lags: Lags | None = None
        self.watched: dict[int, Watched] = {}
        self.ended: dict[str, Standing] = {}
        # Monotonic seconds: when the next post is due.
        self.due_at = 0.0

    def post(self) -> Post:
        now = time.time()
        with self.lock:
            lag = None if self.lags is None else self.lags.longest(time.monotonic())
            job = msgspec.structs.replace(self.job, rejected=dict(self.job.rejected), lag=lag)
            watched = list(self.watched.values())
            forwarders = {id_: _copied(standing) for id_, standing in self.ended.items()}
        for watch in watched:
            for forwarder_id, standing in watch(now).items():
                known = forwarders.get(forwarder_id)
                if known is None:
                    forwarders[forwarder_id] = standing
                else:
                    known.add(standing)
        return Post(self.name, os.getpid(), now, job, forwarders)


_starting = threading.Lock()
# Of this process, by the directory of the run.
_workers: dict[str, _Worker] = {}
# The directories of the runs that were asked to stop in this process.
_stopped: set[str] = set()
_encoder = msgspec.json.Encoder()
_post_decoder = msgspec.json.Decoder(Post)


@dataclass(frozen=True)
class Board:
    """The board of one run. It pickles: each process posts for itself.

    Attributes:
        directory: of the run.
    """

    directory: str

    def begin(self, run: RunInfo) -> None:
        """Say what the run is."""
        self._write(_RUN, _encoder.encode(run))

    def advance(
        self,
        phase: Phase | None = None,
        *,
        size: int = 0,
        read: int = 0,
        accepted: int = 0,
        rejected: Mapping[str, int] | None = None,
        folded: int = 0,
        derived: int = 0,
        lag: float | None = None,
    ) -> None:
        """Add to what this process has done; see JobCounts. Call it for a batch, not for a record."""
        worker = self._worker()
        with worker.lock:
            job = worker.job
            if phase is not None and PHASES.index(phase) > PHASES.index(job.phase):
                job.phase = phase
            job.size += size
            job.read += read
            job.accepted += accepted
            job.folded += folded
            job.derived += derived
            if lag is not None:
                worker.lags = worker.lags or Lags()
                worker.lags.saw(max(0.0, lag), time.monotonic())
            for reason, count in (rejected or {}).items():
                if reason not in job.rejected and len(job.rejected) >= MOST_REASONS:
                    reason = OTHER_REASONS
                job.rejected[reason] = job.rejected.get(reason, 0) + count
        self.publish()

    def watch(self, standings: Watched) -> Callable[[], None]:
        """Ask for the standings of forwarders whenever this process posts.

        Returns:
            What ends that. What was settled by then stays on the board.
        """
        worker = self._worker()
        key = id(standings)
        with worker.lock:
            worker.watched[key] = standings

        def end() -> None:
            last = standings(time.time())
            with worker.lock:
                if worker.watched.pop(key, None) is None:
                    return
                for forwarder_id, standing in last.items():
                    worker.ended.setdefault(forwarder_id, Standing()).add(standing.ended())
            self.publish(at_once=True)

        return end

    @property
    def is_shared(self) -> bool:
        """Whether this process sees the directory, so that others see what it posts."""
        return os.path.isdir(self.directory)  # noqa: PTH112 - it is asked often

    def publish(self, *, at_once: bool = False) -> Post | None:
        """Post what this process knows, unless it has done so within the last INTERVAL.

        Args:
            at_once: post whatever the time.

        Returns:
            What was posted, or would be if others saw the directory; None when it was not time for it.
        """
        worker = self._worker()
        now = time.monotonic()
        if (now < worker.due_at and not at_once) or not worker.writing.acquire(blocking=at_once):
            return None
        try:
            began = time.thread_time()
            post = worker.post()
            if self.is_shared:
                self._write(f"{_POSTS}/{worker.name}.json", _encoder.encode(post))
            worker.due_at = now + max(INTERVAL, (time.thread_time() - began) / _SHARE)
            return post
        finally:
            worker.writing.release()

    def mine(self) -> Snapshot:
        """What this process alone knows, at this moment. It needs no directory."""
        return add_up([self._worker().post()])

    def read(self) -> Snapshot:
        """The sum of what all workers on this machine have posted last. Files that cannot be read do not count."""
        posts = []
        for path in (Path(self.directory) / _POSTS).glob("*.json"):
            with suppress(OSError, msgspec.DecodeError):
                posts.append(_post_decoder.decode(path.read_bytes()))
        sum_ = add_up(posts, is_alive)
        run = None
        with suppress(OSError, msgspec.DecodeError):
            run = msgspec.json.decode((Path(self.directory) / _RUN).read_bytes(), type=RunInfo)
        return Snapshot(sum_.at, run, sum_.job, sum_.forwarders, sum_.workers, self.stopping())

    def stop(self) -> None:
        """Ask all workers to take no more work.

        Raises nothing. Where the file cannot be made, the workers of this process are asked all the same.
        """
        _stopped.add(self.directory)
        with suppress(OSError):
            (Path(self.directory) / _STOP).touch()

    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        if self.directory in _stopped:
            return True
        # Without pathlib, which is slower: this is asked for every block that is read.
        return os.path.exists(os.path.join(self.directory, _STOP))  # noqa: PTH110, PTH118

    def _worker(self) -> _Worker:
        worker = _workers.get(self.directory)
        if worker is None:
            with _starting:
                worker = _workers.setdefault(self.directory, _Worker())
        return worker

    def _write(self, name: str, content: bytes) -> None:
        """Put a file on the board, whole or not at all. A full disk hides how far the run is, and does not end it."""
        path = Path(self.directory) / name
        draft = path.with_suffix(f".{threading.get_ident()}.draft")
        with suppress(OSError):
            if path.parent != Path(self.directory):
                path.parent.mkdir(exist_ok=True)
            draft.write_bytes(content)
            draft.replace(path)


def _copied(standing: Standing) -> Standing:
    copy = Standing()
    copy.add(standing)
    return copy


def _add_counts(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count


def _chosen(choose: Callable[[Any, Any], Any], one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    chosen: float = choose(one, other)
    return chosen


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
