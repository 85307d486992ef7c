"""Schemas of Avro: names within names, and what is none."""

import json
from typing import Any

import pytest

from transforms.reading.avro_schema import SchemaError, parse_schema


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
