"""Who makes the calls to AWS: the carrier does as boto3 does, answer by answer, and boto3 where the carrier cannot."""

import datetime
import json
import shlex
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
import trustme
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from tests.support.forwarders import SECRET_KEY, aws_forwarder
from tests.support.laboratory.aws_fake import AwsFake
from tests.support.records import item, items
from tests.support.waiting import until
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks import aws_clients, aws_connections
from transforms.sinks.aws_calls import Callers
from transforms.sinks.aws_carrier import Carrier, NotCarriedError
from transforms.sinks.aws_clients import Access, access, sending_config
from transforms.sinks.aws_connections import KEPT_IDLE, Connections, Origin
from transforms.sinks.aws_operations import PUT_RECORDS
from transforms.sinks.base import AttemptResult, AwsClient, Item, Verdict
from transforms.sinks.kinesis import KinesisSink

BOTH = pytest.mark.parametrize("aws_client", get_args(AwsClient))
BARE = KinesisTarget("streams", "stream", "us-east-1")
"""A stream with the credentials of AWS's default chain."""


def target() -> KinesisTarget:
    made: Forwarder = aws_forwarder()
    assert isinstance(made.target, KinesisTarget)
    return made.target


def sink(aws_client: AwsClient = "auto", to: KinesisTarget | None = None) -> KinesisSink:
    made = KinesisSink(to or target(), callers=Callers(aws_client))
    made.open()
    return made


def send(due: Sequence[Item], aws_client: AwsClient = "auto", to: KinesisTarget | None = None) -> list[AttemptResult]:
    with closing(sink(aws_client, to)) as opened:
        return opened.send(due)


Script = list[bytes | None]
"""What a connection answers, request by request, in bytes; then, or at None, it is closed. b"": it is reset."""


class RawServer:
    """Answers with given bytes, and keeps the requests. Each connection that is made takes the next script."""

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self._scripts = list(scripts)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self.open += 1
            threading.Thread(target=self._serve, args=(connection, script), daemon=True).start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        with connection, connection.makefile("rb") as reader:
            for answer in script:
                if not self._read(reader) or answer is None:
                    break
                if not answer:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                connection.sendall(answer)
        self.open -= 1

    def _read(self, reader: object) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()  # type: ignore[attr-defined]
            if not line:
                return False
            head += line
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.requests.append(reader.read(length))  # type: ignore[attr-defined]
        return True


TAKEN = b'{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"s"}]}'


