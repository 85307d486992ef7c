"""A run's own directory of temporary files: private, removed at the end, and after a kill by the next run."""

import errno
import fcntl
import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from pipeline.temporary import hold_directory, run_directory, temporary_files_in
from tests.support.activity import of_user, sessions
from tests.support.forked import start_job
from tests.support.forwarder_documents import http_document
from tests.support.receiver import Receiver
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.reading.activity import encode
from transforms.reading.bucket_blobs import BLOB_SIZE
from transforms.storage import StorageError


def test_the_directory_is_private_and_there_as_long_as_the_run(tmp_path: Path) -> None:
    with run_directory(str(tmp_path)) as directory:
        assert directory.parent == tmp_path
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_removes_its_directory(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_directory(str(tmp_path)):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_two_runs_leave_each_other_alone(tmp_path: Path) -> None:
    with run_directory(str(tmp_path)) as one, run_directory(str(tmp_path)) as other:
        assert one != other
        assert {one, other} == set(tmp_path.iterdir())


def test_on_a_file_system_without_locks_runs_and_their_workers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with run_directory(str(tmp_path)) as one, run_directory(str(tmp_path)) as other, temporary_files_in(one):
        hold_directory()
        assert {one, other} == set(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_of_a_run_is_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / "session-forwarder-benchmarks", tmp_path / "mine"]
    for other in others:
        other.mkdir()
    outside = tmp_path / "mine" / "file"
    outside.write_bytes(b"x")
    (tmp_path / "session-forwarder-run-link").symlink_to(others[1])
    with run_directory(str(tmp_path)):
        assert outside.read_bytes() == b"x"
        assert all(other.is_dir() for other in others)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    message = rf"^{missing} \(--temp_dir\) cannot be written: No such file"
    with pytest.raises(StorageError, match=message), run_directory(str(missing)):
        pass


def test_all_temporary_files_go_there_and_afterwards_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/before")
    before = tempfile.gettempdir()
    with temporary_files_in(tmp_path):
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (before, "/before")


def test_a_run_leaves_nothing(workshop: Workshop, receiver: Receiver) -> None:
    scratch = workshop.path / "scratch"
    scratch.mkdir()
    workshop.write_activity(sessions(5))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(f"--temp_dir={scratch}") == 0
    assert len(receiver.log) == 20
    assert list(scratch.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_which_delivers_all(
    workshop: Workshop, receiver: Receiver
) -> None:
    """Killed while it reads from a pipe that has no end yet: what was read lies in files, and nothing was sent."""
    scratch, pipe = workshop.path / "scratch", workshop.path / "in" / "activity.jsonl"
    scratch.mkdir()
    workshop.write_forwarders(http_document(receiver))
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    lines = [encode(activity) + b"\n" for activity in sessions(5)]
    arguments = workshop.arguments(f"--temp_dir={scratch}", f"--input={pipe}")
    job = start_job(arguments, Path(os.devnull))
    with pipe.open("wb") as file:
        file.writelines(lines)
        # More than a worker gathers before it puts it away.
        filler = encode(of_user(9, "START", 0, metadata={"filler": "x" * 40_000})) + b"\n"
        for _ in range(BLOB_SIZE // 40_000 + 10):
            file.write(filler)
        until(lambda: list(scratch.glob("*/activity-*")), 60)
        os.killpg(job.pid, signal.SIGKILL)
    job.wait(60)
    assert len(receiver.log) == 0
    assert len(list(scratch.glob("session-forwarder-run-*"))) == 1
    pipe.unlink()
    pipe.write_bytes(b"".join(lines))
    assert workshop.run(f"--temp_dir={scratch}") == 0
    assert len(receiver.log) == 20
    assert list(scratch.iterdir()) == []
