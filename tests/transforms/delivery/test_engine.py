import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.forwarders import aws_forwarder, http_forwarder
from tests.support.laboratory.checker import check
from tests.support.limits import files_of_at_most
from tests.support.records import item, items
from tests.support.waiting import until
from transforms.delivery import call_threads
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import DeliveryStoppedError
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder
from transforms.sinks.base import AttemptResult, BatchSink, HttpSink, Item, Runs, Settlement, Verdict
from transforms.sinks.lacks import LackError, lacking

DELIVERED = AttemptResult(Verdict.DELIVERED, status=200)
FAILED = AttemptResult(Verdict.RETRY, "http_500", 500, failure=True)
REFUSED = AttemptResult(Verdict.GIVE_UP, "http_400", 400)
LOST = AttemptResult(Verdict.RETRY, "timeout", ambiguous=True, failure=True)

FAST = DeliverySettings(max_backoff=0.005, outage_budget=20.0, window_items=400, user_items=8, linger=0.002)

Script = Callable[[Item, int], AttemptResult]
"""The outcome of an item's nth attempt."""


def always(outcome: AttemptResult) -> Script:
    return lambda item, attempt: outcome


class ScriptedHttp:
    """Answers after `seconds`, or once `gate` is opened."""

    def __init__(self, script: Script, gate: threading.Event | None = None, seconds: float = 0.0) -> None:
        self.script = script
        self.seconds = seconds
        self.gate = gate
        self.arrivals: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def send(self, item: Item) -> AttemptResult:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.seconds)
        while self.gate is not None and not self.gate.is_set():
            await asyncio.sleep(0.001)
        self.in_flight -= 1
        self.attempts[item.record.id] += 1
        outcome = self.script(item, self.attempts[item.record.id])
        if outcome.verdict is Verdict.DELIVERED or outcome.ambiguous:
            self.arrivals.append(item.record.id)
        return outcome


class ScriptedBatch:
    def __init__(self, script: Script, gate: threading.Event | None = None, calls_in_flight: int = 4) -> None:
        self.script = script
        self.gate = gate
        self.max_items = 500
        self.max_bytes = 1 << 20
        self.calls_in_flight = calls_in_flight
        self.runs: Runs | None = None
        self.remarks = {"remarkable": 1}
        self.arrivals: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.calls: list[int] = []
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def size(self, item: Item) -> int:
        return len(item.payload)

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        self.calls.append(len(items))
        if self.gate is not None:
            self.gate.wait()
        outcomes = []
        for sent in items:
            self.attempts[sent.record.id] += 1
            outcome = self.script(sent, self.attempts[sent.record.id])
            if outcome.verdict is Verdict.DELIVERED:
                self.arrivals.append(sent.record.id)
            outcomes.append(outcome)
        return outcomes


@contextmanager
def deliveries(
    sinks: dict[str, ScriptedHttp | ScriptedBatch], settings: DeliverySettings = FAST, max_retries: int = 3
) -> Iterator[tuple[DeliveryEngine, list[Settlement]]]:
    forwarders = [
        http_forwarder(id_, max_retries)
        if isinstance(sink, ScriptedHttp)
        else aws_forwarder(id_, max_retries=max_retries)
        for id_, sink in sinks.items()
    ]
    settled: list[Settlement] = []

    def http_sink(forwarder: Forwarder) -> HttpSink:
        sink = sinks[forwarder.id]
        assert isinstance(sink, ScriptedHttp)
        return sink

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        sink = sinks[forwarder.id]
        assert isinstance(sink, ScriptedBatch)
        return sink

    before = set(threading.enumerate())
    engine = DeliveryEngine(forwarders, settled.extend, settings, http_sink=http_sink, batch_sink=batch_sink)
    try:
        yield engine, settled
    finally:
        engine.close()
    assert set(threading.enumerate()) <= before, "a thread was left behind"


def judge(
    due: list[Item], sink: ScriptedHttp | ScriptedBatch, settled: list[Settlement], forwarder_id: str = "f"
) -> None:
    mine = [settlement for settlement in settled if settlement.item.forwarder_id == forwarder_id]
    check(
        [(each.record.user_id, each.record.id) for each in due],
        sink.arrivals,
        mine,
        {id_: True for id_, times in sink.attempts.items() if times > 1},
    ).assert_clean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
