"""How fast one worker may send to one forwarder (docs/spec/forwarders.md section 2, *Rate limit*).

It has no clock of its own: times are in seconds of a monotonic clock that the caller reads.
"""

from transforms.forwarders.model import RateLimit


class TokenBucket:
    """Tokens that come at a steady rate, as many as the bucket holds.

    It begins with one token, and not full: a run of seconds would else be as much quicker as its burst.

    Args:
        rate: tokens a second.
        capacity: tokens that it holds, at least 1.
    """

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate = rate
        self.capacity = max(1.0, capacity)
        self._tokens = 1.0
        self._at: float | None = None

    def wait(self, now: float, tokens: float) -> float:
        """Seconds until there are so many tokens, or as many as the bucket holds; 0 if there are now."""
        self._fill(now)
        lacking = min(tokens, self.capacity) - self._tokens
        # What is lacking by rounding would be waited for again and again.
        return lacking / self._rate if lacking > 1e-9 else 0.0

    def take(self, now: float, tokens: float) -> None:
        """Take tokens out. If there are fewer, those that come next are taken, too."""
        self._fill(now)
        self._tokens -= tokens

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._tokens = min(self.capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now if self._at is None else max(now, self._at)


class RateLimiter:
    """What a forwarder's `rateLimit` allows, and what its receiver asks for on top."""

    def __init__(self, limit: RateLimit) -> None:
        self._requests: TokenBucket | None = None
        self._records: TokenBucket | None = None
        if limit.requests is not None:
            self._requests = TokenBucket(limit.requests, limit.requests if limit.burst is None else limit.burst)
        if limit.records is not None:
            burst = limit.burst if limit.requests is None else None
            self._records = TokenBucket(limit.records, limit.records if burst is None else burst)
        self._paused_until = float("-inf")

    @property
    def most_records(self) -> int | None:
        """Records that one request may hold; None for no such bound."""
        return None if self._records is None else int(self._records.capacity)

    def wait(self, now: float, records: int) -> float:
        """Seconds until a request with so many records may be made; 0 if it may be now."""
        wait = max(0.0, self._paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now, 1))
        if self._records is not None:
            wait = max(wait, self._records.wait(now, records))
        return wait

    def sent(self, now: float, records: int) -> None:
        """Such a request is made."""
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._records is not None:
            self._records.take(now, records)

    def pause(self, now: float, seconds: float) -> None:
        """Make no request for so long: the receiver asks for it."""
        self._paused_until = max(self._paused_until, now + seconds)
