"""A terminal that a program runs in, and what one would see in it."""

import copy
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pyte

from tests.support.waiting import until

_OTHER_SCREEN = 1049
"""The mode in which a terminal shows its other screen, which pyte does not know."""


class _Screen(pyte.HistoryScreen):
    """A screen, and another one that is shown instead and forgotten."""

    _kept: tuple[Any, ...] | None = None

    def set_mode(self, *modes: int, **options: Any) -> None:
        if options.get("private") and _OTHER_SCREEN in modes and self._kept is None:
            self._kept = (copy.deepcopy(self.buffer), self.cursor.x, self.cursor.y)
            self.erase_in_display(2)
        super().set_mode(*modes, **options)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        super().reset_mode(*modes, **options)
        if options.get("private") and _OTHER_SCREEN in modes and self._kept is not None:
            self.buffer, self.cursor.x, self.cursor.y = self._kept
            self._kept = None


def _take_the_terminal() -> None:
    """Make what is standard input the terminal of the session, so that Ctrl-C is a signal, and one that is heeded.

    Where the tests run in the background, as under nohup, programs are started with it ignored.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A window of some columns and lines in which a Python module runs. A context manager: it ends the program.

    Args:
        columns: of the window.
        lines: of the window.
        arguments: of the interpreter, such as `-m` and a module.
        variables: of the environment, beside those of this process.
    """

    def __init__(self, columns: int, lines: int, arguments: Sequence[str], **variables: str) -> None:
        self._screen = _Screen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines)
        environment = {**os.environ, "TERM": "xterm-256color", **variables}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_the_terminal,
        )
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # The program has ended.
                return
            if not data:
                return
            with self._lock:
                self._stream.feed(data)

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self._lock:
            self._screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    @property
    def shown(self) -> list[str]:
        """The lines in the window, without those at its end that are empty."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def scrolled(self) -> int:
        """How many lines have left the window at its top."""
        with self._lock:
            return len(self._screen.history.top)

    def until_shows(self, text: str) -> None:
        """Returns once the text is in a line of the window."""
        self._until(lambda: any(text in line for line in self.shown))

    def until_lacks(self, text: str) -> None:
        """Returns once the text is in no line of the window."""
        self._until(lambda: not any(text in line for line in self.shown))

    def _until(self, condition: Callable[[], bool]) -> None:
        # To look at a window takes a millisecond, which the program in it needs, too.
        until(condition, every=0.02, failing=lambda: "\n".join(self.shown))

    def wait(self) -> int:
        """The exit status, once the program has ended."""
        status = self.process.wait(120)
        self._thread.join(5)
        return status
