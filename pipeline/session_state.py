"""The launcher's side of `--state`: which input is new, what the workers go on from, and the state that comes after."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from transforms.accounting.summary import Summary
from transforms.read import InputFile
from transforms.sessions.state import Current, SeenFile, StateOptions, commit, read_current

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionState:
    """The state as a run found it, whose lock it holds. `now` and `ttl` in ms."""

    directory: str
    run_id: str
    now: int
    ttl: int
    current: Current

    @classmethod
    def opened(cls, directory: str, run_id: str, now: int, ttl_seconds: float) -> "SessionState":
        """Raises StateError when what is there is not a state."""
        return cls(directory, run_id, now, int(ttl_seconds * 1000), read_current(directory))

    def new_files(self, files: Iterable[InputFile]) -> tuple[InputFile, ...]:
        """Those of `files` that the state has not, or that have changed since."""
        files = tuple(files)
        new = tuple(file for file in files if self.current.files.get(file.path) != _as_seen(file))
        logger.info("%d of %d input files are new since the last run on %s", len(new), len(files), self.directory)
        return new

    def options(self, *, read_only: bool) -> StateOptions:
        parts = tuple((bucket, part.name) for bucket, part in self.current.parts.items())
        return StateOptions(self.directory, self.run_id, self.now, self.ttl, parts, read_only)

    def commit(self, summary: Summary, files: Iterable[InputFile]) -> None:
        """Put what the run has made in force. `files`: all that its --input matches, not only the new ones."""
        seen = {file.path: _as_seen(file) for file in files}
        commit(self.directory, self.current, self.run_id, summary.state_parts, seen, self.now, self.ttl)


def _as_seen(file: InputFile) -> SeenFile:
    return SeenFile(file.size, file.changed)
