"""Carries the HTTP requests of all forwarders of a worker: HTTP/1.1, over kept connections.

It dials only what may be dialled, asks no proxy, keeps no cookie, follows no redirect and unpacks nothing. What leaves
this module (errors, representations) holds no url, header or credential.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from transforms.forwarders import HttpTarget
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.deadline import Deadlines
from transforms.sinks.http_connection import Connection
from transforms.sinks.http_dial import Dialler, NotConnectedError
from transforms.sinks.http_errors import no_answer, not_connected, timed_out
from transforms.sinks.http_exchange import Answer, Carrier, NoAnswer, Request
from transforms.sinks.http_origin import origin, request_target, tls_context
from transforms.sinks.http_pool import Home, Pool
from transforms.sinks.multipart import Multipart
from transforms.sinks.resolver import KEPT_FOR, GetAddrInfo, Resolver

_BEGINNINGS = 8
"""Beginnings of requests that are remembered for a forwarder. It has two or three."""

ANY_NUMBER = 1 << 30
"""Of connections: no bound."""


class HttpClient:
    """Carries the requests of all HTTP forwarders of a worker. It lives on the asyncio loop of whoever opens a carrier.

    Args:
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).
        getaddrinfo: stands in for the system's resolver in tests.
        connections: that there may be at a time, of all forwarders.
        names_kept_for: seconds that the addresses of a host are good for.
    """

    def __init__(
        self,
        allow_networks: Sequence[str] = (),
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        connections: int = ANY_NUMBER,
        names_kept_for: float = KEPT_FOR,
    ) -> None:
        self.guard = AddressGuard(allow_networks)
        self.named_guard = AddressGuard(allow_networks, named_only=True)
        self.resolver = Resolver(getaddrinfo, names_kept_for)
        self._connections = connections
        self._pool: Pool | None = None
        self._context: ssl.SSLContext | None = None
        self._open = 0

    def carrier(self, target: HttpTarget, guard: AddressGuard | None = None) -> Carrier:
        """What carries the requests of one forwarder.

        Args:
            target: whom it sends to.
            guard: of the addresses that may be dialled; None: that of all receivers.

        Raises:
            SinkError: the host has no valid form.
        """
        return _Carrier(self, target, guard or self.guard)

    def join(self) -> Pool:
        """The connections of all carriers. Each that joins must leave."""
        self._open += 1
        if self._pool is None:
            self._pool = Pool(asyncio.get_running_loop(), self._connections)
        return self._pool

    def leave(self) -> None:
        """A carrier is closed. What they share goes with the last one."""
        self._open -= 1
        if not self._open and self._pool is not None:
            self._pool.close()
            self._pool = None
            self.resolver.close()

    def system_context(self) -> ssl.SSLContext:
        """TLS by the system's authorities. To load them takes some 20 ms, so all forwarders share it."""
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context


