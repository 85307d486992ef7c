"""How each forwarder does: what it got and what was given up in the last hour, day and week, and what it waits for.

A thread of its own follows the receipts and dead letters of the job's output, and looks at the job that runs. Requests
are answered from memory. What is counted are ends: a record that was given up and is delivered later counts as both.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from registry.deliveries import shown_reason
from registry.directory import State
from registry.live import Standing, Standings, UnreadableMetricsError, standings_in_metrics, standings_of_run
from schemas.json_values import JsonObject
from schemas.times import now_ms, rfc3339
from transforms.receipts.following import Following, Settled
from transforms.storage import storage_at

logger = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds from the end of one look at the output to the next."""

MOST_OPEN = 100_000
"""Dead letters without a delivery that are remembered, of all forwarders together: some 200 bytes each."""

MOST_REASONS = 20
"""Reasons of a forwarder that are told apart in a stretch of time. Those that come later are added up as OTHERS."""

OTHERS = "others"

FAILING_SHARE = 0.01
"""From which share of dead letters on a forwarder counts as failing."""

_SLICE = 0.02
"""Seconds of reading between two pauses as long, while there is much to read: requests are to come between."""


class _Span(NamedTuple):
    """A time that is looked back on, and the stretches that it is plotted in."""

    name: str
    step: int
    stretches: int


_MINUTE = 60_000
SPANS = (_Span("hour", _MINUTE, 60), _Span("day", 30 * _MINUTE, 48), _Span("week", 180 * _MINUTE, 56))
"""The last of the stretches goes on: so of the week between 165 and 168 hours are counted, of the hour 59 minutes."""

WEEK = SPANS[-1].step * SPANS[-1].stretches
"""Milliseconds that are looked back on."""


@dataclass(slots=True)
class _Ends:
    """Records that ended in a stretch of time: those that were delivered, and those given up, by reason."""

    delivered: int = 0
    dead: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str | None, count: int) -> None:
        if reason is None:
            self.delivered += count
            return
        if reason not in self.dead and len(self.dead) >= MOST_REASONS:
            reason = OTHERS
        self.dead[reason] = self.dead.get(reason, 0) + count

    def merge(self, other: "_Ends") -> None:
        self.delivered += other.delivered
        for reason, count in other.dead.items():
            self.add(reason, count)

    @property
    def dead_letters(self) -> int:
        return sum(self.dead.values())


class _Tally:
    """The ends of each forwarder, by span and number of the stretch since the epoch."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[dict[int, _Ends], ...]] = {}

    def add(self, settled: Iterable[Settled], now: int) -> None:
        """Count what ended. What is too old for a span by `now` is left out of it, as most of a week is of two."""
        firsts = [now // span.step - span.stretches + 1 for span in SPANS]
        counts = Counter([(each.forwarder_id, each.at // _MINUTE, each.reason) for each in settled])
        for (forwarder_id, minute, reason), count in counts.items():
            for span, first, stretches in zip(SPANS, firsts, self._of(forwarder_id), strict=True):
                number = minute * _MINUTE // span.step
                if number < first:
                    continue
                ends = stretches.get(number)
                if ends is None:
                    ends = stretches[number] = _Ends()
                ends.add(reason, count)

    def merge(self, other: "_Tally") -> None:
        for forwarder_id, spans in other._ends.items():
            for mine, theirs in zip(self._of(forwarder_id), spans, strict=True):
                for number, ends in theirs.items():
                    mine.setdefault(number, _Ends()).merge(ends)

    def forget_before(self, now: int) -> None:
        for forwarder_id, spans in list(self._ends.items()):
            for span, stretches in zip(SPANS, spans, strict=True):
                first = now // span.step - span.stretches + 1
                for number in [number for number in stretches if number < first]:
                    del stretches[number]
            if not any(spans):
                del self._ends[forwarder_id]

    def forwarders(self) -> Iterable[str]:
        return self._ends.keys()

    def ends(self, forwarder_id: str, span: int) -> Mapping[int, _Ends]:
        spans = self._ends.get(forwarder_id)
        return spans[span] if spans is not None else {}

    def _of(self, forwarder_id: str) -> tuple[dict[int, _Ends], ...]:
        spans = self._ends.get(forwarder_id)
        if spans is None:
            spans = self._ends[forwarder_id] = tuple({} for _ in SPANS)
        return spans


class _OpenLetters:
    """Records that were given up in the last week and not delivered since."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._open: dict[str, dict[str, int]] = {}
        self._more: set[str] = set()

    def see(self, settled: Iterable[Settled]) -> None:
        for each in settled:
            if each.reason is None:
                letters = self._open.get(each.forwarder_id)
                if letters is not None and letters.pop(each.id, None) is not None:
                    self._count -= 1
            else:
                letters = self._open.setdefault(each.forwarder_id, {})
                if each.id not in letters:
                    if self._count >= self._most:
                        self._more.add(each.forwarder_id)
                        continue
                    self._count += 1
                letters.setdefault(each.id, each.at)

    def forget_before(self, time: int) -> None:
        for forwarder_id, letters in list(self._open.items()):
            for id_ in [id_ for id_, at in letters.items() if at < time]:
                del letters[id_]
                self._count -= 1
            if not letters:
                del self._open[forwarder_id]
        if self._count < self._most:
            self._more &= self._open.keys()

    def of(self, forwarder_id: str) -> tuple[int, int | None, bool]:
        """How many, since when the oldest (epoch ms), and whether there are more."""
        letters = self._open.get(forwarder_id)
        return (len(letters), min(letters.values()), forwarder_id in self._more) if letters else (0, None, False)


