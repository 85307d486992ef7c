"""How far the run is, and whether it is to stop: what launcher and workers tell each other on one machine.

Both go through a directory that only exists there, so that one mechanism serves a single process and several;
on a distributed runner the directory is absent, workers report nothing and run to their end.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.5
_STOP = "stop"

_lock = threading.Lock()
_counts: dict[str, dict[str, int]] = {}
_written: dict[str, float] = {}


@dataclass(frozen=True)
class Progress:
    """The board of one run. Picklable; every process counts for itself in a file of its own."""

    directory: str

    def advance(self, **counts: int) -> None:
        """Add to this process's counts (`size` in bytes and `records` of the input, `derived`, `delivered`)."""
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
        """Make this process's counts visible now."""
        with _lock:
            text = json.dumps(_counts.get(self.directory, {}))
        self._write(text)

    def _write(self, text: str) -> None:
        board = Path(self.directory)
        if board.is_dir():
            draft = board / f"{os.getpid()}-{threading.get_ident()}.draft"
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
        """Ask every step to take no more work."""
        (Path(self.directory) / _STOP).touch()

    def stopping(self) -> bool:
        return os.path.exists(os.path.join(self.directory, _STOP))  # noqa: PTH110, PTH118 - asked for every block