@pytest.mark.parametrize(
    ("script", "attempts", "delivered"),
    [([FAILED, FAILED, DELIVERED], 3, 2000), ([REFUSED], 1, 0), ([DELIVERED], 1, 2000)],
)
def test_fifty_users_of_forty_records(
    kind: type[ScriptedHttp] | type[ScriptedBatch], script: list[AttemptResult], attempts: int, delivered: int
) -> None:
    sink = kind(lambda item, attempt: script[attempt - 1])
    due = items(50, 40)
    with deliveries({"f": sink}) as (engine, settled):
        for start in range(0, len(due), 300):
            engine.submit(due[start : start + 300])
        engine.drain()
        counts = engine.counts()["f"]
    judge(due, sink, settled)
    assert set(sink.attempts.values()) == {attempts}
    assert (counts.matched, counts.delivered, counts.dead_lettered) == (2000, delivered, 2000 - delivered)
    assert (counts.pending, counts.spooled, counts.attempts) == (0, 0, attempts * 2000)
    assert sink.opened == sink.closed == 1
    assert {settlement.item.attempts for settlement in settled} == {attempts}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_faults_on_every_protocol_at_once(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311

    def script(item: Item, attempt: int) -> AttemptResult:
        return chance.choices([DELIVERED, FAILED, LOST, REFUSED], [6, 2, 1, 1])[0]

    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {"h": ScriptedHttp(script), "b": ScriptedBatch(script)}
    due = {id_: items(30, 20, id_) for id_ in sinks}
    with deliveries(sinks) as (engine, settled):
        for pair in zip(due["h"], due["b"], strict=True):
            engine.submit(pair)
        engine.drain()
    for id_, sink in sinks.items():
        judge(due[id_], sink, settled, id_)
        assert max(sink.attempts.values()) <= 4


def test_requests_in_flight_are_at_most_the_forwarder_s_concurrency() -> None:
    sink = ScriptedHttp(always(DELIVERED))
    with deliveries({"f": sink}) as (engine, _):
        engine.submit(items(100, 3))
        engine.drain()
    assert sink.most_in_flight == 16


def test_a_forwarder_that_stands_still_holds_up_no_other(tmp_path: Path) -> None:
    gate = threading.Event()
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {
        "still-http": ScriptedHttp(always(DELIVERED), gate),
        "still-batch": ScriptedBatch(always(DELIVERED), gate),
        "fine-http": ScriptedHttp(always(DELIVERED)),
        "fine-batch": ScriptedBatch(always(DELIVERED)),
    }
    settings = DeliverySettings(window_items=100, user_items=8, spool_dir=str(tmp_path), linger=0.002)
    due = {id_: items(40, 50, id_) for id_ in sinks}
    with deliveries(sinks, settings) as (engine, settled):
        for number in range(0, 2000, 50):
            engine.submit([each for mine in due.values() for each in mine[number : number + 50]])
        await_counts(engine, {"fine-http": 2000, "fine-batch": 2000})
        counts = engine.counts()
        assert counts["still-http"].delivered == counts["still-batch"].delivered == 0
        assert counts["still-http"].spooled >= 1900
        assert list(tmp_path.rglob("*-spool-*")), "the rest waits on disk"
        gate.set()
        engine.drain()
    for id_, sink in sinks.items():
        judge(due[id_], sink, settled, id_)
    assert not list(tmp_path.iterdir()), "and the disk is clean afterwards"


@pytest.mark.slow
def test_a_fine_forwarder_waits_for_no_dead_slow_or_throttling_one() -> None:
    """What it costs the fine one is measured by `python -m benchmarks.neighbours`."""
    chance = random.Random(1)  # noqa: S311
    throttled = AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False)
    settings = DeliverySettings(outage_budget=60.0, window_items=500, linger=0.002)

    fine = ScriptedHttp(always(DELIVERED), seconds=0.005)
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {
        "fine": fine,
        "dead": ScriptedHttp(always(FAILED)),
        "slow": ScriptedHttp(always(DELIVERED), seconds=0.5),
        "throttling": ScriptedBatch(lambda item, attempt: DELIVERED if chance.random() < 0.1 else throttled),
    }
    due = {id_: items(100, 15, id_) for id_ in sinks}
    with deliveries(sinks, settings, max_retries=100) as (engine, settled):
        for start in range(0, 1500, 100):
            engine.submit([each for mine in due.values() for each in mine[start : start + 100]])
        await_counts(engine, {"fine": 1500})
        counts = engine.counts()
        # A record takes the slow one a hundred times as long: with all in one step both would be as far.
        assert counts["slow"].delivered < 750
        assert counts["dead"].delivered == 0
        engine.stop(0.0)
        judge(due["fine"], fine, settled, "fine")


