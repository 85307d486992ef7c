"""Webhooks as Standard Webhooks says, to receivers that are willing, slow, wrong or not there."""

import itertools
import json
import logging
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from pipeline.alert_sender import (
    ATTEMPTS,
    LAST_SECONDS,
    MOST_WAITING,
    WAITS,
    AlertSender,
    AlertsError,
    Destination,
    Message,
    destination,
    refusal,
)
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.ports import free_port
from tests.support.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = ("127.0.0.0/8",)
AT_ONCE = (0.0,)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_SECRET", SECRET)


def to(receiver: Receiver, *, signed: bool = True) -> Destination:
    return destination(f"http://{receiver.url('alerts?token=HIDDEN')}", "env:ALERT_SECRET" if signed else None)


def messages(count: int) -> Iterator[Message]:
    for number in range(count):
        yield Message(f"msg_{number}", f"alert {number}", json.dumps({"number": number}).encode())


def test_messages_are_signed_and_arrive_in_their_order(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sender = AlertSender(to(receiver), LOOPBACK)
    for message in messages(5):
        sender.put(message)
    sender.close()
    for number, arrival in enumerate(receiver.log):
        Webhook(SECRET).verify(arrival.body, arrival.headers)
        assert json.loads(arrival.body) == {"number": number}
        assert arrival.headers["webhook-id"] == f"msg_{number}"
        assert arrival.headers["content-type"] == "application/json"
    assert len(receiver.log) == 5
    assert "alert sent: alert 4" in caplog.text
    assert "HIDDEN" not in caplog.text


def test_without_a_secret_messages_have_an_id_and_no_signature(receiver: Receiver) -> None:
    sender = AlertSender(to(receiver, signed=False), LOOPBACK)
    sender.put(next(messages(1)))
    sender.close()
    (arrival,) = receiver.log
    assert arrival.headers["webhook-id"] == "msg_0"
    assert "webhook-signature" not in arrival.headers


def test_a_message_is_tried_again_with_the_same_id_before_the_next_one(receiver: Receiver) -> None:
    receiver.script = scripted(default=[503, Answer(fault="reset"), 429, 200])
    sender = AlertSender(to(receiver), LOOPBACK, AT_ONCE)
    for message in messages(2):
        sender.put(message)
    sender.close()
    assert [arrival.headers["webhook-id"] for arrival in receiver.log] == [*["msg_0"] * 4, "msg_1"]
    for arrival in receiver.log:
        Webhook(SECRET).verify(arrival.body, arrival.headers)


def test_a_message_that_nobody_takes_is_given_up_and_told_in_the_log(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = scripted(default=[500] * ATTEMPTS)
    sender = AlertSender(to(receiver), LOOPBACK, AT_ONCE)
    for message in messages(2):
        sender.put(message)
    sender.close()
    assert [arrival.headers["webhook-id"] for arrival in receiver.log] == [*["msg_0"] * ATTEMPTS, "msg_1"]
    assert "alert not sent: alert 0; 127.0.0.1 gave 500 after 5 attempts; the run goes on" in caplog.text


def test_a_redirect_is_not_followed(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    moved = Answer(307, headers=(("Location", "https://user:HIDDEN@127.0.0.1:1/HIDDEN?token=HIDDEN"),))
    receiver.script = scripted(default=[moved] * ATTEMPTS)
    sender = AlertSender(to(receiver), LOOPBACK)
    sender.put(next(messages(1)))
    began = time.monotonic()
    sender.close()
    assert time.monotonic() - began < WAITS[0], "nobody waits for another answer"
    assert len(receiver.log) == 1
    assert "gave 307, a redirect to https://127.0.0.1:1, which is not followed" in caplog.text
    assert "HIDDEN" not in caplog.text


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (401, 1), (304, 1), (429, 2), (503, 2), (521, 2)])
def test_what_another_attempt_would_not_change_is_not_tried_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int, attempts: int
) -> None:
    receiver.script = scripted(default=[status])
    sender = AlertSender(to(receiver), LOOPBACK, AT_ONCE)
    sender.put(next(messages(1)))
    sender.close()
    assert len(receiver.log) == attempts
    assert (f"gave {status}" in caplog.text) == (attempts == 1)


@pytest.mark.parametrize("status", [503, None])
def test_the_end_of_a_run_says_what_the_receiver_gave(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int | None
) -> None:
    receiver.script = scripted(default=[503] * ATTEMPTS)
    where = to(receiver) if status else destination(f"http://127.0.0.1:{free_port()}/", None)
    sender = AlertSender(where, LOOPBACK, (60.0,))
    sender.put(next(messages(1)))
    sender.close(within=0.5)
    gave = status or "connection_refused"
    assert f"1 alert not sent to 127.0.0.1: the last attempt gave {gave}; see --alert_url" in caplog.text


