"""Lines of the log: text and JSON, colour, and the levels."""

import io
import json
import logging
import sys

import pytest

from pipeline.logs import JsonLines, TextLines, name_run, shows_colour, start_logging


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def record(level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("pipeline.run", level, __file__, 1, "%s records\nof é", (3,), None)


def test_json_has_an_object_a_line_with_the_run() -> None:
    name_run("r000001")
    try:
        line = JsonLines().format(record())
    finally:
        name_run(None)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["run_id"], read["message"]) == ("warning", "r000001", "3 records\nof é")
    assert read["time"].endswith("Z")
    assert json.loads(JsonLines().format(record()))["run_id"] is None


def test_json_has_the_traceback_of_an_error() -> None:
    try:
        raise ValueError("mine")
    except ValueError:
        failed = record()
        failed.exc_info = sys.exc_info()
    assert "ValueError: mine" in json.loads(JsonLines().format(failed))["traceback"]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert TextLines(Terminal()).format(record()).startswith("\x1b[33m")
    assert "\x1b" not in TextLines(Terminal()).format(record(logging.INFO))
    assert "\x1b" not in TextLines(io.StringIO()).format(record())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shows_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_colour(Terminal())


def test_what_standard_output_cannot_say_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of another encoding, or LC_ALL=C, is no reason for a run to fail when it prints its report."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    start_logging()
    print("forwarder \xfc \udcff", flush=True)
    assert written.getvalue() == b"forwarder \\xfc \\udcff\n"
