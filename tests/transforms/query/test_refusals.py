"""What is refused when a query is compiled, with the operator, the place and what is allowed."""

import pickle
from typing import Any

import pytest

from transforms.query import QueryError, compile_query
from transforms.query.parse import MAX_DEPTH


def refusal(query: Any) -> QueryError:
    with pytest.raises(QueryError) as caught:
        compile_query(query)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "5",
        "true",
        '"x"',
        "{",
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": 1e999}',
        "[{}]",
        "{}x",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert isinstance(refusal(text), ValueError)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": [{"a": {"$gt": 1, "$gt": 2}}]}'])
def test_duplicate_keys_are_refused_by_name(text: str) -> None:
    assert "duplicate key" in str(refusal(text))


@pytest.mark.parametrize(
    ("query", "message", "operator", "where"),
    [
        ({"$where": "1"}, "$where is not supported", "$where", "$where"),
        ({"$and": [{"$text": {}}]}, "$text is not supported", "$text", "$and[0] > $text"),
        ({"$expr": {}}, "$expr is not supported", "$expr", "$expr"),
        ({"$jsonSchema": {}}, "$jsonSchema is not supported", "$jsonSchema", "$jsonSchema"),
        ({"a": {"$elemMatch": {"b": 1, "$expr": 1}}}, "$expr can only be applied to the top-level", "$expr",
         "a > $elemMatch > $expr"),
        ({"$personaIdent": 1}, "unknown top level operator: $personaIdent", "$personaIdent", "$personaIdent"),
        ({"$or": [{"a": 1}, {"$not": {}}]}, "unknown top level operator: $not", "$not", "$or[1] > $not"),
        ({"a.b": {"$near": 1}}, "unknown operator: $near", "$near", "a.b > $near"),
        ({"a": {"$gt": 1, "b": 2}}, "unknown operator: b", "b", "a > b"),
        ({"a": {"$comment": 1}}, "unknown operator: $comment", "$comment", "a > $comment"),
        ({"a": {"$and": []}}, "unknown operator: $and", "$and", "a > $and"),
        ({"$or": []}, "$and/$or/$nor must be a nonempty array", "$or", "$or"),
        ({"$nor": {}}, "$nor must be an array", "$nor", "$nor"),
        ({"$and": [1]}, "$or/$and/$nor entries need to be full objects", "$and", "$and[0]"),
        ({"a": {"$in": 1}}, "$in needs an array", "$in", "a > $in"),
        ({"a": {"$in": [{"$regex": "^x"}]}}, "cannot nest $ under $in", "$in", "a > $in[0]"),
        ({"a": {"$all": 1}}, "$all needs an array", "$all", "a > $all"),
        ({"a": {"$all": [{"$gt": 1}]}}, "no $ expressions in $all", "$all", "a > $all[0]"),
        ({"a": {"$all": [{"$elemMatch": {}}, 1]}}, "$all/$elemMatch has to be consis", "$all", "a > $all[1]"),
        ({"a": {"$elemMatch": 1}}, "$elemMatch needs an Object", "$elemMatch", "a > $elemMatch"),
        ({"a": {"$size": -1}}, "Failed to parse $size", "$size", "a > $size"),
        ({"a": {"$size": 1.5}}, "Failed to parse $size", "$size", "a > $size"),
        ({"a": {"$size": True}}, "Failed to parse $size", "$size", "a > $size"),
        ({"a": {"$size": 2**31}}, "Failed to parse $size", "$size", "a > $size"),
        ({"a": {"$not": 5}}, "$not needs a regex or a document", "$not", "a > $not"),
        ({"a": {"$not": {}}}, "$not cannot be empty", "$not", "a > $not"),
        ({"a": {"$regex": 5}}, "$regex has to be a string", "$regex", "a > $regex"),
        ({"a": {"$regex": "a", "$options": 5}}, "$options has to be a string", "$options", "a > $options"),
        ({"a": {"$options": "i"}}, "$options needs a $regex", "$options", "a > $options"),
        ({"a": {"$regex": "("}}, "Regular expression is invalid", "$regex", "a > $regex"),
        ({"a": {"$regex": "a", "$options": "g"}}, "invalid flag in regex options: g", "$regex", "a > $regex"),
        ({"a": {"$mod": [1]}}, "malformed mod, not enough elements", "$mod", "a > $mod"),
        ({"a": {"$mod": [0.5, 1]}}, "divisor cannot be 0", "$mod", "a > $mod"),
        ({"a": {"$mod": [2**63, 1]}}, "malformed mod, divisor value is invalid", "$mod", "a > $mod"),
        ({"a": {"$type": "missing"}}, "Unknown type name alias: missing", "$type", "a > $type"),
        ({"a": {"$type": 0}}, "Invalid numerical type code: 0", "$type", "a > $type"),
        ({"a": {"$type": True}}, "type must be represented as a number or a string", "$type", "a > $type"),
        ({"a": {"$type": []}}, "must match at least one type", "$type", "a > $type"),
        ({"a": {"$bitsAnySet": -1}}, "Expected a non-negative number", "$bitsAnySet", "a > $bitsAnySet"),
        ({"a": {"$ne": {"$regularExpression": {"pattern": ""}}}}, "Can't have regex", "$ne", "a > $ne"),
        ({"a": {"$oid": "123"}}, "$oid must be 24 hexadecimal digits", "$oid", "a"),
        ({"a": {"$date": "soon"}}, "$date cannot be read as a date", "$date", "a"),
        ({"a": {"b": [{"$minKey": 1}]}}, "$minKey is not supported", "$minKey", "a > b[0]"),
        ({"timestamp": "soon"}, "cannot be read as one", "$eq", "timestamp"),
        ({"statement.stored": {"$not": {"$in": ["2020", "soon"]}}}, "cannot be read as one", "$in",
         "statement.stored > $not > $in[1]"),
        ({"$match": 5}, "$match needs an object", "$match", "$match"),
        ({"$match": {"$match": {}}}, "unknown top level operator: $match", "$match", "$match > $match"),
        ({"$match": {}, "a": 1}, "unknown top level operator: $match", "$match", "$match"),
    ],
)  # fmt: skip
def test_a_refusal_names_operator_and_place(query: Any, message: str, operator: str, where: str) -> None:
    error = refusal(query)
    assert message in error.message
    assert error.operator == operator
    assert error.where == where
    assert where in str(error)


