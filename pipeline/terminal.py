"""What a user watches: one line of progress on a terminal, lines in the log elsewhere."""

import logging
import sys
import threading
import time
from types import TracebackType

from transforms.accounting.board import Board

logger = logging.getLogger(__name__)
_TERMINAL_INTERVAL = 0.5
_LOG_INTERVAL = 10.0


class ProgressLine:
    """Shows the progress of a run for as long as it is entered.

    Args:
        board: of the run.
        total_bytes: of the input; None where that is not known.
    """

    def __init__(self, board: Board, total_bytes: int | None) -> None:
        self._board = board
        self._total_bytes = total_bytes
        self._terminal = sys.stderr.isatty()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._start = time.monotonic()

    def __enter__(self) -> "ProgressLine":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _run(self) -> None:
        while not self._done.wait(_TERMINAL_INTERVAL if self._terminal else _LOG_INTERVAL):
            line = self.line()
            if self._terminal:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
            else:
                logger.info("%s", line)

    def line(self) -> str:
        """What there is to see now."""
        board = self._board.read()
        elapsed = time.monotonic() - self._start
        read, derived, size = board.job.read, board.job.derived, board.job.size
        delivered = sum(standing.delivered for standing in board.forwarders.values())
        dead = sum(standing.dead_letters for standing in board.forwarders.values())
        done = _size(size)
        if self._total_bytes:
            # Ranges of a file are read a little beyond their ends.
            size = min(size, self._total_bytes)
            done = f"{_size(size)} of {_size(self._total_bytes)} ({size / self._total_bytes:.0%})"
        return (
            f"read {read:,} ({done})  derived {derived:,}  delivered {delivered:,}  "
            f"{f'dead letters {dead:,}  ' if dead else ''}"
            f"{(delivered + dead or derived or read) / elapsed:,.0f}/s  {elapsed:.0f} s"
        )


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"
