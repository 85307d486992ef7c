"""No document raises from `matches`, no depth or size of either side does harm, and no text becomes code."""

from functools import cache
from typing import Any

import pytest

from transforms.query import ForwarderIndex, MatchResult, Query, compile_query
from transforms.query.codegen import MAX_WEIGHT

QUERIES: list[Any] = [
    {"a": "x"},
    {"a.b.c": {"$gt": 1}},
    {"a": {"$in": ["x", 1, None]}},
    {"a": {"$elemMatch": {"b": 1}}},
    {"a": {"$regex": "^(x|y)"}},
    {"a": {"b": [1, {"c": 2}]}},
    {"a": {"$mod": [2, 1]}},
    {"a": {"$not": {"$size": 2}}},
    {"a": {"$type": ["number", "date"]}},
    {"a": {"$bitsAllSet": 1}},
    {"timestamp": {"$gte": "2020-01-01"}},
]


class Strange:
    """What no decoder makes."""


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {"a": Strange()},
        {"a": b"x"},
        {"a": {1, 2}},
        {"a": (1, 2)},
        {"a": [Strange(), {"b": Strange()}]},
        {"a": 10**400},
        {"a": float("inf")},
        {"a": [float("nan")]},
        {"timestamp": 5, 5: 6},
    ],
)
def test_no_document_raises(query: Any, document: Any) -> None:
    compiled = compile_query(query)
    expected = compiled.evaluate(document)
    assert compiled.matches(document) is (expected is MatchResult.MATCH)
    assert compiled.explain(document).outcome is expected
    assert "\n" not in compiled.explain(document).text


@cache
def deep(levels: int, *, arrays: bool) -> Any:
    """A value of so many levels; nobody changes it."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if arrays else {"a": value}
    return value


@pytest.mark.parametrize("arrays", [True, False])
@pytest.mark.parametrize("query", QUERIES)
def test_a_deep_document_does_not_raise(query: Any, arrays: bool) -> None:
    document = {"a": deep(50_000, arrays=arrays)}
    compiled = compile_query(query)
    assert compiled.evaluate(document) is not MatchResult.UNDECIDED
    compiled.explain(document)


def test_a_deep_operand_meets_a_deep_document() -> None:
    levels = 90
    document = {"a": deep(50_000, arrays=False)}
    compiled = compile_query({"a": deep(levels, arrays=False)})
    assert compiled.evaluate(document) is MatchResult.NO_MATCH
    assert compiled.evaluate({"a": deep(levels, arrays=False)}) is MatchResult.MATCH


def test_when_the_stack_is_used_up_the_answer_is_undecided() -> None:
    compiled = compile_query({"a": {"b": {"c": [{"d": 1}]}}})
    compiled.matches({})

    def descend() -> MatchResult:
        try:
            return descend()
        except RecursionError:
            return compiled.evaluate({"a": {"b": {"c": [{"d": 1}]}}})

    assert descend() in (MatchResult.UNDECIDED, MatchResult.MATCH)


def test_large_queries_are_answered_like_small_ones() -> None:
    count = MAX_WEIGHT * 5
    some = compile_query({"$or": [{"a.b": number} for number in range(count)]})
    every = compile_query({f"f{number}": number for number in range(count)})
    none = compile_query({"$nor": [{"a.b": {"$gt": number, "$lt": number}} for number in range(count)]})
    document = {f"f{number}": number for number in range(count)}
    assert some.matches({"a": [{"b": count - 1}]})
    assert not some.matches({"a": [{"b": count}]})
    assert every.matches(document)
    assert not every.matches({**document, f"f{count - 1}": None})
    assert none.matches({"a": {"b": 5}})


@pytest.mark.parametrize("count", range(MAX_WEIGHT // 2 - 2, MAX_WEIGHT // 2 + 3))
def test_queries_at_the_limit_of_one_expression(count: int) -> None:
    query = compile_query({f"f{number}": 1 for number in range(count)})
    assert query.matches({f"f{number}": 1 for number in range(count)})
    assert not query.matches({f"f{number}": 1 for number in range(count - 1)})


@pytest.mark.parametrize("operator", ["$or", "$nor", "$and"])
def test_a_value_is_read_where_the_part_before_was_cut_short(operator: str) -> None:
    query = compile_query({operator: [{"x": 1, "a.b": 2}, {"y": 1}], "a.c": 3, "a.b": {"$ne": 9}})
    for x in (0, 1):
        for y in (0, 1):
            document = {"x": x, "y": y, "a": {"c": 3, "b": 2}}
            held = {"$or": x == 1 or y == 1, "$nor": not (x == 1 or y == 1), "$and": x == 1 and y == 1}
            assert query.matches(document) is held[operator]


def test_a_long_path_is_answered() -> None:
    names = ["a"] * 80
    value: Any = 7
    for name in names:
        value = {name: value}
    query = compile_query({".".join(names): 7})
    assert query.matches(value)
    assert not query.matches({"a": [value]})
    assert query.evaluate({"a": [value["a"]]}) is MatchResult.MATCH


@pytest.mark.parametrize(
    "text",
    [
        "d); import os; (",
        "'",
        '"',
        "\\",
        "\n",
        "{v}",
        "{0}",
        "{",
        "}",
        "%s",
        "__import__('os')",
        "c0",
        "d",
        "\x00",
    ],
)
def test_no_text_of_a_query_becomes_code(text: str) -> None:
    for query, document in (
        ({text: 1}, {text: 1}),
        ({"a": text}, {"a": text}),
        ({"a": {"$in": [text, 1]}}, {"a": [text]}),
        ({"a": {text: 1}}, {"a": {text: 1}}),
        ({"a": {"$elemMatch": {text: {"$gte": text}}}}, {"a": [{text: text}]}),
    ):
        compiled = compile_query(query)
        assert compiled.matches(document)
        assert not compiled.matches({})


def test_a_query_does_not_see_later_changes_of_its_mapping() -> None:
    source: dict[str, Any] = {"a": {"$in": [1]}}
    query = compile_query(source)
    source["a"]["$in"].append(2)
    assert not query.matches({"a": 2})


def test_the_fast_path_needs_no_fallback() -> None:
    """A document of plain values never reaches the slow evaluation, which would hide a broken expression."""

    class Counting(Query):
        __slots__ = ("calls",)

        def _truth(self, document: Any) -> bool | None:
            self.calls = getattr(self, "calls", 0) + 1
            return super()._truth(document)

    for source in QUERIES:
        query = Counting(compile_query(source).node, source)
        for value in (None, True, 1, 2.5, "x", [1, "x", None], {"b": {"c": 2}}, [{"b": 1}], []):
            query.matches({"a": value})
        assert getattr(query, "calls", 0) == 0


def test_the_index_survives_strange_documents() -> None:
    class Forwarder:
        def __init__(self, name: str, query: Any) -> None:
            self.id = name
            self.scope = {"organisation": "o"} if name < "5" else {}
            self.query = query

    index = ForwarderIndex([Forwarder(str(number), query) for number, query in enumerate(QUERIES)])
    documents: list[Any] = [{"organisation": ["o"]}, {"a": Strange()}, {"a": {1}}, {"a": [[], [b""]]}, {5: 6}, {}]
    for document in documents:
        assert all(not forwarder.scope for forwarder in index.matching(document))


def test_a_text_is_compiled_once_for_all_who_hold_its_query() -> None:
    held = compile_query('{"kind": "event"}')
    assert compile_query('{"kind": "event"}') is held
    assert compile_query('{"kind": "score"}') is not held
    assert not compile_query('{"kind": "score"}').matches({"kind": "event"})
