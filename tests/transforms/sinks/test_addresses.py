"""Which addresses are dialled: docs/spec/forwarders.md section 2."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest
import uvloop

from tests.support.http_sink import LOCAL, http_item, loaded_forwarder, opened
from tests.support.laboratory.http_fault_server import Answer, FaultServer, scripted
from transforms.sinks.addresses import AddressGuard, AddressRefusedError, parse_network
from transforms.sinks.base import AttemptResult, Verdict

REFUSED = {
    "this host": ["0.0.0.0", "0.1.2.3", "::", "::0.0.0.2", "::ffff:0.0.0.0"],  # noqa: S104
    "private": [
        *("10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
        *("fc00::1", "fd12:3456:789a::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::1"),
    ],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "febf::1"],
    "shared by a carrier (CGNAT)": ["100.64.0.1", "100.127.255.255"],
    "a metadata service": [
        *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
    ],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": [
        *("192.0.0.1", "192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
        *("203.0.113.1", "240.0.0.1", "255.255.255.255", "192.31.196.1", "192.52.193.1", "192.175.48.1"),
        *("100::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "2620:4f:8000::1"),
        *("4000::1", "1::1", "64:ff9c::1", "8000::1", "2001:1::1", "2001:4:112::1"),
    ],
    "not an address": ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "１２７.0.0.1", "10.0.0.1/8"],  # noqa: RUF001
}
# An IPv4 address inside an IPv6 one is judged in its place.
HIDDEN = {
    "10.1.2.3": [
        *("::ffff:10.1.2.3", "::10.1.2.3", "::ffff:0:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1"),
        # Teredo: the client's address is stored inverted, the server's is not.
        *("2001:0:a01:203::f7f7:f7f7", "2001:0:808:808::f5fe:fdfc"),
        # NAT64's local prefix, in the forms of RFC 6052 for /96, /48, /56 and /64.
        *("64:ff9b:1::10.1.2.3", "64:ff9b:1:abcd::10.1.2.3", "64:ff9b:1:a01:2:300::"),
        *("64:ff9b:1:0a:01:203::", "64:ff9b:1::a:102:300:0"),
    ],
    "127.0.0.1": ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "64:ff9b:1:7f00:0:100::"],
}
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
    *("192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001::1", "2400:cb00::1", "2600::1"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::"),
    "2001:0:808:808::f7f7:f7f7",
]


@pytest.mark.parametrize(("address", "why"), [(one, why) for why, some in REFUSED.items() for one in some])
def test_refused(address: str, why: str) -> None:
    assert AddressGuard().refusal(address) == why


@pytest.mark.parametrize(("address", "inside"), [(one, inside) for inside, some in HIDDEN.items() for one in some])
def test_refused_for_what_is_inside(address: str, inside: str) -> None:
    assert AddressGuard().refusal(address) is not None
    assert AddressGuard([f"{inside}/32", "0.0.0.0/8"]).refusal(address) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert AddressGuard().refusal(address) is None


def test_is_global_alone_lets_through_what_is_refused_here() -> None:
    through = [one for some in (*REFUSED.values(), *HIDDEN.values()) for one in some if _is_global(one)]
    assert {"224.0.0.1", "168.63.129.16", "192.88.99.1", "64:ff9b::10.1.2.3", "64:ff9b::7f00:1"} <= set(through)


def _is_global(text: str) -> bool:
    try:
        return ip_address(text).is_global
    except ValueError:
        return False


class TestAllowed:
    def test_a_network_and_nothing_beside_it(self) -> None:
        guard = AddressGuard(["10.1.0.0/16", "fd00:1::/32"])
        assert guard.refusal("10.1.255.255") is None
        assert guard.refusal("::ffff:10.1.0.1") is None
        assert guard.refusal("fd00:1::1") is None
        assert guard.refusal("10.2.0.0") == "private"
        assert guard.refusal("fd00:2::1") == "private"

    def test_the_whole_prefix_that_hides_others(self) -> None:
        assert AddressGuard(["64:ff9b:1::/48"]).refusal("64:ff9b:1::10.0.0.1") is None

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "example.org", "", "10.0.0.0/8,127.0.0.0/8"])
    def test_what_is_no_network(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a network such as"):
            parse_network(text)


class TestSocket:
    def test_refuses_before_there_is_one(self) -> None:
        with pytest.raises(AddressRefusedError, match=r"::ffff:10\.0\.0\.1 is refused: private"):
            AddressGuard().socket((socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:10.0.0.1", 80, 0, 0)))
        with pytest.raises(AddressRefusedError):
            AddressGuard(["0.0.0.0/0"]).socket((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/run/docker.sock",)))

    def test_makes_one_for_an_address_that_may_be_dialled(self) -> None:
        with AddressGuard().socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))) as made:
            assert made.family == socket.AF_INET


def resolver(*rounds: list[str]) -> Any:
    """A getaddrinfo that gives one list of addresses after the other, the last one for ever."""
    left = list(rounds)

    def getaddrinfo(_: str, port: int, **__: Any) -> Any:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return getaddrinfo


REFUSAL = AttemptResult(Verdict.GIVE_UP, "address_refused")


class TestDialled:
    """Whatever the url says, the address that is dialled decides."""

    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "localhost"),
            *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0", "0.0.0.0"),  # noqa: S104
            *("１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "LOCALHOST"),  # noqa: RUF001
        ],
    )
    def test_no_spelling_gets_through(self, host: str) -> None:
        async def main() -> None:
            async with FaultServer() as server:
                async with opened(loaded_forwarder({"url": f"{host}:{server.port}"}), allow_networks=[]) as sink:
                    assert await sink.send(http_item()) == REFUSAL
                assert server.connections == 0

        uvloop.run(main())

    def test_a_name_that_changes_its_mind(self) -> None:
        async def main() -> None:
            script = scripted(by_key={"id-2": [Answer(headers=(("Connection", "close"),))]})
            async with FaultServer(script, host="0.0.0.0") as server:  # noqa: S104
                forwarder = loaded_forwarder({"url": f"rebind.example:{server.port}", "headers": '{"X-A": "b"}'})
                addresses = resolver(["127.0.0.2"], ["127.0.0.1"])
                async with opened(
                    forwarder, allow_networks=["127.0.0.2"], getaddrinfo=addresses, names_kept_for=0
                ) as sink:
                    assert (await sink.send(http_item())).verdict is Verdict.DELIVERED
                    # The kept-alive connection leads to the address that was judged, and may go on.
                    assert (await sink.send(http_item("id-2"))).verdict is Verdict.DELIVERED
                    assert await sink.send(http_item("id-3")) == REFUSAL
                assert [arrival.key for arrival in server.log] == ["id-1", "id-2"]

        uvloop.run(main())

    @pytest.mark.parametrize("addresses", [["10.0.0.1"], ["10.0.0.1", "192.168.0.1"], ["fd00::1", "10.0.0.1", "::1"]])
    def test_a_name_with_refused_addresses_only(self, addresses: list[str]) -> None:
        async def main() -> None:
            async with opened(loaded_forwarder({"url": "inside.example"}), getaddrinfo=resolver(addresses)) as sink:
                assert await sink.send(http_item()) == REFUSAL

        uvloop.run(main())

    def test_of_several_addresses_the_refused_ones_are_left_out(self) -> None:
        async def main() -> None:
            async with FaultServer() as server:
                forwarder = loaded_forwarder({"url": f"half.example:{server.port}"})
                some = resolver(["10.0.0.1", "fd00::1", "127.0.0.1"])
                async with opened(forwarder, allow_networks=LOCAL, getaddrinfo=some) as sink:
                    assert (await sink.send(http_item())).verdict is Verdict.DELIVERED
            # Now nobody listens there: a connection that may be tried again, not an address that may not.
            for order in (some, resolver(["127.0.0.1", "fd00::1", "10.0.0.1"])):
                async with opened(forwarder, allow_networks=LOCAL, getaddrinfo=order) as sink:
                    outcome = await sink.send(http_item())
                    assert (outcome.verdict, outcome.failure) == (Verdict.RETRY, True)

        uvloop.run(main())
