"""Starts a worker process of a run on this machine: Beam's own program, after its logging is configured."""

import logging
import sys
from typing import TextIO

from apache_beam.runners.worker import sdk_worker_main

from pipeline.beam_logging import configure_beam_logging
from pipeline.faults import told_text
from pipeline.temporary import hold_directory


class _WithoutTracebacks:
    """Standard error, on to which Beam prints the traceback of every error that ends a bundle.

    A text is left out if the launcher tells the same in one line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text) if told_text(text, "") is None else len(text)

    def flush(self) -> None:
        self._stream.flush()


if __name__ == "__main__":
    # What is logged here goes to the launcher, which logs it once. A handler of this process's own would write it on
    # the terminal as well, into what the launcher draws there.
    logging.getLogger().handlers = [logging.NullHandler()]
    configure_beam_logging()
    hold_directory()
    # It warns in every worker of a directory that a worker on this machine does not need.
    logging.getLogger(sdk_worker_main.__name__).setLevel(logging.ERROR)
    sys.stderr = _WithoutTracebacks(sys.stderr)
    sdk_worker_main.main(sys.argv)
