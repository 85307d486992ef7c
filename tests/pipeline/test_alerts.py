"""Alerts of whole jobs: scripted outages, and what the receiver of the webhooks has in the end."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from pipeline import alert_sender
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, in_thread
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The receiver of the webhooks."""
    monkeypatch.setenv("ALERT_SECRET", SECRET)
    server = Receiver()
    with in_thread(server):
        yield server


def alerting(hook: Receiver) -> list[str]:
    return [f"--alert_url=http://{hook.url('alerts')}", "--alert_secret=env:ALERT_SECRET"]


def alerts(hook: Receiver) -> list[dict[str, Any]]:
    """The bodies of all webhooks, each verified."""
    for arrival in hook.log:
        Webhook(SECRET).verify(arrival.body, arrival.headers)
    assert len({arrival.headers["webhook-id"] for arrival in hook.log}) == len(hook.log)
    return [json.loads(arrival.body) for arrival in hook.log]


def told(hook: Receiver) -> list[tuple[str, str | None]]:
    """(type, forwarder) of all webhooks, in their order."""
    return [(each["type"], each["data"].get("forwarder", {}).get("id")) for each in alerts(hook)]


def write_sessions(workshop: Workshop, count: int) -> None:
    workshop.write_activity([activity("START", user_id=f"u{each}", session_id=f"s{each}") for each in range(count)])


def test_a_run_without_trouble_tells_nothing(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    write_sessions(workshop, 20)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*alerting(hook)) == 0
    assert told(hook) == []


def test_an_outage_that_ends_is_told_with_its_end(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    receiver.script = lambda arrival: Answer(200 if hook.log else 503)
    write_sessions(workshop, 5)
    workshop.write_forwarders(
        http_document(receiver, configuration={"maxRetries": 10}, description="CRM"),
    )
    assert workshop.run(*alerting(hook), "--alert_after=1s", "--max_backoff=0.5") == 0
    assert told(hook) == [("forwarder.failing", "http"), ("forwarder.recovered", "http")]
    failing, recovered = alerts(hook)
    assert failing["data"]["forwarder"] == {"id": "http", "description": "CRM", "target": "http 127.0.0.1"}
    assert failing["data"]["last_answer"] == "503"
    assert failing["data"]["waiting"] == 5
    assert "forwarder http (CRM) has taken nothing for" in failing["data"]["text"]
    assert recovered["data"]["commands"] == []
    assert recovered["data"]["run_id"] == workshop.report()["run_id"]


def test_an_outage_over_its_budget_is_told_with_the_command_that_mends_it(
    workshop: Workshop, receiver: Receiver, hook: Receiver
) -> None:
    receiver.script = lambda arrival: Answer(503)
    write_sessions(workshop, 5)
    workshop.write_forwarders(http_document(receiver, configuration={"maxRetries": 10}))
    flags = ("--alert_after=1s", "--max_backoff=0.5", "--outage_budget=4")
    assert workshop.run(*alerting(hook), *flags) == 3
    assert told(hook) == [
        ("forwarder.failing", "http"),
        ("forwarder.unavailable", "http"),
        ("forwarder.dead_letters", "http"),
    ]
    receiver.script = lambda arrival: Answer(200)
    command = alerts(hook)[-1]["data"]["commands"][-1]
    words = shlex.split(command)
    assert words[:2] == ["session-forwarder", "redrive"]
    from pipeline.command import main

    # The verb stands for this flag.
    assert main(["--redrive", *words[2:]]) == 0
    assert workshop.account("http")["delivered"] == 5


def test_dead_letters_of_one_forwarder_are_told_once_and_of_no_other(
    workshop: Workshop, receiver: Receiver, hook: Receiver
) -> None:
    receiver.script = lambda arrival: Answer(400 if "/picky" in arrival.request_line else 200)
    write_sessions(workshop, 20)
    workshop.write_forwarders(http_document(receiver, "picky"), http_document(receiver, "willing"))
    assert workshop.run(*alerting(hook)) == 3
    assert told(hook) == [("forwarder.dead_letters", "picky")]
    (alert,) = alerts(hook)
    assert set(alert["data"]["dead_letters"]) == {"http_400"}


def test_rejects_over_a_tenth_of_the_limit_are_told(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    write_sessions(workshop, 99)
    workshop.write_lines([b"{}"], "broken.jsonl")
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*alerting(hook)) == 3
    assert told(hook) == [("run.rejects", None)]
    assert alerts(hook)[0]["data"]["reject_ratio"] == 0.01


def test_rejects_that_end_the_run_are_told_before_its_failure(
    workshop: Workshop, receiver: Receiver, hook: Receiver
) -> None:
    workshop.write_lines([b"{}"] * 50)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*alerting(hook)) == 1
    assert told(hook) == [("run.rejects", None), ("run.failed", None)]
    failed = alerts(hook)[1]["data"]
    assert "100.0% of the input was rejected" in failed["text"]
    assert failed["commands"][0].startswith("python -m pipeline --runner=DirectRunner")


