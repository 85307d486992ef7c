"""MongoDB's Extended JSON, against the driver's own reading of it."""

import base64
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS, JSONOptions, dumps
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.reading.extended_json import ExtendedJsonError, plain

UUID = uuid.UUID("11111111-2222-4333-8444-555555555555")
NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)


def read(value: object, options: JSONOptions) -> Any:
    return plain(orjson.loads(dumps(value, json_options=options)))


@pytest.mark.parametrize("options", [CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS])
def test_what_the_driver_writes_is_what_it_stands_for(options: JSONOptions) -> None:
    written = {
        "long": Int64(2**40), "int": 3, "double": 1.5, "decimal": Decimal128(Decimal("2.50")), "id": ObjectId("a" * 24),
        "uuid": Binary.from_uuid(UUID), "list": [{"x": Int64(1)}], "text": "$x", "null": None, "true": True,
    }  # fmt: skip
    assert read(written, options) == {
        "long": 2**40, "int": 3, "double": 1.5, "decimal": 2.5, "id": "a" * 24, "uuid": str(UUID),
        "list": [{"x": 1}], "text": "$x", "null": None, "true": True,
    }  # fmt: skip


@pytest.mark.parametrize("options", [CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS])
def test_dates_become_text_that_says_the_same_instant(options: JSONOptions) -> None:
    assert datetime.fromisoformat(read({"at": NINE}, options)["at"]) == NINE


@pytest.mark.parametrize(
    ("value", "stands_for"),
    [
        ({"$date": 1772355600000}, "2026-03-01T09:00:00.000Z"),
        ({"$date": {"$numberLong": "1772355600000"}}, "2026-03-01T09:00:00.000Z"),
        ({"$date": "2026-03-01T09:00:00.000+0000"}, "2026-03-01T09:00:00.000+0000"),
        ({"$date": {"$numberLong": "9000000000000000"}}, 9000000000000000),
        ({"$timestamp": {"t": 1772355600, "i": 1}}, "2026-03-01T09:00:00.000Z"),
        ({"$numberLong": 3}, 3),
        ({"$numberDouble": "-0.0"}, -0.0),
        ({"$numberDecimal": "1E+3"}, 1000),
        ({"$symbol": "x"}, "x"),
        ({"$uuid": str(UUID).upper()}, str(UUID)),
        ({"$binary": base64.b64encode(UUID.bytes).decode(), "$type": "04"}, str(UUID)),
        ({"$undefined": True}, None),
        ({"$unknown": 1}, {"$unknown": 1}),
        ({"plain": {"$oid": "x"}}, {"plain": "x"}),
    ],
)
def test_other_spellings(value: object, stands_for: object) -> None:
    assert plain(value) == stands_for


@pytest.mark.parametrize(
    "value",
    [
        {"$numberLong": "x"},
        {"$numberLong": "1_000"},
        {"$numberLong": True},
        {"$numberInt": "1", "more": 1},
        {"$numberDouble": "NaN"},
        {"$numberDouble": "Infinity"},
        {"$numberDecimal": "NaN"},
        {"$numberDecimal": "sNaN"},
        {"$numberDecimal": "-sNaN1"},
        {"$numberDecimal": "1E+6000"},
        {"$numberDecimal": 1},
        {"$date": None},
        {"$date": True},
        {"$oid": 1},
        {"$uuid": "x"},
        {"$timestamp": 1},
        {"$binary": {"base64": "AAAA", "subType": "00"}},
        {"$binary": {"base64": "AAAA", "subType": "04"}},
        {"$binary": {"base64": base64.b64encode(UUID.bytes).decode(), "subType": "03"}},
    ],
)
def test_what_stands_for_nothing_is_refused(value: object) -> None:
    with pytest.raises(ExtendedJsonError):
        plain({"a": [value]})


def test_what_cannot_be_converted_stays_as_it_is_where_that_is_asked_for() -> None:
    odd: list[str] = []
    nan = {"$numberDouble": "NaN"}
    assert plain({"a": [nan, {"$numberLong": "3"}]}, odd) == {"a": [nan, 3]}
    assert odd == ["NaN and Infinity are not numbers here"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text("abc"), values),
)


@settings(max_examples=40)
@given(JSON)
def test_plain_json_is_returned_as_it_is(value: object) -> None:
    assert plain(value) is value
