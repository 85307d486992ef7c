from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.lane_simulation import (
    ANSWERS,
    DELIVERED,
    FAILED,
    REFUSED,
    THROTTLED,
    TOO_BIG,
    Simulation,
    run_through,
)
from tests.support.memory_queues import MemoryParking, MemorySpool
from tests.support.receiver import by_user
from tests.support.records import item, items
from transforms.delivery.lane import ITEM_OVERHEAD, Lane
from transforms.delivery.policy import BreakerState, DeliverySettings
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.outages import is_of_outage


def state_of(lane: Lane) -> BreakerState:
    """As it is now: mypy takes an attribute to be what it was when it was last compared."""
    return lane.breaker.state


def lane(max_retries: int = 3, random: Callable[[], float] = lambda: 1.0, **settings: object) -> Lane:
    made = DeliverySettings(**settings)  # type: ignore[arg-type]
    return Lane("f", max_retries, made, spool=MemorySpool(), parking=MemoryParking(), random=random)


@st.composite
def simulations(draw: st.DrawFn) -> tuple[Simulation, list[int]]:
    """Any schedule of faults, any small window, and the users of the records in the order they come in."""
    users = draw(st.lists(st.integers(0, draw(st.integers(0, 5))), min_size=1, max_size=40))
    answers = st.sampled_from(sorted(ANSWERS))
    scripts = {}
    counts: dict[int, int] = {}
    for user in users:
        number = counts[user] = counts.get(user, -1) + 1
        scripts[f"user-{user}/{number}"] = draw(st.lists(answers, max_size=5))
    settings = DeliverySettings(
        max_backoff=draw(st.sampled_from([0.0, 0.3, 60.0])),
        outage_budget=draw(st.sampled_from([0.05, 5.0, 300.0])),
        on_failure=draw(st.sampled_from(["continue", "block_user"])),
        catches_up=draw(st.booleans()),
        window_items=draw(st.integers(1, 12)),
        window_bytes=draw(st.sampled_from([1, 4 * ITEM_OVERHEAD, 1 << 20])),
        user_items=draw(st.integers(1, 4)),
    )
    simulation = Simulation(
        settings,
        max_retries=draw(st.integers(0, 4)),
        scripts=scripts,
        calls_in_flight=draw(st.integers(1, 4)),
        max_items=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 1 << 16)),
        spool_chunk=draw(st.integers(1, 4)),
        spool_limit=draw(st.sampled_from([None, None, 0, 1, 5])),
    )
    return simulation, users


@pytest.mark.slow
@given(simulations(), st.lists(st.integers(1, 10), max_size=10))
@hypothesis_settings(max_examples=250)
def test_any_schedule_of_faults_keeps_order_and_loses_nothing(
    drawn: tuple[Simulation, list[int]], chunks: list[int]
) -> None:
    run_through(*drawn, chunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reasons"),
    [
        (["failed", "failed", "delivered"], {"delivered": 2000}),
        (["refused"], {"http_400": 2000}),
        (["failed"] * 4, {"http_500": 2000}),
        (["throttled"] * 9 + ["delivered"], {"delivered": 2000}),
        (["lost_stored", "lost", "delivered"], {"delivered": 2000}),
    ],
)
def test_fifty_users_of_forty_records(script: list[str], reasons: dict[str, int]) -> None:
    due = items(50, 40)
    settings = DeliverySettings(window_items=500, user_items=8, outage_budget=1e9)
    simulation = Simulation(
        settings, scripts={each.record.id: script for each in due}, max_items=16, calls_in_flight=4, spool_chunk=100
    )
    simulation.submit(due)
    simulation.run()
    simulation.check()
    assert simulation.reasons() == reasons
    assert simulation.most_held <= 600
    assert set(simulation.sent.values()) == {len(script)}


def test_what_this_machine_lacks_spends_no_attempt_and_opens_no_breaker() -> None:
    simulation = Simulation(
        DeliverySettings(outage_budget=300),
        max_retries=0,
        finally_=lambda now, item: "lacking" if now < 250 else "delivered",
        max_items=1,
    )
    simulation.submit(items(40, 5))
    simulation.run()
    simulation.check()
    assert simulation.reasons() == {"delivered": 200}
    assert simulation.lane.attempts == 200, "an attempt that was not made is none"
    assert simulation.lane.last_failure is None
    assert state_of(simulation.lane) is BreakerState.CLOSED
    # The lane stands still for a while each time, instead of trying each of its records.
    assert sum(simulation.sent.values()) - 200 < 2000


