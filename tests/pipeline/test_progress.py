"""How far a run is, in words."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cells import width
from pipeline.progress import Progress, expected, trouble_lines
from transforms.accounting.board import Failing, ForwarderName, JobCounts, RunInfo, Snapshot, Standing

RUN = RunInfo("r1", os.getpid(), 1000.0, "out", 10_000, {"f": ForwarderName("a gradebook", "http host")})


def board(standing: Standing | None = None, **job: Any) -> Snapshot:
    forwarders = {} if standing is None else {"f": standing}
    return Snapshot(1000.0, RUN, JobCounts(**job), forwarders, 1)


def test_the_time_left_goes_by_the_pace_of_late() -> None:
    progress = Progress()
    for second in range(40):
        seen = board(Standing(due=1000, delivered=10 * second, waiting=1000 - 10 * second), phase="delivering")
        progress.see(seen, 1000.0 + second)
    assert "1 min 1 s left" in progress.parts(seen, 1039.0)
    # Nothing has ended for a while: nobody knows.
    assert not any("left" in part for part in progress.parts(seen, 1039.0 + 5.1))


def test_after_reading_the_pace_is_that_of_delivery() -> None:
    progress = Progress()
    for second in range(5):
        progress.see(board(phase="reading", size=1000 * second), 1000.0 + second)
    assert "6 s left" in progress.parts(board(phase="reading", size=4000), 1004.0)
    progress.see(board(Standing(due=100, delivered=1, waiting=99), phase="delivering"), 1005.0)
    assert not any("left" in part for part in progress.parts(board(Standing(due=100, delivered=1)), 1005.0))


@given(due=st.integers(0, 10**7), folded=st.integers(0, 10**6), accepted=st.integers(0, 10**6))
def test_what_is_expected_is_never_less_than_what_is_due(due: int, folded: int, accepted: int) -> None:
    seen = board(Standing(due=due, waiting=due), phase="delivering", folded=folded, accepted=accepted)
    assert expected(seen) >= due
    if folded >= accepted:
        assert expected(seen) == due


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (Failing(990.0, "503", 3, 11, 1012.0), "! a gradebook  503  1,204 wait  next in 12 s  try 3 of 11"),
        (Failing(990.0, "timeout", 1, 1, None), "! a gradebook  timeout  1,204 wait  trying now  try 1 of 1"),
        (Failing(990.0, "", 2, 3, 900.0), "! a gradebook  no answer  1,204 wait  trying now  try 2 of 3"),
    ],
)
def test_a_line_says_what_it_answers_what_waits_and_when_it_is_tried(failing: Failing, said: str) -> None:
    standing = Standing(due=1204, waiting=1200, in_flight=4, failing=failing)
    assert trouble_lines(board(standing), 1000.0, 79, 5) == [said]
    assert all(width(line) <= 40 for line in trouble_lines(board(standing), 1000.0, 40, 5))


def test_who_is_given_up_and_who_only_refuses() -> None:
    given_up = Standing(due=9, dead={"unavailable": 9}, last_answer="503", unavailable=True)
    assert trouble_lines(board(given_up), 1000.0, 79, 5) == ["! a gradebook  503, given up  0 wait  9 dead"]
    refuses = Standing(due=9, delivered=2, dead={"http_400": 7}, last_answer="400")
    assert trouble_lines(board(refuses), 1000.0, 79, 5) == ["! a gradebook  400  0 wait  7 dead"]


def test_a_run_that_sends_nothing_has_no_lines_of_forwarders() -> None:
    parts = Progress().parts(board(phase="delivering", read=5, size=100, derived=7), 1010.0)
    assert parts == ["deriving", "read 5 (100 B)", "derived 7", "10 s"]