def answer(body: bytes = TAKEN, status: str = "200 OK", *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


GOOD: dict[str, bytes] = {
    "plain": answer(),
    "chunks": chunked(TAKEN[:7], TAKEN[7:8], TAKEN[8:]),
    "chunks with a trailer": chunked(TAKEN, end=b"0\r\nX-Checksum: 1\r\n\r\n"),
    "100 Continue before it": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    "until the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + TAKEN,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TAKEN), TAKEN),
    "a folded header": answer(TAKEN, "200 OK", "X-Long: a\r\n  b"),
    "headers in capitals": answer().replace(b"Content-Length", b"CONTENT-LENGTH"),
    "no reason": answer(TAKEN, "200 "),
    "bytes that follow": answer() + b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    "garbage that follows": answer() + b"\x00\x01 what is this?\r\n\r\n",
    "201": answer(TAKEN, "201 Created"),
    "spaces round the JSON": answer(b" \n" + TAKEN + b"\n "),
    "more in the JSON": answer(TAKEN[:-1] + b',"EncryptionType":"KMS"}'),
}

BAD: dict[str, bytes | None] = {
    "nothing": None,
    "a reset": b"",
    "not HTTP": b"what is this?\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half a body": answer()[:-10],
    "a body that never came": answer()[: -len(TAKEN)],
    "half the chunks": chunked(TAKEN[:20], TAKEN[20:])[:-30],
    "an empty body": answer(b""),
    "half the JSON": answer(TAKEN[:-2]),
    "JSON of another shape": answer(b'{"Records":7}'),
    "a list": answer(b"[]"),
    "no entries": answer(b'{"Records":[]}'),
    "null": answer(b"null"),
    "an entry that says nothing": answer(b'{"Records":[{}]}'),
    "an entry that failed": answer(b'{"Records":[{"ErrorCode":"InternalFailure","ErrorMessage":"oh"}]}'),
    "not UTF-8": answer(b'{"Records":[{"SequenceNumber":"\xff"}]}'),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirection": answer(b"", "301 Moved", "Location: http://127.0.0.1:1/"),
    "a code with a namespace": answer(
        b'{"__type":"com.amazonaws.kinesis.v20131202#ResourceNotFoundException","message":"m"}', "400 Bad"
    ),
    "a code in a header": answer(b"{}", "400 Bad", "x-amzn-ErrorType: AccessDeniedException:http://x/"),
    "throttled": answer(b'{"__type":"ProvisionedThroughputExceededException"}', "400 Bad"),
    "invalid": answer(b'{"__type":"ValidationException","message":"m"}', "400 Bad"),
    "500 in HTML": answer(b"<html><body>Service Unavailable</body></html>", "500 Oh", "Content-Type: text/html"),
    "503 without a body": answer(b"", "503 Busy"),
    "413 that is not JSON": answer(b"too large", "413 Too Large"),
    "403 without a body": answer(b"", "403 Forbidden"),
    "429": answer(b'{"__type":"Whatever"}', "429 Slow"),
    "an error that is a list": answer(b"[1]", "400 Bad"),
    "an error whose type is a number": answer(b'{"__type":7}', "400 Bad"),
    "an error that is nested without end": answer(b"[" * 100_000, "400 Bad"),
    "an error that is not UTF-8": answer(b"\xff", "500 Oh"),
}


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_clients, "READ_TIMEOUT", 5.0)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_every_answer_means_what_boto3_makes_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([GOOD[name] if name in GOOD else BAD[name]]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        due = items(1, 1)
        by_boto3, carried = send(due, "boto3"), send(due)
        assert carried == by_boto3
        assert (carried[0].verdict is Verdict.DELIVERED) == (name in GOOD)
        assert len(server.requests) == 2
        one, other = map(json.loads, server.requests)
        assert one == other


@BOTH
@pytest.mark.usefixtures("quickly")
def test_headers_that_end_too_early_are_no_answer(aws_client: AwsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # boto3 takes them for a whole answer that cannot be read: the one case where the word differs.
    with RawServer([b"HTTP/1.1 200 OK\r\nContent-Len"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        (outcome,) = send(items(1, 1), aws_client)
    assert outcome.reason == {"auto": "connection_cut", "boto3": "unreadable_answer"}[aws_client]
    assert (outcome.verdict, outcome.ambiguous, outcome.failure) == (Verdict.RETRY, True, True)


@BOTH
def test_an_answer_that_does_not_come_is_a_time_out(aws_client: AwsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_clients, "READ_TIMEOUT", 0.05)
    hangs = b"HTTP/1.1 100 Continue\r\n\r\n"  # No answer follows it, and the connection stays open.
    with RawServer([hangs, hangs]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        (outcome,) = send(items(1, 1), aws_client)
    assert (outcome.reason, outcome.ambiguous, outcome.failure) == ("timeout", True, True)


def test_an_answer_that_drips_is_a_time_out_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # To boto3 it is none as long as every byte comes in time, and it would hold a thread for hours.
    monkeypatch.setattr(aws_clients, "READ_TIMEOUT", 0.1)
    listening = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            for byte in answer(TAKEN + b" " * 10_000):
                try:
                    connection.sendall(bytes((byte,)))
                except OSError:
                    break
                gone.wait(0.01)
        gone.set()

    threading.Thread(target=drip, daemon=True).start()
    with listening:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        (outcome,) = send(items(1, 1))
        assert (outcome.reason, outcome.ambiguous) == ("timeout", True)
        until(gone.is_set)


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_connections, "MOST_BODY", 1000)
    with RawServer([answer(b" " * 100_000)], [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert [outcome.reason for outcome in send(items(1, 1))] == ["unreadable_answer"]
        assert [outcome.reason for outcome in send(items(1, 1))] == ["connection_cut"]


# Connections.


def test_a_connection_serves_call_after_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([answer()] * 5) as server, closing(sink_to(server, monkeypatch)) as opened:
        for _ in range(5):
            assert opened.send(items(1, 1))[0].verdict is Verdict.DELIVERED
        assert server.connections == 1


def sink_to(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> KinesisSink:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return sink()


def test_one_that_was_closed_while_idle_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([answer()], [answer()]) as server, closing(sink_to(server, monkeypatch)) as opened:
        (first,) = opened.send(items(1, 1))
        until(lambda: server.open == 0)
        (second,) = opened.send(items(1, 1))
    assert first == second
    assert (second.verdict, second.ambiguous) == (Verdict.DELIVERED, False)
    assert len(server.requests) == 2


@pytest.mark.parametrize("ends", [None, b""], ids=["closed", "reset"])
def test_one_that_is_closed_as_it_is_used_again_costs_a_second_sending_and_a_doubt(
    ends: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer([answer(), ends], [answer()]) as server, closing(sink_to(server, monkeypatch)) as opened:
        opened.send([item("ann", 0)])
        (outcome,) = opened.send([item("ann", 1)])
    # The server may have stored it before it closed: a duplicate has to be explained by the receipt.
    assert (outcome.verdict, outcome.ambiguous) == (Verdict.DELIVERED, True)
    assert len(server.requests) == 3
    assert server.requests[1] == server.requests[2] != server.requests[0]


def test_a_second_sending_that_fails_stays_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = answer(b'{"__type":"ProvisionedThroughputExceededException"}', "400 Bad")
    for second, reason in ((refused, "throttled"), (None, "connection_cut")):
        with RawServer([answer(), None], [second]) as server, closing(sink_to(server, monkeypatch)) as opened:
            opened.send(items(1, 1))
            (outcome,) = opened.send(items(1, 1))
        assert (outcome.verdict, outcome.reason, outcome.ambiguous) == (Verdict.RETRY, reason, True)
        assert len(server.requests) == 3, "and there is no third"


def test_what_began_to_be_answered_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([answer(), b"HTTP/1.1 2"], [answer()]) as server, closing(sink_to(server, monkeypatch)) as opened:
        opened.send(items(1, 1))
        (outcome,) = opened.send(items(1, 1))
    assert (outcome.verdict, outcome.reason, outcome.ambiguous) == (Verdict.RETRY, "connection_cut", True)
    assert len(server.requests) == 2


def test_one_that_was_idle_for_long_is_closed_and_not_used() -> None:
    now = [0.0]
    connections = Connections(lambda: now[0])
    with RawServer([answer()] * 3) as server:
        port = int(server.url.rpartition(":")[2])
        endpoint = connections.open(Origin("http", "127.0.0.1", port, True))
        head = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        for wait, count in ((0.0, 1), (KEPT_IDLE - 1, 1), (KEPT_IDLE, 2)):
            now[0] += wait
            assert endpoint.exchange(head, b"")[0].status == 200
            assert server.connections == count
        until(lambda: server.open == 1)
        now[0] += KEPT_IDLE + 1
        connections.close_idle()
        until(lambda: server.open == 0)
        connections.close(endpoint)


def test_sinks_of_one_endpoint_share_connections_and_the_last_closes_them(fake: AwsFake) -> None:
    fake.add_stream("stream")
    callers = Callers()
    sinks = [KinesisSink(target(), callers=callers) for _ in range(3)]
    for each in sinks:
        each.open()
        assert each.send(items(1, 1))[0].verdict is Verdict.DELIVERED
    assert fake.open_connections == 1
    for each in sinks[:-1]:
        each.close()
    assert sinks[-1].send(items(1, 1))[0].verdict is Verdict.DELIVERED
    assert fake.open_connections == 1
    sinks[-1].close()
    until(lambda: fake.open_connections == 0)


@BOTH
def test_a_host_that_does_not_resolve_is_no_connection(aws_client: AwsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://kinesis.invalid")
    (outcome,) = send(items(1, 1), aws_client)
    assert (outcome.reason, outcome.ambiguous, outcome.failure) == ("connection", False, True)


# Credentials and clocks.


def test_a_clock_that_is_wrong_is_put_right_by_the_service_s(fake: AwsFake, caplog: pytest.LogCaptureFixture) -> None:
    stream = fake.add_stream("stream")
    with closing(sink()) as opened:
        for ahead in (3600.0, -7200.0, 0.0):
            fake.ahead = ahead
            due = items(3, 1)
            for _ in range(2):
                assert [outcome.verdict for outcome in opened.send(due)] == [Verdict.DELIVERED] * 3
    assert len(stream.stored) == 18
    assert fake.calls["PutRecords"] == 6
    told = [record.getMessage() for record in caplog.records if record.name == "transforms.sinks.aws_carrier"]
    assert [("behind" in text, "ahead of" in text) for text in told] == [(True, False), (False, True), (False, False)]
    assert SECRET_KEY not in caplog.text


def test_a_signature_that_is_wrong_is_not_taken_for_a_wrong_clock(fake: AwsFake) -> None:
    fake.add_stream("stream")
    fake.ahead = 0.0
    fake.refused_signature = lambda headers: (400, b'{"__type":"InvalidSignatureException"}')  # type: ignore[method-assign]
    (outcome,) = send(items(1, 1))
    assert (outcome.reason, outcome.spends_attempt, outcome.ambiguous) == ("invalid_credentials", False, False)
    assert len(fake.tokens) == 1, "there was one call"


@BOTH
def test_credentials_are_renewed_when_it_is_time(
    aws_client: AwsClient, fake: AwsFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_stream("stream")
    # They expire so soon that botocore asks for new ones before each call.
    expires = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat()
    program = tmp_path / "credentials.py"
    program.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "number = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (number + 1))\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'AKID{number}', 'SecretAccessKey': f'secret{number}',"
        f" 'SessionToken': f'token{{number}}', 'Expiration': {expires!r}}}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {shlex.join([sys.executable, str(program)])}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with closing(sink(aws_client, BARE)) as opened:
        for _ in range(3):
            assert opened.send(items(1, 1))[0].verdict is Verdict.DELIVERED
    numbers = [int((token or "").removeprefix("token")) for token in fake.tokens]
    assert len(numbers) == 3
    assert numbers == sorted(set(numbers)), "each call has newer ones"


@BOTH
def test_credentials_that_nothing_gives_are_told_and_asked_for_again(
    aws_client: AwsClient, fake: AwsFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_stream("stream")
    with closing(sink(aws_client, BARE)) as opened:
        for _ in range(2):
            (outcome,) = opened.send(items(1, 1))
            assert (outcome.reason, outcome.spends_attempt) == ("no_credentials", False)
    assert not fake.calls


def test_a_session_token_is_sent_and_signed(fake: AwsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_stream("stream")
    for name, value in (("ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "s"), ("SESSION_TOKEN", "the-token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert send(items(1, 1), to=BARE)[0].verdict is Verdict.DELIVERED
    assert fake.tokens == ["the-token"]
    assert not fake.by_boto3


# TLS.


@pytest.fixture(autouse=True)
def _no_authorities_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served_by(authority: trustme.CA, name: str = "127.0.0.1", not_after: datetime.datetime | None = None) -> AwsFake:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=not_after).configure_cert(context)
    return AwsFake(tls=context)


@BOTH
def test_a_handshake_that_hangs_is_a_time_out(aws_client: AwsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_clients, "CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{silent.getsockname()[1]}")
        (outcome,) = send(items(1, 1), aws_client)
    # boto3 does not tell it from an answer that does not come. Nothing was sent, so nothing is in doubt.
    expected = {"auto": ("connect_timeout", False), "boto3": ("timeout", True)}
    assert (outcome.reason, outcome.ambiguous) == expected[aws_client]


@pytest.mark.parametrize("told_by", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"])
@BOTH
def test_an_authority_of_one_s_own_is_trusted_where_it_is_named(
    aws_client: AwsClient, told_by: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    if told_by == "ca_bundle":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {bundle}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        monkeypatch.setenv(told_by, str(bundle))
    with served_by(authority) as fake:
        stream = fake.add_stream("stream")
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.endpoint)
        with closing(sink(aws_client)) as opened:
            due = items(300, 1)
            for _ in range(2):
                assert {outcome.verdict for outcome in opened.send(due)} == {Verdict.DELIVERED}
            assert fake.open_connections == 1
        assert len(stream.stored) == 600


@pytest.mark.parametrize("what", ["unknown authority", "another name", "expired", "no such bundle"])
@BOTH
def test_a_certificate_that_is_not_valid_is_told_and_nothing_is_sent(
    aws_client: AwsClient, what: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    name = "kinesis.example.org" if what == "another name" else "127.0.0.1"
    with served_by(authority, name, yesterday if what == "expired" else None) as fake:
        fake.add_stream("stream")
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.endpoint)
        bundle = tmp_path / "ca.pem"
        if what not in ("unknown authority", "no such bundle"):
            authority.cert_pem.write_to_path(bundle)
        if what != "unknown authority":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        (outcome,) = send(items(1, 1), aws_client)
        assert not fake.calls
    assert (outcome.verdict, outcome.reason, outcome.ambiguous) == (Verdict.RETRY, "tls", False)
    assert outcome.opens_breaker


# Who makes the calls.


def test_by_default_the_carrier_makes_them_and_boto3_where_it_is_asked_to(fake: AwsFake) -> None:
    fake.add_stream("stream")
    send(items(1, 1))
    assert fake.by_boto3 == 0
    send(items(1, 1), "boto3")
    assert fake.by_boto3 == 1


def test_behind_a_proxy_boto3_makes_them_and_it_is_said_once(
    fake: AwsFake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add_stream("stream")
    fake.add_delivery_stream("delivery")
    monkeypatch.setenv("HTTP_PROXY", "http://user:pass-word@127.0.0.1:1")
    callers = Callers()
    for _ in range(2):
        with closing(KinesisSink(target(), callers=callers)) as opened:
            opened.open()
            (outcome,) = opened.send(items(1, 1))
            assert outcome.reason == "connection_cut", "as boto3 has always said of a proxy that is not there"
    told = [record.getMessage() for record in caplog.records if record.name.startswith("transforms")]
    assert len(told) == 1
    assert "PutRecords goes through boto3" in told[0]
    assert "a proxy is set" in told[0]
    assert "pass-word" not in caplog.text
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert send(items(1, 1))[0].verdict is Verdict.DELIVERED
    assert fake.by_boto3 == 0


@pytest.fixture
def reached(fake: AwsFake) -> Iterator[Access]:
    made = access("kinesis", target(), sending_config(1))
    yield made
    made.client.close()


def test_what_boto3_would_sign_another_way_is_not_carried(reached: Access, fake: AwsFake) -> None:
    unsigned = access("kinesis", target(), Config(signature_version=UNSIGNED, parameter_validation=False))
    with pytest.raises(NotCarriedError, match="does not sign it with Signature Version 4"):
        Carrier(PUT_RECORDS, unsigned, Connections())

    def change(request: object, **_: object) -> None:
        request.headers["Authorization"] = request.headers["Authorization"][:-1] + b"!"  # type: ignore[attr-defined]

    reached.client.meta.events.register("before-send.kinesis.PutRecords", change)
    with pytest.raises(NotCarriedError):
        Carrier(PUT_RECORDS, reached, Connections())
    assert not fake.calls, "nothing was sent to find out"


def test_without_credentials_there_is_no_carrier(fake: AwsFake, reached: Access) -> None:
    with pytest.raises(NoCredentialsError):
        Carrier(PUT_RECORDS, Access(reached.client, None, True), Connections())


@pytest.mark.parametrize(
    "environment",
    [{}, {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}],
    ids=["plain", "FIPS", "dual stack"],
)
@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1"])
def test_the_endpoint_is_the_one_that_boto3_would_take(
    environment: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    to = aws_forwarder(region=region).target
    assert isinstance(to, KinesisTarget)
    made = access("kinesis", to, sending_config(1))
    connections = Connections()
    with closing(Carrier(PUT_RECORDS, made, connections)):
        (origin,) = connections._endpoints
    assert f"{origin.scheme}://{origin.host}" == made.client.meta.endpoint_url
    assert ("fips" in origin.host) == ("AWS_USE_FIPS_ENDPOINT" in environment)
