"""The launcher's side of `--state`: which input is new, what the workers go on from, and what state comes after."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from schemas.times import rfc3339
from transforms.accounting.summary import Summary
from transforms.read import InputFile
from transforms.sessions.arrivals import arrived_since
from transforms.sessions.state import (
    Current,
    SeenFile,
    StateError,
    StateOptions,
    commit,
    read_current,
    remove_unfinished,
    with_arrivals,
)
from transforms.sources.base import StatementSource

logger = logging.getLogger(__name__)
_UNREAD_SHOWN = 10

CLOCK_TOLERANCE = 5 * 60_000
"""Milliseconds by which a run may seem to begin before the last one on its state. Clocks of machines differ by seconds.

Then its activity counts as arrived when that of the last run did.
"""

_UNITS = (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000), ("seconds", 1000))


@dataclass(frozen=True)
class ClockLimits:
    """What a clock may do to a state before the run stops. A clock that is wrong must not forget sessions in silence.

    Attributes:
        max_forget_ratio: the share of the sessions that a run may forget (`--max_forget_ratio`).
        trusted: the clock is known to be right. The run forgets what is due, and goes on from a state that is later
            (`--trust_clock`).
    """

    max_forget_ratio: float
    trusted: bool = False


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
        cls,
        directory: str,
        run_id: str,
        now: int,
        ttl_seconds: float,
        clock: ClockLimits,
        *,
        durable: bool = True,
    ) -> "SessionState":
        """Read the state in `directory`.

        Args:
            directory: of the state.
            run_id: of the run.
            now: epoch ms: when the run began, by the clock of this machine.
            ttl_seconds: for which a session is kept after its latest activity.
            clock: what `now` may do to the state.
            durable: whether the state is to survive a power cut.

        Raises:
            StateError: what is there is no state, or not as it was written; or `now` is before the last run, or would
                make this one forget too many sessions.
        """
        remove_unfinished(directory)
        current = read_current(directory)
        parts = {bucket: with_arrivals(directory, part) for bucket, part in current.parts.items()}
        current = msgspec.structs.replace(current, parts=parts)
        ttl = int(ttl_seconds * 1000)
        if not clock.trusted:
            last = _last_arrival(current)
            if now < last - CLOCK_TOLERANCE:
                raise StateError(_too_early(directory, now, last))
            now = max(now, last)
            _check_forgotten(directory, current, now, ttl, clock.max_forget_ratio)
        return cls(directory, run_id, now, ttl, current, durable)

    def new_files(self, files: Iterable[InputFile]) -> tuple[InputFile, ...]:
        """The files that are not in the state, or have changed since they were read."""
        files = tuple(files)
        new = tuple(file for file in files if self.current.files.get(file.path) != _as_seen(file))
        for file in files if logger.isEnabledFor(logging.DEBUG) else ():
            if file not in new:
                logger.debug("%s was read by an earlier run, and is as it was: it is passed over", file.path)
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


def _last_arrival(current: Current) -> int:
    """When the activity of the last run arrived, in epoch ms; 0 if there was none. Version 1 tells it roughly."""
    arrivals = [part.written for part in current.parts.values()] + [void.arrived for void in current.voids]
    return current.arrived or max(arrivals, default=0)


def _too_early(directory: str, now: int, last: int) -> str:
    return (
        f"by the clock of this machine it is {rfc3339(now)}, {_span(last - now)} before the last run on {directory} "
        f"({rfc3339(last)}). Nothing was read or sent. If this clock is wrong, set it, and run again. If it is right, "
        "and that of the last run was wrong, give --trust_clock once"
    )


def _check_forgotten(directory: str, current: Current, now: int, ttl: int, ratio: float) -> None:
    """Raise StateError if too many of the sessions that were kept at the last run would be forgotten by this one."""
    last = _last_arrival(current)
    parts = [part.arrivals or () for part in current.parts.values()]
    kept = arrived_since(parts, current.forgotten_before or last - ttl)
    forgotten = kept - arrived_since(parts, now - ttl)
    if forgotten > ratio * kept:
        raise StateError(
            f"{forgotten:,} of the {kept:,} sessions in {directory} would be forgotten, more than --max_forget_ratio "
            f"{ratio:.1%}: nothing has arrived of them for --session_ttl ({_span(ttl)}). By the clock of this machine "
            f"it is {rfc3339(now)}, {_span(now - last)} after the last run on the state ({rfc3339(last)}). Nothing was "
            "read or sent. If this clock is wrong, set it, and run again. If it is right, give --trust_clock once, or "
            "keep sessions longer with --session_ttl"
        )


def _span(milliseconds: int) -> str:
    """A length of time for people: in the largest unit of which there are two."""
    for name, size in _UNITS:
        if milliseconds >= 2 * size:
            return f"{milliseconds // size:,} {name}"
    return "a second"


def _as_seen(file: InputFile) -> SeenFile:
    return SeenFile(file.size, file.changed)
