"""The launcher's side of `--state`: which input is new, what the workers go on from, and what state comes after."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from transforms.accounting.summary import Summary
from transforms.read import InputFile
from transforms.sessions.state import Current, SeenFile, StateOptions, commit, read_current
from transforms.sources.base import StatementSource

logger = logging.getLogger(__name__)
_UNREAD_SHOWN = 10


@dataclass(frozen=True)
class SessionState:
    """The state as a run found it. The run holds its lock.

    Attributes:
        directory: of the state.
        run_id: of the run.
        now: epoch ms at which this run's activity arrived.
        ttl: ms for which a session is kept after its latest activity.
        current: the state in force.
        durable: whether the state is to survive a power cut.
    """

    directory: str
    run_id: str
    now: int
    ttl: int
    current: Current
    durable: bool = True

    @classmethod
    def opened(
        cls, directory: str, run_id: str, now: int, ttl_seconds: float, *, durable: bool = True
    ) -> "SessionState":
        """Read the state in `directory`.

        Raises:
            StateError: what is there is no state, or not as it was written.
        """
        return cls(directory, run_id, now, int(ttl_seconds * 1000), read_current(directory), durable)

    def new_files(self, files: Iterable[InputFile]) -> tuple[InputFile, ...]:
        """The files that are not in the state, or have changed since they were read."""
        files = tuple(files)
        new = tuple(file for file in files if self.current.files.get(file.path) != _as_seen(file))
        logger.info("%d of %d input files are new since the last run on %s", len(new), len(files), self.directory)
        return new

    def new_statements(self, sources: Iterable[StatementSource]) -> tuple[StatementSource, ...]:
        """The live sources, each as far as it is new since the last run."""
        return tuple(source.going_on_from(self.current.positions.get(source.key)) for source in sources)

    def options(self, *, read_only: bool) -> StateOptions:
        """What the workers need. With `read_only` they write no parts."""
        parts = tuple(self.current.parts.items())
        voids = frozenset(each.void for each in self.current.voids if each.arrived >= self.now - self.ttl)
        return StateOptions(self.directory, self.run_id, self.now, self.ttl, parts, voids, read_only, self.durable)

    def commit(self, summary: Summary, files: Iterable[InputFile]) -> None:
        """Put the state that the run has made in force. All else that the run has written is to be durable before.

        A file that was not read to its end is not put down as read: the next run reads it again.

        Args:
            summary: of the run.
            files: all files that the run's --input matches, not only the new ones.
        """
        unread = summary.read.unread
        if unread:
            logger.warning(
                "%d input files could not be read to their end, and are read again by the next run on %s: %s",
                len(unread),
                self.directory,
                ", ".join(sorted(unread)[:_UNREAD_SHOWN]) + (", ..." if len(unread) > _UNREAD_SHOWN else ""),
            )
        seen = {file.path: _as_seen(file) for file in files if file.path not in unread}
        read = summary.read
        commit(
            self.directory,
            self.current,
            self.run_id,
            summary.state_parts,
            seen,
            self.now,
            self.ttl,
            read.voids,
            read.positions,
            durable=self.durable,
        )


def _as_seen(file: InputFile) -> SeenFile:
    return SeenFile(file.size, file.changed)
