"""Limits of this process, which make the kernel say what it says on a full disk or without descriptors."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A file may not grow beyond `size` bytes: a write fails, as on a full disk (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process opens no file and no socket more. What is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest number that is free is given next, and has to be below the limit. (With a limit of 0 poll fails, too.)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
