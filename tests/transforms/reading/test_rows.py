"""What Avro and Parquet hold and JSON does not, as JSON holds it."""

import json
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading.rows import (
    ConversionError,
    date_text,
    duration_text,
    finite,
    key_text,
    milliseconds,
    number,
    scaled,
    shown,
    text,
    time_text,
    used_fields,
    uuid_of,
    uuid_text,
)

UNITS = st.sampled_from([1, 1000, 10**6, 10**9])
LONGS = st.integers(-(2**63), 2**63 - 1)


@given(LONGS, UNITS)
def test_times_are_whole_milliseconds_rounded_down(count: int, per_second: int) -> None:
    convert = milliseconds(per_second)
    assert (convert(count) if convert else count) == Fraction(count * 1000, per_second) // 1


@given(st.dates())
def test_dates(day: date) -> None:
    assert date_text((day - date(1970, 1, 1)).days) == day.isoformat()


@pytest.mark.parametrize("days", [2_932_897, -719_163, 2**31 - 1, -(2**31)])
def test_a_date_that_no_calendar_here_has(days: int) -> None:
    with pytest.raises(ConversionError, match=f"day {days} since 1970 is in none of the years 1 to 9999"):
        date_text(days)


@given(st.integers(0, 86_400 * 10**6 - 1))
def test_times_of_day(count: int) -> None:
    told = time_text(10**6)(count)
    assert time.fromisoformat(told) == (datetime(2026, 3, 1) + timedelta(microseconds=count)).time()
    assert len(told) == 8 or not told.endswith("0")


@pytest.mark.parametrize(("per_second", "unit"), [(1, "s"), (1000, "ms"), (10**6, "us"), (10**9, "ns")])
def test_a_time_of_day_is_within_the_day(per_second: int, unit: str) -> None:
    assert time_text(per_second)(86_399 * per_second) == "23:59:59"
    for count in (86_400 * per_second, -1):
        with pytest.raises(ConversionError, match=f"that is {count} {unit} after midnight"):
            time_text(per_second)(count)


@pytest.mark.parametrize(
    ("per_second", "count", "expected"),
    [(1, 500, "PT500S"), (1000, 1500, "PT1.5S"), (10**9, 1, "PT0.000000001S"), (1000, -250, "-PT0.25S")],
)
def test_durations(per_second: int, count: int, expected: str) -> None:
    assert duration_text(per_second)(count) == expected


@given(st.uuids())
def test_uuids_are_text_in_lower_case(each: uuid.UUID) -> None:
    spellings = [str(each), str(each).upper(), each.hex, f"{{{each}}}", each.urn]
    assert {*map(uuid_text, spellings), uuid_of(each.bytes)} == {str(each)}


@pytest.mark.parametrize("spelled", ["", "demo", "65e1a0b2c3d4e5f607182930", "0" * 31])
def test_an_odd_uuid(spelled: str) -> None:
    with pytest.raises(ConversionError, match="is not a UUID"):
        uuid_text(spelled)


@given(st.integers(-(10**40), 10**40), st.integers(0, 38))
def test_decimals_are_numbers(unscaled: int, scale: int) -> None:
    exact = Fraction(unscaled, 10**scale)
    expected = int(exact) if exact.denominator == 1 else float(exact)
    for read in (scaled(unscaled, scale), number(Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale)))):
        assert read == expected
        assert type(read) is type(expected)


def test_numbers_beyond_double() -> None:
    with pytest.raises(ConversionError, match="beyond double"):
        scaled(10**400 + 1, 3)
    with pytest.raises(ConversionError, match="beyond double"):
        scaled(10**5000, 0)
    with pytest.raises(ConversionError, match="beyond double"):
        number(Decimal("1E+400"))
    for value in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ConversionError, match="NaN and Infinity are not numbers here"):
            finite(value)


def test_text_is_utf_8() -> None:
    assert text("é".encode()) == "é"
    for odd in (b"\xff", b"\xed\xa0\x80", b"\xc3"):
        with pytest.raises(ConversionError, match="not valid UTF-8"):
            text(odd)


def test_keys_are_text() -> None:
    assert [key_text(each) for each in ("a", 7, True, False)] == ["a", "7", "true", "false"]
    odd: list[object] = [1.5, None, [1], {}]
    for key in odd:
        with pytest.raises(ConversionError, match="neither text nor integers"):
            key_text(key)


ACTIVITY = ["record_id", "user_id", "session_id", "activity_id", "action", "occurred_at"]


def test_fields_that_activity_lacks_are_not_used() -> None:
    assert list(used_fields([*ACTIVITY, "responses", "expires_at"])) == [*ACTIVITY, "responses"]


@pytest.mark.parametrize("missing", ACTIVITY)
def test_all_fields_are_read_where_rows_will_be_refused_for_what_they_lack(missing: str) -> None:
    names = [name for name in [*ACTIVITY, "OccurredAt"] if name != missing]
    assert list(used_fields(names)) == names


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"a": b"\xff\x00", "b": b"text"}, {"a": "0xff00", "b": "text"}),
        ({date(2026, 3, 1): Decimal("1.5"), b"k": (1, None)}, {"2026-03-01": "1.5", "k": [1, None]}),
        ([(b"\xff", 1)], [["0xff", 1]]),
    ],
)
def test_any_row_can_be_shown(row: Any, expected: Any) -> None:
    assert json.loads(shown(row)) == expected


def test_rows_of_any_depth_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == b"(nested too deep)"
    assert shown({"a": "\udcff"}) == b'{"a": "\\udcff"}'
