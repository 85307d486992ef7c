"""What the live sources of statements have in common.

A source travels in the job graph: it says where to read and holds no secret. A worker splits it into parts, and workers
read the parts. What is read are the blocks that files are cut into, too (`transforms.reading.blocks`).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from transforms.delivery.policy import Backoff
from transforms.reading.blocks import Block, Broken
from transforms.reading.positions import Position

Stopping = Callable[[], bool]
"""Whether the run was asked to stop."""

_STOP_CHECK = 0.2
"""Seconds after which a wait looks whether the run is to stop."""


class SourceError(Exception):
    """A source cannot be read, or not to its end. The text says why and what to do, and holds no credential."""


class StoppedError(Exception):
    """The run was asked to stop while a source was waited for."""


@dataclass(frozen=True, slots=True)
class Access:
    """What every source needs to know to be read. It pickles and holds no secret.

    Attributes:
        auth: a reference to `user:password`, env:NAME or file:PATH (`--input_auth`); None: the variables of the source.
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).
        max_backoff: seconds that a wait may grow to before a request is repeated (`--max_backoff`).
        outage_budget: seconds without progress after which a source is given up (`--outage_budget`).
        attachments: the directory in which the data of attachments is kept; None: it is not kept.
    """

    auth: str | None = None
    allow_networks: tuple[str, ...] = ()
    max_backoff: float = 60.0
    outage_budget: float = 300.0
    attachments: str | None = None


class PartReader(Protocol):
    """Reads one part, once.

    Attributes:
        stopped: whether it ended early, because the run is to stop.
        position: up to where the part was read, when `blocks` has ended; None where nothing in it tells.
    """

    stopped: bool
    position: Position | None

    def blocks(self) -> Iterator[Block | Broken]:
        """The statements. Raises SourceError when they cannot be read to the end."""
        ...

    def taken(self) -> int:
        """Bytes that were read since the last call."""
        ...


class SourcePart(ABC):
    """What one worker reads at a time. It pickles."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The key of the source."""

    @property
    @abstractmethod
    def label(self) -> str:
        """How rejects name the place."""

    @abstractmethod
    def reader(self, stopping: Stopping) -> PartReader:
        """What reads the part, once."""


class StatementSource(ABC):
    """A live source. It pickles."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How the source is shown: without parameters, which may hold what identifies a learner."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Under which its position is kept. Another selection of the same source is another key."""

    @property
    def warning(self) -> str | None:
        """What the operator should know about how it is read; None if it is safe."""
        return None

    @abstractmethod
    def going_on_from(self, position: Position | None) -> "StatementSource":
        """The source as far as it is new since `position`, with an overlap; all of it for None."""

    @abstractmethod
    def split(self, stopping: Stopping) -> Iterator[SourcePart]:
        """The parts, each to be read once. Raises SourceError and StoppedError."""


class Patience:
    """Waits before something is tried again, and gives up when nothing has succeeded for too long.

    Args:
        what: the name of the source, for the error.
        access: has the bounds.
        stopping: is asked during a wait.
    """

    def __init__(self, what: str, access: Access, stopping: Stopping) -> None:
        self._what = what
        self._budget = access.outage_budget
        self._backoff = Backoff(access.max_backoff)
        self._stopping = stopping
        self._failures = 0
        self._since = 0.0

    def succeeded(self) -> None:
        """Something has been read: the next failure is the first again."""
        self._failures = 0

    def wait(self, why: str, retry_after: float | None = None, *, lack: str | None = None) -> None:
        """Wait after a failure.

        Args:
            why: what failed, for the error.
            retry_after: seconds that the source asks for.
            lack: what this machine lacks, and what to do about it, if that is why. Then the source is not to blame.

        Raises:
            SourceError: the budget does not allow another attempt.
            StoppedError: the run is to stop.
        """
        now = time.monotonic()
        if not self._failures:
            self._since = now
        delay = self._backoff.delay(self._failures, retry_after)
        self._failures += 1
        until = now + delay
        if until - self._since > self._budget:
            told = f"{self._what}: nothing could be read for {self._budget:g} s (--outage_budget)"
            if lack is not None:
                raise SourceError(f"{told}: this machine lacks something: {lack}, then run the same command again")
            raise SourceError(f"{told}, last: {why}; run the same command again when the source is well")
        while (left := until - time.monotonic()) > 0:
            if self._stopping():
                raise StoppedError
            time.sleep(min(left, _STOP_CHECK))
        if self._stopping():
            raise StoppedError