class Health:
    """The health of the forwarders of one job's output. Safe to use from several threads.

    Args:
        output: the job's `--output`, a directory or a url.
        metrics: where the job's metrics are, for a job on another machine; None: nowhere.
        hides_inside: as `registry.deliveries.shown_reason` takes it.
        clock: gives epoch milliseconds.
        most_open: MOST_OPEN.
        pauses: whether reading pauses for requests.
    """

    def __init__(
        self,
        output: str,
        *,
        metrics: str | None = None,
        hides_inside: bool = False,
        clock: Callable[[], int] = now_ms,
        most_open: int = MOST_OPEN,
        pauses: bool = True,
    ) -> None:
        self._output = output
        self._metrics = metrics
        self._hides_inside = hides_inside
        self._clock = clock
        self._pauses = pauses
        self._following = Following()
        self._lock = threading.Lock()
        self._closed = _Tally()
        self._runs: dict[int, _Tally] = {}
        self._open = _OpenLetters(most_open)
        self._standings: Standings = {}
        self._as_of: int | None = None
        self._states: Mapping[str, State] | None = None
        self._told: dict[str, str] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look at the output from now on, again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Look at the output once, in this thread: no other may do so at the time. What goes wrong is logged."""
        self._tolerate("--deliveries", self._output, self._read)
        self._tolerate("--job_metrics", self._metrics or self._output, self._ask)
        if self._as_of is not None:
            self._sum_up()

    @property
    def states(self) -> Mapping[str, State] | None:
        """`state_of` of all active forwarders that are known of, by their ids; None before the output was read.

        It does not change: once a forwarder does otherwise, this gives another.
        """
        return self._states

    def of(self, forwarder_id: str) -> JsonObject:
        """How a forwarder does.

        Returns:
            `as_of`: when the output was last read to its end; null before that was done for the first time. `hour`,
            `day` and `week`: what ended in that time, its share that was delivered (null if nothing ended), and
            `plot`, stretch by stretch, the earliest first. `unsent`: what waits, or was given up and not delivered
            since.
        """
        now = self._clock()
        with self._lock:
            tallies = (self._closed, *self._runs.values())
            spans = {span.name: self._span(forwarder_id, number, now, tallies) for number, span in enumerate(SPANS)}
            unsent = self._unsent(forwarder_id, now)
            as_of = self._as_of
        return {"as_of": None if as_of is None else rfc3339(as_of), **spans, "unsent": unsent}

    def state_of(self, forwarder_id: str, active: bool) -> State:
        """How a forwarder does, in a word.

        `failing`: it takes nothing in the job that runs, or more than FAILING_SHARE of what ended was given up, in the
        shortest of the three times in which anything did. `quiet`: nothing ended in the last week.
        """
        if not active:
            return "inactive"
        now = self._clock()
        with self._lock:
            standing = self._standings.get(forwarder_id)
            if standing is not None and (standing.failing_since is not None or standing.unavailable):
                return "failing"
            tallies = (self._closed, *self._runs.values())
            for number in range(len(SPANS)):
                ends = _sum(self._stretches(forwarder_id, number, now, tallies).values())
                ended = ends.delivered + ends.dead_letters
                if ended:
                    return "failing" if ends.dead_letters > FAILING_SHARE * ended else "ok"
        return "quiet"

    def _span(self, forwarder_id: str, number: int, now: int, tallies: Iterable[_Tally]) -> JsonObject:
        span = SPANS[number]
        stretches = self._stretches(forwarder_id, number, now, tallies)
        total = _sum(stretches.values())
        dead: Counter[str] = Counter()
        for reason, count in total.dead.items():
            dead[shown_reason(reason, self._hides_inside) or reason] += count
        ended = total.delivered + dead.total()
        last = now // span.step
        plot = []
        for at in range(last - span.stretches + 1, last + 1):
            ends = stretches.get(at)
            plot.append([0, 0] if ends is None else [ends.delivered, ends.dead_letters])
        return {
            "since": rfc3339((last - span.stretches + 1) * span.step),
            "step_seconds": span.step // 1000,
            "delivered": total.delivered,
            "dead_lettered": dead.total(),
            "share": total.delivered / ended if ended else None,
            "reasons": dict(sorted(dead.items(), key=lambda item: (-item[1], item[0]))),
            "plot": plot,
        }

    def _stretches(self, forwarder_id: str, number: int, now: int, tallies: Iterable[_Tally]) -> dict[int, _Ends]:
        span = SPANS[number]
        last = now // span.step
        found: dict[int, _Ends] = {}
        for tally in tallies:
            for at, ends in tally.ends(forwarder_id, number).items():
                if last - span.stretches < at <= last:
                    found.setdefault(at, _Ends()).merge(ends)
        return found

    def _unsent(self, forwarder_id: str, now: int) -> JsonObject:
        standing = self._standings.get(forwarder_id, Standing())
        letters, oldest_letter, more = self._open.of(forwarder_id)
        waits = None if standing.oldest_unsent is None else int(standing.oldest_unsent * 1000)
        oldest = min((time for time in (waits, oldest_letter) if time is not None), default=None)
        failing = standing.failing_since
        return {
            "waiting": standing.waiting,
            "dead_letters": letters,
            "more_dead_letters": more,
            "oldest": None if oldest is None else rfc3339(oldest),
            "oldest_age_seconds": None if oldest is None else max(0, now - oldest) // 1000,
            "failing_since": None if failing is None else rfc3339(int(failing * 1000)),
            "answer": shown_reason(standing.answer, self._hides_inside),
            "unavailable": standing.unavailable,
        }

    # The thread that reads.

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(INTERVAL)

    def _tolerate(self, flag: str, where: str, act: Callable[[], None]) -> None:
        """Do what may fail, and log a failure once, until it succeeds again or fails otherwise."""
        try:
            act()
        except Exception as error:  # Each file system raises its own.
            if self._told.get(flag) != str(error):
                logger.warning("%s %s cannot be read: %s", flag, where, error)
            self._told[flag] = str(error)
        else:
            self._told.pop(flag, None)

    def _read(self) -> None:
        began = time.monotonic()
        start = self._clock()
        # Of the first stretch of the week a part is before the week.
        since = (start // SPANS[-1].step - SPANS[-1].stretches + 1) * SPANS[-1].step
        for run, settled in self._following.new(storage_at(self._output), since):
            with self._lock:
                if settled is None:
                    for later in [number for number in self._runs if number >= run]:
                        del self._runs[later]
                else:
                    self._runs.setdefault(run, _Tally()).add(settled, start)
                    self._open.see(settled)
                self._close_runs()
            if self._pauses and time.monotonic() - began > _SLICE:
                if self._stopped.wait(_SLICE):
                    return
                began = time.monotonic()
        with self._lock:
            self._close_runs()
            for tally in (self._closed, *self._runs.values()):
                tally.forget_before(start)
            self._open.forget_before(since)
            self._as_of = start

    def _sum_up(self) -> None:
        with self._lock:
            known = {id_ for tally in (self._closed, *self._runs.values()) for id_ in tally.forwarders()}
        states = {id_: self.state_of(id_, active=True) for id_ in known | self._standings.keys()}
        if states != self._states:
            self._states = states

    def _close_runs(self) -> None:
        for run in [run for run in self._runs if run < self._following.closed_below]:
            self._closed.merge(self._runs.pop(run))

    def _ask(self) -> None:
        standings = standings_of_run(self._output)
        if standings is None and self._metrics is not None:
            try:
                standings = standings_in_metrics(self._metrics)
            except UnreadableMetricsError:
                self._standings = {}
                raise
        self._standings = standings or {}


def _sum(ends: Iterable[_Ends]) -> _Ends:
    total = _Ends()
    for each in ends:
        total.merge(each)
    return total
