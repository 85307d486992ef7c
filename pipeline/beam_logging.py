"""What Beam logs in the processes of a run on this machine: the launcher, and workers in processes of their own."""

import logging

from pipeline.faults import told, told_text


def configure_beam_logging() -> None:
    """Let what Beam and other libraries log be warnings and worse, without tracebacks that are nobody's message.

    In a worker process Beam replaces the handlers of the root logger later. So the loggers have the filter too, with
    which Beam tells of errors of steps.
    """
    for name in ("apache_beam", "botocore", "FlinkJarJobServer"):
        logging.getLogger(name).setLevel(logging.WARNING)
    loggers = map(logging.getLogger, ("apache_beam.runners.common", "apache_beam.runners.worker.sdk_worker"))
    for place in (*logging.getLogger().handlers, *loggers):
        if not any(isinstance(each, WithoutTracebacks) for each in place.filters):
            place.addFilter(WithoutTracebacks())


class WithoutTracebacks(logging.Filter):
    """Keeps Beam from logging the traceback of an error that `told` tells in one line: the run itself reports it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged."""
        if not record.name.startswith("apache_beam"):
            return True
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and told(error, "") is not None:
            return False
        return record.levelno < logging.ERROR or told_text(record.getMessage(), "") is None
