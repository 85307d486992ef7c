"""The real job with its forwarders from the service, from its store, and from a Learning Locker."""

import base64
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from registry.access import ALL, DELIVER, EDIT_ALL, VIEW_ALL
from registry.keyring import KEYS
from registry.rest import PATH
from tests.support.activity import sessions
from tests.support.receiver import Receiver
from tests.support.registry_house import KEY, House, create, house_on, served
from tests.support.workshop import Workshop
from transforms.forwarders import ForwardersError
from transforms.forwarders import source as forwarder_source
from transforms.forwarders.secrets import References
from transforms.forwarders.service import (
    CLIENT_KEY,
    CLIENT_SECRET,
    ServiceError,
    location_problem,
    location_warning,
    read_remote,
)
from transforms.forwarders.source import ForwarderSource

TOKEN = "hunter-token"


@pytest.fixture(autouse=True)
def _forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process that has read nothing yet."""
    monkeypatch.setattr(forwarder_source, "_last_launched", {})


@pytest.fixture
def service(house: House) -> Iterator[str]:
    with served(house.registry) as address:
        yield address + PATH


def to(receiver: Receiver, **given: Any) -> dict[str, Any]:
    configuration = {"protocol": "http", "url": receiver.url("in"), "authType": "token", "secret": TOKEN}
    return {"payload": "record", "configuration": configuration, **given}


def let_in(monkeypatch: pytest.MonkeyPatch, credentials: tuple[str, str]) -> None:
    monkeypatch.setenv(CLIENT_KEY, credentials[0])
    monkeypatch.setenv(CLIENT_SECRET, credentials[1])


def run(workshop: Workshop, forwarders: str, *more: str) -> int:
    workshop.write_activity(sessions(5))
    return workshop.run("--organisation", "school", "--forwarders", forwarders, *more)


def test_the_job_delivers_to_the_forwarders_of_the_service(
    workshop: Workshop,
    receiver: Receiver,
    house: House,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    editor = house.client(EDIT_ALL, organisation="school")
    create(editor, _id="scores", **to(receiver, query='{"kind": "score"}'))
    create(editor, _id="off", **to(receiver, active=False))
    create(house.client(EDIT_ALL, organisation="other"), _id="foreign", **to(receiver))
    credentials = house.add_client(VIEW_ALL, DELIVER, organisation="school")
    let_in(monkeypatch, credentials)

    assert run(workshop, service) == 0

    assert {arrival.headers["authorization"] for arrival in receiver.log} == {f"Bearer {TOKEN}"}
    assert len(receiver.log) == 5
    report = workshop.report()
    assert [entry["id"] for entry in report["forwarders"]] == ["scores"]
    assert report["inactive_forwarders"] == ["off"]
    assert report["forwarder_documents"] == read_remote(service).digest
    written = "".join(path.read_text("latin-1") for path in workshop.output.rglob("*") if path.is_file())
    assert not [word for word in (TOKEN, *credentials) if word in written + caplog.text]


def test_a_run_keeps_to_its_snapshot_while_the_service_is_edited(
    workshop: Workshop, receiver: Receiver, house: House, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = house.client(EDIT_ALL, organisation="school")
    create(editor, _id="scores", **to(receiver, query='{"kind": "score"}'))
    let_in(monkeypatch, house.add_client(VIEW_ALL, DELIVER, organisation="school"))
    load = ForwarderSource.load

    def switched_off_meanwhile(source: ForwarderSource) -> Any:
        editor.patch(f"{PATH}/scores", json={"active": False})
        return load(source)

    monkeypatch.setattr(ForwarderSource, "load", switched_off_meanwhile)

    assert run(workshop, service) == 0

    assert editor.get(f"{PATH}/scores").json()["active"] is False
    assert len(receiver.log) == 5


def test_a_worker_that_reads_another_snapshot_fails(
    house: House, service: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = house.client(EDIT_ALL)
    create(editor, _id="a", **to(receiver))
    let_in(monkeypatch, house.add_client(VIEW_ALL, DELIVER))
    rules = forwarder_source.launch_rules(References(), trusted=False, require_organisation=False)
    launched = forwarder_source.read_forwarders(service, rules)
    source = ForwarderSource(service, rules.references, launched.digest, ("a",))
    assert [forwarder.id for forwarder in source.resolve()] == ["a"]
    editor.patch(f"{PATH}/a", json={"description": "edited"})
    monkeypatch.setattr(forwarder_source, "_last_launched", {})
    with pytest.raises(ForwardersError, match="not those the job was launched with"):
        source.resolve()


def test_the_job_reads_the_store_itself(
    workshop: Workshop, receiver: Receiver, house: House, sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(house.client(EDIT_ALL, organisation="school"), _id="scores", **to(receiver, query='{"kind": "score"}'))
    create(house.client(EDIT_ALL, organisation="other"), _id="foreign", **to(receiver))
    monkeypatch.setenv(KEYS, base64.b64encode(KEY).decode())

    assert run(workshop, f"sqlite:///{sqlite_path}") == 0

    assert {arrival.headers["authorization"] for arrival in receiver.log} == {f"Bearer {TOKEN}"}
    assert [entry["id"] for entry in workshop.report()["forwarders"]] == ["foreign", "scores"]


@pytest.mark.parametrize("trusts", [True, False])
def test_references_in_documents_of_a_service_are_trusted_only_when_told(
    workshop: Workshop,
    receiver: Receiver,
    house: House,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trusts: bool,
) -> None:
    trusting = house_on(house.store, trusted=True)
    configuration = {**to(receiver)["configuration"], "secret": "env:FORWARDER_TEST_TOKEN"}
    create(trusting.client(EDIT_ALL, organisation="school"), _id="scores", configuration=configuration)
    let_in(monkeypatch, house.add_client(VIEW_ALL, DELIVER, organisation="school"))
    monkeypatch.setenv("FORWARDER_TEST_TOKEN", TOKEN)
    status = run(workshop, service, *(["--trust_references"] if trusts else []))
    assert status == (0 if trusts else 2)
    assert {arrival.headers["authorization"] for arrival in receiver.log} == ({f"Bearer {TOKEN}"} if trusts else set())
    assert ("--trust_references allows it" in caplog.text) is not trusts


def test_a_client_without_the_deliver_scope_gets_the_run_nothing(
    workshop: Workshop,
    receiver: Receiver,
    house: House,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    create(house.client(EDIT_ALL, organisation="school"), **to(receiver))
    let_in(monkeypatch, house.add_client(ALL, organisation="school"))
    assert run(workshop, service) == 2
    assert "statementForwarding/deliver" in caplog.text


# A Learning Locker, and services that are not what they should be


Page = Callable[[int, int], Any]
"""Skip and limit in; a document list, a status, or raw bytes out."""


@pytest.fixture
def other_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Page], str]]:
    """Serves what a function gives for each page, without any version."""
    servers: list[ThreadingHTTPServer] = []
    let_in(monkeypatch, ("locker", "s3cret"))

    def serve(page: Page) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                right = "Basic " + base64.b64encode(b"locker:s3cret").decode()
                given = page(int(asked["skip"][0]), int(asked["limit"][0]))
                if self.headers["Authorization"] != right:
                    given = 401
                self.send_response(given if isinstance(given, int) else 200)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                if not isinstance(given, int):
                    self.wfile.write(given if isinstance(given, bytes) else json.dumps(given).encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}{PATH}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def numbered(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"_id": f"{number:04}"} for number in range(first, first + count)]


@pytest.mark.parametrize("most", [100, 30])
def test_pages_are_read_until_one_is_empty_however_short_they_are(
    other_service: Callable[[Page], str], most: int
) -> None:
    documents = numbered(250)
    url = other_service(lambda skip, limit: documents[skip : skip + min(limit, most)])
    assert [document.content for document in read_remote(url).documents] == documents


def test_without_versions_only_what_is_read_twice_alike_counts(other_service: Callable[[Page], str]) -> None:
    # An insert at the front between the pages of the first pass, and an edit between that and the next.
    passes = [numbered(150), numbered(151), [{**document, "edited": True} for document in numbered(151)]]
    current = passes.pop(0)

    def page(skip: int, limit: int) -> Any:
        nonlocal current
        if skip == 0 or not current[skip:]:
            shown = current[skip : skip + limit]
            current = passes.pop(0) if passes and not shown else current
            return shown
        return current[skip : skip + limit]

    url = other_service(page)
    assert [document.content for document in read_remote(url).documents] == [
        {**document, "edited": True} for document in numbered(151)
    ]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (lambda skip, limit: numbered(3), "does not understand skip"),
        (lambda skip, limit: numbered(100, skip // 2), "changed faster than it can be read"),
        (lambda skip, limit: 302, "redirect"),
        (lambda skip, limit: 403, "statementForwarding/deliver"),
        (lambda skip, limit: 429, "429"),
        (lambda skip, limit: 500, "HTTP status 500"),
        (lambda skip, limit: b"<html>", "does not answer with JSON"),
        (lambda skip, limit: {"edges": []}, "list of documents"),
        (lambda skip, limit: [1], "list of documents"),
    ],
)
def test_a_service_that_is_none_is_told(
    other_service: Callable[[Page], str], page: Page, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServiceError, match=said) as raised:
        read_remote(other_service(page), sleep=lambda seconds: None)
    assert "s3cret" not in str(raised.value)


def test_wrong_or_absent_credentials_are_told(
    other_service: Callable[[Page], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = other_service(lambda skip, limit: [])
    monkeypatch.setenv(CLIENT_SECRET, "hunter")
    with pytest.raises(ServiceError, match="does not know the client") as raised:
        read_remote(url)
    assert "hunter" not in str(raised.value)
    monkeypatch.delenv(CLIENT_SECRET)
    with pytest.raises(ServiceError, match=f"needs {CLIENT_KEY} and {CLIENT_SECRET}"):
        read_remote(url)
    with pytest.raises(ServiceError, match="cannot be reached"):
        read_remote("http://127.0.0.1:1" + PATH, {CLIENT_KEY: "k", CLIENT_SECRET: "s"})


def test_a_redacted_document_is_refused_by_the_job(
    workshop: Workshop,
    receiver: Receiver,
    other_service: Callable[[Page], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    document = {"_id": "a", "active": True, **to(receiver)}
    document["configuration"]["secret"] = "[redacted]"
    url = other_service(lambda skip, limit: [document][skip:])
    assert run(workshop, url) == 2
    assert "configuration.secret is a redaction" in caplog.text
    assert receiver.log == []


@pytest.mark.parametrize(
    "location",
    [
        "http://ann:hunter@service.example/api",
        "HTTPS://ann:hunter@service.example/api",
        "mongodb://ann:hunter@service.example/db",
        "mongodb://service.example/db?tlsCertificateKeyFilePassword=hunter",
        "https://service.example/api?key=hunter",
        "https:///api",
        "http://service.example:99999/api",
        "sqlite://",
        "sqlite:///",
    ],
)
def test_a_location_that_cannot_be_used_is_refused_without_being_repeated(
    workshop: Workshop, location: str, caplog: pytest.LogCaptureFixture
) -> None:
    problem = location_problem(location)
    assert problem is not None
    assert run(workshop, location) == 2
    assert problem in caplog.text
    assert "hunter" not in caplog.text


def test_a_store_that_is_not_there_is_not_made(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    absent = workshop.path / "absent.db"
    assert run(workshop, f"sqlite:///{absent}") == 2
    assert "is not there" in caplog.text
    assert not absent.exists()


def test_secrets_that_travel_unencrypted_are_warned_about() -> None:
    assert location_warning("http://locker.example/api") is not None
    for location in ("https://locker.example/api", "http://127.0.0.1:8380/api", "http://localhost/api", "f.json"):
        assert location_warning(location) is None
