"""How far a run is, and whether it is to stop: what the launcher and workers on the same machine tell each other.

They do so by files in a directory of that machine, so that it works the same for one process and for several. On a
distributed runner workers do not see the directory: they report nothing, and run to their end.
"""

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.5
"""Seconds between two writes of a process's counts, at least."""

_STOP = "stop"
"""The name of the file that asks to stop."""

_lock = threading.Lock()
# What this process has counted, and when it last wrote that, by directory.
_counts: dict[str, dict[str, int]] = {}
_written: dict[str, float] = {}
# The directories of the runs that were asked to stop in this process.
_stopped: set[str] = set()


@dataclass(frozen=True)
class Progress:
    """The progress of one run. It pickles. Each process counts for itself, in a file of its own in `directory`."""

    directory: str

    def advance(self, **counts: int) -> None:
        """Add to this process's counts.

        Args:
            counts: `size` (bytes) and `records` of the input that was read, records that were `derived`,
                `delivered` and `dead_lettered`.
        """
        now = time.monotonic()
        with _lock:
            mine = _counts.setdefault(self.directory, {})
            for name, count in counts.items():
                mine[name] = mine.get(name, 0) + count
            if now - _written.get(self.directory, 0.0) < _INTERVAL:
                return
            _written[self.directory] = now
            text = json.dumps(mine)
        self._write(text)

    def flush(self) -> None:
        """Make this process's counts visible to others now."""
        with _lock:
            text = json.dumps(_counts.get(self.directory, {}))
        self._write(text)

    def _write(self, text: str) -> None:
        """Write this process's counts. A full disk hides how far the run is, and is no reason to end it."""
        board = Path(self.directory)
        draft = board / f"{os.getpid()}-{threading.get_ident()}.draft"
        with suppress(OSError):
            if board.is_dir():
                draft.write_text(text)
                draft.replace(board / f"{os.getpid()}.json")

    def read(self) -> dict[str, int]:
        """The counts of all processes, added up."""
        total: dict[str, int] = {}
        for path in Path(self.directory).glob("*.json"):
            for name, count in json.loads(path.read_text()).items():
                total[name] = total.get(name, 0) + count
        return total

    def stop(self) -> None:
        """Ask all workers to take no more work.

        Raises nothing. Where the file cannot be made, the workers of this process are asked all the same.
        """
        _stopped.add(self.directory)
        with suppress(OSError):
            (Path(self.directory) / _STOP).touch()

    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        if self.directory in _stopped:
            return True
        # Without pathlib, which is slower: this is asked for every block that is read.
        return os.path.exists(os.path.join(self.directory, _STOP))  # noqa: PTH110, PTH118
