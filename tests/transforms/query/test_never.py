"""What a query document can never hold is told, and only that."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.query_document import QUERY_FIELDS
from tests.transforms.sessions.strategies import ACTIVITY_OF_ONE_USER
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import QueryError, compile_query
from transforms.query.never import never_matching
from transforms.sessions.derivation import Derivation

BUILD = StatementBuilder("https://id.example.org").statement
PATHS = [
    *(field.name for field in QUERY_FIELDS),
    "metadata.course",
    "statement.context.extensions.a",
    "subscores.0.id",
    "statement.verb.display.fr",
    "kind.x",
]
OPERANDS: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2.5,
        "event",
        "score",
        "session-started",
        "Completed",
        "completed",
        "u",
        "2020-02-17",
        {"$date": "2020-02-17T15:03:23Z"},
        [],
        {},
    ]
)


@st.composite
def clauses(draw: Any) -> dict[str, Any]:
    path = draw(st.sampled_from(PATHS))
    operator = draw(
        st.sampled_from(["$eq", "$ne", "$gt", "$lte", "$in", "$exists", "$regex", "$type", "$size", "$mod"])
    )
    operand: Any
    if operator == "$in":
        operand = draw(st.lists(OPERANDS, max_size=2))
    elif operator == "$exists":
        operand = draw(st.booleans())
    elif operator == "$regex":
        operand = draw(st.sampled_from(["^s", "e", "http", "2020"]))
    elif operator == "$type":
        operand = draw(st.sampled_from(["string", "date", "number", "null", "object", "array", "bool"]))
    elif operator == "$size":
        operand = draw(st.integers(0, 2))
    elif operator == "$mod":
        operand = [2, 0]
    else:
        operand = draw(OPERANDS)
    return {path: {operator: operand}}


QUERIES = st.recursive(
    clauses(),
    lambda inner: st.builds(
        lambda operator, parts: {operator: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


def said(query: Any) -> list[str]:
    return never_matching(compile_query(json.dumps(query)))


@pytest.mark.slow
@settings(max_examples=50)
@given(ACTIVITY_OF_ONE_USER, st.lists(QUERIES, min_size=1, max_size=20))
def test_a_query_that_matches_a_record_is_not_said_to_match_none(activities: Any, queries: list[Any]) -> None:
    documents = [query_document(record, BUILD(record)) for record in Derivation().user(activities)]
    for given_query in queries:
        try:
            query = compile_query(json.dumps(given_query))
        except QueryError:
            continue
        alone = len(given_query) == 1 and not next(iter(given_query)).startswith("$")
        if any(query.matches(document) for document in documents):
            told = never_matching(query)
            assert not any(line.startswith("no record matches all") for line in told)
            operator = next(iter(next(iter(given_query.values())))) if alone else ""
            # A value of $in may be told alone.
            assert not told or not alone or operator == "$in" or told[0].endswith("; every record matches this")
        if alone and any(line.endswith("; every record matches this") for line in never_matching(query)):
            assert all(query.matches(document) for document in documents)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"kind": "scores"}, "kind is one of event, status, score"),
        ({"kind": {"$ne": "scores"}}, "kind is one of event, status, score"),
        ({"kind": {"$in": ["event", "scores"]}}, 'kind is never "scores"'),
        ({"kind": {"$nin": ["scores"]}}, "kind is one of"),
        ({"event": "session-start"}, "event is one of session-started, session-resumed, session-completed"),
        ({"status": "Incomplete"}, "status is one of Completed, PendingScoring"),
        ({"kind": {"$regex": "^EV"}}, "kind is one of"),
        ({"statement.verb.id": "http://adlnet.gov/expapi/verbs/answered"}, "statement.verb.id is one of"),
        ({"dt_started": {"$gte": {"$date": "2020-02-17T00:00:00Z"}}}, "ask for timestamp, which is a date"),
        ({"time": {"$lt": {"$date": "2020-02-17T00:00:00Z"}}}, "text such as 2020-02-17 15:03:23"),
        ({"timestamp": {"$regex": "^2020-02"}}, "compare it with $gte and $lt and a date"),
        ({"statement.stored": {"$regex": "2020"}}, "statement.stored is a date"),
        ({"timestamp": {"$gt": 1581951803000}}, 'write a date, such as "2020-02-17T15:03:23Z"'),
        ({"score": "5"}, "write the number without quotes"),
        ({"score": {"$gte": "5"}}, "score is a number, and is compared with text"),
        ({"max_score": {"$in": ["5", "6"]}}, "max_score is a number"),
        ({"user_id": 5}, "write it in quotes"),
        ({"session_id": {"$mod": [2, 0]}}, "the operator is for numbers"),
        ({"num_attempted": {"$size": 2}}, "the operator is for arrays"),
        ({"score": {"$type": "string"}}, "$type asks for string"),
        ({"statement.result.completion": "true"}, "true or false"),
        ({"statement.verb.name": "x"}, "no record has statement.verb.name; did you mean"),
        ({"statement.result.success": True}, "no record has statement.result.success"),
        ({"subscores.foo": 1}, "no record has subscores.foo"),
        ({"kind": "event", "score": {"$gte": 1}}, "none has score $gte 1 and kind $eq"),
        ({"event": "session-completed", "status": "Completed"}, "no record matches all of it"),
        ({"$or": [{"kind": "event"}, {"score": "5"}]}, "score is a number"),
        ({"$nor": [{"kind": "scores"}]}, "kind is one of"),
        ({"kind": {"$ne": "scores"}}, "; every record matches this"),
        ({"kind.name": {"$exists": False}}, "; every record matches this"),
        ({"score": {"$not": {"$regex": "5"}}}, "; every record matches this"),
        ({"kind": {"$not": {"$ne": "scores"}}}, "kind is one of event, status, score"),
        ({"user_id": {"$gt": {"$oid": "507f1f77bcf86cd799439011"}}}, "is compared with an ObjectId"),
        ({"subscores": {"$elemMatch": {"name": "x"}}}, "no record has subscores.name"),
        ({"subscores": {"$elemMatch": {"id": "x", "score": {"$gte": "5"}}}}, "subscores.score is a number"),
        ({"subscores": {"$elemMatch": {"$or": [{"id": 5}, {"title": "x"}]}}}, "subscores.id is text"),
    ],
)
def test_what_can_never_hold_is_told_with_what_is_there(query: Any, words: str) -> None:
    (line,) = said(query)
    assert words in line


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"kind": "event"},
        {"kind": {"$regex": "^ev"}},
        {"score": None},
        {"score": {"$exists": False}},
        {"metadata.course": 5},
        {"organisation": None},
        {"_id": {"$oid": "507f1f77bcf86cd799439011"}},
        {"timestamp": {"$gte": "2020-02-17"}},
        {"subscores.0.score": {"$gt": 1}},
        {"subscores.id": "reading"},
        {"subscores": {"$elemMatch": {"id": "reading", "score": {"$gte": 3}}}},
        {"subscores.items": "i1"},
        {"subscores": {"$elemMatch": {"items": {"$elemMatch": {"$eq": "i1"}}}}},
        {"_id": {"$gte": {"$oid": "507f1f77bcf86cd799439011"}}},
        {"organisation": {"$not": {"$lt": {"$oid": "507f1f77bcf86cd799439011"}}}},
        {"statement.context.extensions.https://example&46;org/x": "a"},
        {"statement.result.extensions": {"$exists": True}},
        {"statement.verb.id": "http://adlnet.gov/expapi/verbs/completed"},
        {"$or": [{"kind": "event"}, {"score": {"$gte": 5}}]},
        # Somebody else tells of names at the top that no record has.
        {"no_such_name": 1},
        {"no_such_name": 1, "kind": "event"},
    ],
)
def test_of_what_can_match_nothing_is_said(query: Any) -> None:
    assert said(query) == []


@pytest.mark.parametrize(
    ("query", "json_way"),
    [
        ('{"timestamp": {"$gte": ISODate("2020-02-17T00:00:00Z")}}', '{"$date": "2020-02-17T00:00:00Z"}'),
        ('{"timestamp": {"$gte": ISODate(\'2020-02-17\')}}', '{"$date": "2020-02-17"}'),
        ('{"timestamp": {"$gte": new Date("2020-02-17")}}', '{"$date": "2020-02-17"}'),
        ('{"_id": ObjectId("507f1f77bcf86cd799439011")}', '{"$oid": "507f1f77bcf86cd799439011"}'),
        ('{"score": NumberLong("5")}', "JSON has 5"),
        ('{"score": NumberDecimal("5.5")}', "JSON has 5.5"),
        ('{"user_id": /^ann/i}', '{"$regex": "^ann", "$options": "i"}'),
        ('{"user_id": {"$in": [/a\\/b/, /c/]}}', '{"$regex": "a/b"}'),
        ('{"timestamp": {"$gte": new ISODate("2020-02-17")}}', '{"$date": "2020-02-17"}'),
        ('{"timestamp": {"$gte": ISODate()}}', "a date as text"),
        ('{"timestamp": {"$gte": new Date(2020, 1, 17)}}', "a date as text"),
        ('{"score": Long("5")}', "JSON has 5"),
        ('{"score": Decimal128("5.5")}', "JSON has 5.5"),
        ('{"_id": new ObjectId("507f1f77bcf86cd799439011")}', '{"$oid": "507f1f77bcf86cd799439011"}'),
        ('{"user_id": new RegExp("^ann")}', '{"$regex": "^ann"}'),
        ("{\"user_id\": 'it\\'s'}", 'JSON has "it\'s"'),
        ("{'kind': 'event'}", 'JSON has "kind"'),
        ("{\"kind\": 'event'}", 'JSON has "event"'),
        ('{kind: "event"}', 'JSON has "kind"'),
        ('{"kind": "event",}', "no comma after the last member"),
        ('{"kind": "event" // all of them\n}', "no comments"),
        ('{"kind": "event", /* all */ "user_id": "u"}', "no comments"),
        ('{"kind": /* all */ "event"}', "no comments"),
    ],
)
def test_the_shells_syntax_gets_the_way_json_writes_it(query: str, json_way: str) -> None:
    with pytest.raises(QueryError) as refused:
        compile_query(query)
    assert json_way in str(refused.value)


def test_what_json_has_instead_is_json_that_a_query_may_hold() -> None:
    compile_query('{"timestamp": {"$gte": {"$date": "2020-02-17"}}, "user_id": {"$regex": "^ann", "$options": "i"}}')


def test_of_a_query_of_thousands_of_clauses_twenty_are_told() -> None:
    # Anybody who may create a forwarder may send one. Each clause against each other would take minutes.
    query = compile_query(json.dumps({"$or": [{"kind": f"k{number}"} for number in range(8000)]}))
    told = never_matching(query)
    assert len(told) == 20
    assert told[0].startswith('kind $eq "k0"')

    (listed,) = never_matching(compile_query({"kind": {"$in": ["score", *map(str, range(8000))]}}))
    assert len(listed) < 1000


def test_dead_values_are_told_inside_of_an_or_too() -> None:
    assert never_matching(compile_query({"$or": [{"kind": {"$in": ["score", "scores"]}}, {"user_id": "a"}]}))
