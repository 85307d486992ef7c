"""Connections of the HTTP sink: only to addresses that were checked, and how far an answer came."""

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

# Any number of 1xx answers with their headers, then the status line of the answer proper.
_ANSWER = re.compile(rb"(?:HTTP/1\.[01] 1(?!01)\d\d\b[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.[01] (\d{3})\b[^\n]*\n")


_HEAD_KEPT = 4 * 1024


GetAddrInfo = Callable[..., list[tuple[Any, ...]]]


@dataclass(slots=True)
class Exchange:
    """What is known about the connection of one attempt while it goes on."""

    fresh: bool = False
    connection: "_Connection | None" = None
    reused: bool = False
    dialled: bool = False
    refused: AddressRefusedError | None = None

    @property
    def is_stale(self) -> bool:
        """The connection had served before, and was closed without a byte of an answer to this request."""
        return self.reused and self.connection is not None and not self.connection.head


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")


class _Connection(ResponseHandler):
    """aiohttp's protocol of one connection, which also keeps how the answer to the present request begins."""

    served = False
    head = b""

    def data_received(self, data: bytes) -> None:
        if len(self.head) < _HEAD_KEPT:
            self.head += data[: _HEAD_KEPT - len(self.head)]
        super().data_received(data)

    def status(self) -> int | None:
        """The status of an answer that aiohttp could not read.

        It drops a good one too when it cannot read what came with it: a body after 204, more bytes than Content-Length
        says, headers beyond its limits. The receiver has spoken all the same, and to ask again would duplicate.
        """
        match = _ANSWER.match(self.head)
        return int(match[1]) if match else None


def _new_connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Connection(loop)


class CheckedConnector(aiohttp.TCPConnector):
    """A connection pool that tells each exchange which connection it got.

    aiohttp repeats a request on a stale connection only for idempotent methods, and does not say afterwards whether the
    connection was new.
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
        # A connection on which something arrived unasked is out of step: its bytes would pass for the next answer.
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
    """Resolves on a thread of its own: a name server that hangs for one forwarder must hold up no other."""

    def __init__(self, getaddrinfo: GetAddrInfo) -> None:
        self._getaddrinfo = getaddrinfo
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = functools.partial(self._getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, look_up)
        except UnicodeError:
            # A label that is too long or empty has no form that a name server could be asked for.
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
            for family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
