"""Where a request comes from when a proxy stands before the service: what the proxy says of it, if it is trusted to.

A proxy adds the address that it was asked from at the end of `X-Forwarded-For` (or of `Forwarded`, RFC 7239). What
stands before that the client may have sent itself. So the addresses are read from the end, up to the first that is no
trusted proxy's.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from transforms.sinks.addresses import IPNetwork, parse_network

_PAIR = re.compile(r"""\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*""")
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")


class Origin(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: the client's.
        scheme: `http` or `https`: how the client reached the first trusted proxy, or the service itself.
    """

    address: str
    scheme: str


class TrustedProxies:
    """The proxies whose word is taken.

    Args:
        networks: the addresses that they have, as CIDRs or single addresses.

    Raises:
        ValueError: one of these is no network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[IPNetwork, ...] = tuple(parse_network(network) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def origin(self, peer: str, scheme: str, headers: Sequence[tuple[bytes, bytes]]) -> Origin:
        """Where a request comes from.

        Args:
            peer: the address of whoever is connected.
            scheme: of that connection.
            headers: the request's, names in lower case.

        Returns:
            The client that the trusted proxies tell of. The peer itself, if it is no trusted proxy, tells of nobody, or
            sends both headers and they differ: then the client may have sent the one that the proxy does not set.
        """
        if peer not in self:
            return Origin(peer, scheme)
        told = [origin for origin in (self._by_x_forwarded(headers), self._by_forwarded(headers)) if origin is not None]
        if not told or any(origin.address != told[0].address for origin in told):
            return Origin(peer, scheme if not told else "http")
        schemes = {origin.scheme or scheme for origin in told}
        return Origin(told[0].address, schemes.pop() if len(schemes) == 1 else "http")

    def _by_x_forwarded(self, headers: Sequence[tuple[bytes, bytes]]) -> Origin | None:
        addresses = _members(headers, b"x-forwarded-for")
        if not addresses:
            return None
        schemes = _members(headers, b"x-forwarded-proto")
        return Origin(addresses[self._nearest(addresses)], _scheme(schemes[-1]) if schemes else "")

    def _by_forwarded(self, headers: Sequence[tuple[bytes, bytes]]) -> Origin | None:
        hops = [_pairs(element) for element in _members(headers, b"forwarded")]
        addresses = [hop.get("for", "unknown") for hop in hops]
        if not addresses:
            return None
        nearest = self._nearest(addresses)
        return Origin(addresses[nearest], _scheme(hops[nearest].get("proto", "")))

    def _nearest(self, addresses: list[str]) -> int:
        """The place of the last address that is no trusted proxy's; of the first, if all are. The ports are cut off."""
        for place in range(len(addresses) - 1, -1, -1):
            match = _WITH_PORT.fullmatch(addresses[place])
            addresses[place] = (match[1] or match[2]) if match else addresses[place]
            if addresses[place] not in self:
                return place
        return 0


def _members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a list that one header or several hold."""
    joined = ",".join(value.decode("latin-1") for header, value in headers if header == name)
    return [member.strip() for member in joined.split(",") if member.strip()]


def _pairs(element: str) -> dict[str, str]:
    pairs = (match for part in element.split(";") if (match := _PAIR.fullmatch(part)))
    return {match[1].lower(): match[2] if match[2] is not None else match[3] for match in pairs}


def _scheme(text: str) -> str:
    return "https" if text.strip().lower() == "https" else "http"


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed


def neighbourhood(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that somebody with one IPv6 address has all of."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address if parsed is None else str(parsed)


class BehindProxies:
    """Around the application: requests come from where the trusted proxies say.

    Args:
        proxies: with none, no header of anybody is believed.
    """

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies and scope["type"] == "http" and scope["client"]:
            origin = self._proxies.origin(scope["client"][0], scope["scheme"], scope["headers"])
            scope = {**scope, "client": (origin.address, 0), "scheme": origin.scheme}
        await self._app(scope, receive, send)