@pytest.mark.slow
def test_a_quick_forwarder_is_waited_for_rather_than_spooled(tmp_path: Path) -> None:
    settings = DeliverySettings(window_items=1000, spool_dir=str(tmp_path), linger=0.002)
    sink = ScriptedBatch(always(DELIVERED))
    due = items(2000, 20)
    with deliveries({"f": sink}, settings) as (engine, settled):
        for start in range(0, len(due), 200):
            engine.submit(due[start : start + 200])
            assert engine.counts()["f"].spooled == 0
        engine.drain()
        assert not list(tmp_path.iterdir())
    judge(due, sink, settled)


def await_counts(engine: DeliveryEngine, delivered: dict[str, int]) -> None:
    def are_there() -> bool:
        counts = engine.counts()
        return all(id_ in counts and counts[id_].delivered >= number for id_, number in delivered.items())

    until(are_there, failing=engine.counts)


def test_a_dead_forwarder_ends_as_unavailable_within_its_budget() -> None:
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {
        "http": ScriptedHttp(always(FAILED)),
        "batch": ScriptedBatch(always(FAILED)),
    }
    settings = DeliverySettings(max_backoff=0.02, outage_budget=0.3)
    began = time.monotonic()
    with deliveries(sinks, settings, max_retries=10_000) as (engine, settled):
        engine.submit(items(100, 20, "http") + items(100, 20, "batch"))
        engine.drain()
        assert all(counts.unavailable for counts in engine.counts().values())
    assert time.monotonic() - began < 60, "with so many attempts each it would take minutes"
    assert Counter(settlement.outcome.reason for settlement in settled) == {"unavailable": 4000}


def test_the_next_record_is_sent_after_settle_has_returned() -> None:
    batch = ScriptedBatch(always(DELIVERED))
    batch.max_items = 5  # So that several threads are at work.
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {"h": ScriptedHttp(always(DELIVERED)), "b": batch}
    durable: set[tuple[str, str]] = set()

    def settle(settlements: Sequence[Settlement]) -> None:
        time.sleep(0.001)  # Time enough for a thread that does not wait for it.
        durable.update((each.item.forwarder_id, each.item.record.id) for each in settlements)

    def script(item: Item, attempt: int) -> AttemptResult:
        user, number = item.record.user_id, item.record.place
        assert number == 0 or (item.forwarder_id, f"{user}/{number - 1}") in durable
        return DELIVERED

    for sink in sinks.values():
        sink.script = script
    engine = DeliveryEngine(
        [http_forwarder("h"), aws_forwarder("b")],
        settle,
        FAST,
        http_sink=lambda forwarder: sinks[forwarder.id],  # type: ignore[arg-type,return-value]
        batch_sink=lambda forwarder: sinks[forwarder.id],  # type: ignore[arg-type,return-value]
    )
    engine.submit(items(20, 20, "h") + items(20, 20, "b"))
    engine.drain()
    engine.close()
    assert len(durable) == 800


@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
@pytest.mark.parametrize("where", ["send", "settle", "open"])
def test_a_bug_surfaces_and_nothing_hangs(kind: type[ScriptedHttp] | type[ScriptedBatch], where: str) -> None:
    def bug(*_: object) -> AttemptResult:
        raise ZeroDivisionError("a bug")

    sink = kind(bug if where == "send" else always(DELIVERED))
    if where == "open" and isinstance(sink, ScriptedHttp):

        async def cannot() -> None:
            bug()

        sink.open = cannot  # type: ignore[method-assign]
    elif where == "open":
        sink.open = bug  # type: ignore[assignment,method-assign]
    engine = DeliveryEngine(
        [http_forwarder() if kind is ScriptedHttp else aws_forwarder()],
        bug if where == "settle" else lambda settlements: None,  # type: ignore[arg-type]
        FAST,
        http_sink=lambda forwarder: sink,  # type: ignore[arg-type,return-value]
        batch_sink=lambda forwarder: sink,  # type: ignore[arg-type,return-value]
    )
    engine.submit(items(10, 10))
    with pytest.raises(ZeroDivisionError):
        engine.drain()
    with pytest.raises(ZeroDivisionError):
        engine.submit(items(1, 1))
    engine.close()


