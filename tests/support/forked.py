"""The job in processes of its own that need not import it: forked from one that has.

A start imports for two seconds of processor time, mostly Beam. What is tested of a start itself (what it imports, what
a signal does in it, standard input) takes `python -m pipeline`; what comes after it takes this.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.waiting import until

CONTEXT = multiprocessing.get_context("forkserver")
# A process imports the program that the tests were started with, too, and that is pytest's.
CONTEXT.set_forkserver_preload(["pytest", "tests.support.imported", __name__])


class Forked:
    """A process, the leader of its group. What it prints, errors among it, goes to the file `printed_to`."""

    def __init__(self, printed_to: Path, target: Callable[..., None], *arguments: object) -> None:
        """Start it: in the root of the project, with this process's environment, and no standard input.

        Args:
            printed_to: a file, or a device.
            target: what it carries out; of a module, so that the process can import it.
            arguments: of the target. They are pickled.
        """
        self.printed_to = printed_to
        self._process: BaseProcess = CONTEXT.Process(
            target=_carry_out, args=(dict(os.environ), str(printed_to), target, arguments), daemon=True
        )
        printed_to.write_bytes(b"")
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen` has it: None as long as it runs, -9 when it was killed."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, seconds: float | None = None) -> int:
        """Its exit status; raises TimeoutError if it runs for longer."""
        self._process.join(seconds)
        if self.returncode is None:
            raise TimeoutError(f"it still runs after {seconds} s: {self.printed()}")
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def printed(self) -> str:
        """What it has printed until now."""
        return self.printed_to.read_text(errors="replace")

    def wait_for_text(self, text: str, seconds: float = 60.0) -> None:
        """Until it has printed that."""
        until(lambda: text in self.printed(), seconds, failing=self.printed)


def start_job(arguments: Sequence[str], printed_to: Path, before: Callable[[], None] | None = None) -> Forked:
    """The job with a command line. before: what the process does first; of a module."""
    return Forked(printed_to, _console, list(arguments), before)


def _carry_out(
    environment: dict[str, str], printed_to: str, target: Callable[..., None], arguments: Sequence[object]
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    printed = os.open(printed_to, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(printed, descriptor)
    os.close(printed)
    target(*arguments)


def _console(arguments: list[str], before: Callable[[], None] | None) -> None:
    from pipeline.__main__ import console

    sys.argv[1:] = arguments
    if before is not None:
        before()
    console()
