"""Nothing that this part of the project says, stores or sends elsewhere holds a secret of a forwarder document.

Secrets are planted at every place that can hold one; then everything that comes out is searched for all of them, as
they are and as base64.
"""

import asyncio
import base64
import contextlib
import gc
import io
import json
import logging
import pickle
import socket
import ssl
import struct
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from apache_beam.internal.cloudpickle import cloudpickle

from tests.support.forwarder_documents import HTTP, KINESIS, changed, rules
from tests.support.http_sink import LOCAL, http_item, opened
from tests.support.laboratory.http_fault_server import Answer, FaultServer, scripted
from transforms.forwarders import Rules, documents_from, load_forwarders, read_documents, resolve
from transforms.forwarders.secrets import References, Secret
from transforms.sinks import http_exchange
from transforms.sinks.http import PostSink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_errors import no_answer, no_handshake, not_connected, not_found
from transforms.sinks.http_origin import SinkError
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
SECRETS = (TOKEN, PASSWORD, HEADER, QUERY, SIGNING, "sign-e8a7d6", AWS, AWS_ID, REFERRED)

FORMS = {form for secret in SECRETS for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("="))} | {
    base64.b64encode(f"user:{PASSWORD}".encode()).decode()
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
ON_KINESIS = changed(KINESIS, {"kinesisOptions.awsClientSecret": AWS, "kinesisOptions.awsClientKey": AWS_ID})


def assert_silent(*things: object) -> None:
    for thing in things:
        text = thing if isinstance(thing, str) else f"{thing!r} {thing!s}"
        found = [form for form in FORMS if form in text]
        assert not found, (found, text)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Keeps the garbage collector away from what was there before: Beam's modules take it a quarter of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


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
        documents = read_documents({"f": json.dumps([WITH_TOKEN, WITH_PASSWORD, ON_KINESIS]).encode()})
        loaded = load_forwarders(documents, rules())
        resolution = resolve(loaded.forwarders, References())
        assert len(resolution.forwarders) == 3
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
