"""How a command's process ends: by Ctrl-C at any time, and where nobody reads what it prints."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.waiting import until
from tests.support.workshop import Workshop

IMPORTING = "import time\nprint('now', flush=True)\ntime.sleep(600)\n"
RUNNING = "import time\ndef main(argv):\n    print('now', flush=True)\n    time.sleep(600)\n"
CLEANING_UP = """
import time
def main(argv):
    try:
        print('now', flush=True)
        time.sleep(600)
    finally:
        print('then', flush=True)
        time.sleep(600)
"""
ENDING = """
import threading, time
def main(argv):
    threading.Thread(target=lambda: time.sleep(600)).start()
    raise KeyboardInterrupt
"""
"""The command is over, and Python waits for its threads."""

INTERRUPTED = (130, -signal.SIGINT)
"""A shell shows both as 130. Python chooses the second if what it interrupted was code that it had made of a text."""


def started(tmp_path: Path, command: str) -> subprocess.Popen[str]:
    (tmp_path / "held_command.py").write_text(command)
    code = "from pipeline.console import run_console\nrun_console('held_command')"
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    """What an interrupted process said on standard error."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED
    return [line.split(" ERROR ")[-1] for line in errors.splitlines()]


@pytest.mark.parametrize("command", [IMPORTING, RUNNING])
def test_ctrl_c_while_a_command_is_imported_or_runs_ends_it_in_one_line(tmp_path: Path, command: str) -> None:
    with started(tmp_path, command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert ended(process) == ["interrupted"]


def test_a_second_ctrl_c_ends_what_the_first_has_begun_to_end(tmp_path: Path) -> None:
    with started(tmp_path, CLEANING_UP) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "then\n"
        process.send_signal(signal.SIGINT)
        assert ended(process) == ["interrupted"]


def test_ctrl_c_while_only_threads_are_left_says_nothing_more(tmp_path: Path) -> None:
    with started(tmp_path, ENDING) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        # From when on Python waits for the threads cannot be seen. Before it, the signal ends the process as well.
        process.send_signal(signal.SIGINT)
        assert ended(process) == []
    assert said.endswith("interrupted\n")


def test_who_ignores_ctrl_c_goes_on_doing_so(tmp_path: Path) -> None:
    held = (
        "import signal\ndef main(argv):\n    signal.raise_signal(signal.SIGINT)\n    print('went on')\n    return 0\n"
    )
    (tmp_path / "held_command.py").write_text(held)
    code = "from pipeline.console import run_console\nrun_console('held_command')"
    done = subprocess.run(  # noqa: S602
        f"trap '' INT; exec {sys.executable} -c \"{code}\"",
        shell=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_second_ctrl_c_ends_a_run_at_once_with_a_report_and_without_a_trace(
    workshop: Workshop, receiver: Receiver
) -> None:
    receiver.script = lambda arrival: Answer(fault="hold")
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver, "http"))
    command = [sys.executable, "-m", "commands", "run", f"--input={workshop.path}/in/*", *workshop.arguments()]
    told = workshop.path / "told"
    with told.open("w") as stream, subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream) as job:  # noqa: S603
        try:
            receiver.wait_for(1)
            job.send_signal(signal.SIGINT)
            until(lambda: "taking no more records" in told.read_text())
            job.send_signal(signal.SIGINT)
            assert job.wait(60) == 1
        finally:
            job.kill()
            receiver.release()
    text = told.read_text()
    assert text.count("interrupted; what was delivered is in the receipts") == 1
    assert "Traceback" not in text
    assert workshop.report()["state"] == "failed"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["run", "--help_all"],
        ["completion", "zsh"],
        ["sample", "--sessions=2000", "--output=-"],
        ["sample", "--sessions=2000", "--output=-", "--compress=gz"],
        ["show", "runs", "--output=."],
        ["show", "receipts", "--output=.", "--json"],
    ],
)
def test_a_reader_that_has_enough_ends_a_command_quietly_and_well(words: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "commands", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
