"""What the log says of forwarders that fail."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.accounting.board import Failing, Standing
from transforms.accounting.spans import span
from transforms.accounting.trouble import MOST_AT_ONCE, TroubleLog, badness, in_trouble


def failing(since: float, waiting: int = 5) -> Standing:
    return Standing(due=waiting, waiting=waiting, last_answer="503", failing=Failing(since, "503"))


def test_each_once(caplog: pytest.LogCaptureFixture) -> None:
    log = TroubleLog()
    log.look({"f": Standing(due=1, waiting=1)}, 100.0)
    for now in (110.0, 111.0, 112.0):
        log.look({"f": failing(105.0, 1204)}, now)
    given_up = failing(105.0)
    given_up.unavailable = True
    log.look({"f": given_up}, 405.0)
    log.look({"f": given_up}, 406.0)
    log.look({"f": Standing(due=7, waiting=7, last_success=440.0)}, 440.0)
    log.look({"f": Standing(due=7, delivered=7, last_success=441.0)}, 441.0)
    assert [record.getMessage() for record in caplog.records] == [
        "forwarder f: has taken nothing for 5 s (last: 503); 1,204 of its records wait",
        "forwarder f: no progress for the outage budget (last: 503); its records are given up as unavailable",
        "forwarder f: takes records again, after 5 min 35 s; 7 of its records waited",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_that_the_worker_is_gone_does_not_say_that_the_forwarder_is_back(caplog: pytest.LogCaptureFixture) -> None:
    log = TroubleLog()
    standing = failing(105.0)
    standing.last_success = 50.0
    log.look({"f": standing}, 110.0)
    log.look({"f": standing.ended()}, 111.0)
    log.look({}, 112.0)
    assert len(caplog.records) == 1


def test_many_at_once_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log, count = TroubleLog(), MOST_AT_ONCE + 1_990
    log.look({f"f{number}": failing(1.0) for number in range(count)}, 2.0)
    assert len(caplog.records) == MOST_AT_ONCE + 1
    assert caplog.messages[-1] == "1,990 more forwarders have taken nothing"
    caplog.clear()
    log.look({f"f{number}": Standing(last_success=3.0) for number in range(count)}, 3.0)
    assert caplog.messages[-1] == "1,990 more forwarders take records again"


@settings(max_examples=50)
@given(states=st.lists(st.booleans(), max_size=20))
def test_it_says_when_it_begins_and_when_it_ends_and_nothing_else(states: list[bool]) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transforms.accounting.trouble")
    logger.addHandler(handler)
    try:
        log = TroubleLog()
        for now, fails in enumerate(states):
            log.look({"f": failing(now) if fails else Standing(last_success=now)}, now)
    finally:
        logger.removeHandler(handler)
    changes = [fails for before, fails in zip([False, *states], states, strict=False) if fails is not before]
    assert ["has taken nothing" in line for line in said] == changes


def test_the_worst_is_who_takes_nothing_and_has_most_waiting() -> None:
    fine = Standing(due=9, waiting=9)
    refuses = Standing(due=9, dead={"http_400": 9})
    order = [refuses, failing(1.0, 3), failing(1.0, 4)]
    assert sorted((order[1], order[2], order[0]), key=badness) == order
    assert [in_trouble(standing) for standing in (fine, *order)] == [False, True, True, True]


def test_spans_of_time() -> None:
    said = {0.04: "0.0 s", 0.44: "0.4 s", 1.2: "1 s", 59.6: "1 min", 200: "3 min 20 s", 7500: "2 h 5 min"}
    said[90_000] = "1 d 1 h"
    assert {seconds: span(seconds) for seconds in said} == said
    assert span(-5) == "0.0 s"
