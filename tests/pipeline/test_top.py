"""`top`: all forwarders of a running job, in a second terminal."""

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.lock import OutputLock
from pipeline.top import DONE, NO_JOB, top
from tests.support.terminals import Terminal
from transforms.accounting.board import Board, Failing, ForwarderName, RunInfo, Standing
from transforms.accounting.holder import LOCK

NAMES = {f"f{number}": ForwarderName(f"forwarder number {number}", "http host") for number in range(60)}


class Job:
    """A job that this process pretends to be: it holds an output, and posts on a board."""

    def __init__(self, path: Path) -> None:
        self.output = str(path / "out")
        self.directory = path / "run"
        self.directory.mkdir()
        self.board = Board(str(self.directory))
        self.standings: dict[str, Standing] = {}
        self.board.begin(RunInfo("r1", os.getpid(), time.time(), self.output, None, NAMES))
        self.board.advance("delivering", derived=1)
        self.board.watch(lambda now: self.standings)

    def post(self, **standings: Standing) -> None:
        self.standings = standings
        self.board.publish(at_once=True)

    def terminal(self, columns: int = 100, lines: int = 24) -> Terminal:
        return Terminal(columns, lines, ["-m", "pipeline.top", "--output", self.output])


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    with OutputLock(made.output, board=made.board.directory):
        yield made


def failing(waiting: int) -> Standing:
    now = time.time()
    return Standing(due=waiting, waiting=waiting, failing=Failing(now - 5, "503", 3, 11, now + 1000))


def test_trouble_first_and_then_all_in_the_order_of_the_documents(job: Job) -> None:
    job.post(f7=Standing(due=5, delivered=5), f9=failing(10), f8=failing(20), f3=Standing(due=9, dead={"http_400": 2}))
    with job.terminal(140, 70) as terminal:
        terminal.until_shows("60 forwarders")
        rows = terminal.shown[terminal.shown.index("") + 2 :]
        first = [["!", "f8"], ["!", "f9"], ["!", "f3"], ["f0", "forwarder"], ["f1", "forwarder"]]
        assert [row.split()[:2] for row in rows[:5]] == first
        assert "503 for 5 s" in rows[0] or "503 for 6 s" in rows[0]
        assert "3/11 16 min" in rows[0]
        assert len([row for row in rows if "forwarder number" in row]) == 60
        job.post(f7=Standing(due=5, delivered=5), f9=failing(30), f8=Standing(due=20, delivered=20))
        terminal.until_lacks("! f8")
        terminal.press("q")
        assert terminal.wait() == DONE
        assert terminal.shown == []  # The window is as it was.


def test_a_small_window_shows_a_part_and_keys_move_it(job: Job) -> None:
    job.post(f9=failing(10))
    with job.terminal(60, 12) as terminal:
        terminal.until_shows("1 to 6 of 60 forwarders")
        assert max(map(len, terminal.shown)) < 60
        assert terminal.scrolled == 0
        titles = next(line for line in terminal.shown if line.startswith("forwarder "))
        assert "wait" in titles
        assert "description" not in titles
        terminal.press(" ")
        terminal.until_shows("7 to 12 of 60")
        terminal.press("\x1b[A")
        terminal.until_shows("6 to 11 of 60")
        terminal.press("G")
        terminal.until_shows("55 to 60 of 60")
        terminal.until_shows("f59")
        terminal.resize(120, 30)
        terminal.until_shows("description")
        terminal.press("\x03")
        assert terminal.wait() == DONE


def test_it_ends_when_the_job_ends(job: Job) -> None:
    job.post(f9=failing(10))
    with job.terminal() as terminal:
        terminal.until_shows("! f9")
        shutil.rmtree(job.directory)
        terminal.until_shows("the job has ended: ")
        assert terminal.wait() == DONE


def test_one_table_with_every_forwarder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")  # The path of the output is on one line.
    job.post(f9=failing(1234))
    out = io.StringIO()
    assert top(job.output, once=True, stream=out) == DONE
    lines = out.getvalue().splitlines()
    assert lines[0] == f"run r1 on {job.output}"
    assert sum("forwarder number" in line for line in lines) == 60
    assert next(line for line in lines if line.startswith("! ")).split()[:2] == ["!", "f9"]
    assert "1,234" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_where_no_job_runs_it_says_so(tmp_path: Path, job: Job) -> None:
    out = io.StringIO()
    assert top(str(tmp_path / "nothing"), stream=out) == NO_JOB
    assert out.getvalue() == f"no job runs on {tmp_path / 'nothing'}\n"
    assert not (tmp_path / "nothing").exists()  # Looking makes nothing.
    with OutputLock(str(tmp_path / "ended")):
        pass
    out = io.StringIO()
    assert top(str(tmp_path / "ended"), stream=out) == NO_JOB
    assert "no job runs on" in out.getvalue()


def test_of_a_job_that_was_killed_or_runs_elsewhere_it_says_which(job: Job) -> None:
    path = Path(job.output) / LOCK
    held = path.read_text()
    path.write_text(held.replace(f'"pid":{os.getpid()}', '"pid":4194303'))
    out = io.StringIO()
    assert top(job.output, stream=out) == NO_JOB
    assert "process 4194303" in out.getvalue()
    assert "did not end by itself" in out.getvalue()
    path.write_text(held.replace('"host":"', '"host":"another-'))
    out = io.StringIO()
    assert top(job.output, stream=out) == NO_JOB
    assert "on another-" in out.getvalue()
    assert "look there" in out.getvalue()