def test_a_receiver_that_is_gone_gets_no_more(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.script = scripted(default=[410])
    sender = AlertSender(to(receiver), LOOPBACK, AT_ONCE)
    for message in messages(3):
        sender.put(message)
    sender.close()
    assert len(receiver.log) == 1
    assert "2 alerts not sent" in caplog.text


@pytest.mark.parametrize("fault", ["hold", "drip"])
def test_a_receiver_that_hangs_holds_nobody_up_beyond_the_bound(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    receiver.script = lambda arrival: Answer(fault=fault, body=b"x" * 10_000)  # type: ignore[arg-type]
    sender = AlertSender(to(receiver), LOOPBACK)
    began = time.monotonic()
    for message in messages(3):
        sender.put(message)
    sender.close(within=0.3)
    assert time.monotonic() - began < LAST_SECONDS, "of which a busy machine takes its share"
    assert "3 alerts not sent to 127.0.0.1: it did not answer in time" in caplog.text


def test_a_receiver_that_is_not_there_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sender = AlertSender(destination(f"http://127.0.0.1:{free_port()}/", None), LOOPBACK, AT_ONCE)
    sender.put(next(messages(1)))
    sender.close()
    assert "127.0.0.1 gave connection_refused after 5 attempts" in caplog.text


def test_what_waits_is_bounded(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.script = lambda arrival: Answer(fault="hold")
    sender = AlertSender(to(receiver), LOOPBACK)
    for message in messages(MOST_WAITING + 10):
        sender.put(message)
    sender.close(within=0.0)
    assert f"{MOST_WAITING + 10:,} alerts not sent" in caplog.text


def test_addresses_obey_allow_network_when_they_are_looked_up_and_when_they_are_dialled(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    target = to(receiver).target
    assert refusal(target, LOOPBACK) is None
    assert refusal(target, ()) == (
        "--alert_url names a host at 127.0.0.1 (loopback): refused unless --allow_network names the network"
    )
    sender = AlertSender(to(receiver), ())
    sender.put(next(messages(1)))
    sender.close()
    assert receiver.log == []
    assert "127.0.0.1 gave address_refused after 1 attempt;" in caplog.text


def test_the_url_may_be_a_reference(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS", f"  http://{receiver.url('from-variable')}\n")
    (tmp_path / "url").write_text(f"http://{receiver.url('from-file')}\n")
    for url in ("env:ALERTS", f"file:{tmp_path / 'url'}"):
        sender = AlertSender(destination(url, None), LOOPBACK)
        sender.put(next(messages(1)))
        sender.close()
    assert [arrival.request_line.split()[1] for arrival in receiver.log] == ["/from-variable", "/from-file"]


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("env:NOT_SET_ANYWHERE", None, "--alert_url refers to the environment variable NOT_SET_ANYWHERE"),
        ("file:relative", None, "--alert_url names a relative path"),
        ("env:ALERT_SECRET", None, "--alert_url is no address that begins with https:// or http://"),
        ("ftp://example.org", None, "--alert_url is no address that begins with https:// or http://"),
        ("https://", None, "--alert_url is empty"),
        ("https://user:HIDDEN@example.org", None, "--alert_url has user information before the host: leave it out"),
        ("https://http://example.org", None, "--alert_url starts with a scheme: leave the second one out"),
        ("https://example.org/#part", None, "--alert_url has a fragment"),
        ("https://example.org", "env:NOT_SET_ANYWHERE", "--alert_secret refers to the environment variable"),
        ("https://example.org", "env:PATH", "--alert_secret refers to a value that"),
    ],
)
def test_what_cannot_be_used_is_told_without_what_may_be_secret(url: str, secret: str | None, said: str) -> None:
    with pytest.raises(AlertsError, match=r"^--alert") as error:
        destination(url, secret)
    assert str(error.value).startswith(said)
    assert not any(hidden in str(error.value) for hidden in ("HIDDEN", SECRET))


def test_a_destination_shows_no_secret_and_does_not_pickle(receiver: Receiver) -> None:
    secrets = ("HIDDEN", SECRET, SECRET.removeprefix("whsec_"))
    assert not any(hidden in repr(to(receiver)) for hidden in secrets)
    with pytest.raises(TypeError, match="holds secrets"):
        pickle.dumps(to(receiver))


def test_a_sender_that_is_closed_takes_no_more(receiver: Receiver) -> None:
    sender = AlertSender(to(receiver), LOOPBACK)
    sender.close()
    for message in itertools.islice(messages(2), 2):
        sender.put(message)
    assert receiver.log == []
