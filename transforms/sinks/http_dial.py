"""Opens connections to HTTP receivers: looks the host up, dials an address that may be dialled, and speaks TLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import aiohappyeyeballs

from transforms.sinks.addresses import AddressGuard, AddressInfo, AddressRefusedError
from transforms.sinks.http_connection import Connection
from transforms.sinks.http_errors import ADDRESS_REFUSED, no_handshake, not_connected, not_found
from transforms.sinks.http_exchange import NoAnswer
from transforms.sinks.http_origin import Origin
from transforms.sinks.lacks import lack_in, lacking
from transforms.sinks.resolver import Resolver

NEXT_ADDRESS_AFTER = 0.25
"""Seconds that an address may take before the next one is dialled beside it (RFC 8305)."""

_AT_MOST = 3600.0
"""Seconds of a TLS handshake. Before that the time of the attempt is over, which knows when the process stood still."""


class NotConnectedError(Exception):
    """There is no connection: `answer` says what that means."""

    def __init__(self, answer: NoAnswer) -> None:
        super().__init__(answer.outcome.reason)
        self.answer = answer


class Dialler:
    """Opens connections to one origin.

    Args:
        origin: whom to.
        tls: how it is verified; None for one without TLS.
        guard: which addresses may be dialled.
        resolver: looks up the host.
        on_lost: called with each connection when it is closed.
    """

    def __init__(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None,
        guard: AddressGuard,
        resolver: Resolver,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._origin = origin
        self._tls = tls
        self._guard = guard
        self._resolver = resolver
        self._on_lost = on_lost

    async def dial(self) -> Connection:
        """A new connection. Raises NotConnectedError if there is none."""
        addresses = await self._addresses()
        connected = await self._connect(addresses)
        loop = asyncio.get_running_loop()
        is_tls = self._tls is not None
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(loop, self._on_lost),
                sock=connected,
                ssl=self._tls,
                server_hostname=self._origin.server_name if is_tls else None,
                ssl_handshake_timeout=_AT_MOST if is_tls else None,
            )
        except BaseException as error:
            connected.close()
            if isinstance(error, Exception):
                raise NotConnectedError(no_handshake(error)) from None
            raise
        return connection

    async def _addresses(self) -> list[AddressInfo]:
        host, port = self._origin.host, self._origin.port
        if _is_number(host):
            literal = _literal(host, port)
            if literal is None:
                raise NotConnectedError(
                    NoAnswer(ADDRESS_REFUSED, "the host is a number, but no address in its usual form")
                )
            return [literal]
        try:
            return await self._resolver.look_up(host, port)
        except Exception as error:
            raise NotConnectedError(not_found(error)) from None

    async def _connect(self, addresses: list[AddressInfo]) -> socket.socket:
        sockets = _Sockets(self._guard)
        try:
            return await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=NEXT_ADDRESS_AFTER, socket_factory=sockets.make
            )
        except Exception as error:
            self._resolver.forget(self._origin.host, self._origin.port)
            raise NotConnectedError(sockets.failure(error)) from None


class _Sockets:
    """Makes the sockets of one attempt to connect, and knows afterwards why there was none."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._dialled = False
        self._refused: AddressRefusedError | None = None
        self._lack: str | None = None

    def make(self, info: AddressInfo) -> socket.socket:
        """A socket for an address that is to be dialled. Raises OSError if it may not be, or cannot."""
        try:
            made = self._guard.socket(info)
        except AddressRefusedError as error:
            self._refused = error
            raise
        except OSError as error:
            self._lack = lack_in(error)
            raise
        self._dialled = True
        return made

    def failure(self, error: Exception) -> NoAnswer:
        """What it means that no address was connected to, of which `error` tells in one text."""
        if self._lack is not None:
            return NoAnswer(lacking(self._lack))
        if self._refused is not None and not self._dialled:
            # If another address of the host was dialled in vain, a later attempt may get through. Here none was.
            return NoAnswer(ADDRESS_REFUSED, f"{self._refused}; --allow_network permits a network")
        return not_connected(error)


def _is_number(host: str) -> bool:
    """Whether a host is meant as an address, in whatever form: no name server is asked for it."""
    return ":" in host or host.replace(".", "").isdigit()


def _literal(host: str, port: int) -> AddressInfo | None:
    """An address as it stands in a url; None if it is none in its usual form, which `127.1` is not."""
    try:
        if ":" in host:
            IPv6Address(host.partition("%")[0])
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
        IPv4Address(host)
    except (AddressValueError, OSError):
        return None
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
