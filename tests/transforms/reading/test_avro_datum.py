"""Avro's rows, held against fastavro's own writer, and rows that no writer would write."""

import json
import struct
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.avro_bytes import ID_FIELDS, IDS, NOON, encoded, ids, long, record, text
from transforms.reading.avro_datum import DamagedError, OddRowError, RowReader, skip
from transforms.reading.avro_schema import AvroType, parse_schema


def parsed(schema: Any) -> AvroType:
    return parse_schema(json.dumps(schema))


def row_of(schema: Any, body: bytes) -> dict[str, Any]:
    row, end = RowReader(parsed(schema)).read(body, 0)
    assert end == len(body)
    return row


Case = tuple[Any, Any, Any]
"""A schema, a value as fastavro takes it, and what is read."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
_names = iter(range(10**9))


def named(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": f"N{next(_names)}", "namespace": f"space{next(_names) % 3}", **more}


def as_is(schema: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
    return values.map(lambda value: (schema, value, value))


def meaning(kind: str, logical: str) -> dict[str, str]:
    return {"type": kind, "logicalType": logical}


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIMPLE: st.SearchStrategy[Case] = st.one_of(
    as_is("null", st.none()),
    as_is("boolean", st.booleans()),
    as_is("int", INTS),
    as_is("long", LONGS),
    as_is("float", FLOATS),
    as_is("double", DOUBLES),
    as_is("string", TEXT),
    as_is({"type": "string", "logicalType": "of-no-one"}, TEXT),
    TEXT.map(lambda value: ("bytes", value.encode(), value)),
    st.sampled_from(["A", "B"]).map(lambda value: (named("enum", symbols=["A", "B"]), value, value)),
    st.binary(min_size=5, max_size=5)
    .filter(bytes.isascii)
    .map(lambda value: (named("fixed", size=5), value, value.decode())),
    st.uuids().map(lambda value: (meaning("string", "uuid"), str(value).upper(), str(value))),
    st.uuids().map(lambda value: (named("fixed", size=16, logicalType="uuid"), value.bytes, str(value))),
    st.uuids().map(lambda value: (named("fixed", size=16), value.bytes, str(value))),
    LONGS.map(lambda value: (meaning("long", "timestamp-nanos"), value, value // 1_000_000)),
    LONGS.map(lambda value: (meaning("long", "local-timestamp-nanos"), value, value // 1_000_000)),
    st.integers(-(10**11), 10**11).map(
        lambda value: (meaning("long", "timestamp-millis"), EPOCH + timedelta(milliseconds=value), value)
    ),
    st.integers(-(10**15), 10**15).map(
        lambda value: (meaning("long", "timestamp-micros"), EPOCH + timedelta(microseconds=value), value // 1000)
    ),
    st.dates().map(lambda value: (meaning("int", "date"), value, value.isoformat())),
    st.integers(-(10**8), 10**8).map(
        lambda value: (
            {**meaning("bytes", "decimal"), "precision": 10, "scale": 2},
            Decimal(value).scaleb(-2),
            value / 100 if value % 100 else value // 100,
        )
    ),
)


def compound(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    """Arrays, maps, records and unions of a case: each with that one value in it, or several times."""
    count = st.integers(0, 3)
    array = st.tuples(inner, count).map(
        lambda both: ({"type": "array", "items": both[0][0]}, [both[0][1]] * both[1], [both[0][2]] * both[1])
    )
    mapped = st.tuples(inner, st.lists(TEXT, max_size=3)).map(
        lambda both: (
            {"type": "map", "values": both[0][0]},
            dict.fromkeys(both[1], both[0][1]),
            dict.fromkeys(both[1], both[0][2]),
        )
    )
    fields = st.lists(inner, max_size=3).map(
        lambda cases: (
            named("record", fields=[{"name": f"f{at}", "type": case[0]} for at, case in enumerate(cases)]),
            {f"f{at}": case[1] for at, case in enumerate(cases)},
            {f"f{at}": case[2] for at, case in enumerate(cases)},
        )
    )
    optional = inner.filter(lambda case: case[0] != "null" and not isinstance(case[0], list)).flatmap(
        lambda case: st.sampled_from(
            [(["null", case[0]], case[1], case[2]), ([case[0], "null"], None, None), (["null", case[0]], None, None)]
        )
    )
    return array | mapped | fields | optional


CASES = st.recursive(SIMPLE, compound, max_leaves=6)


@given(CASES)
def test_values_are_read_as_fastavro_wrote_them(case: Case) -> None:
    schema, value, expected = case
    body = encoded(record([{"name": "x", "type": schema}]), {"x": value})
    read = row_of(record([{"name": "x", "type": schema}]), body)
    assert read == {"x": expected}
    assert repr(read) == repr({"x": expected})  # 1 is not 1.0, nor True


@given(CASES, st.binary(max_size=3))
def test_values_are_passed_over_as_they_are_read(case: Case, after: bytes) -> None:
    body = encoded(case[0], case[1])
    assert skip(parsed(case[0]), body + after, 0) == len(body)
    if body:
        for cut in {0, len(body) // 2, len(body) - 1}:
            with pytest.raises(DamagedError):
                skip(parsed(case[0]), body[:cut], 0)


@given(CASES)
def test_an_ignored_field_is_never_converted(case: Case) -> None:
    """Any bytes of the right length will do for it."""
    fields = [*ID_FIELDS, {"name": "occurred_at", "type": "long"}]
    body = ids(1) + long(NOON) + encoded(case[0], case[1])
    row = row_of(record([*fields, {"name": "expires_at", "type": case[0]}]), body)
    assert row == row_of(record(fields), ids(1) + long(NOON))


ROW: list[dict[str, Any]] = [
    *ID_FIELDS,
    {"name": "occurred_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
UUID = meaning("string", "uuid")

ODD: list[tuple[str, Any, bytes, str]] = [
    ("date", meaning("int", "date"), long(2**31 - 1), "in none of the years 1 to 9999"),
    ("time of 24:00", meaning("int", "time-millis"), long(86_400_000), "a time of day that is 86400000 ms"),
    ("time of 24:00", meaning("long", "time-micros"), long(86_400_000_000), "a time of day that is 86400000000 us"),
    ("uuid", UUID, text("demo"), "'demo' is not a UUID"),
    ("text", "string", text(b"\xff"), "not valid UTF-8"),
    ("bytes", "bytes", text(b"\xff"), "not valid UTF-8"),
    ("fixed", {"type": "fixed", "name": "F", "size": 2}, b"\xc3\xc3", "not valid UTF-8"),
    ("key", {"type": "map", "values": "long"}, long(1) + text(b"\xff") + long(1) + long(0), "not valid UTF-8"),
    ("NaN", "double", struct.pack("<d", float("nan")), "NaN and Infinity are not numbers here"),
    ("Infinity", "float", struct.pack("<f", float("-inf")), "NaN and Infinity are not numbers here"),
    ("enum", {"type": "enum", "name": "E", "symbols": ["A", "B"]}, long(2), "symbol 2 of an enum that has 2"),
    ("enum", {"type": "enum", "name": "E", "symbols": ["A", "B"]}, long(-1), "symbol -1 of an enum that has 2"),
    (
        "decimal",
        {"type": "bytes", "logicalType": "decimal", "precision": 999, "scale": 1},
        text(b"\x7f" * 200),
        "a number beyond double",
    ),
    ("deep", NODE, long(1) * 100_000 + long(0), "nested too deep"),
]


def nestings(type_: Any, value: bytes) -> list[tuple[Any, bytes]]:
    """A value by itself, in a list, a map, a record and a union."""
    return [
        (type_, value),
        (["null", type_], long(1) + value),
        ({"type": "array", "items": type_}, long(1) + value + long(0)),
        ({"type": "array", "items": type_}, long(-1) + long(len(value)) + value + long(0)),
        ({"type": "map", "values": ["null", type_]}, long(1) + text("k") + long(1) + value + long(0)),
        ({"type": "record", "name": "Inner", "fields": [{"name": "a", "type": type_}]}, value),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("type_", "value", "told"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_an_odd_value_costs_its_row_only(type_: Any, value: bytes, told: str) -> None:
    for nested, body in nestings(type_, value):
        reader = RowReader(
            parsed(record([*ROW, {"name": "metadata", "type": nested}, {"name": "seq", "type": "long"}]))
        )
        rows = ids(1) + long(NOON) + body + long(7)
        with pytest.raises(OddRowError) as caught:
            reader.read(b"before" + rows + b"after", 6)
        assert caught.value.end == 6 + len(rows)
        assert str(caught.value).startswith("metadata: ")
        assert told in str(caught.value)
        shown = json.loads(caught.value.content)
        assert (shown["record_id"], shown["seq"]) == ("r1", 7)


@pytest.mark.slow
@pytest.mark.parametrize(("type_", "value", "told"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_an_odd_value_costs_nothing_where_activity_lacks_the_field(type_: Any, value: bytes, told: str) -> None:
    for nested, body in nestings(type_, value):
        schema = record([*ROW[:3], {"name": "device", "type": nested}, *ROW[3:]])
        rows = b"".join(map(text, ("r1", "u", "s"))) + body + text("a") + text("START") + long(NOON)
        assert row_of(schema, rows) == dict(zip(IDS, ("r1", "u", "s", "a", "START"), strict=True)) | {
            "occurred_at": NOON
        }


def test_nor_where_a_response_has_it_and_activity_does_not() -> None:
    response = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "response_id", "type": "string"},
            {"name": "answered_on", "type": meaning("int", "date")},
            {"name": "item_reference", "type": "string"},
            {"name": "score", "type": "double"},
        ],
    }
    schema = record([*ROW, {"name": "responses", "type": {"type": "array", "items": ["null", response]}}])
    one = long(1) + text("q") + long(2**31 - 1) + text("i") + struct.pack("<d", 1.5)
    row = row_of(schema, ids(1) + long(NOON) + long(1) + one + long(0))
    assert row["responses"] == [{"response_id": "q", "item_reference": "i", "score": 1.5}]


def test_items_that_are_fields_of_a_record_keep_their_names() -> None:
    tags = {
        "type": "array",
        "items": {
            "type": "record",
            "name": "T",
            "fields": [{"name": name, "type": "string"} for name in ("type", "id", "name")],
        },
    }
    tagged = {"type": "record", "name": "Tagged", "fields": [{"name": "i1", "type": tags}]}
    body = ids(1) + long(NOON) + long(1) + text("Strand") + text("ignored") + text("Algebra") + long(0)
    row = row_of(record([*ROW, {"name": "item_tags", "type": tagged}]), body)
    assert row["item_tags"] == {"i1": [{"type": "Strand", "name": "Algebra"}]}


DAMAGED: list[tuple[Any, bytes]] = [
    ("string", long(-1)),
    ("string", long(1000)),
    ("bytes", long(2**62)),
    ("long", b"\xff" * 9 + b"\x02"),
    ("long", b"\xff" * 11),
    (["null", "string"], long(2)),
    (["null", "string"], long(-1)),
    ({"type": "array", "items": "null"}, long(2**40)),
    ({"type": "array", "items": "long"}, long(-1) + long(-5)),
    ({"type": "array", "items": "long"}, long(-(2**40)) + long(1) + b"\0"),
    ({"type": "map", "values": "null"}, long(1) + long(-3)),
    ({"type": "fixed", "name": "F", "size": 2**40}, b""),
]


@pytest.mark.parametrize(("type_", "value"), DAMAGED)
@pytest.mark.parametrize("name", ["metadata", "ignored"])
def test_bytes_that_the_schema_does_not_fit_say_in_which_field(type_: Any, value: bytes, name: str) -> None:
    reader = RowReader(parsed(record([*ROW, {"name": name, "type": type_}])))
    with pytest.raises(DamagedError, match=f"^{name}: "):
        reader.read(ids(1) + long(NOON) + value, 0)


@given(
    st.binary(max_size=60),
    st.sampled_from([record(ROW), ["null", record(ROW)], record([*ROW, {"name": "metadata", "type": NODE}])]),
)
def test_any_bytes_are_a_row_or_odd_or_damaged(body: bytes, schema: Any) -> None:
    try:
        end = RowReader(parsed(schema)).read(body, 0)[1]
    except OddRowError as error:
        end = error.end
    except DamagedError:
        return
    assert 0 < end <= len(body)


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (UUID, text("demo"), "demo"),
        (["null", UUID], long(1) + text("demo"), "demo"),
        ("string", text(b"\xff\x00"), "0xff00"),
        (meaning("int", "date"), long(2**31 - 1), 2**31 - 1),
        ({"type": "array", "items": UUID}, long(1) + text("a") + long(0), "\x02\x02a\x00"),
    ],
)
def test_a_reject_shows_the_odd_value(type_: Any, value: bytes, expected: Any) -> None:
    reader = RowReader(parsed(record([*ROW, {"name": "lrs_id", "type": type_}])))
    with pytest.raises(OddRowError) as caught:
        reader.read(ids(1) + long(NOON) + value, 0)
    assert json.loads(caught.value.content)["lrs_id"] == expected


def test_rows_of_a_union() -> None:
    other = {"type": "record", "name": "Other", "fields": [{"name": "record_id", "type": "long"}]}
    reader = RowReader(parsed(["null", record(ROW), other, "string"]))
    assert reader.holds_rows
    assert reader.read(long(1) + ids(1) + long(NOON), 0)[0]["occurred_at"] == NOON
    assert reader.read(long(2) + long(9), 0) == ({"record_id": 9}, 2)
    for body, told in ((long(0), "not null"), (long(3) + text("x"), "not string")):
        with pytest.raises(OddRowError, match=f"a record is needed, {told}"):
            reader.read(body, 0)
    with pytest.raises(DamagedError, match="branch 4 of a union that has 4"):
        reader.read(long(4), 0)


@pytest.mark.parametrize("schema", ["string", ["null", "bytes"], {"type": "map", "values": "string"}])
def test_rows_that_are_no_records(schema: Any) -> None:
    assert not RowReader(parsed(schema)).holds_rows


def test_values_that_take_no_bytes() -> None:
    schema = record([{"name": "x", "type": {"type": "array", "items": "null"}}])
    assert row_of(schema, long(3) + long(0)) == {"x": [None] * 3}


def test_union_branches_with_meanings_of_their_own() -> None:
    """What a value means is told by its branch, not by its type in Python."""
    day, at = meaning("int", "date"), meaning("long", "timestamp-micros")
    schema = record([{"name": "x", "type": ["null", day, at, UUID, "bytes"]}])
    value = uuid.uuid4()
    for body, expected in (
        (long(1) + long(1), "1970-01-02"),
        (long(2) + long(5000), 5),
        (long(3) + text(str(value)), str(value)),
        (long(4) + text("é"), "é"),
        (long(0), None),
    ):
        assert row_of(schema, body) == {"x": expected}


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("2026-03-01T09:00:00", "2026-03-01 09:00:00"),
        ("2026-03-01T09:00:00.25", "2026-03-01 09:00:00.25"),
        ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z"),
        ("TBD", "TBD"),
    ],
)
@pytest.mark.parametrize("said", [{"sqlType": "DATETIME"}, {"logicalType": "datetime"}])
def test_a_datetime_of_bigquery_is_a_time_without_a_zone(said: dict[str, str], spelled: str, expected: str) -> None:
    schema = record([{"name": "x", "type": {"type": "string", **said}}])
    assert row_of(schema, text(spelled)) == {"x": expected}


@pytest.mark.parametrize(
    ("type_", "body", "expected"),
    [
        (meaning("int", "time-millis"), long(32_400_500), "09:00:00.5"),
        (meaning("long", "time-micros"), long(1), "00:00:00.000001"),
        (
            {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"},
            struct.pack("<III", 1, 2, 3500),
            "P1M2DT3.5S",
        ),
        (
            {"type": "fixed", "name": "D", "size": 3, "logicalType": "decimal", "precision": 5, "scale": 3},
            b"\xff\xff\x9c",
            -0.1,
        ),
        (meaning("int", "timestamp-micros"), long(5), 5),
        (meaning("long", "date"), long(5), 5),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}, text("1"), "1"),
        ({"type": "bytes", "logicalType": "decimal"}, text("1"), "1"),
        (meaning("string", "decimal"), text("1.50"), "1.50"),
        ({"type": "fixed", "name": "U", "size": 4, "logicalType": "uuid"}, b"demo", "demo"),
    ],
)
def test_meanings_and_those_that_do_not_fit_their_type(type_: Any, body: bytes, expected: Any) -> None:
    assert row_of(record([{"name": "x", "type": type_}]), body) == {"x": expected}
