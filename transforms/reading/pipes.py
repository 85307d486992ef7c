"""Input that can be read once, from its beginning: standard input, named pipes, and what else this process has open."""

import os
import re
import select
from collections.abc import Callable
from types import TracebackType
from typing import Self

STANDARD_INPUT = "/dev/stdin"

_DESCRIPTOR = re.compile(r"(?:/dev|/proc/self)/fd/(\d+)")
_POLL = 0.5
"""Seconds after which waiting for a writer is interrupted to ask whether to stop."""


def descriptor_of(path: str) -> int | None:
    """The number under which this process has `path` open; None if it is a path for any process."""
    if path == STANDARD_INPUT:
        return 0
    numbered = _DESCRIPTOR.fullmatch(path)
    return int(numbered[1]) if numbered else None


class Pipe:
    """A pipe as a file that can only be read.

    Opening does not wait for a writer; reading does, until there is something to read, the writers have all closed it,
    or `stopping` returns True.
    """

    def __init__(self, path: str, stopping: Callable[[], bool]) -> None:
        number = descriptor_of(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if number is None else os.dup(number)
        self._stopping = stopping
        self.stopped = False
        """Whether reading ended because it was to stop."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while not select.select([self._descriptor], [], [], _POLL)[0]:
            if self._stopping():
                self.stopped = True
                return b""
        return os.read(self._descriptor, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