def test_a_run_that_cannot_begin_is_told_with_the_reason(
    workshop: Workshop, receiver: Receiver, hook: Receiver
) -> None:
    write_sessions(workshop, 1)
    workshop.write_forwarders(http_document(receiver, configuration={"maxRetries": "many"}))
    assert workshop.run(*alerting(hook)) == 2
    assert told(hook) == [("run.failed", None)]
    assert "configuration.maxRetries is not a whole number" in alerts(hook)[0]["data"]["text"]


def test_a_port_that_is_taken_is_told(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    write_sessions(workshop, 1)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*alerting(hook), f"--metrics_port={receiver.port}") == 2
    assert told(hook) == [("run.failed", None)]
    assert "--metrics_port" in alerts(hook)[0]["data"]["text"]


def test_a_run_that_an_error_ends_is_told(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    write_sessions(workshop, 1)
    workshop.write_forwarders(http_document(receiver))
    workshop.output.mkdir()
    (workshop.output / "receipts").touch()  # where a directory has to be
    with pytest.raises(NotADirectoryError):
        workshop.run(*alerting(hook))
    assert told(hook) == [("run.failed", None)]


def test_a_receiver_of_alerts_that_is_down_changes_nothing_but_the_log(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_sender, "LAST_SECONDS", 0.5)
    receiver.script = lambda arrival: Answer(400)
    write_sessions(workshop, 5)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(f"--alert_url=http://127.0.0.1:{free_port()}/") == 3
    assert workshop.account("http")["dead_lettered"] == 5
    assert "1 alerts were not sent to 127.0.0.1: the last attempt gave connection_refused" in caplog.text
    assert "alerts are not signed: give --alert_secret" in caplog.text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--alert_url=example.org"], "--alert_url is no address that begins with https:// or http://"),
        (["--alert_url=https://user:HIDDEN@example.org"], "--alert_url holds a user and a password"),
        (["--alert_url=env:"], "--alert_url is not a reference of the form"),
        (["--alert_secret=env:ALERT_SECRET"], "--alert_secret signs what goes to --alert_url"),
        (["--alert_url=http://127.0.0.1:1", "--alert_secret=HIDDEN"], "--alert_secret is no reference to a secret"),
        (["--alert_url=http://10.0.0.1/"], "names a host at 10.0.0.1 (private): refused unless --allow_network"),
        (["--alert_url=env:NOT_SET_ANYWHERE"], "refers to the environment variable NOT_SET_ANYWHERE"),
        (["--alert_after=0s", "--alert_url=http://127.0.0.1:1"], "is not a length of time"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, flags: list[str], said: str
) -> None:
    write_sessions(workshop, 1)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*flags) == 2
    assert said in caplog.text
    assert "HIDDEN" not in caplog.text
    assert not workshop.output.exists()


def test_a_dry_run_tells_nobody(workshop: Workshop, receiver: Receiver, hook: Receiver) -> None:
    workshop.write_lines([b"{}"] * 50)
    workshop.write_forwarders(http_document(receiver))
    workshop.run(*alerting(hook), "--dry_run")
    assert hook.log == []
