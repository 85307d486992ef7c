"""Schemas of Avro: names within names, and what is none."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.reading.avro_schema import SchemaError, parse_schema
from transforms.reading.limits import ReadLimits


def test_names_are_resolved_as_avro_resolves_them() -> None:
    """In the namespace they are used in, else as they stand; a dot in a name is its namespace."""
    schema = {
        "type": "record",
        "name": "a.b.Row",
        "fields": [
            {"name": "one", "type": {"type": "enum", "name": "Kind", "symbols": ["A"]}},
            {"name": "two", "type": "Kind"},
            {"name": "three", "type": "a.b.Kind"},
            {"name": "four", "type": {"type": "fixed", "name": "Kind", "namespace": "c", "size": 3}},
            {"name": "five", "type": "c.Kind"},
            {"name": "six", "type": {"type": "Kind"}},
            {"name": "seven", "type": {"type": {"type": "array", "items": "Row"}}},
        ],
    }
    row = parse_schema(json.dumps(schema))
    types = dict(row.fields)
    assert types["one"] is types["two"] is types["three"] is types["six"]
    assert types["four"] is types["five"] is not types["one"]
    assert types["seven"].branches == [row]


def test_what_no_one_reads_may_be_odd() -> None:
    """Names, defaults and attributes that other readers are strict about."""
    schema = {
        "type": "record",
        "name": "my-row",
        "doc": 7,
        "fields": [{"name": "user id", "type": "string", "default": 5, "aliases": 9}],
    }
    assert [name for name, _ in parse_schema(json.dumps(schema)).fields] == ["user id"]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("strin", "'strin' is not known"),
        ({"type": "record", "name": "A", "fields": [{"name": "x", "type": "B"}]}, "'B' is not known"),
        ({"type": "record", "name": "A"}, "fields"),
        ({"type": "array"}, "items"),
        ({"type": "fixed", "name": "F", "size": -1}, "a fixed of size -1"),
        ({"type": "fixed", "name": "F", "size": "3"}, "a fixed of size '3'"),
        ({"name": "A"}, "is not a type"),
        (7, "7 is not a type"),
        ({"type": 7}, "7 is not a type"),
        ([["x"]], "'x' is not known"),
    ],
)
def test_no_schema(schema: Any, told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        parse_schema(json.dumps(schema))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"type":' * 20_000])
def test_no_json(text: bytes) -> None:
    with pytest.raises(SchemaError):
        parse_schema(text)


def record_of(name: str, *types: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": each} for n, each in enumerate(types)]}


def doubling(levels: int) -> dict[str, Any]:
    """Each record has two fields of the one before: a value of the last has 2 ** levels of the first."""
    schema = record_of("R0", "int")
    for level in range(1, levels):
        schema = record_of(f"R{level}", schema, f"R{level - 1}")
    return schema


def itself(*types: Any) -> dict[str, Any]:
    return record_of("R", *types)


@pytest.mark.parametrize(
    ("schema", "limits", "told"),
    [
        (doubling(6), {"values": 60}, "a value consists of 95 values, of at most 60"),
        (doubling(6), {"depth": 5}, "nested deeper than 5 levels"),
        ([["null"]], {"depth": 2}, "nested deeper than 2 levels"),
        # By their names types may be in each other though their text is not.
        (
            record_of("R", record_of("A", "int"), record_of("B", "A"), record_of("C", "B")),
            {"depth": 4},
            "deeper than 4",
        ),
        (record_of("R", *["null"] * 5), {"empty_values": 5}, "6 values in a value take no bytes .null., of at most 5"),
        (
            {"type": "enum", "name": "E", "symbols": ["A", "B" * 9]},
            {"name": 8},
            "a name has 9 characters, of at most 8",
        ),
        (record_of("R", "int"), {"name": 1}, "a name has 2 characters"),
        (record_of("R", "int"), {"schema": 60}, "it has 7. bytes, of at most 60"),
    ],
)
def test_what_costs_too_much_is_refused(schema: Any, limits: dict[str, int], told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        parse_schema(json.dumps(schema), ReadLimits(**limits))


@pytest.mark.parametrize(
    "schema",
    [
        itself("R"),
        itself("int", record_of("S", "R")),
        itself(["R"]),
        itself(["R", record_of("S", "R")]),
        [itself("R"), "null"],
    ],
)
def test_a_record_whose_values_have_no_end_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError, match="have no end"):
        parse_schema(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "least"),
    [
        (itself(["null", "R"]), 1),
        (itself({"type": "array", "items": "R"}), 1),
        (itself({"type": "map", "values": "R"}, "double"), 9),
        (record_of("Q", itself(["null", record_of("X", "R")]), "X"), 2),
        (record_of("Q", ["null", {"type": "fixed", "name": "F", "size": 16}], "F", "null", "boolean", "float"), 22),
        (record_of("Q"), 0),
    ],
)
def test_what_a_value_takes_at_least(schema: Any, least: int) -> None:
    assert parse_schema(json.dumps(schema)).least == least


@settings(max_examples=30)
@given(st.recursive(st.sampled_from(["null", "int", "string", "boolean"]), lambda inner: st.lists(inner, max_size=4)))
def test_values_are_counted_as_they_are(tree: Any) -> None:
    """Of records in records, which have all their fields."""
    names = count(1)

    def schema_of(node: Any) -> Any:
        return record_of(f"N{next(names)}", *map(schema_of, node)) if isinstance(node, list) else node

    def size(node: Any) -> int:
        return 1 + sum(map(size, node)) if isinstance(node, list) else 1

    assert parse_schema(json.dumps(schema_of(tree))).values == size(tree)