@pytest.mark.parametrize(
    "operator",
    ["$gt", "$mod", "$size", "$type", "$in", "$all", "$not", "$elemMatch", "$foo", "$regex", "$bitsAllSet"],
)
def test_a_refusal_says_what_is_allowed(operator: str) -> None:
    argument = {"$regularExpression": {"pattern": "", "options": ""}} if operator == "$gt" else None
    assert refusal({"a": {operator: argument}}).allowed != ""


def test_a_refusal_pickles() -> None:
    error = refusal({"a": {"$foo": 1}})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.operator, again.where) == (str(error), "$foo", "a > $foo")


def nested(levels: int) -> dict[str, Any]:
    query: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        query = {"$and": [query]}
    return query


def test_depth_is_limited_and_what_is_allowed_works() -> None:
    deepest = (MAX_DEPTH - 1) // 2
    assert compile_query(nested(deepest)).matches({"a": 1})
    assert str(MAX_DEPTH) in refusal(nested(deepest + 1)).message
    assert str(MAX_DEPTH) in refusal({".".join("a" * (MAX_DEPTH + 2)): 1}).message
    assert str(MAX_DEPTH) in refusal('{"a":' * 100_000 + "1" + "}" * 100_000).message
    assert str(MAX_DEPTH) in refusal('{"a":' + "[" * 500 + "]" * 500 + "}").message


def test_a_value_that_is_no_json_is_refused() -> None:
    assert "set" in refusal({"a": {1, 2}}).message
    assert "field name" in refusal({1: 2}).message
    assert "bytes" in refusal(b"{}").message
