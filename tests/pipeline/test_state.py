"""Scheduled runs: `--state` between them."""

import gzip
import json
import os
from pathlib import Path

import pytest

from pipeline.lock import OutputLock
from tests.support.activity import of_user, response, sessions
from tests.support.forked import start_job
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import scripted
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop
from transforms.reading.activity import encode
from transforms.sessions.state import StateError


@pytest.fixture
def scheduled(workshop: Workshop) -> tuple[str, str]:
    return "--state", str(workshop.path / "state")


def current(workshop: Workshop) -> bytes:
    return (workshop.path / "state" / "current.json").read_bytes()


def test_two_days_in_two_runs_send_what_one_run_sends(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    both = sessions(12)
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([each for each in both if each.action != "SUBMIT"], "monday.jsonl")
    assert workshop.run(*scheduled) == 0
    assert workshop.account("http")["delivered"] == 12
    workshop.write_activity([each for each in both if each.action == "SUBMIT"], "tuesday.jsonl")
    assert workshop.run(*scheduled, "--write_records=jsonl") == 0

    report = workshop.report()
    assert report["input"]["files"] == 1
    assert report["forwarders"][0]["delivered"] == 36
    assert report["forwarders"][0]["already_delivered"] == 0
    (monday,) = {record["dt_started"] for record in workshop.records("status")}
    assert monday == "2020-02-17T00:00:00Z"
    scheduled_runs = by_user(receiver.stored())
    receiver.log.clear()
    assert workshop.run("--output", str(workshop.path / "whole")) == 0
    assert scheduled_runs == by_user(receiver.stored())


def test_a_run_without_new_files_sends_nothing_and_one_after_a_missed_day_catches_up(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([of_user(0, "START", 0)], "1.jsonl")
    assert workshop.run(*scheduled) == 0
    assert workshop.run(*scheduled) == 0
    assert workshop.report()["input"]["read"] == 0
    workshop.write_activity([of_user(0, "RESPOND", 60, responses=[response("q", 1, 2)])], "2.jsonl")
    workshop.write_activity([of_user(0, "SUBMIT", 120)], "3.jsonl")
    assert workshop.run(*scheduled) == 0
    assert workshop.report()["input"]["files"] == 2
    assert len(receiver.stored()) == len({key for _, key in receiver.stored()}) == 4


def test_an_empty_folder_is_a_quiet_run(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([], "gone.jsonl")
    (gone,) = workshop.path.glob("**/gone.jsonl")
    gone.unlink()
    assert workshop.run(*scheduled) == 0
    assert "no record is in its scope" not in capsys.readouterr().out
    assert workshop.report()["hints"] == []


def test_a_file_that_was_not_read_to_its_end_is_read_again(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is still being uploaded may keep its size and its time: as long as its end is missing, it is new."""
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([of_user(0, "START", 0), of_user(0, "SUBMIT", 120)], "1.jsonl")
    (path,) = workshop.path.glob("**/1.jsonl")
    whole = gzip.compress(path.read_bytes())
    path.write_bytes(whole[:-9])
    for _ in range(2):
        assert workshop.run(*scheduled, "--max_reject_ratio=1") == 3
        assert workshop.report()["input"]["files"] == 1
        assert "1 input files could not be read to their end" in caplog.text
        caplog.clear()
    path.write_bytes(whole)
    assert workshop.run(*scheduled) == 0
    assert workshop.run(*scheduled) == 0
    assert workshop.report()["input"]["files"] == 0
    assert len(receiver.stored()) == len({key for _, key in receiver.stored()}) == 3


def test_a_file_that_has_grown_is_read_again_and_sends_only_what_is_new(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([of_user(0, "START", 0)])
    assert workshop.run(*scheduled) == 0
    workshop.write_activity([of_user(0, "START", 0), of_user(0, "SUBMIT", 120)])
    assert workshop.run(*scheduled, "--output", str(workshop.path / "another")) == 0
    assert [json.loads(arrival.body).get("event") for arrival in receiver.log] == [
        "session-started",
        "session-completed",
        None,
    ], "nothing twice, although the second output has no receipt of the first record"


def test_a_run_that_failed_leaves_the_state_and_its_files_are_read_again(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity([of_user(0, "START", 0)], "1.jsonl")
    assert workshop.run(*scheduled) == 0
    before = current(workshop)
    workshop.write_lines([b"no activity"] * 3, "2.jsonl")
    workshop.write_activity([of_user(0, "SUBMIT", 120)], "3.jsonl")
    assert workshop.run(*scheduled, "--max_rejects=1") == 1
    assert current(workshop) == before
    assert workshop.run(*scheduled, "--max_rejects=4") == 3
    assert current(workshop) != before
    assert len(receiver.stored()) == 3


def test_what_could_not_be_delivered_stays_in_the_output_for_a_redrive(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    receiver.script = scripted(default=[400] * 4)
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(1))
    assert workshop.run(*scheduled) == 3
    assert workshop.run(*scheduled) == 0, "there is nothing new"
    receiver.script = scripted()
    assert workshop.redrive() == 0
    assert len(receiver.stored()) == 4


def test_a_dry_run_changes_nothing(workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(2))
    assert workshop.run(*scheduled, "--dry_run") == 0
    assert workshop.account("http")["matched"] == 8
    assert [path.name for path in (workshop.path / "state").iterdir()] == [".lock"]
    assert workshop.run(*scheduled) == 0
    assert len(receiver.stored()) == 8


def test_what_a_run_leaves_can_be_read_by_its_owner_alone(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    """Beam's own files too. A folder that is there stays as it is."""
    workshop.write_forwarders(http_document(receiver))
    receiver.script = scripted(default=[400])
    workshop.write_lines([*map(encode, sessions(2)), b"no activity"])
    (workshop.output / "receipts").mkdir(parents=True)
    for folder in (workshop.output, workshop.output / "receipts"):
        folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        assert workshop.run(*scheduled, "--write_records=jsonl", "--durability=each") == 3
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    state = Path(scheduled[1])
    left = [*workshop.output.rglob("*"), state, *state.rglob("*")]
    modes = {str(path.relative_to(workshop.path)): path.stat().st_mode & 0o777 for path in left}
    assert {"out/dead_letters", "out/rejects", "out/records", "out/report.json", "state/parts"} <= modes.keys()
    assert modes.pop("out/receipts") == 0o755
    assert {name: mode for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_what_a_kill_left_half_written_is_removed_by_the_next_run(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(1))
    state = Path(scheduled[1])
    folders = ("", "receipts", "dead_letters", "records", "rejects", "attachments")
    left = [workshop.output / folder / "x.avro.12345.tmp" for folder in folders]
    left += [state / "current.json.12345.tmp", state / "parts" / "x.12345.tmp"]
    left += [workshop.output / folder / "beam-temp-x" / "half" for folder in ("records", "rejects")]
    others = [workshop.output / "attachments" / "of somebody.tmp", workshop.output / "receipts" / "notes.txt"]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"what a learner did")
    assert workshop.run(*scheduled, "--write_records=jsonl") == 0
    assert [path for path in left if path.exists()] == []
    assert all(path.exists() for path in others)
    assert len(receiver.stored()) == 4


def test_a_state_that_cannot_be_written_fails_the_run_and_the_report_says_so(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(1))

    def fail(*_: object, **__: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr("pipeline.session_state.commit", fail)
    assert workshop.run(*scheduled) == 1
    assert workshop.report()["state"] == "failed"
    assert workshop.report()["exit_status"] == 1
    monkeypatch.undo()
    assert workshop.run(*scheduled) == 0
    assert workshop.account("http")["already_delivered"] == 4


def test_runs_that_overlap_do_not_share_a_state(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(2))
    with OutputLock(scheduled[1]):
        assert workshop.run(*scheduled, "--output", str(workshop.path / "another")) == 1
    assert "in use by another run" in caplog.text
    assert not receiver.log


def test_a_state_is_not_read_where_it_is_damaged(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(1))
    Path(scheduled[1]).mkdir()
    (Path(scheduled[1]) / "current.json").write_text('{"version": 3}')
    assert workshop.run(*scheduled) == 1
    assert "of version 3" in caplog.text


def test_with_worker_processes_a_spoilt_part_is_told_in_one_line(
    workshop: Workshop, receiver: Receiver, scheduled: tuple[str, str]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(12), "monday.jsonl")
    assert workshop.run(*scheduled) == 0
    for part in (workshop.path / "state" / "parts").iterdir():
        spoilt = bytearray(part.read_bytes())
        spoilt[len(spoilt) // 2] ^= 0xFF
        part.write_bytes(spoilt)
    workshop.write_activity(sessions(13), "tuesday.jsonl")
    arguments = workshop.arguments("--input", str(workshop.path / "in" / "*"), *scheduled)
    job = start_job(
        [*arguments, "--direct_running_mode=multi_processing", "--direct_num_workers=2"], workshop.path / "told"
    )
    assert job.wait(120) == 1, job.printed()
    assert "Traceback" not in job.printed()
    (told,) = [line for line in job.printed().splitlines() if "its checksum differs" in line]
    assert str(workshop.path / "state" / "parts") in told
    assert "restore it, or use another --state" in told
