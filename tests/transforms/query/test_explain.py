"""Explanations: the outcome, the clause that decided, and what was found there, in one line."""

from typing import Any

import pytest

from transforms.query import MatchResult, QueryError, compile_query

DOCUMENT = {
    "kind": "status",
    "score": 7,
    "statement": {"verb": {"id": "scored"}},
    "tags": ["a", "b", "c", "d"],
    "long": "x" * 500,
}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, "match: an empty query matches everything"),
        ({"kind": "status"}, 'match: kind $eq "status" (found "status")'),
        ({"kind": "event"}, 'no match: kind $eq "event" (found "status")'),
        ({"kind": "status", "score": {"$gte": 8}}, "no match: score $gte 8 (found 7)"),
        ({"kind": "status", "score": 7}, "match: all 2 clauses hold"),
        ({"$or": [{"kind": "event"}, {"score": 7}]}, "match: score $eq 7 (found 7)"),
        ({"$or": [{"kind": "event"}, {"score": 8}]}, "no match: none of 2 alternatives holds"),
        ({"score": {"$ne": 7}}, "no match: score $ne 7 (found 7)"),
        ({"$nor": [{"score": 7}]}, "no match: not (score $eq 7) (found 7)"),
        ({"score": {"$not": {"$gt": 5}}}, 'no match: score $not {"$gt": 5} (found 7)'),
        ({"missing": {"$exists": True}}, "no match: missing $exists true (found nothing)"),
        ({"statement.verb.id": "completed"}, 'no match: statement.verb.id $eq "completed" (found "scored")'),
        ({"tags": "z"}, 'no match: tags $eq "z" (found ["a", "b", "c", "d"])'),
        ({"tags": {"$all": []}}, "no match: an empty list never matches"),
        ({"kind": {"$regex": "^s(t|u)"}}, 'match: kind $regex "^s(t|u)" (found "status")'),
    ],
)
def test_the_clause_that_decided(query: Any, text: str) -> None:
    explanation = compile_query(query).explain(DOCUMENT)
    assert explanation.text == str(explanation) == text
    assert explanation.outcome is (MatchResult.NO_MATCH if text.startswith("no") else MatchResult.MATCH)


def test_the_parts_of_an_explanation() -> None:
    explanation = compile_query({"kind": "status", "a.b": {"$gt": 1}}).explain({"kind": "status", "a": {"b": 0}})
    assert (explanation.clause, explanation.path, explanation.found) == ("a.b $gt 1", "a.b", "0")


def test_undecided_is_explained() -> None:
    explanation = compile_query({"kind": "x", "a": {"$regex": "(a+)+$"}}).explain({"kind": "x", "a": "a" * 40 + "!"})
    assert explanation.text.startswith('undecided: a $regex "(a+)+$" (found "aaaa')


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\u2028", "\x00", "\ud800"])
def test_an_explanation_and_a_refusal_are_one_line_that_can_be_written(text: str) -> None:
    line = compile_query({text: text}).explain({text: text}).text
    assert line.encode()
    assert len(line.splitlines()) == 1
    with pytest.raises(QueryError) as caught:
        compile_query({text: {f"${text}": 1}})
    assert str(caught.value).encode()
    assert len(str(caught.value).splitlines()) == 1


def test_a_long_value_is_cut() -> None:
    text = compile_query({"long": {"$in": ["y" * 1_000] * 1_000}}).explain(DOCUMENT).text
    assert len(text) < 300
