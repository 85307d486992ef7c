"""Clause by clause: the whole is what `Query.explain` says, and what is marked as deciding is what it names."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from tests.transforms.query.strategies import DOCUMENTS, queries
from transforms.query import MatchResult, compile_query
from transforms.query.clauses import MOST, JudgedClause, judged_clauses


def leaves(clause: JudgedClause) -> Iterator[JudgedClause]:
    if not clause.children:
        yield clause
    for child in clause.children:
        yield from leaves(child)


@given(queries(), DOCUMENTS)
def test_the_clauses_say_what_the_query_says(query: dict[str, Any], document: dict[str, Any]) -> None:
    compiled = compile_query(query)
    told = judged_clauses(compiled, document)
    explanation = compiled.explain(document)
    assert told.outcome is explanation.outcome
    deciding = [leaf.text for leaf in leaves(told) if leaf.decides]
    assert deciding
    if explanation.path and not explanation.clause.startswith("not ("):
        assert explanation.clause in deciding


@given(queries(), DOCUMENTS)
def test_a_joined_clause_rests_on_those_that_decide_in_it(query: dict[str, Any], document: dict[str, Any]) -> None:
    def check(clause: JudgedClause) -> None:
        turned = {MatchResult.MATCH: MatchResult.NO_MATCH, MatchResult.NO_MATCH: MatchResult.MATCH}
        for child in clause.children:
            assert child.decides <= clause.decides
            if child.decides:
                wanted = turned.get(clause.outcome, clause.outcome) if clause.text == "none of" else clause.outcome
                assert child.outcome is wanted
            check(child)

    check(judged_clauses(compile_query(query), document))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"a": 1, "b": {"$gt": 5}}, [("a $eq 1", "match", False, "1"), ("b $gt 5", "no match", True, "2")]),
        ({"a": 1, "b": {"$lt": 5}}, [("a $eq 1", "match", True, "1"), ("b $lt 5", "match", True, "2")]),
        ({"$or": [{"a": 2}, {"b": 2}]}, [("a $eq 2", "no match", False, "1"), ("b $eq 2", "match", True, "2")]),
        ({"$nor": [{"a": 2}, {"b": 2}]}, [("a $eq 2", "no match", False, "1"), ("b $eq 2", "match", True, "2")]),
        ({"a": {"$ne": 1}}, [("a $ne 1", "no match", True, "1")]),
        ({"c": {"$exists": True}}, [("c $exists true", "no match", True, "nothing")]),
        # One clause of the author's, though an id may be an ObjectId or its text.
        (
            {"_id": {"$oid": "5e4aa94bf1cf61a24f2f5e3b"}},
            [('_id $eq oid("5e4aa94bf1cf61a24f2f5e3b")', "no match", True, "nothing")],
        ),
    ],
)
def test_what_is_told_of_a_query(query: dict[str, Any], told: list[tuple[str, str, bool, str]]) -> None:
    judged = judged_clauses(compile_query(query), {"a": 1, "b": 2})
    assert [(leaf.text, leaf.outcome.value, leaf.decides, leaf.found) for leaf in leaves(judged)] == told


def test_of_very_many_clauses_the_first_are_told() -> None:
    judged = judged_clauses(compile_query({"$or": [{"a": number} for number in range(MOST * 10)]}), {"a": -1})
    assert judged.outcome is MatchResult.NO_MATCH
    assert len(judged.children) == MOST
