"""What ended a run: a lack of this machine or a spoilt file, told in one line, or a mistake, told by its traceback."""

import errno
import re
from collections.abc import Iterator

from transforms.storage import StorageError, remedy, temporary_place

_OF_THE_SYSTEM = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EACCES,
        errno.EPERM,
    )
)
"""Errors of the operating system that say something of the machine, wherever in the program they come up."""

_STEP = re.compile(r" \[while running '([^'\n]*)'\]")
"""What Beam puts behind the text of an error of a step."""

_LIMIT = re.compile(r"^OSError: \[Errno (\d+)\] ([^\n]*?)(?: \[while running '([^'\n]*)'\])?$", re.MULTILINE)


def told(error: BaseException, places: str) -> str | None:
    """What is wrong, in one line, if it is no mistake of the program.

    Args:
        error: what ended the run. Beam may have put errors of its own around it, or, where a step ran in another
            process, have only the text of it.
        places: the directories that the run writes to, for an error that names no file.

    Returns:
        The line, which says what to do; None for a mistake, whose traceback is to be shown.
    """
    for cause in causes(error):
        if isinstance(cause, StorageError):
            return _STEP.sub("", str(cause))
        if isinstance(cause, MemoryError):
            return "this machine has no memory left: give it more, or run fewer workers"
        if isinstance(cause, OSError) and cause.errno in _OF_THE_SYSTEM:
            return _of_the_system(cause, _step_of(error), places)
    return told_text(str(error), places)


def is_interrupt(error: BaseException) -> bool:
    """Whether the user interrupted the program. Beam may report a step that was interrupted as one that failed."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from: Beam adds layers of its own. The last one is what began it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _of_the_system(error: OSError, step: str, places: str) -> str:
    file = error.filename
    if isinstance(file, bytes):
        file = file.decode(errors="replace")
    where = f"{file}" if isinstance(file, str) else f"a file of the step {step or 'that failed'}, in {places}"
    return f"{where} cannot be used: {error.strerror or error}; {remedy(error)}, then run again"


def _step_of(error: BaseException) -> str:
    found = _STEP.search(str(error))
    return found[1] if found else ""


def told_text(text: str, places: str) -> str | None:
    """As `told`, for an error of another process, of which only the traceback has come as text."""
    names = "|".join(re.escape(f"{each.__module__}.{each.__qualname__}") for each in _family(StorageError))
    found = re.search(rf"^(?:{names}): ([^\n]*)$", text, re.MULTILINE)
    if found:
        return _STEP.sub("", found[1])
    limit = _LIMIT.search(text)
    if limit and int(limit[1]) in _OF_THE_SYSTEM:
        return _of_the_system(OSError(int(limit[1]), limit[2]), limit[3] or _step_of(Exception(text)), places)
    return None


def _family(kind: type[StorageError]) -> Iterator[type[StorageError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _family(each)


def places_of(*directories: str | None) -> str:
    """The directories of a run, for a message: those given, and that of temporary files."""
    return ", ".join([*(each for each in directories if each), temporary_place()])
