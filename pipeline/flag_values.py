"""What may stand after a flag, read as the type of `argparse.add_argument`.

Each function takes the text of the value, and raises ArgumentTypeError with what is allowed when it is not that.
"""

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.times import millis_of, now_ms, utc
from transforms.matching.statement import is_absolute_iri
from transforms.sinks.addresses import parse_network

_RELATIVE = re.compile(r"-(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def instant(text: str) -> int:
    """Epoch milliseconds, of a time in RFC 3339, a date (its start, in UTC) or a time before now (-24h)."""
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative:
            when = utc(now_ms()) - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        else:
            when = datetime.fromisoformat(text)
            if when.tzinfo is None:
                if len(text) != len("2026-03-01"):
                    raise argparse.ArgumentTypeError(f"{text!r} has no time zone: add Z or an offset")
                when = when.replace(tzinfo=UTC)
        return millis_of(when)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: use 2026-03-01, 2026-03-01T09:00:00Z or -24h"
        ) from None


def duration(text: str) -> float:
    """Seconds, of a length of time such as 12h, 30d or 8w."""
    match = _RELATIVE.fullmatch("-" + text)
    try:
        if match and int(match[1]):
            return timedelta(**{_UNITS[match[2]]: int(match[1])}).total_seconds()
    except OverflowError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a length of time: use 12h, 30d or 8w")


def ratio(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def directory(text: str) -> str:
    """The absolute path of a directory of this machine that is there."""
    path = Path(text).absolute()
    if not text or not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a directory of this machine: make it first")
    return str(path)


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text[:18])


def positive_seconds(text: str) -> float:
    """Seconds: a number above 0, and not infinite."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def variable_prefix(text: str) -> str:
    """The beginning that names of environment variables must have."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty: it would open the whole environment to the documents")
    return text


def network(text: str) -> str:
    """A network in CIDR notation, such as 10.0.0.0/8."""
    try:
        return str(parse_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def home_page(text: str) -> str:
    """An absolute IRI."""
    if not is_absolute_iri(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute IRI such as https://example.org")
    return text


def port(text: str) -> int:
    """A port of TCP, 1 to 65535."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)
