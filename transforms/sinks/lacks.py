"""What this machine lacks: descriptors, memory, threads, room. No receiver is to blame for it, and no record.

A lack is waited out. It spends no attempt of a record and opens no breaker. One that lasts ends the run, with what to
do: nothing is lost then, and what was sent is in the receipts.
"""

import errno
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator

from transforms.sinks.base import AttemptResult, Verdict
from transforms.storage import StorageError, remedy

logger = logging.getLogger(__name__)

LACK = "lack"
"""The reason of an attempt that was not made for a lack. It is never that of a dead letter."""

MOST_DESCRIPTORS = 65_536
"""The soft limit of descriptors is raised to the hard limit, but not beyond this: some programs walk over them all."""

KEPT_DESCRIPTORS = 80
"""Descriptors that are kept for other things than connections: journals, spools, input, names that are looked up (two
each), and what Beam opens."""

_OF_CALLS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_OF_FILES = _OF_CALLS | {errno.ENOSPC, errno.EDQUOT}
_NO_THREAD = "can't start new thread"


class LackError(StorageError):
    """Something has been lacking on this machine for too long. The text says what, and what to do."""


def lack_in(error: BaseException) -> str | None:
    """What is lacking on this machine, if that is why a call failed; None if it is not.

    Args:
        error: what a client raised. Those of boto3 and urllib3 hold the system's own somewhere inside.
    """
    for cause in _inside(error):
        if isinstance(cause, OSError) and cause.errno in _OF_CALLS:
            return f"{os.strerror(cause.errno)}: {remedy(cause)}"
        if isinstance(cause, MemoryError):
            return "no memory is left: give this machine more, or run fewer workers"
        if isinstance(cause, RuntimeError) and _NO_THREAD in str(cause):
            return "no thread can be started: allow more processes (`ulimit -u`), or run fewer workers"
    return None


def _inside(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what it holds, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        kwargs = getattr(cause, "kwargs", None)
        held = (cause.__cause__, cause.__context__, *cause.args)
        more = kwargs.values() if isinstance(kwargs, dict) else ()
        waiting += [each for each in (*held, *more) if isinstance(each, BaseException)]


def no_descriptor() -> str | None:
    """What `lack_in` says if no descriptor can be opened at this moment; None if one can.

    The C library does not say so when it looks up a name: it says that the name server cannot be reached.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return lack_in(error)
    return None


def lacking(what: str) -> AttemptResult:
    """The outcome of an attempt that could not be made, since `what` is lacking."""
    return AttemptResult(Verdict.RETRY, LACK, response=what, spends_attempt=False, lack=True)


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of descriptors to its hard limit. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most


def connections_allowed() -> int:
    """How many connections this process may have at a time, beside the files that it needs; at least 1."""
    limit = raise_descriptor_limit()
    try:
        used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names of numbers, not paths
    except OSError:
        used = KEPT_DESCRIPTORS
    return max(1, limit - used - KEPT_DESCRIPTORS)


class Patience:
    """Waits out what is lacking, warns once of each kind, and ends the waiting when it lasts. Safe for several threads.

    Args:
        seconds: how long a lack may last while nothing goes through.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._since: float | None = None
        self._warned: set[str] = set()

    def had(self) -> None:
        """Something went through."""
        if self._since is not None:
            with self._lock:
                self._since = None

    def lacked(self, what: str) -> None:
        """Take note that something is lacking.

        Raises:
            LackError: it has been for too long.
        """
        now = self._clock()
        with self._lock:
            if self._since is None:
                self._since = now
            lasted = now - self._since
            warn = what not in self._warned
            self._warned.add(what)
        if warn:
            logger.warning("this machine lacks something, which is waited for: %s", what)
        if lasted >= self._seconds:
            raise LackError(
                f"this machine has lacked something for {lasted:.0f} s: {what}, then run again; what was sent is in "
                "the receipts, and is not sent twice"
            )

    def through(self, book: Callable[[], None], is_over: Callable[[], bool] = lambda: False) -> None:
        """Write something, and again for as long as the disk is full or a descriptor is lacking.

        Args:
            book: writes. A lack is told by a StorageError that was raised from an OSError.
            is_over: whether to wait no longer.

        Raises:
            StorageError: what `book` raised last, when it is no lack, has lasted too long, or the waiting is over.
        """
        wait = 0.05
        while True:
            try:
                book()
            except StorageError as error:
                cause = error.__cause__
                if not isinstance(cause, OSError) or cause.errno not in _OF_FILES or is_over():
                    raise
                try:
                    self.lacked(str(error))
                except LackError:
                    raise error from cause
                self._sleep(wait)
                wait = min(1.0, wait * 2)
                continue
            self.had()
            return
