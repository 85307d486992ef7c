"""Nothing that this part of the project says, stores or sends elsewhere holds a secret of a forwarder document.

Secrets are planted at every place that can hold one; then everything that comes out is searched for all of them, as
they are and as base64.
"""

import asyncio
import base64
import contextlib
import gc
import io
import itertools
import json
import logging
import pickle
import socket
import ssl
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from apache_beam.internal.cloudpickle import cloudpickle

from tests.support.forwarder_documents import HTTP, KINESIS, changed, rules
from tests.support.http_sink import LOCAL, http_item, opened
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, Script, in_thread, scripted
from tests.support.records import items
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Rules, documents_from, load_forwarders, read_documents, resolve
from transforms.forwarders.secrets import References, Secret
from transforms.receipts.journal import Journal
from transforms.receipts.runs import new_run_id
from transforms.sinks import http_exchange
from transforms.sinks.base import Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import PostSink
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_errors import no_answer, no_handshake, not_connected, not_found
from transforms.sinks.http_origin import SinkError
from transforms.sinks.oauth2 import Tokens
from transforms.sinks.preflight import preflight
from transforms.sinks.signatures import Signer

TOKEN = "tok-3f9a1c"
PASSWORD = "pass-77e0b2"
HEADER = "head-5d1e8f"
QUERY = "query-c04b9a"
SIGNING = base64.b64encode(b"sign-e8a7d6-sign-e8a7d6-sign-e8a7d6").decode()
AWS = "aws-19fe64"
AWS_ID = "AKIA-b7c2d8"
REFERRED = "ref-6a80fd"
CLIENT_SECRET = "client/8e41d7+52"
TOKEN_QUERY = "endpoint-0b9e66"
GRANTED = ("granted-1-d27c80", "granted-2-41f9e3")
SECRETS = (
    *(TOKEN, PASSWORD, HEADER, QUERY, SIGNING, "sign-e8a7d6", AWS, AWS_ID, REFERRED),
    *(CLIENT_SECRET, TOKEN_QUERY, *GRANTED),
)
QUOTED = quote(CLIENT_SECRET, safe="")

FORMS = {form for secret in SECRETS for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("="))} | {
    base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
    QUOTED,
    base64.b64encode(f"client:{QUOTED}".encode()).decode(),
    base64.b64encode(f"client:{CLIENT_SECRET}".encode()).decode().rstrip("="),
}

FIELDS = {
    "configuration.secret": TOKEN,
    "configuration.headers": json.dumps({"X-Key": HEADER, "X-Referred": "env:FORWARDER_REFERRED"}),
    "configuration.signingSecret": [f"whsec_{SIGNING}"],
    "configuration.url": f"example.org/in?key={QUERY}&r=env:FORWARDER_REFERRED",
}
WITH_TOKEN = changed(HTTP, FIELDS | {"_id": "token", "configuration.authType": "token"})
WITH_PASSWORD = changed(
    HTTP,
    FIELDS
    | {
        "_id": "password",
        "configuration.authType": "basic auth",
        "configuration.basicUsername": "user",
        "configuration.basicPassword": PASSWORD,
    },
)
WITH_OAUTH2 = changed(
    HTTP,
    FIELDS
    | {
        "_id": "oauth2",
        "configuration.authType": "oauth2",
        "configuration.tokenUrl": f"https://login.example.org/token?key={TOKEN_QUERY}&r=env:FORWARDER_REFERRED",
        "configuration.clientId": "client",
        "configuration.clientSecret": CLIENT_SECRET,
    },
)
ON_KINESIS = changed(KINESIS, {"kinesisOptions.awsClientSecret": AWS, "kinesisOptions.awsClientKey": AWS_ID})


def assert_silent(*things: object) -> None:
    for thing in things:
        text = thing if isinstance(thing, str) else f"{thing!r} {thing!s}"
        found = [form for form in FORMS if form in text]
        assert not found, (found, text)


