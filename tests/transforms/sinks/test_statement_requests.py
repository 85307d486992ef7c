"""Statements over HTTP: in the receiver's version of xAPI, and with the data of their attachments."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from schemas import Record
from tests.support.http_sink import http_item, loaded_forwarder, opened, outcomes, statement_item, with_fault_server
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, scripted
from tests.support.limits import files_of_at_most
from tests.support.multipart import received
from tests.support.statements import statement, text
from transforms.sinks import multipart
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.http import PostSink
from transforms.sinks.lacks import LACK
from transforms.statements.attachment_files import AttachmentFiles

DATA = b"\x89PNG\r\n\x1a\n--boundary\r\n\0\xff" * 20
DIGEST = hashlib.sha256(DATA).hexdigest()
PICTURE = {
    "usageType": "https://u.example/certificate",
    "contentType": "image/png",
    "length": len(DATA),
    "sha2": DIGEST,
}
LINKED = {**PICTURE, "sha2": "1" * 64, "fileUrl": "https://files.example/1"}
SIGNATURE = {**PICTURE, "usageType": "http://adlnet.gov/expapi/attachments/signature"}
SECOND = statement(version="2.0.0", context={"contextAgents": [], "language": "en"}, result={"score": {"raw": 1}})
SECOND_TEXT = text(SECOND).replace('"raw":1}', '"raw":1.00}').encode()


def sent(value: Any, *, in_document: dict[str, Any] | None = None, **options: Any) -> tuple[AttemptResult, FaultServer]:
    """What becomes of one statement, and the server with what arrived."""
    payload = value if isinstance(value, bytes) else text(value).encode()
    return _sent(statement_item(payload), in_document or {}, **options)


def _sent(
    item: Item,
    in_document: dict[str, Any],
    script: Any = None,
    configuration: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[AttemptResult, FaultServer]:
    found: list[AttemptResult] = []

    async def talk(_: PostSink, server: FaultServer) -> None:
        settings = {"protocol": "http", "url": f"127.0.0.1:{server.port}/in", **(configuration or {})}
        async with opened(loaded_forwarder(settings, **in_document), **options) as sink:
            found.append(await sink.send(item))

    server = with_fault_server(talk, script or scripted())
    return found[0], server


@pytest.fixture
def files(tmp_path: Path) -> AttachmentFiles:
    (tmp_path / f"{DIGEST}.png").write_bytes(DATA)
    return AttachmentFiles([str(tmp_path)])


class TestVersion:
    @pytest.mark.parametrize(
        ("own", "configuration", "header"),
        [
            (None, {}, "1.0.3"),
            ("1.0.1", {}, "1.0.1"),
            ("1.0", {}, "1.0.3"),
            ("2.0.0", {}, "1.0.3"),
            ("banana", {}, "1.0.3"),
            ("1.0.1", {"xapiVersion": "1.0.3"}, "1.0.3"),
            ("1.0.1", {"xapiVersion": "2.0.0"}, "2.0.0"),
            ("2.0.0", {"xapiVersion": "2.0.0"}, "2.0.0"),
            ("1.0.1", {"headers": '{"x-experience-api-version": "1.0.2"}'}, "1.0.2"),
            ("1.0.1", {"xapiVersion": "2.0.0", "headers": '{"X-Experience-API-Version": "1.0.2"}'}, "1.0.2"),
        ],
    )
    def test_the_headers_then_the_document_then_the_statement_say_it(
        self, own: str | None, configuration: dict[str, Any], header: str
    ) -> None:
        _, server = sent(statement() if own is None else statement(version=own), configuration=configuration)
        assert server.log[0].headers["x-experience-api-version"] == header

    def test_one_of_the_second_version_goes_to_the_first_without_what_that_does_not_have(self) -> None:
        outcome, server = sent(SECOND_TEXT)
        expected = SECOND_TEXT.replace(b'"contextAgents":[],', b"").replace(b'"2.0.0"', b'"1.0.3"')
        assert server.log[0].body == expected
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200, remarks=("as_1_0_3",))

    @pytest.mark.parametrize(
        "configuration", [{"xapiVersion": "2.0.0"}, {"headers": '{"X-Experience-API-Version": "2.0"}'}]
    )
    def test_and_to_the_second_as_it_is(self, configuration: dict[str, Any]) -> None:
        outcome, server = sent(SECOND_TEXT, configuration=configuration)
        assert server.log[0].body == SECOND_TEXT
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200)

    def test_what_the_first_cannot_say_is_a_dead_letter_and_nothing_is_sent(self) -> None:
        for cannot in (statement(version="2.1.0"), {**SECOND, "attachments": [SIGNATURE]}):
            outcome, server = sent(cannot)
            assert (outcome.verdict, outcome.reason, outcome.spends_attempt) == (Verdict.GIVE_UP, "version", False)
            assert outcome.response
            assert server.log == []

    def test_one_that_is_there_already_is_compared_as_it_was_sent(self) -> None:
        held = {**SECOND, "context": {"language": "en"}, "version": "1.0.3"}

        def script(arrival: Arrival) -> Answer:
            return Answer(409) if arrival.request_line.startswith("POST") else Answer(200, body=text(held).encode())

        outcome, server = sent(SECOND_TEXT, script=script)
        assert (outcome.verdict, outcome.remarks) == (Verdict.DELIVERED, ("already_there", "as_1_0_3"))
        assert server.log[1].headers["x-experience-api-version"] == "1.0.3"

    def test_a_derived_record_s_statement_says_the_receiver_s_version_too(self) -> None:
        payload = b'{"version":"2.0.0","context":{"contextAgents":[]}}'
        for configuration, version in (({}, "1.0.3"), ({"xapiVersion": "2.0.0"}, "2.0.0")):
            _, server = outcomes(scripted(), http_item(payload=payload, kind="statement"), configuration=configuration)
            assert server.log[0].headers["x-experience-api-version"] == version
            assert server.log[0].body == payload

    def test_a_whole_document_is_sent_as_it_is(self, files: AttachmentFiles) -> None:
        record = Record("k", "statement", "o", None, "ann", 0, "k", 0, {}, SECOND_TEXT, {})
        item = Item("f1", record, b'{"statement":%b}' % SECOND_TEXT, "document")
        outcome, server = _sent(item, {"sendAttachments": True}, attachments=files)
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200)
        assert server.log[0].body == item.payload
        assert server.log[0].headers["content-type"] == "application/json"


SENDING = {"sendAttachments": True}


class TestAttachments:
    def parts(self, arrival: Arrival) -> list[tuple[dict[str, str], bytes]]:
        assert arrival.headers["content-length"] == str(len(arrival.body))
        return received(arrival.headers["content-type"], arrival.body)

    def test_the_data_goes_with_the_statement_byte_for_byte(self, files: AttachmentFiles) -> None:
        payload = text(statement(attachments=[PICTURE], n=0)).replace('"n":0', '"n":1.00').encode()
        outcome, server = sent(payload, in_document=SENDING, attachments=files)
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200)
        (head, first), (headers, data) = self.parts(server.log[0])
        assert (first, data) == (payload, DATA)
        assert head == {"content-type": "application/json"}
        assert headers == {
            "content-type": "image/png",
            "content-transfer-encoding": "binary",
            "x-experience-api-hash": DIGEST,
        }
        assert server.log[0].headers["x-experience-api-version"] == "1.0.3"

    def test_each_data_goes_once_that_of_a_substatement_too(self, files: AttachmentFiles) -> None:
        inside = {"objectType": "SubStatement", "attachments": [SIGNATURE]}
        upper = {**PICTURE, "sha2": DIGEST.upper()}
        for value in (
            statement(object=inside),
            statement(object=inside, attachments=[PICTURE, upper]),
        ):
            _, server = sent(value, in_document=SENDING, attachments=files)
            assert [data for _, data in self.parts(server.log[0])] == [text(value).encode(), DATA]

    def test_much_of_it_is_signed_and_sent_as_it_is(self, tmp_path: Path) -> None:
        data = Random(1).randbytes(3_000_000)  # noqa: S311
        digest = hashlib.sha512(data).hexdigest()
        (tmp_path / digest).write_bytes(data)
        key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        _, server = sent(
            statement(attachments=[{**PICTURE, "sha2": digest}]),
            in_document=SENDING,
            attachments=AttachmentFiles([str(tmp_path)]),
            configuration={"signingSecret": key},
        )
        assert self.parts(server.log[0])[1][1] == data
        # The library of Standard Webhooks signs text alone.
        headers = server.log[0].headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + server.log[0].body
        mac = hmac.digest(base64.b64decode(key.removeprefix("whsec_")), signed, "sha256")
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"

    def test_a_resend_and_a_retry_send_it_whole_again(self, files: AttachmentFiles) -> None:
        value = statement(attachments=[PICTURE])
        found, log = self._in_turn(value, [Answer(fault="close_on_next"), Answer(), Answer(503), Answer()], files)
        assert [outcome.status for outcome in found] == [200, 200, 503, 200]
        assert [data for arrival in log for _, data in self.parts(arrival)[1:]] == [DATA] * len(log)

    def _in_turn(
        self, value: Any, answers: list[Answer], files: AttachmentFiles
    ) -> tuple[list[AttemptResult], list[Arrival]]:
        """One statement sent as often as there are answers, over one pool of connections."""
        found: list[AttemptResult] = []
        item = statement_item(text(value).encode())

        async def talk(_: PostSink, server: FaultServer) -> None:
            settings = {"protocol": "http", "url": f"127.0.0.1:{server.port}/in"}
            async with opened(loaded_forwarder(settings, **SENDING), attachments=files) as sink:
                found.extend([await sink.send(item) for _ in answers])

        server = with_fault_server(talk, scripted(default=answers))
        return found, server.log

    def test_what_has_a_url_goes_without_data_that_is_not_there(self, files: AttachmentFiles) -> None:
        value = statement(attachments=[LINKED])
        outcome, server = sent(value, in_document=SENDING, attachments=files)
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200, remarks=("attachment_left_out",))
        assert server.log[0].headers["content-type"] == "application/json"
        assert server.log[0].body == text(value).encode()
        _, server = sent(statement(attachments=[LINKED, PICTURE]), in_document=SENDING, attachments=files)
        assert [data for _, data in self.parts(server.log[0])[1:]] == [DATA]

    @pytest.mark.parametrize("lost", [{"sha2": "2" * 64}, {"sha2": "no hash"}, {}, {"sha2": "2" * 64, "fileUrl": ""}])
    def test_what_has_none_and_is_not_there_is_a_dead_letter(
        self, files: AttachmentFiles, lost: dict[str, str]
    ) -> None:
        outcome, server = sent(statement(attachments=[PICTURE, lost]), in_document=SENDING, attachments=files)
        assert (outcome.verdict, outcome.reason) == (Verdict.GIVE_UP, "attachment_missing")
        assert not outcome.spends_attempt
        assert str(lost.get("sha2")) in str(outcome.response)
        assert server.log == []

    @pytest.mark.parametrize("url", [{}, {"fileUrl": "https://files.example/1"}])
    def test_data_with_another_hash_is_a_dead_letter(self, tmp_path: Path, url: dict[str, str]) -> None:
        (tmp_path / DIGEST).write_bytes(DATA[:-1])
        value = statement(attachments=[{**PICTURE, **url}])
        outcome, server = sent(value, in_document=SENDING, attachments=AttachmentFiles([str(tmp_path)]))
        assert (outcome.verdict, outcome.reason) == (Verdict.GIVE_UP, "attachment_corrupt")
        assert DIGEST in str(outcome.response)
        assert server.log == []

    def test_more_than_the_bound_is_a_dead_letter(
        self, files: AttachmentFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(multipart, "MOST_BYTES", 400)
        outcome, _ = sent(statement(attachments=[PICTURE]), in_document=SENDING, attachments=files)
        assert (outcome.verdict, outcome.reason) == (Verdict.GIVE_UP, "attachment_oversize")

    def test_a_file_that_cannot_be_read_is_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / DIGEST).write_bytes(DATA)
        files = AttachmentFiles([str(tmp_path)])
        assert files.find(DIGEST)
        (tmp_path / DIGEST).unlink()
        outcome, server = sent(statement(attachments=[PICTURE]), in_document=SENDING, attachments=files)
        assert outcome == AttemptResult(Verdict.RETRY, "attachment_unreadable", response="No such file or directory")
        assert server.log == []

    @pytest.mark.parametrize("size", [100, len(DATA)])
    def test_a_full_disk_here_is_a_lack_and_spends_no_attempt(
        self, files: AttachmentFiles, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        monkeypatch.setattr(multipart, "IN_MEMORY", 64)
        with files_of_at_most(size):
            outcome, server = sent(statement(attachments=[PICTURE]), in_document=SENDING, attachments=files)
        assert (outcome.verdict, outcome.reason, outcome.lack) == (Verdict.RETRY, LACK, True)
        assert not outcome.spends_attempt
        assert "(TMPDIR): File too large: allow larger files" in str(outcome.response)
        assert server.log == []

    def test_a_receiver_that_answers_before_it_has_read_all_is_heard(self, tmp_path: Path) -> None:
        data = bytes(8_000_000)
        (tmp_path / hashlib.sha256(data).hexdigest()).write_bytes(data)
        value = statement(attachments=[{**PICTURE, "sha2": hashlib.sha256(data).hexdigest()}])
        found: list[AttemptResult] = []

        async def talk(_: PostSink, server: FaultServer) -> None:
            async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                await writer.drain()
                while await reader.read(1 << 16):
                    pass
                writer.close()

            impatient = await asyncio.start_server(refuse, "127.0.0.1", 0)
            async with impatient:
                port = impatient.sockets[0].getsockname()[1]
                settings = {"protocol": "http", "url": f"127.0.0.1:{port}", "timeout": 5}
                files = AttachmentFiles([str(tmp_path)])
                async with opened(loaded_forwarder(settings, **SENDING), attachments=files) as sink:
                    found.append(await sink.send(statement_item(text(value).encode())))

        with_fault_server(talk)
        assert (found[0].verdict, found[0].reason, found[0].response) == (Verdict.GIVE_UP, "http_413", "no")

    def test_an_equal_statement_that_is_there_needs_no_attachment(self, files: AttachmentFiles) -> None:
        value = statement(attachments=[PICTURE])

        def script(arrival: Arrival) -> Answer:
            return Answer(409) if arrival.request_line.startswith("POST") else Answer(200, body=text(value).encode())

        outcome, _ = sent(value, in_document=SENDING, attachments=files, script=script)
        assert (outcome.verdict, outcome.remarks) == (Verdict.DELIVERED, ("already_there",))

    def test_without_the_setting_one_without_a_url_is_a_dead_letter_and_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        for lacking in (PICTURE, SIGNATURE):
            outcome, server = sent(statement(attachments=[LINKED, lacking]))
            assert (outcome.verdict, outcome.reason) == (Verdict.GIVE_UP, "attachment_not_sent")
            assert server.log == []
        assert len(caplog.records) == 2, "one for each forwarder's sink"
        assert "Set sendAttachments to true" in caplog.text

    def test_without_the_setting_one_with_a_url_goes_as_it_is(self, files: AttachmentFiles) -> None:
        value = statement(attachments=[LINKED])
        outcome, server = sent(value, attachments=files)
        assert outcome == AttemptResult(Verdict.DELIVERED, status=200)
        assert server.log[0].body == text(value).encode()

    def test_a_statement_of_the_second_version_is_changed_and_sent_with_its_data(self, files: AttachmentFiles) -> None:
        outcome, server = sent({**SECOND, "attachments": [PICTURE]}, in_document=SENDING, attachments=files)
        assert outcome.remarks == ("as_1_0_3",)
        (_, first), (_, data) = self.parts(server.log[0])
        assert json.loads(first)["context"] == {"language": "en"}
        assert data == DATA
