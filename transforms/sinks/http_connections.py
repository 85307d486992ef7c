"""Connections of the HTTP sink: a pool that knows whether a connection has served before, and how an answer began."""

import asyncio
import functools
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from transforms.sinks.addresses import AddressRefusedError

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
