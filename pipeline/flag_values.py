"""What may stand after a flag, read as the type of `argparse.add_argument`.

Each function takes the text of the value, and raises ArgumentTypeError with what is allowed when it is not that.
"""

import argparse
import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from schemas.times import millis_of, now_ms, utc
from transforms.matching.statement import is_absolute_iri
from transforms.sinks.addresses import parse_network

_RELATIVE = re.compile(r"-(\d+)([smhdw])")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
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
    """Seconds, of a length of time such as 0.5s, 30s, 5m, 12h, 30d or 8w."""
    match = _DURATION.fullmatch(text)
    try:
        if match and (seconds := timedelta(**{_UNITS[match[2]]: float(match[1])}).total_seconds()):
            return seconds
    except OverflowError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a length of time: use 30s, 5m, 12h, 30d or 8w")


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text[:18])


def duration_or_seconds(text: str) -> float:
    """Seconds, of a length of time, or of a number above 0: flags that had no units are still given so."""
    try:
        seconds = float(text)
    except ValueError:
        return duration(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time above 0: use 0.5s, 30s or 5m")
    return seconds


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


class Listen(NamedTuple):
    """Where a server listens: at the first free port of a range.

    Attributes:
        host: an address of this machine.
        first: the first port of the range; 0: any free one.
        last: the last one.
    """

    host: str
    first: int
    last: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.first}" + (f"-{self.last}" if self.last != self.first else "")


_LISTEN = re.compile(r"(?:(?P<host>[^:\[\]]+|\[[^\[\]]+\]):)?(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?", re.ASCII)
_LOOPBACK = "127.0.0.1"


def listen(text: str) -> Listen:
    """Where to listen, of a port, a range of ports, or either after an address: 9464, 9464-9483, 0.0.0.0:9464."""
    match = _LISTEN.fullmatch(text)
    if match:
        host = (match["host"] or _LOOPBACK).strip("[]")
        first = int(match["first"])
        last = int(match["last"] or first)
        try:
            ip_address(host)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} names no address of this machine: use {_LOOPBACK}, 0.0.0.0 or [::] before the port"
            ) from None
        if first <= last < 65536 and (first or first == last):
            return Listen(host, first, last)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 9464, 9464-9483 or 0.0.0.0:9464; 0 is any free one")


def metrics_file(text: str) -> str:
    """The path of a file that node_exporter's textfile collector reads."""
    if not text.endswith(".prom") or not Path(text).name.removesuffix(".prom"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .prom: the textfile collector reads no other files")
    return str(Path(text).absolute())


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
