"""Times as text: the forms that are read, and what is wrong with the others (docs/spec/records.md section 1).

Read are all forms of RFC 3339 and of ISO 8601 that name a calendar date, a time of day and a zone, as databases and
languages write them, and `YYYY-MM-DD HH:MM:SS` without a zone, which is in UTC.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import NoReturn

import msgspec

from schemas.times import millis_of

FIRST_MS = 946_684_800_000
"""The beginning of the year 2000 in epoch milliseconds: the first time that is read."""

LAST_MS = 4_133_980_800_000 - 1
"""The last millisecond of the year 2100: the last time that is read."""

TIME_FORMS = (
    "epoch milliseconds of the years 2000 to 2100, text with a zone such as 2026-03-01T09:00:00Z, or "
    "'YYYY-MM-DD HH:MM:SS' in UTC"
)

_FORM = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d))?)?(?:[.,](?P<fraction>\d+))?"
    r"(?: ?(?P<zone>[Zz]|[Uu][Tt][Cc]|GMT|[+\-\u2212]\d\d(?::?\d\d)?))?"
    # RFC 9557: the name of the zone, or of a calendar, in brackets.
    r"(?P<suffix>(?:\[!?[A-Za-z0-9_./+=\-]{1,64}\])*))?",
    re.ASCII,
)
_ORDINAL = re.compile(r"\d{4}-?\d{3}(?:[Tt ].*)?", re.ASCII)
_WEEK = re.compile(r"\d{4}-?W\d\d", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TO_THE_SECOND = len("2026-03-01T09:00:00Z")
_LONGEST_SHOWN = 40
# More digits say nothing about milliseconds, and Python reads no number of more than 4,300.
_FRACTION_DIGITS = 15


class TimeRefusedError(ValueError):
    """A text that is not read as a time. The message shows it, and says what is wrong and what to do.

    rule: what is wrong, without the text itself: the same for all times that are refused for the same reason.
    """

    def __init__(self, text: str, rule: str, what_to_do: str = f"allowed: {TIME_FORMS}") -> None:
        super().__init__(f"{text[:_LONGEST_SHOWN]!r} is {rule}; {what_to_do}")
        self.rule = rule


def is_number(text: str) -> bool:
    """Whether `text` is a number as JSON spells it."""
    return _NUMBER.fullmatch(text) is not None


def read_instant(text: str, *, naive_utc: bool = False) -> int:
    """Epoch milliseconds, cut off and not rounded, of a time in any form that is read. Raises TimeRefusedError.

    naive_utc: a time without a zone is in UTC in every form, and a date is its first instant.
    """
    spelled = text
    if len(spelled) > 26:  # more than microseconds, which msgspec would round
        spelled = re.sub(r"(\.\d{6})\d+", r"\1", spelled)
    try:
        moment = msgspec.convert(spelled, datetime)
    except msgspec.ValidationError:
        milliseconds = _read_any_form(text, naive_utc=naive_utc)
    else:
        if moment.tzinfo is None and not naive_utc and text[10] != " ":
            _refuse_naive(text)
        milliseconds = millis_of(moment)
    if not FIRST_MS <= milliseconds <= LAST_MS:
        raise TimeRefusedError(text, "outside the years 2000 to 2100", "see that the clock it comes from is right")
    return milliseconds


def quick_instant(text: str) -> int | None:
    """As `read_instant`, of the commonest forms: `2026-03-01T09:00:00Z`, with a fraction, or an offset as `+01:00`.

    None for any other text, of which `read_instant` says what it is.
    """
    # Of the very commonest, 2026-03-01T09:00:00.000Z, the parts are looked up: half of them are read twice as fast.
    milliseconds = _MILLISECONDS.get(text[20:])
    if milliseconds is None:
        return _common_instant(text)
    hour = _hours.get(text[:14])
    if hour is None:
        instant = _common_instant(text)
        if instant is not None:
            if len(_hours) >= _MOST_HOURS:
                _hours.clear()
            _hours[text[:14]] = instant - instant % 3_600_000
        return instant
    minute, second = _MINUTES.get(text[14:17]), _SECONDS.get(text[17:20])
    return None if minute is None or second is None else hour + minute + second + milliseconds


_MINUTES = {f"{number:02}:": number * 60_000 for number in range(60)}
_SECONDS = {f"{number:02}.": number * 1000 for number in range(60)}
_MILLISECONDS = {f"{number:03}Z": number for number in range(1000)}
_hours: dict[str, int] = {}
"""`2026-03-01T09:` in epoch milliseconds, for the hours that were met of late."""

_MOST_HOURS = 10_000


def _common_instant(text: str) -> int | None:
    zone = text[-6:]
    if text[-1:] != "Z" and not (zone[:1] in ("+", "-") and zone[3:4] == ":"):
        return None
    if len(text) < _TO_THE_SECOND or text[10] != "T" or text[5] == "W" or text[16] != ":" or "," in text:
        return None
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError:
        return None
    milliseconds = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    return milliseconds if FIRST_MS <= milliseconds <= LAST_MS else None


def _read_any_form(text: str, *, naive_utc: bool) -> int:
    """As `read_instant`, of any form, of any year."""
    form = _FORM.fullmatch(text)
    if form is None:
        _refuse_form(text)
    hour, minute, second = form["hour"], form["minute"], form["second"]
    if second == "60":
        raise TimeRefusedError(text, "a leap second, which is not read", "write the second after it")
    if hour == "24":
        raise TimeRefusedError(text, "a time with hour 24, which is not read", "write 00:00 of the next day")
    if form["zone"] is None:
        if form["suffix"]:
            raise TimeRefusedError(
                text,
                "a time with the name of a zone and no offset",
                "write the offset before it: +01:00[Europe/Berlin]",
            )
        if not naive_utc and hour is None:
            raise TimeRefusedError(
                text, "a date without a time of day", "write one, or give --naive_times utc to take its first instant"
            )
        if not naive_utc and not (form["dash"] and second and text[10] == " "):
            _refuse_naive(text)
    try:
        moment = datetime(
            int(form["year"]), int(form["month"]), int(form["day"]),
            int(hour or 0), int(minute or 0), int(second or 0), tzinfo=_zone(form["zone"]),
        )  # fmt: skip
    except ValueError as error:
        raise TimeRefusedError(text, "no date and time that there is", str(error)) from None
    unit = 1000 if second else 60_000 if minute else 3_600_000
    digits = (form["fraction"] or "0")[:_FRACTION_DIGITS]
    fraction: int = unit * int(digits) // 10 ** len(digits)
    return millis_of(moment) + fraction


def _zone(name: str | None) -> timezone:
    if name is None or name[0] not in "+-\u2212":
        return UTC
    digits = name[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("an offset is at most 23:59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(offset if name[0] == "+" else -offset)


def _refuse_naive(text: str) -> NoReturn:
    raise TimeRefusedError(text, "a time without a zone", "write Z or an offset after it, or give --naive_times utc")


def _refuse_form(text: str) -> NoReturn:
    if is_number(text):
        raise TimeRefusedError(text, "a number in quotes", "write it without quotes, or give --lenient_numbers")
    if _WEEK.match(text):
        raise TimeRefusedError(text, "a week date, which is not read", "write YYYY-MM-DD")
    if _ORDINAL.fullmatch(text):
        raise TimeRefusedError(text, "an ordinal date, which is not read", "write YYYY-MM-DD")
    raise TimeRefusedError(text, "not a time in a form that is read")