def test_an_outage_goes_on_where_this_machine_lacks_something_for_a_probe() -> None:
    simulation = Simulation(
        DeliverySettings(), max_retries=10, finally_=lambda now, item: "lacking" if 100 < now < 110 else "failed"
    )
    simulation.submit(items(20, 2))
    simulation.run()
    simulation.check()
    assert simulation.reasons()["unavailable"] >= 35
    assert simulation.reasons().keys() <= {"unavailable", "http_500"}


@pytest.mark.parametrize("on_failure", ["continue", "block_user"])
def test_what_the_disk_has_no_room_for_is_given_up_and_the_rest_is_delivered(on_failure: str) -> None:
    settings = DeliverySettings(window_items=10, user_items=2, on_failure=on_failure)  # type: ignore[arg-type]
    simulation = Simulation(settings, spool_limit=20)
    simulation.submit(items(10, 10))
    simulation.run()
    simulation.submit([item(f"user-{number}", 10) for number in range(10)])
    simulation.run()
    simulation.check()
    reasons = simulation.reasons()
    assert reasons["delivered"] >= 20
    assert reasons["spool_full"] > 0
    # Later on there is room again; but not for a user whose record was given up, if that blocks its user.
    last = [simulation.settled[f"user-{number}/10"] for number in range(10)]
    assert {settlement.delivered for settlement in last} == {on_failure == "continue"}


def test_a_dead_forwarder_costs_a_bounded_time_and_few_attempts() -> None:
    settings = DeliverySettings(window_items=100)
    simulation = Simulation(settings, max_retries=10, finally_=lambda now, item: "failed", max_items=1)
    simulation.submit(items(200, 10))
    simulation.run()
    simulation.check()
    assert 300 <= simulation.now <= 361
    assert simulation.reasons()["unavailable"] >= 1990
    assert sum(simulation.sent.values()) < 40
    unavailable = simulation.settled["user-150/9"].outcome
    assert (unavailable.status, unavailable.response) == (500, "the receiver's last failure: http_500")


def test_a_forwarder_that_only_throttles_costs_the_outage_budget() -> None:
    simulation = Simulation(DeliverySettings(window_items=100), finally_=lambda now, item: "throttled")
    simulation.submit(items(100, 5))
    simulation.run()
    simulation.check()
    assert simulation.reasons() == {"unavailable": 500}
    assert simulation.now <= 361
    assert all(settlement.item.attempts == 0 for settlement in simulation.settled.values())


def test_one_record_throttled_for_ever_does_not_wait_for_ever() -> None:
    simulation = Simulation(
        DeliverySettings(), finally_=lambda now, it: "throttled" if it.record.user_id == "user-0" else "delivered"
    )
    simulation.submit(items(1, 1))
    for number in range(2000):
        simulation.submit([item("steady", number)])
        simulation.now += 0.5
        for _ in range(4):
            simulation.step()
    simulation.run()
    simulation.check()
    assert simulation.reasons() == {"delivered": 2000, "throttled": 1}


def test_what_comes_after_an_outage_is_given_up_at_once_until_a_probe_gets_through() -> None:
    back_at = 1000.0
    simulation = Simulation(
        DeliverySettings(), max_retries=10, finally_=lambda now, item: "failed" if now < back_at else "delivered"
    )
    simulation.submit(items(20, 1))
    simulation.run()
    assert simulation.lane.abandoned
    ended = simulation.now
    simulation.submit([item("late", number) for number in range(5)])
    simulation.run()
    assert simulation.now - ended <= 60
    simulation.now = 2000.0
    simulation.submit([item("later", number) for number in range(5)])
    simulation.run()
    simulation.check()
    assert all(simulation.settled[f"later/{number}"].delivered for number in range(5))
    assert not simulation.lane.abandoned


def test_an_idle_hour_is_no_outage() -> None:
    simulation = Simulation(DeliverySettings(), max_retries=0, finally_=lambda now, item: "failed")
    for number in range(8):
        simulation.submit([item("user", number)])
        simulation.run()
        simulation.now += 3600
    simulation.check()
    assert simulation.reasons() == {"http_500": 8}


def test_a_user_with_very_many_records_does_not_fill_the_window() -> None:
    simulation = Simulation(DeliverySettings(window_items=50, user_items=8), max_items=50, spool_chunk=10)
    simulation.submit([item("hot", number) for number in range(1000)])
    simulation.submit(items(20, 3))
    for _ in range(12):
        simulation.step()
    settled_users = {settlement.item.record.user_id for settlement in simulation.settled.values()}
    assert len(settled_users) == 21, "the others did not wait for the hot user"
    simulation.run()
    simulation.check()
    assert simulation.most_held <= 60