@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
def test_stop_finishes_what_is_in_flight_and_leaves_the_rest(kind: type[ScriptedHttp] | type[ScriptedBatch]) -> None:
    gate = threading.Event()
    sink = kind(always(DELIVERED), gate)
    with deliveries({"f": sink}) as (engine, settled):
        engine.submit(items(10, 10))
        until(lambda: sink.in_flight if isinstance(sink, ScriptedHttp) else sink.calls)
        threading.Timer(0.05, gate.set).start()
        pending = engine.stop(10.0)
        assert pending == {"f": 100 - len(settled)}
        assert len(settled) == len(sink.arrivals) == 10, "one of each user was in flight"
        with pytest.raises(DeliveryStoppedError):
            engine.submit(items(1, 1))
        with pytest.raises(DeliveryStoppedError):
            engine.drain()
        assert engine.stop() == pending


@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
def test_what_ends_after_the_grace_is_pending(kind: type[ScriptedHttp] | type[ScriptedBatch]) -> None:
    gate = threading.Event()
    sink = kind(always(DELIVERED), gate)
    forwarder = http_forwarder() if kind is ScriptedHttp else aws_forwarder()
    settled: list[Settlement] = []
    engine = DeliveryEngine(
        [forwarder],
        settled.extend,
        FAST,
        http_sink=lambda forwarder: sink,  # type: ignore[arg-type,return-value]
        batch_sink=lambda forwarder: sink,  # type: ignore[arg-type,return-value]
    )
    engine.submit(items(5, 2))
    until(lambda: (sink.in_flight if isinstance(sink, ScriptedHttp) else sum(sink.calls)) == 5)
    assert engine.stop(0.02) == {"f": 10}
    gate.set()
    until(lambda: len(sink.attempts) == 5)
    assert engine.stop(10.0) == {"f": 10}
    engine.close()
    engine.close()
    assert engine.stop() == {"f": 10}
    assert not settled


def test_drain_is_ended_by_a_stop_from_another_thread() -> None:
    gate = threading.Event()
    with deliveries({"f": ScriptedHttp(always(DELIVERED), gate)}) as (engine, _):
        engine.submit(items(5, 5))
        stopping = threading.Timer(0.05, engine.stop, [0.0])
        stopping.start()
        with pytest.raises(DeliveryStoppedError):
            engine.drain()
        stopping.join()


def test_closing_ends_the_grace_of_a_stop_that_is_under_way_and_waits_for_it() -> None:
    stopped: list[dict[str, int]] = []
    with deliveries({"f": ScriptedHttp(always(DELIVERED), threading.Event())}) as (engine, settled):
        engine.submit(items(5, 1))
        stopping = threading.Thread(target=lambda: stopped.append(engine.stop(600.0)))
        stopping.start()
        with pytest.raises(DeliveryStoppedError):
            engine.drain()
        engine.close()
        stopping.join(60)
    assert stopped == [{"f": 5}]
    assert not settled


