"""What `--log_level debug` says of a run: what came of each call, and what was passed over."""

import logging

import pytest

from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import scripted
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop


def test_debug_says_what_came_of_each_call_and_what_was_passed_over(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    workshop.write_activity([activity("START", user_id="the-learner", session_id="s")])
    quiet = http_document(receiver, "quiet", active=False)
    secret = {"authType": "token", "secret": "a-token-of-mine", "maxRetries": 1}
    workshop.write_forwarders(http_document(receiver, "loud", configuration=secret), quiet)
    receiver.script = scripted(default=[503])
    state = f"--state={workshop.path}/state"
    assert workshop.run(state) == 0
    (arrival, _) = receiver.log
    calls = [message for message in caplog.messages if message.startswith(f"forwarder loud: event {arrival.key}")]
    assert [call.partition(" is ")[2] for call in calls] == ["not taken (503), try 1", "delivered (200), try 2"]
    assert "forwarder quiet: its document is not active, so it gets nothing" in caplog.messages
    path = workshop.path / "in" / "activity.jsonl"
    assert f"{path} is read: {path.stat().st_size} bytes" in caplog.messages
    ours = [record for record in caplog.records if record.name.partition(".")[0] in ("pipeline", "transforms")]
    told = "\n".join(record.getMessage() for record in ours)
    assert "the-learner" not in told
    assert "a-token-of-mine" not in told
    caplog.clear()
    assert workshop.run(state) == 0
    assert f"{path} was read by an earlier run, and is as it was: it is passed over" in caplog.messages
    assert workshop.run() == 0
    assert f"forwarder loud: it has {arrival.key} already" in caplog.messages
