"""What a user watches while a run goes on: a few lines at the bottom of the terminal; lines in the log elsewhere."""

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from pipeline.cells import flow, width
from pipeline.progress import Progress, trouble_lines
from transforms.accounting.board import Board, Snapshot
from transforms.accounting.trouble import TroubleLog

logger = logging.getLogger(__name__)

_INTERVAL = 0.5
"""Seconds from one look at the board to the next."""

_LOG_INTERVAL = 10.0
"""Seconds from one line of the log to the next, where there is no terminal."""

_SHARE = 0.01
"""The share of this process's time that looking may take: with very many forwarders it is done less often."""

_MOST_LINES = 12
"""Lines of the view, at most. It takes no more than half of the terminal, either."""

_HEAD_LINES = 3

_YELLOW, _PLAIN = "\x1b[33m", "\x1b[0m"


class LiveView:
    """Shows a run for as long as it is entered, and logs once when a forwarder begins to fail and when it is back.

    On a terminal some lines are drawn in place, below whatever else is written to standard error. Elsewhere a line is
    logged now and then.

    Args:
        board: of the run.
        draws: whether a terminal is drawn on. Else lines are logged there, too, as for a log in JSON.
        interval: seconds from one look at it to the next, at least.
    """

    def __init__(self, board: Board, *, draws: bool = True, interval: float = _INTERVAL) -> None:
        self._board = board
        self._interval = interval
        self._progress = Progress()
        self._log = TroubleLog()
        self._stream = sys.stderr
        self._block = Block(sys.stderr) if draws and can_draw(sys.stderr) else None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._replaced: list[logging.StreamHandler[Any]] = []

    def __enter__(self) -> "LiveView":
        if self._block is not None:
            self._write_above(self._block)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        if self._block is not None:
            self._block.clear()
            for handler in self._replaced:
                handler.setStream(self._stream)
            sys.stderr = self._stream

    def _write_above(self, block: "Block") -> None:
        """Let what is written to standard error from now on stand above the block."""
        above = Above(self._stream, block)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(above)
                self._replaced.append(handler)
        sys.stderr = above

    def _run(self) -> None:
        wait, logged_at = self._interval, time.monotonic()
        while not self._done.wait(wait):
            began = time.thread_time()
            board, now = self._look()
            if self._block is not None:
                self._block.draw(self._lines(board, now, *self._block.size()))
            elif time.monotonic() - logged_at >= _LOG_INTERVAL:
                logged_at = time.monotonic()
                logger.info("%s", self._line(board, now))
            wait = max(self._interval, (time.thread_time() - began) / _SHARE)

    def _look(self) -> tuple[Snapshot, float]:
        """The board at this moment, and when that is, in unix seconds. What is news is logged."""
        board, now = self._board.read(), time.time()
        self._progress.see(board, now)
        self._log.look(board.forwarders, now)
        return board, now

    def _lines(self, board: Snapshot, now: float, across: int, down: int) -> list[str]:
        """The lines that there is room for. The last column stays empty: a letter there would begin a new line."""
        most = max(1, min(_MOST_LINES, down // 2))
        head = flow(self._progress.parts(board, now), across - 1)[: min(_HEAD_LINES, -(-most // 2))]
        troubles = trouble_lines(board, now, across - 1, most - len(head))
        return [*head, *troubles]

    def _line(self, board: Snapshot, now: float) -> str:
        parts = self._progress.parts(board, now)
        troubles = sum(standing.failing is not None for standing in board.forwarders.values())
        if troubles:
            parts.append(f"forwarders that take nothing: {troubles:,}")
        return "  ".join(parts)


def can_draw(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be drawn in place."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Block:
    """Some lines on a terminal that are drawn in place. Any thread may call it.

    The cursor stays at the beginning of the last line, so that the terminal's echo of Ctrl-C is drawn over.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # A signal's handler may log while the same thread draws.
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._is_drawn = False

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        with suppress(OSError, ValueError):
            across, down = os.get_terminal_size(self._stream.fileno())
            if across > 0 and down > 0:
                return across, down
        return 80, 24

    def draw(self, lines: Sequence[str]) -> None:
        """Draw these lines in the place of those before. Each is narrower than the terminal."""
        with self._lock:
            text = self._to_its_beginning() + "\n".join(f"{_coloured(line)}\x1b[K" for line in lines) + "\x1b[J\r"
            self._lines, self._is_drawn = list(lines), bool(lines)
            self._put(text)

    def clear(self) -> None:
        """Take the block off the terminal."""
        with self._lock:
            if self._is_drawn:
                self._put(self._to_its_beginning() + "\x1b[J")
            self._lines, self._is_drawn = [], False

    def write_above(self, text: str) -> None:
        """Write a text where the block is, and the block below it once the text has ended its line."""
        with self._lock:
            if self._is_drawn:
                text = self._to_its_beginning() + "\x1b[J" + text
                self._is_drawn = False
            self._put(text)
            if text.endswith("\n") and self._lines:
                self.draw(self._lines)

    def _to_its_beginning(self) -> str:
        """What brings the cursor to the first cell of the block, even if the terminal is narrower by now."""
        if not self._is_drawn:
            return "\r"
        across, _ = self.size()
        # The cursor is in the row in which the last line begins.
        rows = sum(max(1, -(-width(line) // across)) for line in self._lines[:-1])
        return "\r" + (f"\x1b[{rows}A" if rows else "")

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):  # A terminal that is gone is no reason to end a run.
            self._stream.write(text)
            self._stream.flush()


class Above(io.TextIOBase):
    """A stream whose text goes above a block."""

    def __init__(self, stream: TextIO, block: Block) -> None:
        self._stream = stream
        self._block = block

    def write(self, text: str) -> int:
        self._block.write_above(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the terminal."""
        return self._stream.encoding


def _coloured(line: str) -> str:
    return f"{_YELLOW}{line}{_PLAIN}" if line.startswith("! ") and not os.environ.get("NO_COLOR") else line