@pytest.fixture(autouse=True)
def _said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Searches the log of every test here, with everything logged that can be."""
    monkeypatch.setenv("FORWARDER_REFERRED", REFERRED)
    caplog.set_level(logging.DEBUG)
    yield
    gc.collect()  # what is left open is logged when it goes
    assert_silent(caplog.text, *(str(record.__dict__) for record in caplog.records))


def target(port: int, document: dict[str, Any]) -> Any:
    url = f"127.0.0.1:{port}/in?key={QUERY}&r=env:FORWARDER_REFERRED"
    loaded = load_forwarders(documents_from([changed(document, {"configuration.url": url})], "x"), rules())
    resolution = resolve(loaded.forwarders, References())
    assert not loaded.faults
    assert not resolution.faults
    return resolution.forwarders[0]


class TestDocuments:
    def test_that_load(self) -> None:
        documents = read_documents({"f": json.dumps([WITH_TOKEN, WITH_PASSWORD, WITH_OAUTH2, ON_KINESIS]).encode()})
        loaded = load_forwarders(documents, rules())
        resolution = resolve(loaded.forwarders, References())
        assert len(resolution.forwarders) == 4
        assert_silent(documents, loaded, resolution, *loaded.forwarders, *resolution.forwarders, rules())
        for dump in (pickle.dumps, cloudpickle.dumps):
            for thing in (documents, loaded, resolution, *loaded.forwarders, *resolution.forwarders):
                with pytest.raises(TypeError) as caught:
                    dump(thing)
                assert_silent(*traceback.format_exception(caught.value))
        # What may travel in the job graph: rules about references, the digest, the ids.
        for dump in (pickle.dumps, cloudpickle.dumps):
            data = dump((References(directory="/run/secrets"), loaded.digest, [one.id for one in loaded.forwarders]))
            assert not [form for form in FORMS if form.encode() in data]

    @pytest.mark.parametrize(
        "changes",
        [
            {"configuration.secret": [TOKEN]},
            {"configuration.secret": f"{TOKEN}\r\n"},
            {"configuration.secret": f"env:{TOKEN}"},
            {"configuration.secret": f"file:{TOKEN}"},
            {"configuration.headers": {"X-Key": HEADER}},
            {"configuration.headers": f'{{"X-Key": "{HEADER}'},
            {"configuration.headers": f'{{"X-Key": "{HEADER}\\ud800"}}'},
            {"configuration.headers": f'{{"X-Key": "{HEADER}\\n", "Host": "{HEADER}", "X": ["{HEADER}"]}}'},
            {"configuration.headers": f'["X-Key: {HEADER}"]'},
            {"configuration.url": f"https://example.org/?key={QUERY}"},
            {"configuration.url": f"example.org/?key={QUERY}#x"},
            {"configuration.url": f"example.org/?key={QUERY} "},
            {"configuration.url": f"user:{PASSWORD}@example.org/"},
            {"configuration.url": [f"example.org/?key={QUERY}"]},
            {"configuration.url": f"example.org/?key=env:{QUERY}"},
            {"configuration.signingSecret": SIGNING},
            {"configuration.signingSecret": [f"whsec_{SIGNING}!"]},
            {"configuration.authType": "basic auth", "configuration.basicPassword": f"{PASSWORD}\x00"},
            {"configuration.protocol": "Kinesis", "kinesisOptions": {"awsClientSecret": AWS, "streamName": "x"}},
            {
                "configuration.protocol": "Kinesis",
                "kinesisOptions": {"awsClientKey": [AWS_ID], "awsClientSecret": [AWS]},
            },
        ],
    )
    @pytest.mark.parametrize("trusted", [True, False])
    def test_that_do_not(self, changes: dict[str, Any], trusted: bool) -> None:
        documents = documents_from([changed(WITH_TOKEN, changes)], "x")
        loaded = load_forwarders(documents, Rules(lambda query: query, trusted=trusted))
        assert loaded.faults
        assert_silent(*loaded.faults, *loaded.warnings, loaded)

    @pytest.mark.parametrize(
        "changes",
        [
            {"configuration.clientSecret": [CLIENT_SECRET]},
            {"configuration.clientSecret": f"{CLIENT_SECRET}\r\n"},
            {"configuration.clientSecret": f"env:{CLIENT_SECRET}"},
            {"configuration.tokenUrl": f"login.example.org/?key={TOKEN_QUERY}"},
            {"configuration.tokenUrl": f"ftp://login.example.org/?key={TOKEN_QUERY}"},
            {"configuration.tokenUrl": f"https://client:{TOKEN_QUERY}@login.example.org/"},
            {"configuration.tokenUrl": f"https://login.example.org/?key={TOKEN_QUERY} "},
            {"configuration.tokenUrl": [f"https://login.example.org/?key={TOKEN_QUERY}"]},
            {"configuration.tokenUrl": f"https://login.example.org/?key=env:{TOKEN_QUERY}"},
        ],
    )
    @pytest.mark.parametrize("trusted", [True, False])
    def test_of_oauth2_that_do_not(self, changes: dict[str, Any], trusted: bool) -> None:
        documents = documents_from([changed(WITH_OAUTH2, changes)], "x")
        loaded = load_forwarders(documents, Rules(lambda query: query, trusted=trusted))
        assert loaded.faults
        assert_silent(*loaded.faults, *loaded.warnings, loaded)

    @pytest.mark.parametrize("cut", [10, 200, -1])
    def test_that_are_not_json(self, cut: int) -> None:
        text = json.dumps(WITH_TOKEN)[:cut].encode()
        for data in (text, b"[" + text, text + b"\xff", text.replace(b"\\", b"\\x")):
            assert_silent(*read_documents({"f": data}).faults)

    def test_values_that_turn_out_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORWARDER_REFERRED", f"{REFERRED}\r\nX: y")
        resolution = resolve(load_forwarders(documents_from([WITH_TOKEN], "x"), rules()).forwarders, References())
        assert resolution.faults
        assert_silent(resolution, *resolution.faults)


ECHO = json.dumps({"you": [TOKEN, PASSWORD, HEADER, SIGNING, REFERRED, f"/in?key={QUERY}&r={REFERRED}"]}).encode()


class TestSending:
    @pytest.mark.parametrize("document", [WITH_TOKEN, WITH_PASSWORD], ids=["token", "password"])
    @pytest.mark.parametrize(
        "answer",
        [
            Answer(400, body=ECHO),
            Answer(503, body=ECHO, fault="cut_body"),
            Answer(302, headers=(("Location", f"/in?key={QUERY}"),), body=ECHO),
            *(
                Answer(200, body=ECHO, fault=fault)
                for fault in ("reset", "close", "cut_headers", "garbage", "huge_header", "hold", "close_on_next")
            ),
        ],
        ids=lambda answer: f"{answer.status}-{answer.fault}" if isinstance(answer, Answer) else None,
    )
    def test_outcomes(self, document: dict[str, Any], answer: Answer) -> None:
        # The echo holds what the other document's receiver never learns: here all are known to both.
        everything = changed(document, {"configuration.headers": json.dumps({"A": TOKEN, "B": PASSWORD, "C": HEADER})})
        everything = changed(everything, {"configuration.timeout": 0.2})

        async def main() -> None:
            async with FaultServer(scripted(default=[answer])) as server:
                sink = PostSink(target(server.port, everything), HttpClient(LOCAL))
                await sink.open()
                assert_silent(await sink.send(http_item()), await sink.send(http_item("id-2")), sink)
                for dump in (pickle.dumps, cloudpickle.dumps):
                    with pytest.raises(TypeError) as caught:
                        dump(sink)
                    assert_silent(*traceback.format_exception(caught.value))
                await sink.close()

        asyncio.run(main(), debug=True)

    def test_a_request_that_is_cancelled(self) -> None:
        async def main() -> None:
            server = FaultServer(lambda _: Answer(fault="hold_body"))
            async with server, opened(target(server.port, WITH_TOKEN)) as sink:
                task = asyncio.create_task(sink.send(http_item()))
                await server.arrivals(1)
                for _ in range(20):  # on to the body
                    await asyncio.sleep(0)
                assert_silent(task)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(main(), debug=True)
            gc.collect()
        assert_silent(*(str(warning.message) for warning in caught))

    def test_a_sink_that_is_left_open(self) -> None:
        async def main() -> None:
            async with FaultServer() as server:
                sink = PostSink(target(server.port, WITH_TOKEN), HttpClient(LOCAL))
                await sink.open()
                await sink.send(http_item())

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(main(), debug=True)
            gc.collect()
        assert_silent(*(str(warning.message) for warning in caught))

    def test_a_connection_reset_while_the_request_is_written(self) -> None:
        async def main() -> None:
            async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

            server = await asyncio.start_server(reset, "127.0.0.1", 0)
            async with opened(target(server.sockets[0].getsockname()[1], WITH_TOKEN)) as sink:
                outcome = await sink.send(http_item(payload=b"x" * 20_000_000))
                assert outcome.reason == "reset"
                assert_silent(outcome)
            server.close()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(main())

    def test_texts_of_errors_are_not_repeated(self) -> None:
        url = f"http://example.org/?key={QUERY}"
        for error in (OSError(None, url), OSError(104, url), TimeoutError(url), ssl.SSLError(1, url), ValueError(url)):
            for meaning in (not_found, not_connected, no_handshake, no_answer):
                assert_silent(meaning(error))

    def test_a_request_and_its_answer(self) -> None:
        request = http_exchange.Request(f"http://example.org/?key={QUERY}", {"Authorization": TOKEN}, PASSWORD.encode())
        assert_silent(request, http_exchange.Answer(200, {"x-quoted": TOKEN}, PASSWORD.encode()))


OAUTH2_ECHO = json.dumps(
    [CLIENT_SECRET, QUOTED, base64.b64encode(f"client:{QUOTED}".encode()).decode(), TOKEN_QUERY, REFERRED, *GRANTED]
).encode()


def granting(*, then: Answer | None = None) -> Script:
    """A token endpoint that grants one token after the other; or that answers `then` from the second request on."""
    asked = itertools.count()

    def answer(_: Arrival) -> Answer:
        number = next(asked)
        if then is not None and number:
            return then
        granted = {"access_token": GRANTED[number % 2], "token_type": "Bearer", "expires_in": 3600}
        return Answer(200, body=json.dumps(granted).encode())

    return answer


class TestOAuth2:
    """What the endpoint is told and what it grants, beside all that a forwarder without it has to keep."""

    @pytest.mark.parametrize("client_auth", ["basic", "post"])
    @pytest.mark.parametrize(
        "endpoint",
        [
            pytest.param(granting, id="granted"),
            *(
                pytest.param(lambda then=then: granting(then=then), id=f"then-{then.status}-{then.fault}")
                for then in (
                    Answer(400, body=b'{"error": "invalid_client", "error_description": ' + OAUTH2_ECHO + b"}"),
                    Answer(401, body=json.dumps({"error": CLIENT_SECRET}).encode()),
                    Answer(200, body=OAUTH2_ECHO),
                    Answer(200, body=json.dumps({"access_token": f"{GRANTED[1]}\r\nX: y"}).encode()),
                    Answer(302, headers=(("Location", f"/{CLIENT_SECRET}?{TOKEN_QUERY}"),), body=OAUTH2_ECHO),
                    Answer(503, body=OAUTH2_ECHO, fault="cut_body"),
                    Answer(200, body=OAUTH2_ECHO, fault="garbage"),
                    Answer(200, body=OAUTH2_ECHO, fault="reset"),
                )
            ),
        ],
    )
    def test_nothing_that_is_left_of_a_delivery_holds_them(
        self, endpoint: Callable[[], Script], client_auth: str, tmp_path: Path
    ) -> None:
        def quoting(arrival: Arrival) -> Answer:
            # The second token is asked for since the first is not good; then all that is known is repeated.
            is_first = arrival.headers["authorization"].endswith(GRANTED[0])
            return Answer(401 if is_first else 400, body=OAUTH2_ECHO)

        with in_thread(FaultServer(endpoint())) as login, in_thread(FaultServer(quoting)) as receiver:
            token_url = f"http://127.0.0.1:{login.port}/token?key={TOKEN_QUERY}&r=env:FORWARDER_REFERRED"
            changes = {
                "_id": "f1",
                "configuration.maxRetries": 0,
                "configuration.tokenUrl": token_url,
                "configuration.clientAuth": client_auth,
            }
            forwarder = target(receiver.port, changed(WITH_OAUTH2, changes))
            journal = Journal(str(tmp_path), new_run_id(1), "secrecy")
            settled: list[Settlement] = []

            def settle(settlements: Sequence[Settlement]) -> None:
                settled.extend(settlements)
                journal.settle(settlements)

            engine = DeliveryEngine(
                [forwarder],
                settle,
                DeliverySettings(max_backoff=0.01, outage_budget=0.2, linger=0.002),
                http_sink=partial(post_sink, client=HttpClient(LOCAL)),
                batch_sink=batch_sinks(),
            )
            try:
                engine.submit(items(3, 1, "f1"))
                engine.drain()
                counts = engine.counts()
            finally:
                engine.close()
                journal.close()
        assert login.log
        assert len(settled) == 3
        assert all(not each.delivered for each in settled)
        if endpoint is granting:
            # What the receiver repeated is kept, without what it must not hold.
            assert all("[redacted]" in (each.outcome.response or "") for each in settled)
        assert_silent(counts, *settled, *(each.outcome for each in settled))
        written = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert any(b"f1" in content for content in written.values()), written.keys()  # receipts and dead letters
        for name, content in written.items():
            assert_silent(name, content.decode("latin-1"))

    def test_the_tokens_neither_show_nor_pickle(self) -> None:
        forwarder = target(1, WITH_OAUTH2)
        oauth2 = forwarder.target.oauth2
        assert oauth2 is not None
        tokens = Tokens("f1", forwarder.target, HttpClient(LOCAL), lambda _: None)
        assert_silent(oauth2, tokens)
        for dump in (pickle.dumps, cloudpickle.dumps):
            for thing in (oauth2, tokens):
                with pytest.raises(TypeError) as caught:
                    dump(thing)
                assert_silent(*traceback.format_exception(caught.value))

    def test_preflight_names_the_host_alone(self) -> None:
        endpoint = f"https://{'x' * 64}.example/{CLIENT_SECRET}?key={TOKEN_QUERY}"
        forwarders = [
            target(1, WITH_OAUTH2),
            target(1, changed(WITH_OAUTH2, {"configuration.tokenUrl": endpoint})),
            target(1, changed(WITH_OAUTH2, {"configuration.tokenUrl": f"http://127.0.0.1/?key={TOKEN_QUERY}"})),
        ]

        def getaddrinfo(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        found = preflight(forwarders, [], getaddrinfo)
        assert any("login.example.org" in str(warning) for warning in found.warnings)
        assert_silent(found, *found.faults, *found.warnings)


class TestAround:
    def test_preflight_and_sinks_that_cannot_be_made(self) -> None:
        https = changed(WITH_TOKEN, {"configuration.protocol": "https", "configuration.caFile": "/nowhere"})
        forwarder = target(1, https)
        found = preflight([forwarder, target(1, WITH_PASSWORD)], [])
        assert len(found.faults) == 2
        assert_silent(found, *found.faults)
        with pytest.raises(SinkError) as caught:
            asyncio.run(PostSink(forwarder, HttpClient()).open())
        assert_silent(*traceback.format_exception(caught.value))

    def test_a_signer(self) -> None:
        signer = Signer([Secret(f"whsec_{SIGNING}")])
        assert_silent(signer, *signer.headers("id", 1, b"x").values())
        with pytest.raises(TypeError):
            pickle.dump(signer, io.BytesIO())
