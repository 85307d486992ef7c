"""Documents of MongoDB as lines of Extended JSON."""

import json
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp, json_util
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from transforms.sources.documents import DocumentError, canonical_line, decoded

KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=8).map(Binary)
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC))
    | st.decimals(allow_nan=False, places=3, min_value=-(10**9), max_value=10**9).map(Decimal128),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


def as_the_driver_says(document: dict[str, Any]) -> Any:
    return json.loads(json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_every_value_is_what_the_driver_says_that_it_is(document: dict[str, Any]) -> None:
    document = decoded(bson.encode(document))
    line = canonical_line(document)
    assert b"\n" not in line
    assert json.loads(line) == as_the_driver_says(document)
    assert list(json.loads(line)) == list(document)


@pytest.mark.parametrize(
    "value",
    [
        Decimal128("1.10"),
        Decimal128("NaN"),
        float("inf"),
        float("-inf"),
        1e22,
        5e-324,
        Regex("a", "i"),
        Timestamp(1, 2),
        MaxKey(),
        DatetimeMS(-(10**16)),
        DatetimeMS(10**16),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    ],
    ids=repr,
)
def test_what_is_rare_is_right_too(value: Any) -> None:
    document = decoded(bson.encode({"a": [value]}))
    assert json.loads(canonical_line(document)) == as_the_driver_says(document)


@pytest.mark.parametrize("raw", [b"\x05\x00", bson.encode({"a": "xx"}).replace(b"xx", b"\xff\xff")])
def test_a_damaged_document_is_told(raw: bytes) -> None:
    with pytest.raises(DocumentError, match="no valid BSON"):
        decoded(raw)