def test_a_parked_user_s_new_records_go_behind_the_parked_ones() -> None:
    made = Lane("f", 3, DeliverySettings(user_items=8), spool=MemorySpool(), parking=MemoryParking(chunk=1))
    made.submit([item("hot", number) for number in range(13)])
    sent = []
    for number in range(13, 27):
        taken = made.take(0.0, 0)
        sent += [each.record.place for each in taken]
        made.release(made.finish(taken, [DELIVERED], 0.0))
        made.submit([item("hot", number)])
    assert sent == list(range(14))


def test_users_whose_record_was_given_up_are_blocked_if_asked() -> None:
    simulation = Simulation(
        DeliverySettings(on_failure="block_user"), scripts={"user-0/1": ["refused"], "user-1/0": ["too_big"]}
    )
    simulation.submit(items(3, 4))
    simulation.run()
    simulation.submit([item("user-0", 4)])
    simulation.run()
    simulation.check()
    assert simulation.reasons() == {"delivered": 5, "http_400": 1, "oversize": 1, "blocked_by_earlier": 6}
    assert simulation.settled["user-0/0"].delivered


def test_what_follows_a_record_that_an_outage_took_waits_for_a_later_run_if_that_catches_up() -> None:
    """Whatever else the forwarder takes. What it refused is for no later run, so nothing waits for that."""
    scripts = {"user-0/1": ["failed"], "user-1/0": ["refused"], "user-2/2": ["lost_stored"]}
    fates = {
        catches_up: Simulation(DeliverySettings(catches_up=catches_up), 0, scripts, seed=1)
        for catches_up in (True, False)
    }
    for simulation in fates.values():
        simulation.submit(items(4, 3))
        simulation.run()
        simulation.check()
    assert fates[True].reasons() == {
        "delivered": 8,
        "http_500": 1,
        "blocked_by_earlier": 1,
        "http_400": 1,
        "timeout": 1,
    }
    assert fates[True].settled["user-0/2"].outcome.reason == "blocked_by_earlier"
    assert fates[False].reasons() == {"delivered": 9, "http_500": 1, "http_400": 1, "timeout": 1}
    fates[True].submit([item("user-0", 3), item("user-1", 3)])
    fates[True].run()
    assert fates[True].settled["user-0/3"].outcome.reason == "blocked_by_earlier"
    assert fates[True].settled["user-1/3"].delivered


@pytest.mark.slow
@given(st.lists(simulations(), min_size=1, max_size=4))
@hypothesis_settings(max_examples=100)
def test_over_runs_that_catch_up_each_user_s_records_arrive_in_order(drawn: list[tuple[Simulation, list[int]]]) -> None:
    """Whatever fails: each run begins with what the one before has given up for an outage, and the last has none."""
    counts: Counter[str] = Counter()
    open_: list[str] = []
    arrived: list[str] = []
    refused: set[str] = set()
    for number, (simulation, users) in enumerate([*drawn, (Simulation(DeliverySettings()), [])]):
        simulation.settings = replace(simulation.settings, catches_up=True)
        simulation = replace(simulation) if number < len(drawn) else simulation
        new = []
        for user in (f"user-{user}" for user in users):
            new.append(f"{user}/{counts[user]}")
            counts[user] += 1
        simulation.submit(item(*_parts(id_)) for id_ in [*open_, *new])
        simulation.run()
        simulation.check()
        arrived += simulation.arrivals
        given_up = {id_: each.outcome.reason for id_, each in simulation.settled.items() if not each.delivered}
        open_ = sorted((id_ for id_, reason in given_up.items() if is_of_outage(reason)), key=_parts)
        refused |= {id_ for id_, reason in given_up.items() if not is_of_outage(reason)}
    assert not open_
    assert {f"{user}/{number}" for user, count in counts.items() for number in range(count)} - refused <= {*arrived}
    for user, ids in by_user((_parts(id_)[0], id_) for id_ in dict.fromkeys(arrived)).items():
        assert ids == sorted(ids, key=_parts), user


def _parts(id_: str) -> tuple[str, int]:
    user, number = id_.split("/")
    return user, int(number)


