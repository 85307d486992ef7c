"""The lines of the log on standard error: text, in colour where a terminal shows it, or JSON with the run's id.

The process that launches a job sets them up once, from its command line. In a worker process Beam has handlers of its
own; what they log reaches the launcher, and is a line of its log.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import IO, Any, Literal, get_args

from pipeline.usage import Parser, UsageError

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_OURS = ("commands", "pipeline", "registry", "schemas", "transforms")
"""The loggers that say more with `--log_level debug`. What libraries say then would bury it."""

_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
_run_id: str | None = None
logger = logging.getLogger(__name__)


def shows_colour(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that shows colour, and nobody asked for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, code: str, stream: IO[str]) -> str:
    """A text in a colour, such as `31` for red, if the stream shows colours."""
    return f"\x1b[{code}m{text}\x1b[0m" if shows_colour(stream) else text


def name_run(run_id: str | None) -> None:
    """Let the lines of the log from now on have the id of a run, where they are JSON. The first of them says no more.

    So whoever starts a job finds its report by its log, however little there is to be said.
    """
    global _run_id
    _run_id = run_id
    if run_id is not None and any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        logger.info("the run has begun")


class TextLines(logging.Formatter):
    """Time, level and message."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of an error with its traceback."""
        line = super().format(record)
        code = _COLOURS.get(record.levelno)
        return line if code is None else coloured(line, code, self._stream)


class JsonLines(logging.Formatter):
    """An object a line: time (RFC 3339), level, logger, run_id (null before a run has one), message, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run_id": _run_id,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Handler(logging.StreamHandler[Any]):
    """What a console writes its log with."""


def start_logging() -> None:
    """Log to standard error, as text, until `adjust_logging` is told otherwise.

    Call it before Beam is imported: Beam would install a handler of its own. What is printed, too, has from now on its
    characters escaped that the encoding of standard output lacks, as standard error has.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _Handler(sys.stderr)
    handler.setFormatter(TextLines(sys.stderr))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def adjust_logging(argv: Sequence[str]) -> None:
    """Log as a command line says, before the rest of it is read: what is wrong with that is logged so, too."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log_format", choices=get_args(LogFormat), default="text")
    parser.add_argument("--log_level", choices=get_args(LogLevel), default="info")
    try:
        arguments, _ = parser.parse_known_args(list(argv))
    except UsageError:
        return  # Whoever reads the whole command line says so.
    level = getattr(logging, arguments.log_level.upper())
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _Handler):
            handler.setFormatter(JsonLines() if arguments.log_format == "json" else TextLines(handler.stream))
            root.setLevel(max(level, logging.INFO))
            for name in _OURS:
                logging.getLogger(name).setLevel(level)
