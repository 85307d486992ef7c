"""What is lacking on this machine: room, descriptors, time. It is told in a line, and is no receiver's fault."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from tests.support.activity import of_user, sessions
from tests.support.forked import CONTEXT, Forked, start_job
from tests.support.forwarder_documents import aws_document, http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, scripted
from tests.support.laboratory.scenarios import laboratory
from tests.support.limited_job import Ended, run_limited
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.sinks import aws_clients

# --- room


def limited(workshop: Workshop, limits: list[int], *more: str) -> list[Ended]:
    """The job on an output for each limit of the size of a file; see `tests.support.limited_job`."""
    arguments = [*workshop.arguments(*more), "--input", str(workshop.path / "in" / "*")]
    receiving, sending = CONTEXT.Pipe(duplex=False)
    with receiving, sending:
        jobs = Forked(Path(os.devnull), run_limited, limits, arguments, sending)
        sending.close()
        ended = [receiving.recv() for _ in limits]
        assert jobs.wait(60) == 0
    return ended


def test_a_disk_that_is_full_is_told_by_name_and_leaves_nothing_half_written(
    workshop: Workshop, receiver: Receiver
) -> None:
    workshop.write_activity(sessions(60))
    workshop.write_forwarders(http_document(receiver))
    places = [f"--{flag}={workshop.path / flag}-{{}}" for flag in ("output", "state")]
    for run in limited(workshop, [1_000, 8_000], *places, "--write_records=jsonl"):
        log = run.log
        assert run.status == 1, log
        assert "Traceback" not in log
        assert "File too large; allow larger files (`ulimit -f`), then run again" in log
        assert str(workshop.path) in log
    left = [path.name for path in workshop.path.rglob("*") if path.suffix == ".tmp" or "beam-temp" in path.name]
    assert left == []


@pytest.mark.parametrize("more", [[], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]])
def test_a_disk_that_fills_between_reading_and_deriving_is_told_by_name_and_nothing_is_lost(
    workshop: Workshop, receiver: Receiver, more: list[str]
) -> None:
    scratch = workshop.path / "scratch"
    scratch.mkdir()
    large = Random(1).randbytes(20_000).hex()  # noqa: S311 - zstd makes half of it
    workshop.write_activity([*sessions(5), of_user(1, "PAUSE", 60, metadata={"large": large})])
    workshop.write_forwarders(http_document(receiver))
    (run,) = limited(workshop, [16_000], f"--temp_dir={scratch}", *more)
    assert run.status == 1, run.log
    assert "Traceback" not in run.log
    assert f"{scratch}/session-forwarder-run-" in run.log
    assert (
        "cannot hold what was read until it is derived: File too large; allow larger files (`ulimit -f`), or give "
        "another directory with --temp_dir, then run again: nothing of this input was sent"
    ) in run.log
    assert list(scratch.iterdir()) == []
    assert len(receiver.log) == 0
    assert workshop.run(f"--temp_dir={scratch}") == 0
    assert len({arrival.key for arrival in receiver.log}) == 20 == len(receiver.log)


def test_an_output_that_is_deleted_stops_the_run(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(300))
    workshop.write_forwarders(http_document(receiver))

    def script(arrival: Arrival) -> Answer:
        if len(receiver.log) == 200:
            shutil.rmtree(workshop.output)
        return Answer()

    receiver.script = script
    assert workshop.run() == 1
    assert "was deleted or moved during the run, so nothing more is sent" in caplog.text
    assert "Traceback" not in caplog.text
    # Those that were in flight have arrived, and no others.
    assert len(receiver.log) <= 200 + 2 * 16
    receiver.script = scripted()
    assert workshop.run() == 0
    assert len({arrival.key for arrival in receiver.log}) == 1200


# --- descriptors

# The sinks bind their resolver when they are imported, so this is no forked process.
FEW_DESCRIPTORS = """
import resource, socket, sys, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
look_up, most = socket.getaddrinfo, 0

def getaddrinfo(host, *more, **options):
    return look_up("127.0.0.1" if host.endswith(".example") else host, *more, **options)

def watch():
    global most
    while True:
        most = max(most, threading.active_count())
        time.sleep(0.01)

socket.getaddrinfo = getaddrinfo
threading.Thread(target=watch, daemon=True).start()
from pipeline.__main__ import console
try:
    console()
finally:
    print(f"at most {most} threads", file=sys.stderr)
"""


def test_two_hundred_forwarders_by_host_name_on_256_descriptors(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(
        *(
            http_document(receiver, f"f{number}", {"url": f"h{number}.example:{receiver.port}", "timeout": 60})
            for number in range(200)
        )
    )
    arguments = workshop.arguments("--input", str(workshop.path / "in" / "*"))
    command = [sys.executable, "-c", FEW_DESCRIPTORS, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert "More descriptors make it quicker (`ulimit -n`)" in done.stderr
    threads = re.search(r"at most (\d+) threads", done.stderr)
    assert threads is not None
    assert int(threads[1]) <= 60
    assert len(receiver.log) == 200 * 8
    for account in workshop.report()["forwarders"]:
        assert (account["delivered"], account["attempts"], account["ambiguous"]) == (8, 8, 0)


# --- time


def hurried() -> None:
    """For the process of the job: no call of AWS may take longer."""
    aws_clients.READ_TIMEOUT = 2.0


def test_a_process_that_stood_still_reads_the_answers_that_are_there(workshop: Workshop) -> None:
    """Stopped while a request and a call are in flight, for longer than either may take."""
    workshop.write_activity(sessions(3))
    with laboratory() as (receiver, kinesis, _):
        kinesis.add_stream("stream")
        workshop.write_forwarders(http_document(receiver, "http", {"timeout": 3}), aws_document("stream"))
        stopped = threading.Event()

        def stop() -> None:
            if not stopped.is_set():
                until(lambda: len(receiver.log) == 3)  # one of each user
                os.kill(job.pid, signal.SIGSTOP)
                receiver.release()
                stopped.set()

        receiver.script = lambda arrival: Answer(fault="none" if stopped.is_set() else "hold")
        kinesis.before_put = stop
        arguments = workshop.arguments("--input", str(workshop.path / "in" / "*"))
        job = start_job(arguments, workshop.path / "told", before=hurried)
        assert stopped.wait(120)
        time.sleep(3.5)  # That is what is tested: the process does nothing for so long.
        os.kill(job.pid, signal.SIGCONT)
        assert job.wait(60) == 0, job.printed()
    for forwarder in ("http", "stream"):
        account = workshop.account(forwarder)
        assert (account["matched"], account["delivered"], account["attempts"]) == (12, 12, 12)
        assert account["ambiguous"] == 0
    assert len(receiver.log) == 12