class _Carrier:
    """The requests of one forwarder."""

    def __init__(self, client: HttpClient, target: HttpTarget, guard: AddressGuard) -> None:
        self._client = client
        self._guard = guard
        self._target = target
        self._origin = origin(target)
        self._home = Home(target.concurrency)
        self._pool: Pool | None = None
        # By the id of the headers that requests have in common: these, what is asked for, and the bytes of both.
        self._beginnings: dict[int, tuple[Mapping[str, str], tuple[str, str], bytes]] = {}

    async def open(self) -> None:
        tls: ssl.SSLContext | None = None
        if self._origin.scheme == "https":
            tls = tls_context(self._target) or self._client.system_context()
        self._loop = asyncio.get_running_loop()
        pool = self._client.join()
        self._dialler = Dialler(self._origin, tls, self._guard, self._client.resolver, pool.lost)
        self._deadlines = Deadlines(self._loop, self._target.timeout)
        self._pool = pool

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._deadlines.close()
            pool.empty(self._home)
            self._client.leave()
            await asyncio.sleep(0)  # The transports close in the loop's next turn.

    async def exchange(self, request: Request) -> Answer | NoAnswer:
        if self._pool is None:
            raise RuntimeError("the carrier is not open")
        try:
            head = self._head(request)
        except ValueError as error:
            return not_connected(error)
        pool = self._pool
        connection = pool.kept(self._home) or await pool.place(self._home)
        is_resend = False
        try:
            if connection is not None:
                answer = await self._over_kept(connection, request, head)
                if answer is not None:
                    return answer
                # The receiver had closed the connection, most likely before the request reached it. That is not
                # certain, so the outcome is ambiguous.
                connection, is_resend = None, True
            connection, answer = await self._over_new(pool, request, head)
            return _resent(answer) if is_resend else answer
        finally:
            pool.put_back(self._home, connection)

    async def _over_kept(self, connection: Connection, request: Request, head: bytes) -> Answer | NoAnswer | None:
        """An exchange over a connection that has served before; None if it turned out to be closed."""
        number = self._deadlines.begin(connection.expire)
        try:
            return await self._over(connection, request, head)
        except Exception as error:
            return no_answer(error) if connection.heard or timed_out(error) else None
        finally:
            self._deadlines.end(number)

    async def _over_new(self, pool: Pool, request: Request, head: bytes) -> tuple[Connection | None, Answer | NoAnswer]:
        """An exchange over a new connection, and the connection, if there was one."""
        dialling = self._loop.create_task(self._dial(pool))
        number = self._deadlines.begin(dialling.cancel)
        try:
            connection = await dialling
        except NotConnectedError as error:
            self._deadlines.end(number)
            return None, error.answer
        except asyncio.CancelledError:
            self._deadlines.end(number)
            if _is_cancelled():
                raise
            return None, not_connected(TimeoutError())
        try:
            if not self._deadlines.go_on(number, connection.expire):
                connection.abort()
                return None, not_connected(TimeoutError())
            return connection, await self._over(connection, request, head)
        except Exception as error:
            return connection, no_answer(error)
        finally:
            self._deadlines.end(number)

    async def _dial(self, pool: Pool) -> Connection:
        """A new connection. If this machine lacks descriptors, kept connections are closed for it, the oldest first."""
        while True:
            try:
                return await self._dialler.dial()
            except NotConnectedError as error:
                if not (error.answer.outcome.lack and pool.close_oldest()):
                    raise
            await asyncio.sleep(0)  # Transports close in the loop's next turn.

    async def _over(self, connection: Connection, request: Request, head: bytes) -> Answer:
        """An exchange over a connection that is open. Raises what its answer fails with."""
        writing: asyncio.Task[None] | None = None
        try:
            if isinstance(request.body, Multipart):
                answer = connection.exchange(head, None, request.most)
                writing = self._loop.create_task(connection.write(_Pieces(request.body, self._loop)))
                return await answer
            return await connection.exchange(head, request.body or b"", request.most)
        except asyncio.CancelledError:
            connection.abort()
            raise
        finally:
            if writing is not None:
                writing.cancel()

    def _head(self, request: Request) -> bytes:
        """The request line and the headers. Raises ValueError for a line break where there must be none."""
        asked = (request.method, request.url)
        known = self._beginnings.get(id(request.common))
        if known is None or known[1] != asked:
            if len(self._beginnings) >= _BEGINNINGS:
                self._beginnings.clear()
            first = f"{request.method} {request_target(request.url)} HTTP/1.1\r\nHost: {self._origin.host_header}\r\n"
            known = (request.common, asked, first.encode() + _lines(request.common))
            self._beginnings[id(request.common)] = known
        body = request.body
        if body is None:
            return b"%b%b\r\n" % (known[2], _lines(request.headers))
        size = len(body) if isinstance(body, bytes) else body.size
        return b"%b%bContent-Length: %d\r\n\r\n" % (known[2], _lines(request.headers), size)

    def __repr__(self) -> str:
        return "_Carrier()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a carrier holds secrets and connections and does not pickle: make it on the worker")


class _Pieces:
    """A body in pieces, which are read in a thread: the loop has other requests to serve."""

    def __init__(self, body: Multipart, loop: asyncio.AbstractEventLoop) -> None:
        self.size = body.size
        self._chunks = body.chunks()
        self._loop = loop

    async def chunk(self) -> bytes:
        return await self._loop.run_in_executor(None, next, self._chunks, b"")


def _lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire. Raises ValueError for a line break where there must be none."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ValueError("a header holds a line break")
    return text.encode()


def _resent(answer: Answer | NoAnswer) -> Answer | NoAnswer:
    """An answer to a request that had gone out once before."""
    if isinstance(answer, Answer):
        return msgspec.structs.replace(answer, resent=True)
    return NoAnswer(msgspec.structs.replace(answer.outcome, ambiguous=True), answer.detail)


def _is_cancelled() -> bool:
    """Whether somebody wants the present task to end, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
