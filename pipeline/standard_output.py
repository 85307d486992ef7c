"""What is printed may have no reader any more, or no room. What has been done is done all the same."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.cells import ANY_WIDTH
from transforms.storage import StorageError


def width_of_output() -> int:
    """Cells of a line of standard output."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else ANY_WIDTH


class ReaderGoneError(Exception):
    """Who read what is printed has had enough, as `head` has. Nothing has failed."""


def discard_output() -> None:
    """Drop what is not written yet to standard output, and all that follows: else it is tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def printing() -> Iterator[None]:
    """Print within this block. Raises as `print_all`."""
    try:
        yield
    except BrokenPipeError:
        discard_output()
        raise ReaderGoneError from None
    except OSError as error:
        discard_output()
        raise StorageError(f"standard output cannot be written: {error.strerror or error}") from None


def print_all(text: str, end: str = "\n") -> None:
    """Print a text and what it ends with, to its last byte.

    Raises:
        ReaderGoneError: who read it has had enough.
        StorageError: it cannot be written. Then, too, nothing more is printed.
    """
    with printing():
        print(text, end=end, flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they come. Raises as `print_all`."""
    for line in lines:
        with printing():
            print(line)
    print_all("", end="")
