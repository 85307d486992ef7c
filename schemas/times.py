"""Times: now, and as messages, statements and query documents hold them.

Every `millis` is in epoch milliseconds, and every text is in UTC.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import time_ns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT_BELOW = 2**42
"""Milliseconds, of the year 2109, below which a double of seconds has more than the digits of a microsecond."""
_TWO_DIGITS = [f"{number:02}" for number in range(60)]


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


# The messages of an activity, the statements of its records and their envelopes spell the same second again.
@lru_cache(maxsize=4096)
def _date_and_clock(seconds: int) -> tuple[str, str]:
    day, second = divmod(seconds, 86_400)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return _date(day), f"{_TWO_DIGITS[hour]}:{_TWO_DIGITS[minute]}:{_TWO_DIGITS[second]}"


def now_ms() -> int:
    """The present time in epoch milliseconds: the one place where a run reads the clock of the machine.

    A test moves the clock by another `time_ns` in this module.
    """
    return time_ns() // 1_000_000


def snapshot_time(millis: int) -> str:
    """`2020-02-17T15:03:23Z`, truncated to the second: how a status snapshot gives `dt_started` and `dt_completed`."""
    date, clock = _date_and_clock(millis // 1000)
    return f"{date}T{clock}Z"


def event_time(millis: int) -> str:
    """`2020-02-17 15:03:23`, truncated to the second: how an event gives its `time`."""
    date, clock = _date_and_clock(millis // 1000)
    return f"{date} {clock}"


def rfc3339(millis: int) -> str:
    """`2020-02-17T15:03:23.000Z`: RFC 3339 with milliseconds, as records, statements and receipts give times."""
    date, clock = _date_and_clock(millis // 1000)
    return f"{date}T{clock}.{millis % 1000:03}Z"


def utc(millis: int) -> datetime:
    """The instant as an aware datetime: how a query document holds a date."""
    if 0 <= millis < _EXACT_BELOW:
        return datetime.fromtimestamp(millis / 1000, UTC)  # takes half the time, and is exact here
    return _EPOCH + timedelta(milliseconds=millis)


def millis_of(moment: datetime) -> int:
    """The instant in epoch milliseconds, cut off and not rounded; without a zone it is in UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
