"""The entry of a process that carries out a command: its imports, its log, and how Ctrl-C ends it.

To import a command takes a while. Until then there is nothing to be ended well, so Ctrl-C ends the process there. Once
the command runs, Ctrl-C raises KeyboardInterrupt, but where a run takes it for the wish to stop (`pipeline.execute`).
"""

import os
import signal
import sys
from importlib import import_module
from types import FrameType

# No more than these: until they are there, Ctrl-C is Python's, which shows where it was.

INTERRUPTED = 130
"""The exit status of a process that Ctrl-C ended, as a shell has it."""

_TEXT = "interrupted"


def run_console(module: str) -> None:
    """Carry out the command line of this process, and end it with the exit status.

    Args:
        module: has the command as `main`, which is given the words behind the name of the program. It is imported here.
    """
    heard = signal.getsignal(signal.SIGINT) != signal.SIG_IGN  # As of a process in the background of a script.
    if heard:
        signal.signal(signal.SIGINT, _end_at_once)
    from transforms.beam_import import without_garbage_collection

    with without_garbage_collection():
        from pipeline.logs import start_logging
        from pipeline.standard_output import ReaderGoneError, discard_output

        main = import_module(module).main
    start_logging()
    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status: int | str | None = main(sys.argv[1:])
    except KeyboardInterrupt:
        _leave_it_to_the_system(heard)
        status = _interrupted()
    except ReaderGoneError:
        status = 0
    except SystemExit as ended:
        # `--help` and its like.
        status = ended.code
    _leave_it_to_the_system(heard)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    sys.exit(status)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{_TEXT}\n".encode())
    os._exit(INTERRUPTED)


def _interrupted() -> int:
    import logging

    logging.getLogger(__name__).error(_TEXT)
    return INTERRUPTED


def _leave_it_to_the_system(heard: bool) -> None:
    """Let another Ctrl-C end the process without a word: it waits for threads alone, and there is no more to say."""
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
