"""Carries HTTP requests with aiohttp, in a pool that knows whether a connection has served before.

aiohttp's own errors hold urls, so they are judged by their type and never printed.
"""

import asyncio
import functools
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from transforms.forwarders import HttpTarget
from transforms.sinks.addresses import AddressGuard, AddressInfo, AddressRefusedError
from transforms.sinks.deadline import Deadline
from transforms.sinks.http_errors import ADDRESS_REFUSED, classify, timed_out
from transforms.sinks.http_exchange import Answer, Carrier, NoAnswer, Request
from transforms.sinks.http_origin import tls_context
from transforms.sinks.lacks import lack_in, lacking
from transforms.sinks.multipart import Multipart

# Any number of 1xx answers with their headers, then the status line of the answer itself.
_ANSWER = re.compile(rb"(?:HTTP/1\.[01] 1(?!01)\d\d\b[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.[01] (\d{3})\b[^\n]*\n")

_HEAD_KEPT = 4 * 1024
"""Bytes of the beginning of an answer that a connection keeps."""

GetAddrInfo = Callable[..., list[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""


@dataclass(slots=True)
class Exchange:
    """What is known about the connection of one attempt while it goes on.

    Attributes:
        fresh: whether the attempt must have a connection that never served before.
        connection: the connection that the attempt got, if it got one.
        reused: whether that connection had served before.
        dialled: whether an address of the host was allowed, and dialled.
        refused: why an address of the host was refused.
        lack: what this machine lacked when an address was to be dialled.
    """

    fresh: bool = False
    connection: "_Connection | None" = None
    reused: bool = False
    dialled: bool = False
    refused: AddressRefusedError | None = None
    lack: str | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the connection had served before, and not a byte of an answer to this request has come."""
        return self.reused and self.connection is not None and not self.connection.head


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")
"""The exchange of the attempt that the present task makes."""


class _Connection(ResponseHandler):
    """aiohttp's protocol of one connection, which also keeps the beginning of the answer to the present request.

    Attributes:
        served: whether the connection has had a request.
        head: the beginning of the answer to the present request.
    """

    served = False
    head = b""

    def data_received(self, data: bytes) -> None:
        if len(self.head) < _HEAD_KEPT:
            self.head += data[: _HEAD_KEPT - len(self.head)]
        super().data_received(data)

    def status(self) -> int | None:
        """The status of the answer, even if aiohttp could not read the answer; None if no status line has come.

        aiohttp drops an answer when it cannot read what came with it: a body after 204, more bytes than Content-Length
        says, headers beyond its limits. But the receiver has answered, and to ask again would send a record twice.
        """
        match = _ANSWER.match(self.head)
        return int(match[1]) if match else None


def _new_connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Connection(loop)


class CheckedConnector(aiohttp.TCPConnector):
    """A connection pool that tells each exchange which connection it got.

    aiohttp itself repeats a request on a stale connection only for idempotent methods, which POST is not, and does not
    say afterwards whether the connection was new.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_new_connection, loop=self._loop)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        exchange = current_exchange.get()
        connection = await super().connect(req, traces, timeout)
        protocol = self._protocol(connection)
        # Where bytes arrived that no request asked for, they would be taken for the answer to this request.
        while protocol.served and (exchange.fresh or protocol.should_close):
            connection.close()
            connection = await super().connect(req, traces, timeout)
            protocol = self._protocol(connection)
        exchange.connection = protocol
        exchange.reused = protocol.served
        protocol.served = True
        protocol.head = b""
        return connection

    @staticmethod
    def _protocol(connection: aiohttp.connector.Connection) -> _Connection:
        protocol = connection.protocol
        if not isinstance(protocol, _Connection):
            raise TypeError(
                "this version of aiohttp makes its connections another way: install the one in requirements/job.txt"
            )
        return protocol


class CheckedResolver(AbstractResolver):
    """Resolves names in a thread of its own: a name server that hangs for one forwarder must not hold up another."""

    def __init__(self, getaddrinfo: GetAddrInfo) -> None:
        self._getaddrinfo = getaddrinfo
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = functools.partial(self._getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            addresses = await asyncio.get_running_loop().run_in_executor(self._thread, look_up)
        except UnicodeError:
            # A label that is empty or too long has no form in which a name server could be asked for it.
            raise OSError(None, "the host name has no valid form") from None
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, protocol, _, address in addresses
        ]

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class HttpClient:
    """Carries the requests of all HTTP forwarders of a worker.

    Args:
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).
        getaddrinfo: stands in for the system's resolver in tests.
        turns: where there are too few descriptors for a connection of each forwarder: what all of them share, one for
            each connection there may be. No connection is kept then when its request has ended.
    """

    def __init__(
        self,
        allow_networks: Sequence[str] = (),
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._guard = AddressGuard(allow_networks)
        self._named_guard = AddressGuard(allow_networks, named_only=True)
        self._getaddrinfo = getaddrinfo
        self._turns = turns

    def carrier(self, target: HttpTarget, *, named_only: bool = False) -> Carrier:
        """What carries the requests of one forwarder.

        Args:
            target: whom it sends to.
            named_only: only addresses within `allow_networks` may be dialled.
        """
        guard = self._named_guard if named_only else self._guard
        return _AiohttpCarrier(target, guard, self._getaddrinfo, self._turns)


class _AiohttpCarrier:
    def __init__(
        self, target: HttpTarget, guard: AddressGuard, getaddrinfo: GetAddrInfo, turns: asyncio.Semaphore | None
    ) -> None:
        self._target = target
        self._guard = guard
        self._getaddrinfo = getaddrinfo
        self._turns = turns
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        resolver = CheckedResolver(self._getaddrinfo)
        connector = CheckedConnector(
            limit=self._target.concurrency,
            force_close=self._turns is not None,
            resolver=resolver,
            socket_factory=self._socket,
            ssl=tls_context(self._target),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            # The time of an attempt is a Deadline's, which knows when this process stood still.
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy of the environment would go round the guard, and its .netrc would add a credential.
            trust_env=False,
            # Nobody needs the body, and to unpack what a stranger sends takes memory without bound.
            auto_decompress=False,
            read_bufsize=16 * 1024,
            max_line_size=8190,
            max_field_size=8190,
            skip_auto_headers=("Content-Type",),
        )
        self._resolver = resolver

    def _socket(self, info: AddressInfo) -> socket.socket:
        """A socket for an address that is to be dialled. The exchange learns whether it was allowed."""
        exchange = current_exchange.get()
        try:
            made = self._guard.socket(info)
        except AddressRefusedError as error:
            exchange.refused = error
            raise
        except OSError as error:
            exchange.lack = lack_in(error)
            raise
        exchange.dialled = True
        return made

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None

    async def exchange(self, request: Request) -> Answer | NoAnswer:
        if self._turns is None:
            return await self._exchange(request)
        async with self._turns:
            return await self._exchange(request)

    async def _exchange(self, request: Request) -> Answer | NoAnswer:
        exchange = Exchange()
        try:
            return await self._once(request, exchange)
        except Exception as error:
            if not (exchange.is_stale and isinstance(error, aiohttp.ClientConnectionError) and not timed_out(error)):
                return _without_whole_answer(error, exchange)
        # The receiver had closed the connection, most likely before the request reached it. That is not certain, so the
        # outcome is ambiguous.
        exchange = Exchange(fresh=True)
        try:
            answer: Answer | NoAnswer = await self._once(request, exchange)
        except Exception as error:
            answer = _without_whole_answer(error, exchange)
        if isinstance(answer, Answer):
            return msgspec.structs.replace(answer, resent=True)
        return NoAnswer(msgspec.structs.replace(answer.outcome, ambiguous=True), answer.detail)

    async def _once(self, request: Request, exchange: Exchange) -> Answer:
        if self._session is None:
            raise RuntimeError("the carrier is not open")
        current_exchange.set(exchange)
        headers: Mapping[str, str] = request.headers
        data: bytes | AsyncIterator[bytes] | None
        if isinstance(request.body, Multipart):
            # Without it the body would be sent in chunks, as one of unknown length.
            headers = {**headers, "Content-Length": str(request.body.size)}
            data = _stream(request.body)
        else:
            data = request.body
        url = URL(request.url, encoded=True)
        deadline = Deadline(self._target.timeout)
        try:
            with deadline:
                response = await self._session.request(
                    request.method, url, data=data, headers=headers, allow_redirects=False
                )
            body, complete = await _read(response, deadline, request.most)
        finally:
            deadline.close()
        return Answer(response.status, _by_lower_case(response.headers), body, complete)


def _by_lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in reversed(tuple(headers.items()))}  # Of several the first counts.


def _without_whole_answer(error: Exception, exchange: Exchange) -> Answer | NoAnswer:
    """What an exchange that raised an error comes to."""
    if isinstance(error, aiohttp.ClientResponseError) and exchange.connection is not None:
        status = exchange.connection.status()
        if status is not None:
            return Answer(status, {}, complete=False)
    if exchange.lack is not None and exchange.connection is None:
        # aiohttp puts what happened at several addresses into one text.
        return NoAnswer(lacking(exchange.lack))
    if exchange.refused is not None and not exchange.dialled:
        # If another address of the host was dialled in vain, a later attempt may get through. Here none was.
        return NoAnswer(ADDRESS_REFUSED, f"{exchange.refused}; --allow_network permits a network")
    return NoAnswer(*classify(error, connected=exchange.connection is not None))


async def _stream(body: Multipart) -> AsyncIterator[bytes]:
    """The body in pieces, which are read in a thread: the loop has other requests to serve."""
    loop = asyncio.get_running_loop()
    chunks = body.chunks()
    left = body.size
    # It ends with its last piece, and not with a look for another one: by then the answer may have come, and aiohttp
    # uses no connection again whose request had not ended before the answer.
    while left and (chunk := await loop.run_in_executor(None, next, chunks, b"")):
        left -= len(chunk)
        yield chunk


async def _read(response: aiohttp.ClientResponse, deadline: Deadline, most: int) -> tuple[bytes, bool]:
    """The body as far as it is read, at most `most` bytes, and whether that is all of it.

    A body that breaks off raises nothing, because the status is known already. Reading ends with the time of the
    attempt at the latest. A body that has not ended by then, or is too long, costs its connection.
    """
    data = bytearray()
    try:
        while len(data) < most:
            with deadline:
                chunk = await response.content.readany()
            if not chunk:
                return bytes(data), True
            data += chunk
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    except BaseException:
        # The task is cancelled. aiohttp would log a response that is left open, with its url.
        response.close()
        raise
    response.close()
    return bytes(data[:most]), False
