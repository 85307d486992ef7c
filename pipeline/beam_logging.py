"""What Beam logs in the processes of a run on this machine: the launcher, and workers in processes of their own."""

import logging
from contextlib import suppress

from pipeline.faults import is_interrupt, told, told_text

_FROM_WORKERS = "apache_beam.runners.portability.local_job_service"
"""The logger with which Beam's server logs what worker processes send it."""


def configure_beam_logging() -> None:
    """Let what Beam and other libraries log be warnings and worse, without tracebacks that are nobody's message.

    In a worker process Beam replaces the handlers of the root logger later. So the loggers have the filter too, with
    which Beam tells of errors of steps.
    """
    for name in ("apache_beam", "botocore", "FlinkJarJobServer"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What a worker process tells, such as that it stops, is not Beam's own.
    logging.getLogger(_FROM_WORKERS).setLevel(logging.INFO)
    loggers = map(logging.getLogger, ("apache_beam.runners.common", "apache_beam.runners.worker.sdk_worker"))
    for place in (*logging.getLogger().handlers, *loggers):
        if not any(isinstance(each, WithoutTracebacks) for each in place.filters):
            place.addFilter(WorkersWords())
            place.addFilter(WithoutTracebacks())
            place.addFilter(WithoutAsides())


class WithoutAsides(logging.Filter):
    """Keeps from the log what Beam says on the root logger, where its own level does not count, and is no warning.

    Its S3 client tells of each listing.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged."""
        return record.levelno >= logging.WARNING or record.name != "root" or "apache_beam" not in record.pathname


class WorkersWords(logging.Filter):
    """Lets the launcher log what a worker process has logged in the worker's words.

    Beam logs it as the text of a protocol buffer, with the message among other fields.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged: all but what Beam's server has to tell of itself that is no warning."""
        if record.name != _FROM_WORKERS:
            return True
        if isinstance(record.args, tuple) and len(record.args) == 1:
            # Here, as the module is imported before the job is known to be one that can run.
            from apache_beam.portability.api import beam_fn_api_pb2
            from google.protobuf import text_format

            with suppress(text_format.ParseError):
                entry = text_format.Parse(str(record.args[0]), beam_fn_api_pb2.LogEntry())
                record.msg, record.args = entry.message, ()
                return True
        return record.levelno >= logging.WARNING


class WithoutTracebacks(logging.Filter):
    """Keeps Beam from logging the traceback of an error that the run itself reports in one line.

    That is one that `told` tells, or that the user interrupted the run.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged."""
        if not record.name.startswith("apache_beam"):
            return True
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (is_interrupt(error) or told(error, "") is not None):
            return False
        return record.levelno < logging.ERROR or told_text(record.getMessage(), "") is None
