"""Whole runs by clocks that are ahead, behind, or set right between them."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from pipeline.session_state import ClockLimits, SessionState
from tests.support.activity import sessions
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.moved_clock import DAY, MovedClock
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms.sessions.state import PARTS, Current, Part, StateError
from transforms.storage import LocalStorage

# --- what was delivered


def test_dead_letters_by_a_clock_that_was_ahead_are_not_sent_again_once_they_are_delivered(
    workshop: Workshop, receiver: Receiver, clock: MovedClock
) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u1" else 200)
    clock.ahead = DAY
    assert workshop.run() == 3
    clock.ahead = 0
    receiver.script = scripted()
    receiver.log.clear()
    assert workshop.redrive() == 0
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 4
    for again in (workshop.run, workshop.redrive):
        receiver.log.clear()
        assert again() == 0
        assert not receiver.log
    assert workshop.account("http")["matched"] == 0, "a redrive has nothing left to look at"


def test_no_order_of_clocks_sends_a_delivered_record_again(
    workshop: Workshop, receiver: Receiver, clock: MovedClock
) -> None:
    """In each run the receiver refuses other users. So each record is refused, and later delivered, at some time."""
    workshop.write_activity(sessions(4))
    workshop.write_forwarders(http_document(receiver))
    refused: set[str] = set()
    receiver.script = lambda arrival: Answer(400 if arrival.user in refused else 200)
    for turn, days in enumerate((40, 0, -40, 1, -1)):
        clock.ahead = days * DAY
        refused.clear()
        refused.update((f"u{turn}", f"u{turn + 1}"))
        (workshop.redrive if turn % 2 else workshop.run)()
    keys = [key for _, key in receiver.stored()]
    assert len(keys) == len(set(keys)) == 16


def test_what_a_replay_gave_up_is_due_again(workshop: Workshop, receiver: Receiver, clock: MovedClock) -> None:
    """Also by a clock behind that of the run which had delivered it."""
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    clock.ahead = -DAY
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u1" else 200)
    assert workshop.run("--replay=all") == 3
    receiver.script = scripted()
    receiver.log.clear()
    assert workshop.redrive() == 0
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 4
    assert workshop.run() == 0
    assert workshop.redrive("--replay=all") == 0, "a redrive sends nothing that is delivered"
    assert len(receiver.log) == 4


# --- what is kept between runs


@pytest.fixture
def scheduled(workshop: Workshop, receiver: Receiver) -> list[str]:
    """Twelve sessions have begun by a run on a state. The next ones are to find their ends."""
    workshop.write_forwarders(http_document(receiver))
    both = sessions(12)
    workshop.write_activity([each for each in both if each.action != "SUBMIT"], "1.jsonl")
    arguments = ["--state", str(workshop.path / "state")]
    assert workshop.run(*arguments) == 0
    workshop.write_activity([each for each in both if each.action == "SUBMIT"], "2.jsonl")
    receiver.log.clear()
    return arguments


def current(workshop: Workshop) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((workshop.path / "state" / "current.json").read_text())
    return content


def test_a_clock_that_would_forget_a_state_stops_the_run_before_anything_is_sent(
    workshop: Workshop,
    receiver: Receiver,
    clock: MovedClock,
    scheduled: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = current(workshop)
    clock.ahead = 40 * DAY
    assert workshop.run(*scheduled, "--dry_run") == 1
    caplog.clear()
    assert workshop.run(*scheduled) == 1
    assert not receiver.log
    assert current(workshop) == before
    told = caplog.text
    assert "12 of the 12 sessions" in told
    assert "--session_ttl (30 days)" in told
    assert "40 days after the last run on the state" in told
    assert "give --trust_clock once" in told
    clock.ahead = 0
    assert workshop.run(*scheduled, "--write_records=jsonl") == 0
    assert {record["dt_started"] for record in workshop.records("status")} == {"2020-02-17T00:00:00Z"}
    assert len(receiver.log) == 36


def test_a_clock_that_is_behind_the_state_stops_the_run_before_anything_is_sent(
    workshop: Workshop,
    receiver: Receiver,
    clock: MovedClock,
    scheduled: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = current(workshop)
    clock.ahead = -3.5 * DAY
    assert workshop.run(*scheduled) == 1
    assert not receiver.log
    assert current(workshop) == before
    assert "3 days before the last run on" in caplog.text
    assert workshop.run(*scheduled, "--trust_clock") == 0
    assert len(receiver.log) == 36
    assert workshop.run(*scheduled) == 0, "the state is as old as that clock from now on"


def test_clocks_that_differ_by_minutes_stop_nothing_and_set_no_state_back(
    workshop: Workshop, receiver: Receiver, clock: MovedClock, scheduled: list[str]
) -> None:
    before = current(workshop)["arrived"]
    clock.ahead = -200
    assert workshop.run(*scheduled) == 0
    assert len(receiver.log) == 36
    assert current(workshop)["arrived"] == before


@pytest.mark.parametrize("allowed", ["--trust_clock", "--session_ttl=90d"])
def test_after_a_long_pause_the_user_says_whether_to_forget(
    workshop: Workshop, receiver: Receiver, clock: MovedClock, scheduled: list[str], allowed: str
) -> None:
    clock.ahead = 60 * DAY
    assert workshop.run(*scheduled) == 1
    assert workshop.run(*scheduled, allowed, "--write_records=jsonl") == 0
    kept = {record["dt_started"] for record in workshop.records("status")} == {"2020-02-17T00:00:00Z"}
    assert kept == (allowed == "--session_ttl=90d")


def test_a_shorter_time_to_live_stops_the_run_too(
    workshop: Workshop, receiver: Receiver, clock: MovedClock, scheduled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as 30h for 30d."""
    clock.ahead = 2 * DAY
    assert workshop.run(*scheduled, "--session_ttl=30h") == 1
    assert "--session_ttl (30 hours)" in caplog.text
    assert not receiver.log


