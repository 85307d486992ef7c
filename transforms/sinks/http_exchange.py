"""The seam between what an HTTP request says and who carries it.

`PostSink` (`http.py`) makes a `Request` and judges what comes of it. A `Carrier` dials, sends, reads and keeps
connections. It knows neither records nor forwarders' rules, and the sink no sockets.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from transforms.sinks.base import AttemptResult
from transforms.sinks.multipart import Multipart

ANSWER_READ = 64 * 1024
"""Bytes of an answer's body that are read unless a request says otherwise. A longer one costs its connection."""

NO_HEADERS: Mapping[str, str] = {}


class Request(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request.

    Attributes:
        url: as it goes over the wire.
        headers: by name; no two names differ in case alone. Those of the connection and the body's length are the
            carrier's.
        common: more headers, which are the same in many requests: one mapping, which nobody changes. It is put into
            bytes once.
        body: None for a request without.
        method: what is asked for.
        most: bytes of the answer's body that are read.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes | Multipart | None = None
    method: Literal["POST", "GET"] = "POST"
    most: int = ANSWER_READ
    common: Mapping[str, str] = NO_HEADERS

    def __repr__(self) -> str:
        return f"Request({self.method!r})"  # All else may hold a secret.


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a receiver answered. Its status counts, whatever became of the rest.

    Attributes:
        status: of the answer itself, not of those of 1xx before it.
        headers: by name in lower case; empty if they could not be read.
        body: its beginning, at most the `most` of the request.
        complete: whether that is all of the body.
        resent: whether the request was sent twice, since the first connection turned out to be closed. The receiver may
            have got it both times.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = True
    resent: bool = False

    def __repr__(self) -> str:
        return f"Answer({self.status})"  # All else may quote a secret.


class NoAnswer(msgspec.Struct, frozen=True, gc=False):
    """An exchange that ended without an answer.

    Attributes:
        outcome: what that means for an attempt (`http_errors.py`).
        detail: for the log, of numbers and names of errors only.
    """

    outcome: AttemptResult
    detail: str = ""


class Carrier(Protocol):
    """Carries the requests of one forwarder: open, exchange many at a time, close. It lives on one asyncio loop."""

    async def open(self) -> None:
        """Make ready, without connecting to anybody. Raises SinkError if a TLS file does not load."""
        ...

    async def exchange(self, request: Request) -> Answer | NoAnswer:
        """Send a request, and once more if it went out on a kept connection that turned out to be closed.

        Whatever goes wrong is a NoAnswer. It follows no redirect, keeps no cookie and asks no proxy.
        """
        ...

    async def close(self) -> None:
        """Close every connection. Exchanges in flight must have ended, or been cancelled."""
        ...
