"""How connections are let in: at most so many, at most so many of one address, and none that only waits.

A connection holds a file descriptor of this process, of which there are few. Whoever sends half a request and no more,
or takes no answer, would hold one for as long as they please.
"""

import asyncio
import json
import logging
import resource
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from registry.proxies import TrustedProxies, neighbourhood

logger = logging.getLogger(__name__)

OTHER_FILES = 128
"""Descriptors that are left for what is no connection: the store, the job's output, tests of forwarders, the log."""

_FEWEST = 16
_USUAL = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may hold.

    Attributes:
        connections: at a time, of all clients.
        connections_of_one: at a time, of one address; also the requests of one client behind a trusted proxy.
        request_timeout: seconds in which a request has to come whole, headers and body, and in which a client has to
            take something of an answer.
    """

    connections: int
    connections_of_one: int = 32
    request_timeout: float = 20.0


def most_connections() -> int:
    """The most connections that this process can hold, by its limit of descriptors (`ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, soft - OTHER_FILES)


def usual_limits() -> Limits:
    """The limits that hold where nobody says otherwise."""
    return Limits(min(_USUAL, most_connections()))


def _raw_answer(status: str, message: str, more: str = "") -> bytes:
    """An answer as bytes, for where no request was read that the application could answer."""
    body = json.dumps({"message": message}).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


_FULL = _raw_answer("503 Service Unavailable", "too many connections: try again", "Retry-After: 5\r\n")
_LATE = _raw_answer("408 Request Timeout", "the request did not come whole in time")


class Door:
    """Lets connections in, over TLS or without, and gives each to a protocol of uvicorn's.

    It counts a connection from when it is accepted, before its TLS handshake.

    Args:
        proxies: their connections are many clients', so that only the limit for all counts for them.
        tls: None: without TLS.
    """

    def __init__(self, limits: Limits, proxies: TrustedProxies, tls: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self.tls = tls
        self._proxies = proxies
        self._inside: Counter[str] = Counter()
        self._is_full = False

    def protocol(self, **given: Any) -> asyncio.Protocol:
        """What uvicorn is to make for each connection, as its `http` setting. It gives what its own protocols take."""
        return _Entrance(self, _Connection(self.limits.request_timeout, **given))

    def enter(self, address: str) -> bool:
        """Whether one more connection of an address may come in. If so, it counts until it leaves."""
        who = neighbourhood(address)
        is_one_too_many = self._inside[who] >= self.limits.connections_of_one and address not in self._proxies
        is_full = self._inside.total() >= self.limits.connections
        if is_full and not self._is_full:
            logger.warning("all %d connections are taken (--max_connections): others are refused", self._inside.total())
        self._is_full = is_full
        if is_one_too_many or is_full:
            return False
        self._inside[who] += 1
        return True

    def leave(self, address: str) -> None:
        """Say that a connection that was let in is over."""
        who = neighbourhood(address)
        self._inside[who] -= 1
        if self._inside[who] <= 0:
            del self._inside[who]


class _Entrance(asyncio.Protocol):
    """A connection that was just accepted. It is refused, or becomes another protocol's."""

    def __init__(self, door: Door, connection: "_Connection") -> None:
        self._door = door
        self._connection = connection
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP server
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._door.enter(address):
            if self._door.tls is None:
                transport.write(_FULL)
                transport.close()
            else:
                transport.abort()
            return
        self._connection.on_lost = lambda: self._door.leave(address)
        if self._door.tls is None:
            transport.set_protocol(self._connection)
            self._connection.connection_made(transport)
        else:
            transport.pause_reading()
            self._handshake = asyncio.get_running_loop().create_task(self._secure(transport, self._door.tls))

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        timeout = self._door.limits.request_timeout
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, self._connection, tls, server_side=True, ssl_handshake_timeout=timeout
            )
        except (OSError, asyncio.CancelledError):
            transport.abort()
            self._connection.lose()
            return
        if secured is None:
            self._connection.lose()
        else:
            self._connection.connection_made(secured)


class _Connection(H11Protocol):
    """uvicorn's protocol of one connection, which does not wait for its client for longer than a time.

    Attributes:
        on_lost: called once, when the connection is over.
    """

    def __init__(self, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self.on_lost: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._early = b""
        self._is_made = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._is_made = True
        super().connection_made(transport)
        self._expect()
        if self._early:
            self.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        if self._is_made:
            super().data_received(data)
        else:
            # The first bytes may come together with the end of the TLS handshake.
            self._early += data

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR):
            self._expect()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_response_complete(self) -> None:
        # Before what follows: it may go on with a request that has come whole already, and for that nobody waits.
        self._expect()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose()
        if self._is_made:
            super().connection_lost(exc)

    def lose(self) -> None:
        """The connection is over."""
        for timer in (self._deadline, self._stuck):
            if timer is not None:
                timer.cancel()
        self._deadline = self._stuck = None
        on_lost, self.on_lost = self.on_lost, lambda: None
        on_lost()

    def _expect(self) -> None:
        """Begin to wait for the client, for what is left of a request or of an answer, if that has not begun."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        if self.cycle is None or not self.cycle.response_started:
            self.transport.write(_LATE)
        self.transport.close()
