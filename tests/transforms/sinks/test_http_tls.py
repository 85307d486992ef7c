"""TLS of the HTTP sink: verified against the system or caFile, client certificates, handshakes that fail."""

import asyncio
import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from cryptography.hazmat.primitives import serialization

from tests.support.http_sink import http_item, loaded_forwarder, opened
from tests.support.laboratory.http_fault_server import FaultServer
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http import PostSink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_origin import SinkError

NOT_VALID = AttemptResult(Verdict.GIVE_UP, "tls", failure=True, opens_breaker=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and a client's certificate and key: apart, in one file, and with the key encrypted."""
    path = tmp_path_factory.mktemp("tls")
    client = authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(path / "ca.pem")
    client.cert_chain_pems[0].write_to_path(path / "client.pem")
    client.private_key_pem.write_to_path(path / "client.key")
    client.private_key_and_cert_chain_pem.write_to_path(path / "both.pem")
    key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    (path / "encrypted.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    return path


def server_side(authority: trustme.CA, *names: str, wants_client: bool = False, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(context)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


def send(context: ssl.SSLContext | None, configuration: dict[str, Any], *, handshake: Any = None) -> AttemptResult:
    async def main() -> AttemptResult:
        async with FaultServer(tls=context, handshake=handshake) as server:
            forwarder = loaded_forwarder({"protocol": "https", "url": f"127.0.0.1:{server.port}"} | configuration)
            async with opened(forwarder) as sink:
                outcome = await sink.send(http_item())
                assert [arrival.stored for arrival in server.log] == ([True] if outcome.status == 200 else [])
                return outcome

    return uvloop.run(asyncio.wait_for(main(), 20))


def test_verified_against_the_file(authority: trustme.CA, files: Path) -> None:
    assert send(server_side(authority), {"caFile": str(files / "ca.pem")}) == AttemptResult(
        Verdict.DELIVERED, status=200
    )


def test_verified_against_the_system(authority: trustme.CA) -> None:
    assert send(server_side(authority), {}) == NOT_VALID


def test_for_another_name(authority: trustme.CA, files: Path) -> None:
    assert send(server_side(authority, "other.example"), {"caFile": str(files / "ca.pem")}) == NOT_VALID


def test_a_name_with_a_dot_at_its_end_is_verified_without_it(authority: trustme.CA, files: Path) -> None:
    asked: list[str] = []

    def getaddrinfo(name: str, port: int, **_: Any) -> Any:
        asked.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    async def main() -> None:
        async with FaultServer(tls=server_side(authority, "receiver.example")) as server:
            url = f"receiver.example.:{server.port}"
            forwarder = loaded_forwarder({"protocol": "https", "url": url, "caFile": str(files / "ca.pem")})
            async with opened(forwarder, getaddrinfo=getaddrinfo) as sink:
                assert await sink.send(http_item()) == AttemptResult(Verdict.DELIVERED, status=200)
            assert [arrival.headers["host"] for arrival in server.log] == [f"receiver.example:{server.port}"]

    uvloop.run(asyncio.wait_for(main(), 20))
    assert asked == ["receiver.example."]  # In the resolver the dot says that the name is whole.


def test_expired(authority: trustme.CA, files: Path) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert send(server_side(authority, "127.0.0.1", not_after=past), {"caFile": str(files / "ca.pem")}) == NOT_VALID


def test_by_another_authority(files: Path) -> None:
    assert send(server_side(trustme.CA()), {"caFile": str(files / "ca.pem")}) == NOT_VALID


@pytest.mark.parametrize("names", [("client.pem", "client.key"), ("both.pem", None)])
def test_client_certificate(authority: trustme.CA, files: Path, names: tuple[str, str | None]) -> None:
    configuration = {"caFile": str(files / "ca.pem"), "clientCertificate": str(files / names[0])}
    if names[1]:
        configuration["clientKey"] = str(files / names[1])
    assert send(server_side(authority, wants_client=True), configuration).verdict is Verdict.DELIVERED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_that_is_missing(authority: trustme.CA, files: Path, version: ssl.TLSVersion) -> None:
    context = server_side(authority, wants_client=True)
    context.minimum_version = context.maximum_version = version
    outcome = send(context, {"caFile": str(files / "ca.pem")})
    assert (outcome.verdict, outcome.failure) == (Verdict.RETRY, True)
    assert outcome.reason in ("tls_handshake", "reset", "closed")


def test_cut_in_the_handshake(files: Path) -> None:
    outcome = send(None, {"caFile": str(files / "ca.pem")}, handshake="cut")
    assert (outcome.verdict, outcome.ambiguous, outcome.failure) == (Verdict.RETRY, False, True)
    assert outcome.reason in ("reset", "tls_handshake")


def test_a_receiver_that_does_not_speak_tls(files: Path) -> None:
    outcome = send(None, {"caFile": str(files / "ca.pem")}, handshake="clear")
    assert outcome == AttemptResult(Verdict.RETRY, "tls_handshake", failure=True)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"caFile": "nowhere.pem"}, "caFile .*nowhere.pem does not load: No such file"),
        ({"caFile": "client.key"}, "caFile .*client.key does not load"),
        ({"clientCertificate": "client.pem"}, "clientCertificate .*client.pem does not load"),
        ({"clientCertificate": "client.pem", "clientKey": "ca.pem"}, "client.pem and .*ca.pem does not load"),
        # Must not ask for the password at the terminal.
        ({"clientCertificate": "client.pem", "clientKey": "encrypted.key"}, "encrypted.key does not load"),
    ],
)
def test_files_that_do_not_load(files: Path, configuration: dict[str, str], message: str) -> None:
    configuration = {name: str(files / value) for name, value in configuration.items()}
    sink = PostSink(loaded_forwarder({"protocol": "https", "url": "127.0.0.1"} | configuration), HttpClient())
    with pytest.raises(SinkError, match=message):
        uvloop.run(sink.open())
