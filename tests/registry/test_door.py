"""What comes from outside shuts nobody out: half requests, many connections of one, answers that nobody takes."""

import base64
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from registry.access import ALL, DELIVER, VIEW_ALL
from registry.credentials import LoginLimit
from registry.door import Limits
from registry.rest import PATH
from tests.support.registry_house import House, create, served
from tests.support.waiting import until
from transforms.forwarders.service import CLIENT_KEY, CLIENT_SECRET, MOST_WAITED, ServiceError, read_remote

SHORT = 0.3
"""Seconds that a client has, where a test waits for them to be over."""

LONG = 600.0


@contextmanager
def connected(address: str, sent: bytes = b"") -> Iterator[socket.socket]:
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as connection:
        connection.sendall(sent)
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """What the service sends until it closes the connection. The socket's own time-out bounds the wait."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def status(address: str, path: str = "/health", **headers: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


WHOLE = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
HALF_REQUESTS = {
    "nothing": (b"", [408]),
    "half a line": (b"GET /hea", [408]),
    "half of the headers": (b"GET /health HTTP/1.1\r\nHost: a\r\n", [408]),
    "half a body": (b"POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n" + BODY, [408]),
    "half a body of nobody": (b"POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: no%s\r\n" + BODY, [401]),
    "half a body that nobody reads": (b"GET /health HTTP/1.1\r\nHost: a\r\n" + BODY, [200]),
    "a request and a half": (WHOLE + b"POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n" + BODY, [200, 408]),
}


def basic(key: str, secret: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{key}:{secret}".encode())


@pytest.mark.parametrize(("sent", "statuses"), HALF_REQUESTS.values(), ids=HALF_REQUESTS)
def test_a_half_request_is_not_waited_for(
    house: House, sent: bytes, statuses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    if b"%s" in sent:
        sent = sent % (PATH.encode(), basic(*house.add_client(ALL)))
    with served(house.registry, Limits(100, 100, SHORT)) as address, connected(address, sent) as connection:
        received = until_closed(connection)
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", received)] == statuses
    assert "Traceback" not in caplog.text


def test_a_request_that_drips_is_not_waited_for(house: House) -> None:
    """However often a byte comes, the whole has its time and no more."""
    stopped = threading.Event()
    with served(house.registry, Limits(100, 100, SHORT)) as address, connected(address) as connection:

        def drip() -> None:
            try:
                while not stopped.wait(SHORT / 10):
                    connection.sendall(b"G")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert b" 408 " in until_closed(connection)
        finally:
            stopped.set()
            thread.join()


def test_an_answer_that_nobody_takes_is_given_up(house: House) -> None:
    create(house.client(ALL), _id="a", note="x" * 900_000)
    credentials = basic(*house.add_client(VIEW_ALL))
    request = b"GET %s/a HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n" % (PATH.encode(), credentials)
    with served(house.registry, Limits(1, 1, SHORT)) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", urlsplit(address).port or 0))
        connection.sendall(request * 20)
        # There is room for one, and it is free again.
        until(lambda: status(address) == 200)


def test_one_address_has_its_share_and_the_rest_is_for_others(house: House) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(served(house.registry, Limits(10, 3, LONG)))
        held = [stack.enter_context(connected(address, b"GET /")) for _ in range(3)]
        with connected(address) as refused:
            answer = until_closed(refused)
        assert b"503 Service Unavailable" in answer
        assert b"Retry-After: 5" in answer
        held[0].close()
        until(lambda: status(address) == 200)


def test_there_are_never_more_connections_than_files(house: House) -> None:
    with ExitStack() as stack:
        # Behind a trusted proxy, one address is many clients.
        address = stack.enter_context(served(house.registry, Limits(5, 1, LONG), ("127.0.0.0/8",)))
        held = [stack.enter_context(connected(address, b"GET /")) for _ in range(5)]
        with connected(address) as refused:
            assert b"503 Service Unavailable" in until_closed(refused)
        held[0].close()
        until(lambda: status(address) == 200)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return authority, context


def test_half_a_handshake_counts_and_is_not_waited_for(
    house: House, authority: tuple[trustme.CA, ssl.SSLContext]
) -> None:
    trusting = ssl.create_default_context()
    authority[0].configure_trust(trusting)

    def ask(address: str) -> bytes:
        parts = urlsplit(address)
        with (
            socket.create_connection(("127.0.0.1", parts.port or 0), 20) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return until_closed(secure)

    with served(house.registry, Limits(2, 2, SHORT), tls=authority[1]) as address, ExitStack() as stack:
        held = [stack.enter_context(connected(address, b"\x16\x03\x01")) for _ in range(2)]
        with connected(address) as refused:
            assert until_closed(refused) == b""
        assert [until_closed(connection) for connection in held] == [b"", b""]
        assert b'{"status":"ok"}' in ask(address)


def test_a_client_has_so_many_requests_under_way_and_no_more(house: House) -> None:
    half = b"POST %s HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nAuthorization: %s\r\n" + BODY
    sent = half % (PATH.encode(), basic(*house.add_client(ALL)))
    with ExitStack() as stack:
        address = stack.enter_context(served(house.registry, Limits(50, 2, LONG), ("127.0.0.1",)))
        for _ in range(2):
            stack.enter_context(connected(address, sent))
        until(lambda: status(address, **{"X-Forwarded-For": "192.0.2.7"}) == 429)
        assert status(address, **{"X-Forwarded-For": "192.0.2.8"}) == 200


# The job waits


@pytest.fixture
def job(house: House, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    key, secret = house.add_client(VIEW_ALL, DELIVER)
    monkeypatch.setenv(CLIENT_KEY, key)
    monkeypatch.setenv(CLIENT_SECRET, secret)
    return key, secret


def guess(address: str, key: str, times: int = LoginLimit.MOST, headers: dict[str, str] | None = None) -> list[int]:
    wrong = basic(key, "wrong").decode()
    return [status(address, PATH, Authorization=wrong, **headers or {}) for _ in range(times)]


def test_the_job_waits_as_long_as_it_is_asked_to(house: House, job: tuple[str, str]) -> None:
    now = 0.0
    waits: list[float] = []
    object.__setattr__(house.registry, "logins", LoginLimit(lambda: now))
    create(house.client(ALL), _id="a")

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    with served(house.registry) as address:
        assert guess(address, job[0]) == [401] * LoginLimit.MOST
        documents = read_remote(address + PATH, sleep=sleep).documents
    assert [document.content["_id"] for document in documents] == ["a"]
    assert waits == [LoginLimit.WINDOW + 1]


def test_the_job_does_not_wait_for_ever(house: House, job: tuple[str, str]) -> None:
    waits: list[float] = []
    object.__setattr__(house.registry, "logins", LoginLimit(lambda: 0.0))
    with served(house.registry) as address:
        guess(address, job[0])
        with pytest.raises(ServiceError, match="HTTP status 429"):
            read_remote(address + PATH, sleep=waits.append)
    assert 0 < sum(waits) <= MOST_WAITED


def test_the_job_waits_for_a_place_when_all_are_taken(house: House, job: tuple[str, str]) -> None:
    create(house.client(ALL), _id="a")
    with ExitStack() as stack:
        address = stack.enter_context(served(house.registry, Limits(3, 3, LONG)))
        held = [stack.enter_context(connected(address, b"GET /")) for _ in range(3)]

        def sleep(seconds: float) -> None:
            for connection in held:
                connection.close()
            until(lambda: status(address) == 200)

        assert len(read_remote(address + PATH, sleep=sleep).documents) == 1


# Behind a proxy


def test_failures_behind_a_proxy_lock_out_nobody_else(house: House, job: tuple[str, str]) -> None:
    with served(house.registry, proxies=("127.0.0.0/8",)) as address:
        # Even of the very key: it is known, as keys are no secret.
        assert guess(address, job[0], 12, {"X-Forwarded-For": "192.0.2.7"})[-1] == 429
        right = basic(*job).decode()
        assert status(address, PATH, Authorization=right) == 200
        assert status(address, PATH, Authorization=right, **{"X-Forwarded-For": "192.0.2.8"}) == 200
        assert status(address, PATH, Authorization=right, **{"X-Forwarded-For": "192.0.2.7"}) == 429
        # What the client itself claims stands before what the proxy says.
        assert status(address, PATH, Authorization=right, **{"X-Forwarded-For": "192.0.2.8, 192.0.2.7"}) == 429


def test_nobody_is_believed_who_was_not_named(house: House, job: tuple[str, str]) -> None:
    with served(house.registry) as address:
        guess(address, job[0], headers={"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"})
        right = basic(*job).decode()
        assert status(address, PATH, Authorization=right, **{"X-Forwarded-For": "192.0.2.9"}) == 429