def test_submitting_goes_on_after_a_drain_and_from_many_threads() -> None:
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {
        "h": ScriptedHttp(always(DELIVERED)),
        "b": ScriptedBatch(always(DELIVERED)),
    }
    due = {id_: items(16, 30, id_) for id_ in sinks}
    with deliveries(sinks) as (engine, settled):

        def submit(part: int) -> None:
            for mine in due.values():
                engine.submit([each for each in mine if int(each.record.user_id.split("-")[1]) % 4 == part])

        for _ in range(2):
            threads = [threading.Thread(target=submit, args=(part,)) for part in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            engine.drain()
            for id_, sink in sinks.items():
                judge(due[id_], sink, settled, id_)
                sink.arrivals.clear()
                sink.attempts.clear()
            settled.clear()


def test_part_filled_calls_wait_for_more_while_records_come_in() -> None:
    sink = ScriptedBatch(always(DELIVERED))
    with deliveries({"f": sink}, DeliverySettings(linger=0.05)) as (engine, _):
        for item in items(2000, 1):
            engine.submit([item])
        engine.drain()
    assert len(sink.calls) < 40, sink.calls


def test_many_lanes_of_calls_share_a_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where calls come back no thread is added for one that hangs; and that none does hang a busy machine cannot show.
    monkeypatch.setattr(call_threads, "LATE", 3600.0)
    monkeypatch.setattr(call_threads, "LONG", 3600.0)
    before = set(threading.enumerate())
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {str(id_): ScriptedBatch(always(DELIVERED)) for id_ in range(100)}
    with deliveries(sinks) as (engine, settled):
        for id_ in sinks:
            engine.submit(items(3, 3, id_))
        engine.drain()
        # Beside those that make calls, one is on watch.
        assert len(set(threading.enumerate()) - before) <= call_threads.FEW + 1
        assert len(settled) == 900


def test_calls_that_hang_keep_no_other_lane_from_sending() -> None:
    gate = threading.Event()
    sinks: dict[str, ScriptedHttp | ScriptedBatch] = {
        f"hangs-{number}": ScriptedBatch(always(DELIVERED), gate) for number in range(20)
    }
    fine = sinks["fine"] = ScriptedBatch(always(DELIVERED))
    with deliveries(sinks) as (engine, settled):
        for id_ in sinks:
            engine.submit(items(3, 3, id_))
        until(lambda: engine.counts()["fine"].delivered == 9)
        assert len(settled) == 9
        gate.set()
        engine.drain()
    assert len(fine.arrivals) == 9


def test_nothing_is_started_for_a_forwarder_without_records() -> None:
    with deliveries({"f": ScriptedHttp(always(DELIVERED)), "b": ScriptedBatch(always(DELIVERED))}) as (engine, _):
        before = set(threading.enumerate())
        engine.submit([])
        engine.drain()
        assert set(threading.enumerate()) <= before
        assert engine.counts() == {}


def test_a_forwarder_nobody_knows_is_an_error() -> None:
    with deliveries({}) as (engine, _), pytest.raises(KeyError):
        engine.submit([item("user", 0, "stranger")])


# --- what this machine lacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
def test_a_lack_is_waited_out(kind: type[ScriptedHttp] | type[ScriptedBatch]) -> None:
    sink = kind(lambda item, attempt: lacking("no descriptor") if attempt < 3 else DELIVERED)
    due = items(20, 3)
    with deliveries({"f": sink}, max_retries=0) as (engine, settled):
        engine.submit(due)
        engine.drain()
    judge(due, sink, settled)
    assert all(settlement.delivered for settlement in settled)
    assert {settlement.item.attempts for settlement in settled} == {1}
    assert engine.counts()["f"].attempts == len(due)


@pytest.mark.parametrize("kind", [ScriptedHttp, ScriptedBatch])
def test_a_lack_that_lasts_ends_all_with_what_to_do(kind: type[ScriptedHttp] | type[ScriptedBatch]) -> None:
    sink = kind(always(lacking("Too many open files: allow more (`ulimit -n`)")))
    settings = DeliverySettings(max_backoff=0.005, patience=0.05)
    with deliveries({"f": sink}, settings) as (engine, settled):
        engine.submit(items(5, 2))
        with pytest.raises(LackError, match=r"Too many open files: allow more \(`ulimit -n`\), then run again"):
            engine.drain()
        assert engine.stop(1.0) == {"f": 10}
    assert settled == []


def test_a_lack_of_one_forwarder_s_disk_stops_no_other(tmp_path: Path) -> None:
    gate = threading.Event()
    dead, fine = ScriptedHttp(always(DELIVERED), gate), ScriptedHttp(always(DELIVERED))
    settings = DeliverySettings(max_backoff=0.005, window_items=50, user_items=8, spool_dir=str(tmp_path))
    with deliveries({"dead": dead, "fine": fine}, settings) as (engine, settled):
        with files_of_at_most(20_000):
            for number in range(40):
                batch = [item("user", number * 100 + place) for place in range(100)]
                engine.submit([*(msgspec.structs.replace(each, forwarder_id="dead") for each in batch)])
                engine.submit([msgspec.structs.replace(each, forwarder_id="fine") for each in batch[:20]])
                # It takes all that it is given before it is given more, so nothing of it is ever on the disk.
                until(lambda due=20 * number + 20: engine.counts()["fine"].delivered == due)  # type: ignore[misc]
        gate.set()
        engine.drain()
    reasons = Counter((each.item.forwarder_id, each.outcome.reason) for each in settled)
    assert reasons["fine", ""] == 800
    assert reasons["dead", "spool_full"] > 1000
    assert reasons["dead", ""] > 50
    assert sum(reasons.values()) == 4800
