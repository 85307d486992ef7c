"""What a user sees in the terminal while a run goes on."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.terminals import Terminal
from tests.support.waiting import until
from transforms.accounting.board import Board, Failing, ForwarderName, RunInfo, Standing

NAMES = {
    "gradebook": ForwarderName("Gradebook of the north", "http host"),
    "lrs": ForwarderName("", "http host"),
    "wide": ForwarderName("漢字の転送先 and \x1b[31mred\x07", "http host"),
    **{f"f{number}": ForwarderName(f"forwarder number {number}", "http host") for number in range(40)},
}


class Run:
    """A run whose board this process writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.board = Board(str(directory))
        self.standings: dict[str, Standing] = {}
        self.board.begin(RunInfo("r1", os.getpid(), time.time(), "out", 1000, NAMES))
        self.board.watch(lambda now: self.standings)

    def post(self, **standings: Standing) -> None:
        self.standings = standings
        self.board.publish(at_once=True)

    def log(self, text: str) -> None:
        (self.directory / "draft").write_text(text)
        (self.directory / "draft").rename(self.directory / "log")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.board.stop()


def failing(answer: str, waiting: int, attempt: int = 3, seconds: float = 1000.0) -> Standing:
    now = time.time()
    return Standing(
        due=waiting + 1,
        delivered=1,
        waiting=waiting,
        last_answer=answer,
        failing=Failing(now - 5, answer, attempt, 11, now + seconds),
    )


def watched(run: Run, columns: int = 80, lines: int = 24, **variables: str) -> Terminal:
    return Terminal(columns, lines, ["-m", "tests.support.watched_run", str(run.directory)], **variables)


def test_from_the_start_to_the_report(run: Run) -> None:
    with watched(run) as terminal:
        terminal.until_shows("starting")
        run.board.advance("reading", size=500, read=7, accepted=6, rejected={"seq: missing": 1})
        run.post()
        terminal.until_shows("reading  [##########..........] 50 %  read 7 (500 B)  rejected 1")
        run.board.advance("delivering", derived=10, folded=3)
        run.post(gradebook=Standing(due=10, delivered=5, waiting=5))
        # Half of what was read is folded, so that as many records again are to come.
        terminal.until_shows("delivering  [#####...............] 25 %  5 of about 20")
        run.board.advance(folded=3)
        run.post(gradebook=Standing(due=20, delivered=17, dead={"http_400": 2}, waiting=1, last_answer="400"))
        terminal.until_shows("delivering  [###################.] 95 %  19 of 20")
        terminal.until_shows("delivered 17  dead letters 2")
        terminal.until_shows("! Gradebook of the north  400  1 wait  2 dead")
        run.board.stop()
        terminal.until_shows("the report")
        assert terminal.wait() == 0
        assert terminal.shown == ["the report"]  # What was drawn is gone.
        assert terminal.scrolled == 0


def test_a_forwarder_in_trouble_has_a_line_and_two_lines_in_the_log(run: Run) -> None:
    with watched(run) as terminal:
        run.board.advance("delivering", derived=10)
        run.post(gradebook=failing("503", 1204), lrs=Standing(due=5, delivered=5))
        terminal.until_shows("! Gradebook of the north  503  1,204 wait  next in 16 min")
        terminal.until_shows("try 3 of 11")
        terminal.until_shows("WARNING forwarder gradebook: has taken nothing for")
        terminal.until_shows("(last: 503); 1,204 of its")
        run.post(gradebook=failing("timeout", 1204, attempt=4, seconds=-1.0))
        terminal.until_shows("! Gradebook of the north  timeout  1,204 wait  trying now  try 4 of 11")
        run.post(gradebook=Standing(due=1205, delivered=5, waiting=1200, last_success=time.time()))
        terminal.until_shows("WARNING forwarder gradebook: takes records again, after")
        terminal.until_lacks("! Gradebook")
        run.board.stop()
        terminal.wait()
        assert sum("has taken nothing" in line for line in terminal.shown) == 1


def test_that_a_worker_ends_does_not_say_that_its_forwarder_is_back(run: Run) -> None:
    with watched(run) as terminal:
        run.post(gradebook=failing("503", 3))
        terminal.until_shows("has taken nothing")
        run.post(gradebook=failing("503", 3).ended())
        terminal.until_lacks("! Gradebook")
        run.board.stop()
        terminal.until_shows("the report")
        assert not any("again" in line for line in terminal.shown)


def test_what_is_logged_stands_above_and_nothing_is_drawn_over_it(run: Run) -> None:
    with watched(run, lines=12) as terminal:
        run.post(gradebook=Standing(due=10, waiting=10))
        terminal.until_shows("0 of 10")
        for number in range(30):
            run.log(f"line {number}:" + "x" * (number * 5))
            terminal.until_shows(f"WARNING line {number}:")
        until(lambda: "0 of 10" in terminal.shown[-1])
        assert sum("0 of 10" in line for line in terminal.shown) == 1


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (60, 24), (40, 10)])
def test_when_too_many_are_in_trouble_the_worst_are_shown_and_the_screen_does_not_grow(
    run: Run, columns: int, lines: int
) -> None:
    with watched(run, columns, lines) as terminal:
        run.board.advance("delivering", derived=10)
        run.post(**{f"f{number}": failing("503", number + 1) for number in range(40)})
        terminal.until_shows("WARNING 30 more forwarders have taken")
        terminal.until_shows("more in trouble")
        scrolled = terminal.scrolled
        for count in range(3):
            run.post(**{f"f{number}": failing("503", 100 * (count + 1) + number) for number in range(40)})
            terminal.until_shows(f"{100 * (count + 1) + 39:,} wait")
        assert terminal.scrolled == scrolled
        drawn = [line for line in terminal.shown if line.startswith("! ")]
        assert drawn[0].startswith("! forwarder number")
        assert "339 wait" in drawn[0]
        assert terminal.shown[-1] == f"  and {40 - len(drawn)} more in trouble"
        assert len(drawn) <= lines // 2


def test_what_others_have_written_does_nothing_to_the_terminal(run: Run) -> None:
    with watched(run) as terminal:
        run.post(wide=failing("5\x1b[2J03", 1))
        terminal.until_shows("5?[2J03")
        (line,) = [line for line in terminal.shown if line.startswith("!")]
        assert "?[31mred?" in line


def test_ctrl_c_leaves_the_screen_as_it_was(run: Run) -> None:
    with watched(run) as terminal:
        run.post(gradebook=Standing(due=10, waiting=10))
        terminal.until_shows("0 of 10")
        terminal.press("\x03")
        terminal.until_shows("interrupted")
        assert terminal.wait() == 0
        assert [line for line in terminal.shown if "of 10" in line] == []


def test_a_narrower_window_is_drawn_anew(run: Run) -> None:
    with watched(run, 120) as terminal:
        run.board.advance("reading", size=500, read=7)
        run.post(gradebook=failing("503", 5))
        terminal.until_shows("try 3 of 11")
        terminal.resize(40, 24)
        terminal.until_lacks("try 3 of 11")
        terminal.until_shows("! Gradebook of the north  503  5 wait")


def test_without_colours_and_on_no_terminal(run: Run) -> None:
    with watched(run, TERM="dumb") as terminal:
        run.post(gradebook=failing("503", 1204))
        terminal.until_shows("has taken nothing")
        assert not any(line.startswith("!") for line in terminal.shown)
