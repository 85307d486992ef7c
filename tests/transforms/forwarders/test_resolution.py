"""References resolved on the worker."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.forwarder_documents import HTTP, KINESIS, changed, load, read, rules, said
from transforms.forwarders import (
    Documents,
    Forwarder,
    ForwardersError,
    HttpTarget,
    KinesisTarget,
    Resolution,
    Rules,
    load_launched,
    resolve,
    resolve_on_worker,
)
from transforms.forwarders.secrets import References, SecretError

HTTPS = changed(HTTP, {"configuration.protocol": "https"})


def resolved(document: dict[str, Any], changes: dict[str, Any], directory: Path | None = None) -> Resolution:
    references = References(directory=str(directory) if directory else None)
    loaded = load(changed(document, changes), references=references)
    assert not loaded.faults, said(loaded.faults)
    return resolve(loaded.forwarders, references)


def test_every_kind_of_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORWARDER_TOKEN", "t0p")
    monkeypatch.setenv("FORWARDER_KEY", "whsec_QUJD")
    monkeypatch.setenv("FORWARDER_QUERY", "a b&c=d")
    (tmp_path / "header").write_text("Bearer x\n")
    (tmp_path / "client.key").write_text("key")
    changes = {
        "configuration.authType": "token",
        "configuration.secret": "env:FORWARDER_TOKEN",
        "configuration.headers": '{"X-A": "file:header", "X-B": "plain"}',
        "configuration.signingSecret": ["whsec_REVG", "env:FORWARDER_KEY"],
        "configuration.url": "a.example/p?x=1&t=env:FORWARDER_QUERY&plain=file",
        "configuration.clientCertificate": "/somewhere/client.pem",
        "configuration.clientKey": "file:client.key",
    }
    (forwarder,) = resolved(HTTPS, changes, tmp_path).forwarders
    target = forwarder.target
    assert isinstance(target, HttpTarget)
    assert target.secret is not None
    assert target.secret.reveal() == "t0p"
    assert [value.reveal() for _, value in target.headers] == ["Bearer x", "plain"]
    assert [secret.reveal() for secret in target.signing_secrets] == ["whsec_REVG", "whsec_QUJD"]
    assert target.url.reveal() == "https://a.example/p?x=1&t=a%20b%26c%3Dd&plain=file"
    assert (target.client_certificate, target.client_key) == ("/somewhere/client.pem", str(tmp_path / "client.key"))


def test_of_kinesis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDER_ID", "AKIA")
    monkeypatch.setenv("FORWARDER_SECRET", "s3cret")
    changes = {
        "kinesisOptions.awsClientKey": "env:FORWARDER_ID",
        "kinesisOptions.awsClientSecret": "env:FORWARDER_SECRET",
    }
    (forwarder,) = resolved(KINESIS, changes).forwarders
    target = forwarder.target
    assert isinstance(target, KinesisTarget)
    assert target.secret_access_key is not None
    assert (target.access_key_id, target.secret_access_key.reveal()) == ("AKIA", "s3cret")
    assert "AKIA" not in repr(forwarder)


def test_what_needs_no_resolving_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(HTTP, KINESIS)
    found = resolve(loaded.forwarders, References())
    assert [forwarder.id for forwarder in found.forwarders] == ["h", "k"]
    assert found.faults == ()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("configuration.secret", "a\r\nX-Evil: b", "refers to a value that holds a line break (CR or LF)"),
        ("configuration.secret", "", "refers to a value that is empty"),
        ("configuration.secret", "[redacted]", "refers to a value that is a redaction"),
        ("configuration.headers.X-A", "a\nb", "refers to a value that holds a line break (CR or LF)"),
        ("configuration.signingSecret[0]", "ABC", "refers to a value that does not start with whsec_"),
    ],
)
def test_a_value_is_judged_after_it_was_resolved(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str, message: str
) -> None:
    monkeypatch.setenv("FORWARDER_GOOD", "whsec_QUJD")
    monkeypatch.setenv("FORWARDER_BAD", value)
    names = {
        path: "env:FORWARDER_BAD" if field.startswith(path) else "env:FORWARDER_GOOD"
        for path in ("configuration.secret", "configuration.headers", "configuration.signingSecret")
    }
    changes = {
        "configuration.authType": "token",
        "configuration.secret": names["configuration.secret"],
        "configuration.headers": f'{{"X-A": "{names["configuration.headers"]}"}}',
        "configuration.signingSecret": [names["configuration.signingSecret"]],
    }
    found = resolved(HTTP, changes)
    assert not found.forwarders
    ((path, said_message),) = said(found.faults)
    assert path == field
    assert said_message.startswith(message)


def test_every_reference_that_cannot_be_read(tmp_path: Path) -> None:
    changes = {
        "configuration.authType": "basic auth",
        "configuration.basicUsername": "u",
        "configuration.basicPassword": "env:FORWARDER_NOT_SET",
        "configuration.headers": '{"X-A": "file:nowhere"}',
        "configuration.url": "a.example/?t=env:FORWARDER_NEITHER",
        "configuration.caFile": "file:ca.pem",
    }
    found = resolved(HTTPS, changes, tmp_path)
    assert not found.forwarders
    assert [str(fault) for fault in found.faults] == [
        "forwarder h (on the worker): configuration.url refers to the environment variable FORWARDER_NEITHER, "
        "which is not set on this worker",
        "forwarder h (on the worker): configuration.basicPassword refers to the environment variable "
        "FORWARDER_NOT_SET, which is not set on this worker",
        "forwarder h (on the worker): configuration.headers.X-A refers to a file that is not there on this worker",
        "forwarder h (on the worker): configuration.caFile refers to a file that is not there on this worker",
    ]


def test_an_unresolved_forwarder_cannot_be_sent_with() -> None:
    from transforms.sinks.http import PostSink
    from transforms.sinks.http_client import HttpClient

    changes = {"configuration.authType": "token", "configuration.secret": "env:FORWARDER_TOKEN"}
    (forwarder,) = load(changed(HTTP, changes)).forwarders
    with pytest.raises(SecretError, match="before it was resolved"):
        PostSink(forwarder, HttpClient())


def on_worker(documents: Documents, rules: Rules, digest: str, ids: list[str]) -> tuple[Forwarder, ...]:
    return resolve_on_worker(load_launched(documents, rules, digest, ids), rules.references)


class TestOnTheWorker:
    def test_the_forwarders_of_the_run(self) -> None:
        loaded = load(HTTP, KINESIS)
        documents = read(KINESIS, HTTP)  # another copy, in another order
        assert [one.id for one in on_worker(documents, rules(), loaded.digest, ["h"])] == ["h"]
        assert [one.id for one in on_worker(documents, rules(), loaded.digest, ["h", "k"])] == ["k", "h"]

    def test_documents_that_are_others_by_now(self) -> None:
        edited = read(changed(HTTP, {"configuration.url": "elsewhere.example"}))
        with pytest.raises(ForwardersError, match="not those the job was launched with"):
            on_worker(edited, rules(), load(HTTP).digest, ["h"])

    def test_a_worker_with_other_rules(self) -> None:
        without = changed(HTTP, {"organisation": None})
        with pytest.raises(ForwardersError, match="were not at launch: h"):
            on_worker(read(without), rules(require_organisation=True), load(without).digest, ["h"])

    def test_references_that_cannot_be_read_here(self) -> None:
        document = changed(HTTP, {"configuration.headers": '{"X-A": "env:FORWARDER_X1", "X-B": "env:FORWARDER_X2"}'})
        with pytest.raises(ForwardersError, match=r"(?s)X-A refers to .*X-B refers to"):
            on_worker(read(document), rules(), load(document).digest, ["h"])
