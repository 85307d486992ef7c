"""What is marked as fast is held to it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markers import MARKERS, NEEDS, needs

TESTS = Path(__file__).resolve().parents[1]


def test_every_entry_names_something_that_is_there_and_known_markers() -> None:
    assert [entry for entry in NEEDS if not (TESTS / entry).exists()] == []
    assert {marker for markers in NEEDS.values() for marker in markers} <= MARKERS.keys()


def test_the_nearest_entry_counts() -> None:
    assert needs(TESTS / "transforms" / "test_read.py") == ("beam",)
    assert needs(TESTS / "transforms" / "query" / "test_index.py") == ("fast",)
    assert needs(TESTS / "transforms" / "query" / "test_laws.py") == ("slow",)


def test_a_module_without_an_entry_is_an_error() -> None:
    with pytest.raises(pytest.UsageError, match=r"tests/elsewhere/test_it\.py has no entry in NEEDS"):
        needs(TESTS / "elsewhere" / "test_it.py")


def test_a_fast_test_can_start_no_process() -> None:
    with pytest.raises(RuntimeError, match=r"subprocess\.Popen, in a test that is marked as fast"):
        subprocess.run([sys.executable, "-c", ""], check=False)


def test_a_fast_test_can_serve_nothing() -> None:
    with (
        socket.socket() as server,
        pytest.raises(RuntimeError, match=r"socket\.bind, in a test that is marked"),
    ):
        server.bind(("127.0.0.1", 0))
