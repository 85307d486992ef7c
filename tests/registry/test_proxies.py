"""Where a request comes from: what proxies say of it, and whose word is taken."""

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER
from registry.app import build
from registry.proxies import Origin, TrustedProxies, neighbourhood
from registry.rest import PATH
from tests.support.registry_house import House, create

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])


def headers(*given: str) -> list[tuple[bytes, bytes]]:
    pairs = (line.split(": ", 1) for line in given)
    return [(name.lower().encode(), value.encode()) for name, value in pairs]


@pytest.mark.parametrize(
    ("peer", "given", "origin"),
    [
        # Nobody whom it was not told to trust.
        ("192.0.2.1", ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"], ("192.0.2.1", "http")),
        ("192.0.2.1", ["Forwarded: for=192.0.2.9;proto=https"], ("192.0.2.1", "http")),
        # The last that is no proxy's: what stands before it the client may have written.
        ("10.0.0.1", [], ("10.0.0.1", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 127.0.0.1, 192.0.2.9"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 192.0.2.9, 10.7.7.7"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], ("10.0.0.3", "http")),
        ("10.0.0.1", ["X-Forwarded-For: ,192.0.2.9,"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9:4711"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: [2001:db9::1]:4711, 2001:db8::7"], ("2001:db9::1", "http")),
        ("::ffff:10.0.0.1", ["X-Forwarded-For: 192.0.2.9"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9, unknown"], ("unknown", "http")),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"], ("192.0.2.9", "https")),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https, http"], ("192.0.2.9", "http")),
        # RFC 7239
        ("10.0.0.1", ["Forwarded: for=192.0.2.9;proto=https"], ("192.0.2.9", "https")),
        ("10.0.0.1", ['Forwarded: For="[2001:db9::1]:4711";proto=HTTPS;by=_x'], ("2001:db9::1", "https")),
        ("10.0.0.1", ["Forwarded: for=127.0.0.1;proto=https, for=192.0.2.9;proto=http"], ("192.0.2.9", "http")),
        ("10.0.0.1", ["Forwarded: proto=https"], ("unknown", "https")),
        # The client may have sent the one that the proxy does not set.
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9"], ("192.0.2.9", "http")),
        (
            "10.0.0.1",
            ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "Forwarded: for=127.0.0.1;proto=https"],
            ("10.0.0.1", "http"),
        ),
        (
            "10.0.0.1",
            ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: http", "Forwarded: for=192.0.2.9;proto=https"],
            ("192.0.2.9", "http"),
        ),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(peer: str, given: list[str], origin: tuple[str, str]) -> None:
    assert PROXIES.origin(peer, "http", headers(*given)) == Origin(*origin)


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("unknown", "unknown"),
    ],
)
def test_one_ipv6_client_is_its_whole_network(address: str, who: str) -> None:
    assert neighbourhood(address) == who


def test_secrets_go_through_a_trusted_proxy_that_has_tls(house: House) -> None:
    create(house.client(ALL))
    app = build(house.registry, TrustedProxies(["10.0.0.1"]))
    for address, proto, status in (
        ("10.0.0.1", "https", 200),
        ("10.0.0.1", "http", 403),
        ("10.0.0.2", "https", 403),
    ):
        client = TestClient(app, client=(address, 50000))
        client.auth = house.add_client(ALL, DELIVER)
        sent = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": proto}
        assert client.get(PATH, params={"secrets": "full"}, headers=sent).status_code == status
