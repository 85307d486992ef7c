"""Statements of one name, against the rules written down a second time; and in any order, twice, cut up, one by one."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Record
from tests.transforms.sessions import statement_oracle as oracle
from tests.transforms.sessions.arrivals import batch, read
from transforms.reading.activity import encode
from transforms.reading.voids import Void
from transforms.reading.xapi_session import resolve_session
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import KeptSession, SessionFold, fold_on

STATEMENTS = oracle.statements_of_one_name()


def line(record: Record) -> oracle.Line:
    message = record.message
    if record.kind == "score":
        return record.record_id, "score", (message["score"], message["max_score"])
    if record.kind == "status":
        return record.record_id, "status", message["num_attempted"]
    return record.record_id, message["event"], None


def test_records_are_those_of_the_rules() -> None:
    reached: set[str] = set()

    # The same examples every time: what they reach is asserted, and must not hang on luck.
    @settings(max_examples=400, derandomize=True)
    @given(STATEMENTS)
    def agrees(statements: list[dict[str, Any]]) -> None:
        records, counts = batch(statements)
        expected, counted, outcomes = oracle.derive(statements)
        home_page = {each["id"]: each["actor"]["account"]["homePage"] for each in statements}
        derived: dict[tuple[str, str], list[oracle.Line]] = {key: [] for key in expected}
        for record in records:
            derived[record.message["session_id"], home_page[record.record_id]].append(line(record))
        assert derived == expected
        assert {name: counts[name] for name in oracle.COUNTS} == {name: counted[name] for name in oracle.COUNTS}
        assert counts["outcomes"] == outcomes
        assert all(record.user_id == "5" for record in records)
        reached.update(name for name, count in counted.items() if count)
        reached.update(outcomes, (name for lines in expected.values() for _, name, _ in lines))

    agrees()
    events = {"session-started", "session-resumed", "session-completed"}
    outcomes = {"Incomplete", "Completed", "none"}
    assert reached == {*events, "status", "score", *oracle.COUNTS, *outcomes}, "too tame an input"


@given(STATEMENTS, st.randoms(use_true_random=False))
def test_order_and_copies_of_the_input_change_nothing(statements: list[dict[str, Any]], chance: Any) -> None:
    other = statements + [each | {"id": each["id"].upper()} for each in statements if chance.random() < 0.3]
    chance.shuffle(other)
    records = batch(statements)[0]
    assert [msgspec.to_builtins(each) for each in batch(other)[0]] == [msgspec.to_builtins(each) for each in records]


@pytest.mark.parametrize("every", [1, 4])
@settings(max_examples=100)
@given(statements=STATEMENTS, chance=st.randoms(use_true_random=False))
def test_runs_and_single_statements_in_any_order_leave_what_one_run_derives(
    every: int, statements: list[dict[str, Any]], chance: Any
) -> None:
    """A run of `every` statements after the other on what was kept; with one statement each, as it arrives."""
    arriving = statements + [each for each in statements if chance.random() < 0.2]
    chance.shuffle(arriving)
    sessions: list[KeptSession] = []
    known_voids: set[Void] = set()
    before: set[str] = set()
    for start in range(0, len(arriving), every):
        activities, voids = read(arriving[start : start + every])
        new = voids - known_voids
        known_voids |= voids
        fold = SessionFold(*(Derivation(resolve_session=resolve_session) for _ in range(2)))
        lines = [encode(each) for each in activities]
        sent = [each.id for each in fold_on(sessions, lines, 0, fold, known_voids, new)]
        now = {each.id for each in batch(arriving[: start + every])[0]}
        assert len(sent) == len(set(sent))
        assert set(sent) == now - before, "what is new by the void, and nothing that was sent before"
        before = now


@pytest.mark.parametrize(
    ("score", "spelled"),
    [
        ('{"raw": 16, "max": 20}', '"score":16,"max_score":20'),
        ('{"raw": 16.0, "max": 20.00}', '"score":16,"max_score":20'),
        ('{"raw": -0.0, "max": 1e1}', '"score":0,"max_score":10'),
        ('{"raw": 0.50}', '"score":0.5,"max_score":null'),
        ('{"scaled": 1.0}', '"score":1,"max_score":1'),
        ('{"raw": {"$numberDouble": "16.0"}, "max": {"$numberDecimal": "20.0"}}', '"score":16,"max_score":20'),
    ],
)
def test_a_sessions_own_score_is_spelled_as_a_sum_is(score: str, spelled: str) -> None:
    scored = {
        "id": "statement-00",
        "actor": {"account": {"homePage": oracle.HOME_PAGES[0], "name": "5"}},
        "verb": {"id": oracle.VERBS + "completed"},
        "object": {"id": "https://x/course"},
        "context": {"registration": "reg-1"},
        "timestamp": "2026-03-01T09:00:00Z",
        "result": {"score": orjson.Fragment(score)},
    }
    snapshots = [record.body.decode() for record in batch([scored])[0] if record.kind == "score"]
    assert len(snapshots) == 1
    assert spelled in snapshots[0]