def test_retry_after_is_waited_for_and_others_go_on() -> None:
    made = lane()
    made.submit([item("slow", 0), item("fast", 0)])
    slow, fast = made.take(0.0, 0, 2)
    throttled = AttemptResult(Verdict.RETRY, "http_429", 429, retry_after=30.0)
    made.release(made.finish([slow, fast], [throttled, DELIVERED], 0.0))
    assert made.wake_at() == 30.0
    made.submit([item("fast", 1)])
    assert [each.record.id for each in made.take(0.0, 0, 2)] == ["fast/1"]
    assert [each.record.id for each in made.take(30.0, 0, 2)] == ["slow/0"]


def test_a_record_is_not_sent_before_its_predecessor_is_durable() -> None:
    made = lane()
    made.submit([item("user", 0), item("user", 1)])
    settlements = made.finish(made.take(0.0, 0), [DELIVERED], 0.0)
    assert made.take(0.0, 0) == []
    made.release(settlements)
    assert [each.record.id for each in made.take(0.0, 0)] == ["user/1"]


def test_a_call_is_bounded_by_bytes_and_a_bigger_item_comes_alone() -> None:
    made = lane()
    made.submit([item(user, 0, payload=b"x" * size) for user, size in [("a", 60), ("b", 40), ("c", 200), ("d", 1)]])
    taken = [[each.record.user_id for each in made.take(0.0, 0, 10, 100)] for _ in range(3)]
    assert taken == [["a", "b"], ["c"], ["d"]]


def test_attempts_and_times_travel_with_the_item() -> None:
    made = lane()
    made.submit([item("user", 0)])
    (first,) = made.take(0.0, 1000)
    assert made.finish([first], [FAILED], 0.0) == []
    (second,) = made.take(10.0, 11_000)
    (settlement,) = made.finish([second], [DELIVERED], 10.0)
    assert (settlement.item.attempts, settlement.item.first_attempt, settlement.item.last_attempt) == (2, 1000, 11_000)


def test_an_open_breaker_probes_with_one_record_of_a_call() -> None:
    made = lane()
    made.submit(items(20, 1))
    bad = AttemptResult(Verdict.RETRY, "tls", spends_attempt=False, failure=True, opens_breaker=True)
    batch = made.take(0.0, 0, 10)
    made.finish(batch, [bad] * 10, 0.0)
    assert made.take(0.4, 0, 10) == []
    assert made.wake_at() == 0.5
    assert len(made.take(0.5, 0, 10)) == 1
    assert state_of(made) is BreakerState.HALF_OPEN


def test_what_a_sink_refuses_by_itself_says_nothing_of_the_receiver() -> None:
    made = lane(max_retries=0)
    made.submit(items(30, 1))
    for _ in range(10):
        made.release(made.finish(made.take(0.0, 0), [FAILED], 0.0))
        if state_of(made) is BreakerState.CLOSED:
            made.release(made.finish(made.take(0.0, 0), [TOO_BIG], 0.0))
    assert state_of(made) is BreakerState.OPEN, "an oversize record in between is no success"
    made.release(made.finish(made.take(0.5, 0), [TOO_BIG], 0.5))
    assert made.breaker.allows(0.5), "and no probe"
    made.release(made.finish(made.take(0.5, 0), [REFUSED], 0.5))
    assert state_of(made) is BreakerState.CLOSED


def test_throttled_records_spend_no_attempt() -> None:
    made = lane(max_retries=0, random=lambda: 0.0)
    made.submit([item("user", 0)])
    for _ in range(20):
        assert made.finish(made.take(0.0, 0), [THROTTLED], 0.0) == []
    (settlement,) = made.finish(made.take(0.0, 0), [DELIVERED], 0.0)
    assert settlement.item.attempts == 1


def test_a_sink_with_too_few_outcomes_is_a_bug() -> None:
    made = lane()
    made.submit(items(2, 1))
    with pytest.raises(ValueError, match="zip"):
        made.finish(made.take(0.0, 0, 2), [DELIVERED], 0.0)


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), max_size=30), st.floats(0.0, 1.0), st.integers(1, 40))
def test_retries_due_counts_those_whose_wait_is_over_by_then(jitters: list[float], until: float, most: int) -> None:
    draws = iter(jitters)
    made = lane(random=lambda: next(draws))
    made.submit(items(len(jitters), 1))
    taken = made.take(0.0, 0, max_items=100)
    made.finish(taken, [THROTTLED] * len(taken), 0.0)
    # A call that was throttled as a whole doubles the first wait's bound of 0.5 s.
    due = sum(jitter <= until for jitter in jitters)
    assert made.retries_due(until, most) == min(due, most)
