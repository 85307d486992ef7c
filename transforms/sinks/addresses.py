"""Which addresses may be dialled: what an outsider could use to reach the inside is refused.

The ranges are those of docs/spec/forwarders.md section 2. The guard stands at the socket, because only there it is
known what is dialled: a literal address never meets a resolver, a name can resolve to something else the next time, and
`0x7f.1` is 127.0.0.1 to the C library.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""What the event loop hands to a socket factory: family, type, protocol, canonical name, socket address."""

_REFUSED_IPV4 = tuple(
    (IPv4Network(network), why)
    for network, why in (
        # The metadata services of clouds come first, so that the reason that is given is the telling one.
        ("169.254.169.254/32", "a metadata service"),
        ("169.254.170.2/32", "a metadata service"),
        ("168.63.129.16/32", "a metadata service"),  # Azure's, at an address that looks public
        ("100.100.100.200/32", "a metadata service"),  # Alibaba's
        ("192.0.0.192/32", "a metadata service"),  # Oracle's
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_REFUSED_IPV6 = tuple(
    (IPv6Network(network), why)
    for network, why in (
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("fd00:ec2::254/128", "a metadata service"),
        ("fd20:ce::254/128", "a metadata service"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "reserved"),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_COMPATIBLE = IPv6Network("::/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")


class AddressRefusedError(OSError):
    """The address that was to be dialled is in a refused range."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"{address} is refused: {why}")


def parse_network(text: str) -> IPNetwork:
    """The network that `--allow_network` names, as a CIDR or a single address. Raises ValueError if it is neither."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8: {error}") from None


class AddressGuard:
    """Judges addresses, and makes sockets for those that may be dialled.

    An IPv4 address inside an IPv6 one (mapped, compatible, translated, 6to4, Teredo, NAT64) is judged in its place.

    Args:
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).

    Raises:
        ValueError: one of these is not a network.
    """

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        self._allowed = tuple(parse_network(network) for network in allow_networks)

    def refusal(self, address: str) -> str | None:
        """Why an address may not be dialled, such as `private`; None if it may.

        Args:
            address: a literal, which may have an IPv6 scope.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return "not an address"
        if self._is_allowed(parsed):
            return None
        if isinstance(parsed, IPv4Address):
            return _refused_ipv4(parsed)
        inside = embedded(parsed)
        if not inside:
            return _refused_ipv6(parsed)
        for ipv4 in inside:
            if not self._is_allowed(ipv4) and (why := _refused_ipv4(ipv4)):
                return why
        return None

    def socket(self, info: AddressInfo) -> socket.socket:
        """A socket for an address that may be dialled. As a `socket_factory` of aiohappyeyeballs it sees each.

        Raises:
            AddressRefusedError: the address may not be dialled.
        """
        family, kind, protocol, _, address = info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise AddressRefusedError(str(address), "not an internet address")
        if why := self.refusal(str(address[0])):
            raise AddressRefusedError(str(address[0]), why)
        return socket.socket(family, kind, protocol)

    def _is_allowed(self, address: IPAddress) -> bool:
        return any(address in network for network in self._allowed)


def embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a packet to `address` may end at; none if the address holds no IPv4 address."""
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if number > 1 and address in _COMPATIBLE:
        return (low,)
    if address in _TRANSLATED or address in _NAT64:
        return (low,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64_LOCAL:
        return _nat64_local(number)
    return ()


def _nat64_local(number: int) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses in an address of 64:ff9b:1::/48, by each form of RFC 6052 that it may have.

    The form depends on the length of the prefix that the site of the translator chose, which nobody here knows. So all
    possible readings have to be harmless. A reading is possible if the bits that it leaves unused are zero.
    """
    readings = []
    if low := number & 0xFFFFFFFF:
        readings.append(low)
    if number >> 56 & 0xFF == 0:
        for length in (48, 56, 64):
            # The address runs up to bit 64, and on from bit 72. The octet between is zero in every form.
            high_bits = 64 - length
            low_bits = 32 - high_bits
            unused = 128 - 72 - low_bits
            if number & ((1 << unused) - 1) == 0:
                high = number >> 64 & ((1 << high_bits) - 1)
                readings.append(high << low_bits | number >> unused & ((1 << low_bits) - 1))
    # If no reading is possible, 0.0.0.0 stands for an address that nobody can judge. It is refused.
    return tuple(map(IPv4Address, readings)) or (IPv4Address(0),)


def _refused_ipv4(address: IPv4Address) -> str | None:
    return next((why for network, why in _REFUSED_IPV4 if address in network), None)


def _refused_ipv6(address: IPv6Address) -> str | None:
    for network, why in _REFUSED_IPV6:
        if address in network:
            return why
    # Outside of global unicast no address belongs to anybody on the internet.
    return None if address in _GLOBAL_UNICAST else "reserved"
