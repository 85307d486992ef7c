"""A token bucket in simulated time: the rate holds, and no burst is larger than said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.delivery.rate import RateLimiter, TokenBucket
from transforms.forwarders.model import RateLimit


def sent_until(limiter: RateLimiter, seconds: float, records: int = 1, begin: float = 0.0) -> list[float]:
    """When requests of so many records are made by somebody who always has one to make."""
    now, times = begin, []
    while now < begin + seconds:
        wait = limiter.wait(now, records)
        if wait > 0:
            now += wait
            continue
        limiter.sent(now, records)
        times.append(now)
    return times


@given(st.floats(0.05, 2000), st.floats(1, 500))
def test_in_no_span_of_time_there_are_more_than_the_rate_and_a_burst(rate: float, burst: float) -> None:
    bucket = TokenBucket(rate, burst)
    now, times = 0.0, []
    for _ in range(300):
        now += bucket.wait(now, 1)
        bucket.take(now, 1)
        times.append(now)
    for span in (1, 10, 100, 299):
        assert times[-1] - times[-1 - span] >= (span - max(burst, 1)) / rate * (1 - 1e-6) - 1e-6
    assert times[-1] == pytest.approx(299 / rate, rel=1e-3)


def test_the_rate_holds_from_the_beginning_and_after_a_pause_comes_a_burst() -> None:
    limiter = RateLimiter(RateLimit(requests=50, burst=10))
    times = sent_until(limiter, 20.0)
    assert 950 <= len(times) <= 1050
    after = sent_until(limiter, 1.0, begin=60.0)
    assert after.count(60.0) == 10
    assert 50 <= len(after) <= 60


def test_a_burst_is_one_seconds_worth_if_nothing_is_said() -> None:
    limiter = RateLimiter(RateLimit(requests=5))
    sent_until(limiter, 1.0)
    assert sent_until(limiter, 0.1, begin=60.0).count(60.0) == 5
    slow = RateLimiter(RateLimit(requests=0.1))
    assert sent_until(slow, 35.0) == pytest.approx([0, 10, 20, 30])


def test_records_are_limited_beside_requests() -> None:
    limiter = RateLimiter(RateLimit(requests=100, records=200, burst=3))
    assert limiter.most_records == 200
    assert len(sent_until(limiter, 20.0, records=50)) == pytest.approx(20 * 4, rel=0.05)
    assert len(sent_until(RateLimiter(RateLimit(requests=100, records=200)), 20.0)) == pytest.approx(2000, rel=0.05)


def test_a_request_that_is_larger_than_the_bucket_waits_for_a_full_one() -> None:
    limiter = RateLimiter(RateLimit(records=10, burst=4))
    assert limiter.most_records == 4
    times = sent_until(limiter, 10.0, records=20)
    assert times[1] - times[0] == pytest.approx(2.0)


def test_what_the_receiver_asks_for_comes_on_top() -> None:
    limiter = RateLimiter(RateLimit(requests=10))
    limiter.sent(0.0, 1)
    limiter.pause(0.0, 5.0)
    limiter.pause(0.0, 1.0)
    assert limiter.wait(0.0, 1) == 5.0
    assert limiter.wait(5.0, 1) == 0.0
