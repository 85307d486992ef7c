"""A query as rows and back: what the form shows it does not change, and rows mean what they say."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.query_builder import OPERATORS, Operator, Row, RowError, Rows, ValueType, read, written
from tests.support.paths import ROOT
from tests.transforms.query.strategies import queries
from transforms.query import compile_query

FIELDS = st.sampled_from(["kind", "score", "user_id", "metadata.course", "statement.verb.id", "a&46;b"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["^a", "b$", "a.b", "\\", "/", "(x|y)"]
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
CONDITIONS = st.one_of(
    SCALARS,
    st.dictionaries(st.sampled_from(["$ne", "$gte", "$gt", "$lte", "$lt", "$eq", "$exists"]), SCALARS, max_size=2),
    st.builds(lambda sign, values: {sign: values}, st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=3)),
    st.builds(lambda text: {"$regex": text}, TEXTS),
    st.builds(lambda text: {"$regex": text, "$options": "i"}, TEXTS),
    st.lists(SCALARS, max_size=2),
)
OBJECTS = st.dictionaries(FIELDS, CONDITIONS, max_size=3)
COMMON = st.one_of(
    OBJECTS,
    st.builds(
        lambda join, parts: {join: parts}, st.sampled_from(["$or", "$and", "$nor"]), st.lists(OBJECTS, max_size=3)
    ),
)


VALUES: dict[ValueType, st.SearchStrategy[str]] = {
    "text": TEXTS,
    "number": NUMBERS.map(json.dumps),
    "boolean": st.sampled_from(["true", "false"]),
    "null": st.just("null"),
}


@st.composite
def rows(draw: st.DrawFn) -> Row:
    operator: Operator = draw(st.sampled_from(OPERATORS))
    field = draw(FIELDS)
    if operator == "exists":
        return Row(field, operator, "boolean", (draw(st.sampled_from(["true", "false"])),))
    if operator in ("contains", "starts with", "ends with", "matches"):
        return Row(field, operator, "text", (draw(TEXTS.filter(bool)),))
    value_type: ValueType = draw(st.sampled_from(["text", "number", "boolean", "null"]))
    values = VALUES[value_type]
    most = 3 if operator in ("is one of", "is none of") else 1
    return Row(field, operator, value_type, tuple(draw(st.lists(values, min_size=1, max_size=most))))


FORMS = st.builds(
    lambda join, listed: Rows(join, tuple(listed)), st.sampled_from(["all", "any"]), st.lists(rows(), max_size=5)
)


@given(COMMON | queries())
def test_a_query_that_is_shown_is_written_back_as_it_was(query: dict[str, Any]) -> None:
    form = read(query)
    if form is not None:
        assert json.dumps(written(form)) == json.dumps(query)


@given(FORMS)
def test_rows_are_written_as_a_query_that_says_the_same_rows(form: Rows) -> None:
    query = written(form)
    again = read(json.loads(json.dumps(query)))
    assert again is not None
    assert written(again) == query
    # The form may have plainer words for a pattern, and "any" of one row is that row.
    assert [row.field for row in again.rows] == [row.field for row in form.rows]
    plain = [(row, other) for row, other in zip(form.rows, again.rows, strict=True) if row.operator != "matches"]
    assert all(row == other for row, other in plain)


@given(FORMS)
def test_rows_are_a_query_that_the_job_takes(form: Rows) -> None:
    if all(row.operator != "matches" for row in form.rows):
        compile_query(json.dumps(written(form)))


@given(st.sampled_from(["contains", "starts with", "ends with"]), TEXTS.filter(bool), TEXTS, TEXTS)
def test_a_text_is_looked_for_as_it_is(operator: Operator, text: str, before: str, behind: str) -> None:
    query = compile_query(written(Rows("all", (Row("user_id", operator, "text", (text,)),))))
    found = before + text + behind
    wanted = {"contains": text in found, "starts with": found.startswith(text)}
    # `$` in a pattern also stands before a line feed that is the last character.
    wanted["ends with"] = found.endswith(text) or found.endswith(text + "\n")
    assert query.matches({"user_id": found}) is wanted[operator]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({}, []),
        ({"kind": "score"}, [("kind", "is", "text", ("score",))]),
        (
            {"score": {"$gte": 5, "$lt": 8}},
            [("score", "is at least", "number", ("5",)), ("score", "is less than", "number", ("8",))],
        ),
        ({"score": 5.0}, [("score", "is", "number", ("5.0",))]),
        ({"user_id": {"$regex": "@school\\.example$"}}, [("user_id", "ends with", "text", ("@school.example",))]),
        ({"user_id": {"$regex": "^(a|b)-"}}, [("user_id", "matches", "text", ("^(a|b)-",))]),
        ({"lrs_id": None}, [("lrs_id", "is", "null", ("null",))]),
        ({"$and": [{"a": {"$ne": 1}}, {"a": {"$ne": 2}}]}, [("a", "is not", "number", (n,)) for n in "12"]),
        ({"user_id": {"$regex": "a", "$options": "i"}}, None),
        ({"subscores": {"$elemMatch": {"id": "writing"}}}, None),
        ({"$or": [{"a": 1, "b": 2}, {"c": 3}]}, None),
        ({"a": {"$eq": 1}}, None),
        ({"a": {"gte": 5}}, None),
        ({"a": {"$in": [1, "1"]}}, None),
    ],
)
def test_which_queries_are_shown(query: dict[str, Any], shown: list[tuple[Any, ...]] | None) -> None:
    form = read(query)
    assert (None if form is None else [msgspec.structs.astuple(row) for row in form.rows]) == shown


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("", "is", "text", ("a",)), "row 1 has no field"),
        (Row("$where", "is", "text", ("a",)), "row 1 asks for $where, which is no field"),
        (Row("score", "is", "number", ("five",)), "row 1 has 'five', which is not a number"),
        (Row("score", "is", "number", ("NaN",)), "row 1 has 'NaN', which is not a number"),
        (Row("score", "is", "number", ("1", "2")), "row 1 is takes one value"),
        (Row("score", "exists", "text", ("yes",)), "row 1 exists takes true or false"),
        (Row("user_id", "contains", "number", ("5",)), "row 1 contains takes a text"),
    ],
)
def test_a_row_that_cannot_be_written_says_why(row: Row, message: str) -> None:
    with pytest.raises(RowError) as error:
        written(Rows("all", (row,)))
    assert str(error.value) == message


def test_most_queries_of_the_cookbook_are_shown() -> None:
    blocks = (ROOT / "docs/queries.md").read_text().split("```json\n")[1:]
    queries = [json.loads(block.partition("\n```")[0]) for block in blocks if block.startswith("{")]
    assert sum(read(query) is not None for query in queries) > len(queries) / 2
