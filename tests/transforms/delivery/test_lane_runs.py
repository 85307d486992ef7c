"""Lanes whose calls hold several records of a user, that are all or nothing, or whose rate is limited."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.lane_simulation import ANSWERS, FAILED, Simulation, run_through
from tests.support.memory_queues import MemoryParking, MemorySpool
from tests.support.records import item, items
from transforms.delivery.lane import ITEM_OVERHEAD, Lane
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.rate import RateLimiter
from transforms.forwarders.model import RateLimit
from transforms.sinks.base import AttemptResult, Item, Runs, Verdict

MANY = 1 << 40
RUNS = Runs(MANY, MANY)


def ids(taken: Sequence[Item]) -> list[str]:
    return [each.record.id for each in taken]


@st.composite
def simulations(draw: st.DrawFn) -> tuple[Simulation, list[int]]:
    """Any schedule of faults and small window, with calls that hold runs; half of the receivers take all or nothing."""
    users = draw(st.lists(st.integers(0, draw(st.integers(0, 4))), min_size=1, max_size=40))
    answers = st.sampled_from(sorted(ANSWERS))
    scripts = {}
    counts: Counter[int] = Counter()
    for user in users:
        scripts[f"user-{user}/{counts[user]}"] = draw(st.lists(answers, max_size=4))
        counts[user] += 1
    is_atomic = draw(st.booleans())
    settings = DeliverySettings(
        max_backoff=draw(st.sampled_from([0.0, 0.3, 60.0])),
        outage_budget=draw(st.sampled_from([0.05, 5.0, 300.0])),
        on_failure=draw(st.sampled_from(["continue", "block_user"])),
        catches_up=draw(st.booleans()),
        window_items=draw(st.integers(1, 20)),
        window_bytes=draw(st.sampled_from([1, 4 * ITEM_OVERHEAD, 1 << 20])),
        user_items=draw(st.integers(1, 8)),
    )
    few = draw(st.sampled_from([30, 100, MANY]))
    limits = st.builds(RateLimit, st.floats(0.1, 500), st.none() | st.floats(0.5, 500), st.none() | st.floats(1, 20))
    limit = draw(st.none() | limits)
    simulation = Simulation(
        settings,
        max_retries=draw(st.integers(0, 4)),
        scripts=scripts,
        calls_in_flight=draw(st.integers(1, 4)),
        max_items=draw(st.integers(1, 8)),
        max_bytes=draw(st.sampled_from([60, 200, MANY])),
        seed=draw(st.integers(0, 1 << 16)),
        spool_chunk=draw(st.integers(1, 4)),
        spool_limit=draw(st.sampled_from([None, None, 0, 1, 5])),
        runs=Runs(few, draw(st.sampled_from([30, few])), draw(st.integers(1, 4))),
        is_atomic=is_atomic,
        guilty=draw(st.sets(st.sampled_from(sorted(scripts)))) if is_atomic else frozenset(),
        limiter=None if limit is None else RateLimiter(limit),
    )
    return simulation, users


@pytest.mark.slow
@given(simulations(), st.lists(st.integers(1, 10), max_size=10))
@hypothesis_settings(max_examples=250)
def test_any_schedule_of_faults_keeps_order_and_loses_nothing(
    drawn: tuple[Simulation, list[int]], chunks: list[int]
) -> None:
    simulation, users = drawn
    run_through(simulation, users, chunks)
    assert simulation.lane.attempts >= sum(settlement.item.attempts for settlement in simulation.settled.values())


def lane(*, is_atomic: bool = True, limiter: RateLimiter | None = None, user_items: int = 64, **given: object) -> Lane:
    settings = DeliverySettings(user_items=user_items, **given)  # type: ignore[arg-type]
    queues = {"spool": MemorySpool(), "parking": MemoryParking(max(1, user_items // 2))}
    return Lane("f", 3, settings, **queues, is_atomic=is_atomic, limiter=limiter, random=lambda: 1.0)  # type: ignore[arg-type]


def test_a_call_holds_what_waits_for_a_user_and_then_others() -> None:
    made = lane()
    made.submit([*items(1, 3), item("bob", 0), item("bob", 1)])
    assert ids(made.take(0.0, 0, 4, MANY, RUNS)) == ["user-0/0", "user-0/1", "user-0/2", "bob/0"]
    assert made.take(0.0, 0, 4, MANY, RUNS) == [], "bob's second record waits for his first"


def test_a_call_of_one_record_of_a_user_is_as_before() -> None:
    made = lane(is_atomic=False)
    made.submit(items(2, 3))
    assert ids(made.take(0.0, 0, 10)) == ["user-0/0", "user-1/0"]


def test_a_long_run_is_brought_from_the_parking() -> None:
    made = lane(user_items=4)
    made.submit([item("ann", number) for number in range(50)])
    assert made.spooled == 45
    assert ids(made.take(0.0, 0, 30, MANY, RUNS)) == [f"ann/{number}" for number in range(30)]


def test_an_entry_is_short_while_others_wait() -> None:
    size = len(item("ann", 10).payload)
    made = lane(is_atomic=False)
    made.submit([*(item("ann", number) for number in range(10, 40)), *(item(f"u{number}", 10) for number in range(9))])
    runs = Runs(20 * size, 5 * size, 500)
    first = made.take(0.0, 0, MANY, MANY, runs)
    assert Counter(each.record.user_id for each in first)["ann"] == 5
    assert len(first) == 5 + 9
    made.release(made.finish(first, [AttemptResult(Verdict.DELIVERED)] * len(first), 0.0))
    assert ids(made.take(0.0, 0, MANY, MANY, runs)) == [f"ann/{number}" for number in range(15, 35)]


def test_a_batch_is_tried_again_whole_and_before_all_else() -> None:
    made = lane()
    made.submit([item("ann", number) for number in range(5)])
    batch = made.take(0.0, 0, 5, MANY, RUNS)
    assert made.finish(batch, [FAILED] * 5, 0.0) == []
    made.submit([item("bob", 0), item("ann", 5)])
    assert ids(made.take(0.1, 0, 5, MANY, RUNS)) == ["bob/0"]
    assert made.wake_at() == 0.5
    again = made.take(0.5, 0, 2, 10, RUNS)
    assert ids(again) == ids(batch), "whatever the limits are by now"
    assert [each.attempts for each in again] == [1] * 5
    made.release(made.finish(again, [AttemptResult(Verdict.DELIVERED)] * 5, 0.6))
    assert ids(made.take(0.6, 0, 5, MANY, RUNS)) == ["ann/5"]
    assert (made.attempts, made.calls, made.delivered) == (10, 2, 5)


def test_a_probe_is_one_record_of_a_batch() -> None:
    made = lane()
    made.submit([*items(2, 3)])
    batch = made.take(0.0, 0, 10, MANY, RUNS)
    refused = AttemptResult(Verdict.RETRY, "http_401", 401, spends_attempt=False, failure=True, opens_breaker=True)
    assert made.finish(batch, [refused] * 6, 0.0) == []
    assert made.take(0.4, 0, 10, MANY, RUNS) == []
    probe = made.take(1.0, 0, 10, MANY, RUNS)
    assert ids(probe) == ["user-0/0"]
    made.release(made.finish(probe, [AttemptResult(Verdict.DELIVERED)], 1.0))
    assert (
        sorted(ids(made.take(1.0, 0, 10, MANY, RUNS)))
        == [f"user-{user}/{number}" for user in (0, 1) for number in (0, 1, 2)][1:]
    )
    assert all(each.attempts == 0 for each in batch[1:])


def test_items_of_another_group_go_in_another_call() -> None:
    made = Lane("f", 0, DeliverySettings(), spool=MemorySpool(), parking=MemoryParking(), group=lambda each: each.hops)
    due = [item("ann", 0), item("ann", 1), item("ann", 2), item("bob", 0)]
    due[1].hops = due[2].hops = due[3].hops = 1
    made.submit(due)
    first = made.take(0.0, 0, 10, MANY, RUNS)
    assert ids(first) == ["ann/0"]
    assert ids(made.take(0.0, 0, 10, MANY, RUNS)) == ["bob/0"]
    made.release(made.finish(first, [AttemptResult(Verdict.DELIVERED)], 0.0))
    assert ids(made.take(0.0, 0, 10, MANY, RUNS)) == ["ann/1", "ann/2"]


def test_a_record_that_is_out_of_attempts_ends_and_the_rest_goes_on() -> None:
    made = lane()
    made.submit([item("ann", 0)])
    (first,) = made.take(0.0, 0, 5, MANY, RUNS)
    first.attempts = 3
    made.finish([first], [AttemptResult(Verdict.RETRY, "lack", spends_attempt=False, lack=True)], 0.0)
    made.submit([item("ann", 1), item("ann", 2)])
    batch = made.take(1.0, 0, 5, MANY, RUNS)
    assert ids(batch) == ["ann/0", "ann/1", "ann/2"]
    (settlement,) = made.finish(batch, [FAILED] * 3, 1.0)
    assert (settlement.item.record.id, settlement.outcome.reason) == ("ann/0", "http_500")
    assert made.take(60.0, 0, 5, MANY, RUNS) == [], "the end of the first is not durable yet"
    made.release([settlement])
    assert ids(made.take(60.0, 0, 5, MANY, RUNS)) == ["ann/1", "ann/2"]


def test_a_limited_rate_is_kept_and_is_no_outage() -> None:
    simulation = Simulation(
        DeliverySettings(outage_budget=2.0, max_backoff=0.1),
        max_retries=10,
        scripts={"user-0/0": ["failed"] * 3},
        limiter=RateLimiter(RateLimit(requests=0.5)),
        max_items=1,
    )
    simulation.submit(items(3, 4))
    simulation.run()
    simulation.check()
    assert simulation.reasons() == {"delivered": 12}
    assert all(after - before >= 2.0 - 1e-6 for before, after in pairwise(simulation.called_at))
    assert simulation.settled["user-0/0"].item.attempts == 4


def test_records_are_limited_call_by_call() -> None:
    simulation = Simulation(
        DeliverySettings(), limiter=RateLimiter(RateLimit(records=100, burst=10)), max_items=50, runs=RUNS
    )
    simulation.submit(items(20, 100))
    simulation.run()
    assert {len(call) for call in simulation.calls} <= set(range(1, 11))
    assert simulation.called_at[-1] == pytest.approx(20, rel=0.02)
    assert len(simulation.calls) <= 202


def test_what_a_429_asks_for_holds_for_all_records_of_a_limited_forwarder() -> None:
    busy = AttemptResult(Verdict.RETRY, "http_429", 429, retry_after=7.0)
    for limiter, others_go in ((RateLimiter(RateLimit(requests=1000)), False), (None, True)):
        made = lane(is_atomic=False, limiter=limiter)
        made.submit([item("ann", 0), item("bob", 0)])
        assert made.finish(made.take(0.0, 0), [busy], 0.0) == []
        assert bool(made.take(5.0, 0)) is others_go
        made.ready(5.0)
        assert others_go or made.wake_at() == 7.0
