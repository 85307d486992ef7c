"""Score snapshots that keep up with a session say what ones say that are made anew, and what adding up says."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Response, SubscoreDefinition, Tag
from tests.support.activity import by_items, by_tags, response, tags
from transforms.sessions.score_snapshots import ScoreSnapshots
from transforms.sessions.session import Session

_ITEMS = [f"i{n}" for n in range(5)]
_item = st.sampled_from(_ITEMS)
_tag = st.builds(Tag, st.sampled_from("tu"), st.sampled_from("xy"))
_score = (
    st.sampled_from([None, None, 0, 1, 0.1, 0.3, 2.5, -0.5, 1e23, -1e23, 2**62, 1e300, -1e300, 5e-324, 1e-7])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**63 - 1)
)
_response = st.builds(
    Response,
    response_id=st.sampled_from([f"r{n}" for n in range(6)]),
    item_reference=_item,
    attempted=st.sampled_from([None, True, True, False]),
    score=_score,
    max_score=_score,
    revision=st.none() | st.integers(0, 2),
)
_definition = st.builds(
    SubscoreDefinition,
    id=st.sampled_from("de"),
    title=st.just("T"),
    items=st.none() | st.lists(_item, max_size=3),
    tags=st.none() | st.lists(_tag, max_size=2),
)
_change: st.SearchStrategy[Callable[[Session], None]] = st.one_of(
    *[_response.map(lambda given: lambda session: session.take_response(given))] * 4,
    st.dictionaries(_item, st.lists(_tag, max_size=2), max_size=2).map(
        lambda given: lambda session: session.take_tags(given)
    ),
    st.lists(_definition, max_size=3).map(lambda given: lambda session: setattr(session, "subscores", given)),
    st.tuples(_score.filter(lambda score: score is not None), _score).map(
        lambda given: lambda session: setattr(session, "own_score", given)
    ),
)


def session_with(*changes: Callable[[Session], None]) -> Session:
    session = Session("o", None, "s", "u", "a", "Completed")
    for change in changes:
        change(session)
    return session


def added_up(values: list[Any]) -> Fraction | None:
    known = [Fraction(repr(value)) for value in values if value is not None]
    return sum(known, Fraction()) if known else None


def expected(session: Session) -> list[Any]:
    """The sums of a snapshot, added up by the rules of docs/spec/records.md section 3, and the items."""
    answers = list(session.answers.values())
    of_session = [session.own_score] if session.own_score else [(answer.score, answer.max_score) for answer in answers]
    sums: list[Any] = [added_up([score for score, _ in of_session]), added_up([most for _, most in of_session])]
    for definition in session.subscores:
        items = definition.items or [
            item
            for item in session.items
            if any(tag in session.item_tags.get(item, []) for tag in definition.tags or [])
        ]
        mine = [answer for answer in answers if answer.item_reference in items]
        attempted = [answer for answer in mine if answer.attempted]
        sums += [
            len(mine),
            len(attempted),
            added_up([answer.score for answer in mine]) or 0,
            added_up([answer.max_score for answer in mine]) or 0,
            added_up([answer.max_score for answer in attempted]) or 0,
            items,
        ]
    return sums


def as_printed(value: Any) -> Any:
    """A sum as the nearest number that a message may have."""
    if not isinstance(value, Fraction):
        return value
    if value.denominator == 1 and abs(value) < 2**63:
        return int(value)
    largest = Fraction(1.7976931348623157e308)
    return float(max(-largest, min(largest, value)))


def sums_of(message: dict[str, Any]) -> list[Any]:
    sums = [message["score"], message["max_score"]]
    for subscore in message["subscores"]:
        sums += list(subscore.values())[2:]
    return sums


@settings(max_examples=150)
@given(st.lists(st.lists(_change, max_size=4), min_size=1, max_size=8))
def test_snapshots_that_keep_up_are_those_that_are_made_anew(steps: list[list[Callable[[Session], None]]]) -> None:
    session = session_with()
    kept = ScoreSnapshots(session)
    for changes in steps:
        for change in changes:
            change(session)
        message, body = kept.snapshot()
        copy = msgspec.json.decode(msgspec.json.encode(session), type=Session)
        assert ScoreSnapshots(copy).snapshot() == (message, body)
        assert orjson.loads(body) == message
        wanted = [as_printed(value) for value in expected(session)]
        assert sums_of(message) == wanted
        assert list(map(type, sums_of(message))) == list(map(type, wanted))
        assert session.num_attempted == sum(answer.attempted is True for answer in session.answers.values())
        assert session.scores_known == any(
            score is not None for score in (session.own_score, *(each.score for each in session.answers.values()))
        )
        assert session.all_scored == all(
            answer.score is not None for answer in session.answers.values() if answer.attempted
        )


def test_a_snapshot_is_not_changed_by_the_next_one() -> None:
    session = session_with(
        lambda session: session.take_response(response("q1", 1, 2)),
        lambda session: session.take_tags({"q1": tags(("t", "x"))}),
        lambda session: setattr(session, "subscores", [by_items("a", "q1", "q2"), by_tags("b", ("t", "x"))]),
    )
    snapshots = ScoreSnapshots(session)
    first, body = snapshots.snapshot()
    before = orjson.dumps(first)
    session.take_response(response("q2", 1, 2))
    session.take_tags({"q2": tags(("t", "x"))})
    second, _ = snapshots.snapshot()
    assert orjson.dumps(first) == before == body
    assert [subscore["items"] for subscore in second["subscores"]] == [["q1", "q2"], ["q1", "q2"]]


@pytest.mark.parametrize(
    ("definition", "num_questions"),
    [(by_items("a", "q1", "q1"), 1), (by_tags("a", ("t", "x"), ("t", "x")), 1), (by_items("a"), 0), (by_tags("a"), 0)],
)
def test_an_item_counts_once_in_a_subscore(definition: SubscoreDefinition, num_questions: int) -> None:
    session = session_with(
        lambda session: session.take_response(response("q1", 1, 2)),
        lambda session: session.take_tags({"q1": tags(("t", "x"), ("t", "x"))}),
        lambda session: setattr(session, "subscores", [definition]),
    )
    message, _ = ScoreSnapshots(session).snapshot()
    assert [subscore["num_questions"] for subscore in message["subscores"]] == [num_questions]
