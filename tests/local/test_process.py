"""Nothing is left running: not when a child is done, not when the run is stopped, not at a second signal."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local.process import ROOT, run_child

# A child that starts a child of its own, as a job with several workers does.
PARENT = """
import os, signal, subprocess, sys
{before}
worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(os.getpid(), worker.pid, flush=True)
{after}
"""
RUN = """
import os, sys
from local.process import Stopped, run_child, signals_as_exceptions
try:
    with signals_as_exceptions():
        run_child([sys.executable, "-c", sys.argv[1]], os.environ)
except Stopped as stop:
    sys.exit(stop.status)
"""


@contextmanager
def a_run(child: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that runs `child` as run_local does, and handles to watch the child and its worker with."""
    run = subprocess.Popen([sys.executable, "-c", RUN, child], cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    with run:
        assert run.stdout
        watched = [os.pidfd_open(int(pid)) for pid in run.stdout.readline().split()]
        yield run, watched
    for handle in watched:
        os.close(handle)


def gone(watched: list[int]) -> bool:
    return all(select.select([handle], [], [], 10)[0] for handle in watched)


def test_the_status_is_the_childs() -> None:
    assert run_child([sys.executable, "-c", "import sys; sys.exit(3)"], os.environ) == 3


def test_workers_that_outlive_the_child_are_ended() -> None:
    with a_run(PARENT.format(before="", after="")) as (run, watched):
        assert run.wait(timeout=10) == 0
        assert gone(watched)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_child_finish_and_ends_its_workers(number: signal.Signals) -> None:
    finish = "signal.signal(signal.SIGTERM, lambda *_: (print('finished', flush=True), sys.exit(1)))"
    with a_run(PARENT.format(before=finish, after="signal.pause()")) as (run, watched):
        run.send_signal(number)
        assert run.wait(timeout=10) == 128 + number
        assert gone(watched)
        assert run.stdout
        assert run.stdout.read() == "finished\n"


def test_a_second_signal_does_not_wait() -> None:
    obstinate = "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))"
    with a_run(PARENT.format(before=obstinate, after="while True: signal.pause()")) as (run, watched):
        run.send_signal(signal.SIGINT)
        assert run.stdout
        assert run.stdout.readline() == "no\n"
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=10) == 130
        assert gone(watched)
