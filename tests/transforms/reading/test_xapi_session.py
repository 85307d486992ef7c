"""What the statements of a session are together."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Activity
from schemas.activity import StatementParts
from transforms.reading.xapi_session import resolve_session

INITIALIZED, LAUNCHED, COMPLETED = "START_OR_RESUME", "LAUNCH", "COMPLETE"


def told(*statements: tuple[str, str], at: list[int] | None = None) -> list[Activity]:
    """One session's activity of (action, object), one after the other."""
    times = at or list(range(len(statements)))
    return [
        Activity(f"r{number}", "u", "s", thing, action, times[number])  # type: ignore[arg-type]
        for number, (action, thing) in enumerate(statements)
    ]


def actions(*statements: tuple[str, str]) -> list[str]:
    return [activity.action for activity in resolve_session(told(*statements)).activities]


def test_start_or_resume_is_decided_by_what_came_before() -> None:
    assert actions((INITIALIZED, "a"), ("RESPOND", "a"), (INITIALIZED, "a"), (INITIALIZED, "a")) == [
        "START",
        "RESPOND",
        "RESUME",
        "RESUME",
    ]
    assert actions(("RESUME", "a"), (INITIALIZED, "a"), (INITIALIZED, "a")) == ["RESUME", "START", "RESUME"]


def test_launched_and_the_initialized_after_it_are_one_opening() -> None:
    assert actions((LAUNCHED, "a"), (INITIALIZED, "a"), (COMPLETED, "a")) == ["START", "RESPOND", "SUBMIT"]
    assert actions((LAUNCHED, "a"), ("RESPOND", "a"), (INITIALIZED, "a"), (INITIALIZED, "a")) == [
        "START",
        "RESPOND",
        "RESPOND",
        "RESUME",
    ]
    again = [(LAUNCHED, "a"), (INITIALIZED, "a"), ("SAVE", "a"), (LAUNCHED, "a"), (INITIALIZED, "a")]
    assert actions(*again) == ["START", "RESPOND", "SAVE", "RESUME", "RESPOND"]
    assert actions((LAUNCHED, "a"), ("RESUME", "a"), (INITIALIZED, "a")) == ["START", "RESUME", "RESUME"]
    assert actions((INITIALIZED, "a"), (LAUNCHED, "a")) == ["START", "RESUME"]


def test_the_activity_is_that_of_the_first_start_or_resume() -> None:
    def activity_ids(*statements: tuple[str, str]) -> list[str]:
        return [activity.activity_id for activity in resolve_session(told(*statements)).activities]

    assert activity_ids(("RESPOND", "q1"), ("RESUME", "quiz"), (INITIALIZED, "other")) == ["quiz"] * 3
    assert activity_ids(("RESPOND", "q1"), ("SUBMIT", "quiz")) == ["q1"] * 2
    assert activity_ids(("RESPOND", ""), ("RESPOND", "q1")) == ["q1"] * 2
    assert activity_ids(("RESPOND", "")) == [""]
    assert activity_ids() == []


@pytest.mark.parametrize(
    ("statements", "completed"),
    [
        # A course of three components.
        ([(INITIALIZED, "c"), (COMPLETED, "c/1"), (COMPLETED, "c/2"), (COMPLETED, "c/3"), (COMPLETED, "c")], ["c"]),
        # Components that are opened and left inside of it are its parts all the same.
        ([(INITIALIZED, "c"), (INITIALIZED, "c/1"), (COMPLETED, "c/1"), ("SAVE", "c/1"), (COMPLETED, "c")], ["c"]),
        # What is opened after the first has ended is no part of it.
        (
            [(INITIALIZED, "a"), (COMPLETED, "a"), ("SAVE", "a"), (INITIALIZED, "b"), (COMPLETED, "b"), ("SAVE", "b")],
            ["a", "b"],
        ),
        ([(INITIALIZED, "a"), (COMPLETED, "a"), ("SAVE", "a"), (COMPLETED, "a/1"), (COMPLETED, "b")], ["a"]),
        # Before one is opened, the first statement's object stands for the session.
        ([(COMPLETED, "q"), (COMPLETED, "r"), (COMPLETED, "q")], ["q", "q"]),
        ([(COMPLETED, "q"), (INITIALIZED, "c"), (COMPLETED, "q"), (COMPLETED, "c")], ["q", "c"]),
        # The session's activity completes it also before it is opened.
        ([("RESPOND", "q"), (COMPLETED, "c"), (INITIALIZED, "c")], ["c"]),
        ([("RESPOND", ""), (COMPLETED, "c")], ["c"]),
        ([(LAUNCHED, "c"), (INITIALIZED, "c/1"), (COMPLETED, "c/1"), (COMPLETED, "c")], ["c"]),
    ],
)
def test_a_part_that_is_completed_completes_nothing_else(
    statements: list[tuple[str, str]], completed: list[str]
) -> None:
    resolved = resolve_session(told(*statements)).activities
    assert [things for things, each in zip(statements, resolved, strict=True) if each.action == "SUBMIT"] == [
        (COMPLETED, thing) for thing in completed
    ]
    assert not [each for each in resolved if each.action == COMPLETED]


def test_submit_is_as_it_was() -> None:
    assert actions((INITIALIZED, "c"), ("SUBMIT", "c/1")) == ["START", "SUBMIT"]


def test_a_part_that_is_completed_in_the_instant_of_the_whole_comes_before_its_end() -> None:
    order = [(INITIALIZED, "c"), ("RESPOND", "q"), (COMPLETED, "c"), (COMPLETED, "c/1"), ("SCORE", "c")]
    resolved = resolve_session(told(*order, at=[0, 1, 1, 1, 1])).activities
    assert [each.record_id for each in resolved] == ["r0", "r1", "r3", "r2", "r4"]


def test_a_score_stays_with_the_sessions_own_activity() -> None:
    def scored(number: int, action: str, thing: str) -> Activity:
        parts = StatementParts("https://h", number, 10)
        return Activity(f"r{number}", "u", "s", thing, action, number, statement=parts)  # type: ignore[arg-type]

    resolved = resolve_session(
        [scored(0, "SCORE", "c/1"), scored(1, INITIALIZED, "c"), scored(2, "SCORE", "c"), scored(3, COMPLETED, "c/2")]
    ).activities
    assert [each.statement for each in resolved] == [
        StatementParts("https://h"),
        StatementParts("https://h", 1, 10),
        StatementParts("https://h", 2, 10),
        StatementParts("https://h"),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([INITIALIZED, LAUNCHED, COMPLETED, "RESUME", "SAVE", "RESPOND", "SUBMIT", "SCORE"]),
            st.sampled_from(["", "c", "c/1", "d"]),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)
def test_nothing_of_a_session_is_lost_and_nothing_stays_undecided(drawn: list[tuple[str, str, int]]) -> None:
    times = sorted(at for _, _, at in drawn)
    before = told(*[(action, thing or "c") for action, thing, _ in drawn], at=times)
    after = resolve_session(before).activities
    unchanged: dict[str, Any] = {"action": "RESPOND", "activity_id": "c"}
    assert sorted((msgspec.structs.replace(each, **unchanged) for each in after), key=str) == sorted(
        (msgspec.structs.replace(each, **unchanged) for each in before), key=str
    )
    assert not {INITIALIZED, LAUNCHED, COMPLETED} & {each.action for each in after}
    assert sum(each.action == "START" for each in after) <= 1
    assert len({each.activity_id for each in after}) <= 1
