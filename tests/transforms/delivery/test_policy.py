import pickle

import pytest

from transforms.delivery.policy import Backoff, Breaker, BreakerState, DeliverySettings, Losses, Outage, Pace

LONGEST = Backoff(60.0, random=lambda: 1.0)


def state_of(breaker: Breaker) -> BreakerState:
    """As it is now: mypy takes an attribute to be what it was when it was last compared."""
    return breaker.state


def test_backoff_doubles_from_half_a_second_to_the_ceiling() -> None:
    assert [LONGEST.delay(failures) for failures in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert LONGEST.delay(10_000) == 60


def test_backoff_has_full_jitter() -> None:
    assert Backoff(60.0, random=lambda: 0.0).delay(5) == 0
    assert Backoff(60.0, random=lambda: 0.25).delay(2) == 0.5


def test_backoff_below_its_base_stays_below_its_ceiling() -> None:
    assert Backoff(0.1, random=lambda: 1.0).delay(3) == 0.1


@pytest.mark.parametrize(("retry_after", "delay"), [(0.0, 0.5), (7.0, 7.0), (3600.0, 60.0)])
def test_retry_after_is_honoured_up_to_the_ceiling(retry_after: float, delay: float) -> None:
    assert LONGEST.delay(0, retry_after) == delay


def test_breaker_opens_after_ten_failures_in_a_row_and_probes() -> None:
    breaker = Breaker(LONGEST)
    for _ in range(9):
        breaker.failed(0.0)
    breaker.answered()  # A 429 ends the row.
    for _ in range(9):
        breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert state_of(breaker) is BreakerState.OPEN
    assert not breaker.allows(0.49)
    assert breaker.allows(0.5)
    breaker.sent()
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert not breaker.allows(100.0), "one probe at a time"
    breaker.failed(1.0)
    assert breaker.probe_at == 2.0, "the wait doubles"
    breaker.sent()
    breaker.succeeded()
    assert breaker.allows(2.0)
    for _ in range(9):
        breaker.failed(3.0)
    assert breaker.allows(3.0), "the count starts anew"


def test_breaker_opens_at_once_and_waits_as_long_as_it_is_told() -> None:
    breaker = Breaker(LONGEST)
    breaker.failed(0.0, retry_after=20.0, at_once=True)
    assert breaker.probe_at == 20.0


def test_calls_that_end_while_it_is_open_do_not_prolong_the_wait() -> None:
    breaker = Breaker(LONGEST)
    breaker.failed(0.0, at_once=True)
    for _ in range(20):
        breaker.failed(0.4)
    assert breaker.probe_at == 0.5


def test_a_probe_that_reached_nobody_may_be_repeated_at_once() -> None:
    breaker = Breaker(LONGEST)
    breaker.failed(0.0, at_once=True)
    breaker.sent()
    breaker.unused(0.7)
    assert breaker.allows(0.7)


def test_outage_is_timed_from_the_first_failure_after_progress() -> None:
    outage = Outage(300.0)
    assert not outage.is_over_budget(1e9)
    outage.failed(10.0)
    outage.failed(200.0)
    assert not outage.is_over_budget(309.9)
    assert outage.is_over_budget(310.0)
    outage.progressed()
    assert not outage.is_over_budget(310.0)


def test_pace_slows_while_most_is_refused_and_recovers() -> None:
    pace = Pace(LONGEST)
    assert pace.delay() == 0.5
    pace.saw(1.0, taken=100, throttled=400)
    assert pace.delay() == 1.0
    pace.saw(1.1, taken=0, throttled=500)  # Sent before the first answer was known.
    assert pace.delay() == 1.0
    pace.saw(2.0, taken=100, throttled=400)
    assert pace.delay() == 2.0
    pace.saw(9.0, taken=400, throttled=100)
    assert pace.delay() == 1.0
    pace.saw(9.1, taken=500, throttled=0)
    assert pace.delay() == 0.5


def test_settings_pickle() -> None:
    settings = DeliverySettings(max_backoff=3.0)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


# --- when a forwarder begins to fail


def test_three_bad_answers_one_after_the_other_that_are_a_second_apart() -> None:
    losses = Losses()
    for at in (10.0, 10.4, 10.8):
        losses.missed(at, at - 0.1)
        assert not losses.is_failing  # The third is there, but not a second after the first.
    losses.missed(11.0, 10.9)
    assert losses.is_failing
    assert losses.since == 10.0
    losses.taken()
    assert vars(losses)["since"] is None
    assert not vars(losses)["is_failing"]


def test_what_was_under_way_together_is_one_try() -> None:
    losses = Losses()
    for at in (10.0, 10.5, 11.5, 12.5, 13.5):
        losses.missed(at, 9.0)
    assert not losses.is_failing  # All were sent before the first answer came.
    losses.missed(13.6, 13.55)
    losses.missed(13.8, 13.7)
    assert losses.is_failing


def test_five_seconds_in_which_something_waits() -> None:
    losses = Losses()
    losses.missed(10.0, 9.0)
    losses.look(14.9)
    assert not losses.is_failing
    losses.look(15.0)
    assert losses.is_failing


def test_a_retry_that_succeeds_is_no_trouble_and_time_without_work_does_not_count() -> None:
    losses = Losses()
    losses.missed(10.0, 9.0)
    losses.taken()
    losses.look(100.0)
    assert not losses.is_failing
    losses.missed(100.0, 99.0)
    losses.rest()  # It was given up, and nothing else waits.
    losses.look(4000.0)
    assert not losses.is_failing
    losses.missed(4000.0, 3999.0)
    assert not losses.is_failing
