"""A stand-in for the receivers of HTTP forwarders: it asks for credentials, fails now and then, and keeps each request.

It does not deduplicate, so that a check sees what the job sent twice.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Self

from aiohttp import web

HOST = "127.0.0.1"
"""The address to listen on."""

RETRY_AFTER = 1
"""Seconds that a 429 asks the sender to wait, in its Retry-After header."""


class InjectedFault(Enum):
    """What the receiver does instead of answering 200. With the last two it has taken the request all the same."""

    UNAVAILABLE = "503"
    THROTTLED = "429"
    CUT = "cut"
    ANSWER_LOST = "taken, answer lost"
    BODY_CUT = "taken, answer's body cut"


_FAULTS = tuple(InjectedFault)
_TAKEN_ALL_THE_SAME = (InjectedFault.ANSWER_LOST, InjectedFault.BODY_CUT)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request as it came.

    Attributes:
        path: where it was sent to.
        key: its Idempotency-Key.
        body: the record.
        headers: all of them.
        status: what was answered; None if the connection was cut without an answer.
        fault: what the receiver did instead of answering 200.
        taken: whether the receiver has the record now.
        at: when it came, in seconds of the monotonic clock.
    """

    path: str
    key: str
    body: bytes
    headers: Mapping[str, str]
    status: int | None
    fault: InjectedFault | None
    taken: bool
    at: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which requests fail, and how.

    Attributes:
        seed: the same seed gives the same faults, in whatever order the requests come.
        share: the part (0 to 1) of a path's records that fail at first. Such a record fails once or twice, then never
            again.
    """

    seed: int
    share: float = 0.02

    def fault(self, path: str, key: str, attempt: int, request: int = 0) -> InjectedFault | None:
        """The fault of a request; None to succeed.

        Args:
            path: of the request.
            key: its Idempotency-Key.
            attempt: its number, from 0, among those with this key on this path.
            request: its number, from 0, among all on this path.
        """
        digest = blake2b(f"{self.seed}\0{path}\0{key}".encode(), digest_size=8).digest()
        fails = int.from_bytes(digest[:4], "big") < self.share * 2**32
        times = 1 + digest[4] % 2
        if not fails or attempt >= times:
            return None
        return _FAULTS[(digest[5] + attempt) % len(_FAULTS)]


class Receiver:
    """An HTTP server on 127.0.0.1 and, with a certificate, an HTTPS server beside it. A context manager.

    The servers run in a thread of their own. `http` and `https` are their `host:port` while they run.

    Args:
        authorization: the paths that are served, each with the Authorization header it asks for, or None for no header.
            Any other path is answered with 404.
        plan: which requests fail.
        certificate: for HTTPS; None for HTTP alone.
        port: of HTTP; 0 for any that is free. HTTPS always takes any that is free.
    """

    def __init__(
        self,
        authorization: Mapping[str, str | None],
        plan: FaultPlan,
        certificate: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._authorization = dict(authorization)
        self._plan = plan
        self._certificate = certificate
        self._port = port
        self._attempts: list[Attempt] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._came: Counter[str] = Counter()
        self._thread: Thread | None = None
        self.http = ""
        self.https = ""

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._serve(started)), name="receiver", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None  # noqa: S101 - __enter__ set it
        self._thread.join()

    def attempts(self, path: str) -> list[Attempt]:
        """The requests that came to `path` so far, in the order in which they came."""
        return [attempt for attempt in list(self._attempts) if attempt.path == path]

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=1)
        try:
            await runner.setup()
            self.http = await _listen(runner, None, self._port)
            if self._certificate is not None:
                self.https = await _listen(runner, self._certificate)
        except BaseException as error:
            await runner.cleanup()
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        status = self._refusal(request)
        fault = None if status else self._next_fault(request)
        if status is None and fault not in (InjectedFault.CUT, InjectedFault.ANSWER_LOST):
            status = {InjectedFault.UNAVAILABLE: 503, InjectedFault.THROTTLED: 429}.get(fault, 200) if fault else 200
        self._attempts.append(
            Attempt(
                path=request.path,
                key=_key(request),
                body=body,
                headers=request.headers,
                status=status,
                fault=fault,
                taken=status == 200 or fault in _TAKEN_ALL_THE_SAME,
                at=monotonic(),
            )
        )
        return await _answer(request, status, fault)

    def _refusal(self, request: web.BaseRequest) -> int | None:
        """The status for a request that should not have been sent; None for one that is in order."""
        if request.path not in self._authorization:
            return 404
        if request.method != "POST":
            return 405
        if request.headers.get("Authorization") != self._authorization[request.path]:
            return 401
        return None

    def _next_fault(self, request: web.BaseRequest) -> InjectedFault | None:
        path_and_key = (request.path, _key(request))
        attempt = self._seen[path_and_key]
        self._seen[path_and_key] += 1
        came = self._came[request.path]
        self._came[request.path] += 1
        return self._plan.fault(*path_and_key, attempt, came)


async def _listen(runner: web.ServerRunner, certificate: ssl.SSLContext | None, port: int = 0) -> str:
    """Listen on one more port; returns its `host:port`."""
    before = set(runner.addresses)
    await web.TCPSite(runner, HOST, port, ssl_context=certificate).start()
    ((host, listening),) = set(runner.addresses) - before
    return f"{host}:{listening}"


async def _answer(request: web.BaseRequest, status: int | None, fault: InjectedFault | None) -> web.StreamResponse:
    """Answer with `status`, or cut the connection: before the answer if it is None, inside the body for BODY_CUT."""
    transport = request.transport
    if status is None:
        if transport is not None:
            transport.abort()
        return web.Response()
    if fault is InjectedFault.BODY_CUT:
        response = web.StreamResponse(status=status, headers={"Content-Length": "1000"})
        await response.prepare(request)
        if transport is not None:
            transport.close()
        return response
    headers = {"Retry-After": str(RETRY_AFTER)} if fault is InjectedFault.THROTTLED else None
    return web.Response(status=status, headers=headers, text="")


def _key(request: web.BaseRequest) -> str:
    return request.headers.get("Idempotency-Key", "")
