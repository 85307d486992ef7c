"""Child processes that end with this one, and signals that end it in good order."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where `python -m pipeline` and `python -m local.…` are run."""

GRACE = 30
"""Seconds a child process has to end by itself once it was asked to."""


class Stopped(BaseException):
    """Ctrl-C, or another signal that asks to end. Not an Exception: nothing but the end of the run may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Stopped, also where the shell had them ignored: `finally` clauses run."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs `command` to its end and returns its status. When this process is stopped, it is ended first.

    A first signal lets it finish what is in flight, a second one, or GRACE seconds, kill it and all it started.
    """
    # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
    child = subprocess.Popen(  # noqa: S603 - our own modules
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return child.wait()
    except Stopped:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