def test_a_state_of_an_older_release_is_counted_once(
    workshop: Workshop,
    receiver: Receiver,
    clock: MovedClock,
    scheduled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = current(workshop)
    old = {name: old[name] for name in ("run_id", "files", "voids")} | {
        "version": 1,
        "parts": {bucket: {"name": part["name"], "written": part["written"]} for bucket, part in old["parts"].items()},
    }
    (workshop.path / "state" / "current.json").write_text(json.dumps(old))
    clock.ahead = 40 * DAY
    assert workshop.run(*scheduled) == 1
    assert "12 of the 12 sessions" in caplog.text
    clock.ahead = -DAY
    assert workshop.run(*scheduled) == 1
    clock.ahead = 0
    (workshop.path / "in" / "2.jsonl").unlink()
    assert workshop.run(*scheduled) == 0
    open_file = LocalStorage.open

    def no_part(self: LocalStorage, name: str) -> BinaryIO:
        assert not name.startswith(PARTS)
        return open_file(self, name)

    monkeypatch.setattr(LocalStorage, "open", no_part)
    assert workshop.run(*scheduled) == 0


def opened(directory: Path, arrivals: dict[int, int], day: float, before: int = 0, ratio: float = 0.1) -> SessionState:
    """A run on a day, on a state of which so many sessions had their latest activity on a day; the last run: day 30."""
    milliseconds = 86_400_000
    (directory / PARTS).mkdir(exist_ok=True)
    parts = {}
    for number, (arrived, count) in enumerate(arrivals.items()):
        name = f"{PARTS}/{number}"
        (directory / name).write_bytes(b"1")
        parts[number] = Part(name, 30 * milliseconds, 1, 0, ((arrived * milliseconds, count),))
    content = Current("run", parts, arrived=30 * milliseconds, forgotten_before=before * milliseconds)
    (directory / "current.json").write_bytes(msgspec.json.encode(content))
    return SessionState.opened(str(directory), "next", round(day * milliseconds), 30 * DAY, ClockLimits(ratio))


@pytest.mark.parametrize(
    ("arrivals", "before", "ratio", "stops"),
    [
        ({0: 1, 5: 9}, 0, 0.1, False),
        ({0: 1, 5: 8}, 0, 0.1, True),
        ({0: 1}, 0, 0.1, True),
        ({}, 0, 0.1, False),
        ({1: 100, 5: 10}, 0, 0.1, False),
        # Those that the last run had forgotten do not count again, though they are in a part still.
        ({0: 50, 5: 10}, 1, 0.1, False),
        ({0: 50, 5: 10}, 1, 0.0, False),
        ({0: 1, 5: 100}, 0, 0.0, True),
    ],
)
def test_more_than_a_tenth_is_too_much_however_small_the_state(
    tmp_path: Path, arrivals: dict[int, int], before: int, ratio: float, stops: bool
) -> None:
    """On day 31 what arrived on day 0 is forgotten; what arrived on day 1 is kept to the end of that day."""
    if not stops:
        opened(tmp_path, arrivals, 31, before, ratio)
        return
    with pytest.raises(StateError, match=r"would be forgotten, more than --max_forget_ratio"):
        opened(tmp_path, arrivals, 31, before, ratio)
