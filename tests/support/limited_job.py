"""Runs jobs one after the other, each with a limit on the size of its files: a full disk that needs no disk."""

import io
import logging
import resource
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple


class Ended(NamedTuple):
    """A job that has ended: its exit status, and what it logged."""

    status: int
    log: str


def run_limited(limits: Sequence[int], arguments: Sequence[str], ended: "Connection[Ended, None]") -> None:
    """Run the job once for each limit, in bytes; what came of it goes to `ended`, since a pipe has no size.

    `{}` in an argument stands for the limit. Give it a process of its own.
    """
    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.INFO)
    import pipeline.run  # noqa: F401 - so that what is imported is not written under a limit
    from pipeline.command import main

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sys.stdout = io.StringIO()  # What the job prints is not asked for.
    for limit in limits:
        # Python ignores SIGXFSZ, so that a write beyond the limit fails with EFBIG, as a write to a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        status = main([argument.replace("{}", str(limit)) for argument in arguments])
        ended.send(Ended(status, log.getvalue()))
        log.seek(0)
        log.truncate()
