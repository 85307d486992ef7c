"""Times as text: every form that is read, and what is said about the others."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import rfc3339
from transforms.reading.instants import FIRST_MS, LAST_MS, TimeRefusedError, is_number, quick_instant, read_instant

NINE = 1_772_355_600_000  # 2026-03-01T09:00:00Z


@pytest.mark.parametrize(
    ("text", "after_nine"),
    [
        # RFC 3339
        ("2026-03-01T09:00:00Z", 0),
        ("2026-03-01t09:00:00z", 0),
        ("2026-03-01 09:00:00Z", 0),
        ("2026-03-01T09:00:00-00:00", 0),
        ("2026-03-01T14:30:00+05:30", 0),
        ("2026-03-01T09:00:00.5Z", 500),
        ("2026-03-01T09:00:00.9999999999999999999999Z", 999),
        # ISO 8601
        ("2026-03-01T09:00Z", 0),
        ("2026-03-01T09Z", 0),
        ("20260301T090000Z", 0),
        ("20260301T0900Z", 0),
        ("20260301T100000+01", 0),
        ("20260301T090000.25Z", 250),
        ("2026-03-01T09:00:00,5Z", 500),
        ("2026-03-01T09:00.5Z", 30_000),
        ("2026-03-01T09.25Z", 900_000),
        ("2026-03-01T10:00:00+01", 0),
        ("2026-03-01T10:00:00+0100", 0),
        ("2026-03-01T04:00:00\u22125", None),
        ("2026-03-01T04:00:00\u221205", 0),
        # RFC 9557, as Java's ZonedDateTime prints it
        ("2026-03-01T09:00:00Z[Europe/Berlin]", 0),
        ("2026-03-01T10:00:00+01:00[Europe/Berlin]", 0),
        ("2026-03-01T10:00+01:00[!Europe/Berlin][u-ca=iso8601]", 0),
        # databases and languages
        ("2026-03-01 09:00:00 UTC", 0),
        ("2026-03-01 09:00:00.123456 UTC", 123),
        ("2026-03-01 09:00:00+00", 0),
        ("2026-03-01 09:00:00.123456+00", 123),
        ("2026-03-01 10:00:00+01:00", 0),
        ("2026-03-01 09:00:00.123456789+00:00", 123),
        ("2026-03-01 10:00:00 +0100", 0),
        ("2026-03-01T09:00:00.000+0000", 0),
        ("2026-03-01 09:00 UTC", 0),
        ("2026-03-01T09:00:00utc", 0),
        ("2026-03-01 09:00:00 GMT", 0),
        # without a zone: this form alone
        ("2026-03-01 09:00:00", 0),
        ("2026-03-01 09:00:00.123", 123),
        ("2026-03-01 09:00:00,123", 123),
        ("2026-03-01 09:00:00.123456789", 123),
    ],
)
def test_forms_that_are_read(text: str, after_nine: int | None) -> None:
    if after_nine is None:
        with pytest.raises(TimeRefusedError):
            read_instant(text)
    else:
        assert read_instant(text) == NINE + after_nine


NAIVE = [
    "2026-03-01T09:00:00",
    "2026-03-01T09:00:00.000",
    "2026-03-01t09:00:00",
    "2026-03-01 09:00",
    "2026-03-01T09",
    "20260301T090000",
    "20260301 090000",
]


@pytest.mark.parametrize("text", NAIVE)
def test_without_a_zone_other_forms_are_read_only_where_they_are_said_to_be_utc(text: str) -> None:
    with pytest.raises(TimeRefusedError, match=r"is a time without a zone; .* --naive_times utc"):
        read_instant(text)
    assert read_instant(text, naive_utc=True) == NINE


def test_a_date_is_its_first_instant_where_times_are_said_to_be_utc() -> None:
    assert (
        read_instant("2026-03-01", naive_utc=True) == read_instant("20260301", naive_utc=True) == NINE - 9 * 3_600_000
    )
    for text in ("2026-03-01", "20260301"):
        with pytest.raises(TimeRefusedError):
            read_instant(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("2026-12-31T23:59:60Z", "a leap second"),
        ("2016-12-31T23:59:60Z", "a leap second"),
        ("20161231T235960.5Z", "a leap second"),
        ("2026-03-01T24:00:00Z", "a time with hour 24"),
        ("2026-03-01T24:00Z", "a time with hour 24"),
        ("2026-060T09:00:00Z", "an ordinal date"),
        ("2026060T090000Z", "an ordinal date"),
        ("2026-060", "an ordinal date"),
        ("2026-W09-7T09:00:00Z", "a week date"),
        ("2026W097T090000Z", "a week date"),
        ("1772355600000", "a number in quotes"),
        ("1772355600", "a number in quotes"),
        ("1.7e12", "a number in quotes"),
        ("2026-03-01T09:00:00[Europe/Berlin]", "a time with the name of a zone and no offset"),
        ("1999-12-31T23:59:59Z", "outside the years 2000 to 2100"),
        ("2101-01-01T00:00:00Z", "outside the years 2000 to 2100"),
        ("0001-01-01T00:00:00+23:59", "outside the years 2000 to 2100"),
        ("2026-02-30T09:00:00Z", "no date and time that there is"),
        ("2026-03-01T25:00:00Z", "no date and time that there is"),
        ("2026-03-01T09:61:00Z", "no date and time that there is"),
        ("2026-03-01T09:00:00+24:00", "no date and time that there is"),
        ("2026-03-01T09:00:00+01:60", "no date and time that there is"),
        ("Sun, 01 Mar 2026 09:00:00 GMT", "not a time in a form that is read"),
        ("03/01/2026 09:00", "not a time in a form that is read"),
        (" 2026-03-01T09:00:00Z", "not a time in a form that is read"),
        ("2026-03-01T09:00:00Z ", "not a time in a form that is read"),
        ("2026-03-01T09:00:00.Z", "not a time in a form that is read"),
        ("2026-03-01T09:00:00 CET", "not a time in a form that is read"),
        ("2026-3-1T09:00:00Z", "not a time in a form that is read"),
        ("2026-0301T09:00:00Z", "not a time in a form that is read"),
        ("\u0662026-03-01T09:00:00Z", "not a time in a form that is read"),
        ("2026-03-01T09:00:00Z[Europe/Berlin", "not a time in a form that is read"),
        ("", "not a time in a form that is read"),
        ("now", "not a time in a form that is read"),
    ],
)
def test_forms_that_are_refused(text: str, rule: str) -> None:
    for naive_utc in (False, True):
        with pytest.raises(TimeRefusedError) as caught:
            read_instant(text, naive_utc=naive_utc)
        assert caught.value.rule.startswith(rule)
        assert str(caught.value).startswith(f"{text!r} is {rule}")


def test_what_is_shown_of_a_text_is_short() -> None:
    with pytest.raises(TimeRefusedError) as caught:
        read_instant("9" * 100_000)
    assert len(str(caught.value)) < 300


INSTANTS = st.integers(FIRST_MS + 86_400_000, LAST_MS - 86_400_000)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@given(INSTANTS, OFFSETS, st.data())
def test_an_instant_is_the_same_in_every_form(instant: int, minutes: int, data: st.DataObject) -> None:
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)
    local = local.astimezone(timezone(timedelta(minutes=minutes)))
    basic = data.draw(st.booleans())
    date = local.strftime("%Y%m%d" if basic else "%Y-%m-%d")
    clock = local.strftime("%H%M%S" if basic else "%H:%M:%S")
    more_digits = data.draw(st.text("0123456789", max_size=9))
    fraction = data.draw(st.sampled_from(".,")) + f"{instant % 1000:03}{more_digits}"
    if instant % 1000 == 0 and not more_digits.strip("0"):
        fraction = data.draw(st.sampled_from(["", fraction]))
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    zones = [f"{sign}{hours:02}:{rest:02}", f"{sign}{hours:02}{rest:02}", f" {sign}{hours:02}:{rest:02}"]
    if rest == 0:
        zones.append(f"{sign}{hours:02}")
    if minutes == 0:
        zones += ["Z", "z", " UTC", "UTC", "+00", "-00:00", "Z[Etc/UTC]"]
    text = date + data.draw(st.sampled_from("Tt ")) + clock + fraction + data.draw(st.sampled_from(zones))
    assert read_instant(text) == instant
    assert read_instant(text, naive_utc=True) == instant


@given(st.text("0123456789TZ:.-+ UW,[]", max_size=30))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        instant = read_instant(text)
    except TimeRefusedError as error:
        refused = error
        assert refused.rule in str(refused)
    else:
        assert FIRST_MS <= instant <= LAST_MS


@pytest.mark.parametrize("text", ["0", "-1", "12", "1.50", "1e5", "1E-7", "-0.0"])
def test_numbers_as_json_spells_them(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "-", "+1", "01", ".5", "5.", "1_000", "1,5", " 1", "1 ", "0x1", "NaN", "\u0661"])
def test_what_is_no_number_in_json(text: str) -> None:
    assert not is_number(text)


@given(
    st.datetimes(min_value=datetime(1999, 12, 31), max_value=datetime(2101, 1, 2)),
    st.sampled_from(["Z", "+00:00", "-05:30", "+14:00", "+0100", "+01", "", "z", "+01:00:30"]),
    st.sampled_from(["", ".1", ".123", ".1239999", ".123456789", ",5"]),
    st.sampled_from(["T", " ", "t"]),
)
def test_the_quick_way_says_the_same_or_nothing(moment: datetime, zone: str, fraction: str, between: str) -> None:
    told = f"{moment:%Y-%m-%d}{between}{moment:%H:%M:%S}{fraction}{zone}"
    quick = quick_instant(told)
    if quick is not None:
        assert quick == read_instant(told)
    elif between == "T" and zone in ("Z", "+00:00", "-05:30") and "," not in fraction:
        with pytest.raises(TimeRefusedError):
            read_instant(told)


@pytest.mark.parametrize(
    "told", ["", "Z", "2026-W01-1T09:00:00Z", "2026-03-01T24:00:00Z", "20260301T090000Z", "2026-03-01T09:01Z"]
)
def test_the_quick_way_leaves_odd_forms_to_the_other(told: str) -> None:
    assert quick_instant(told) is None


@pytest.mark.parametrize(
    "told",
    [
        "2026-03-01T09:60:00.000Z",
        "2026-03-01T09:00:60.000Z",
        "2026-03-01T09:0:000.000Z",
        "2026-03-01T09:00:00,000Z",
        "2026-03-01T09:00:0\u0660.000Z",
        "2026-03-01T09:00:00.00\u0660Z",
        "2026-03-01T09:00-00.000Z",
        "2026-03-01t09:00:00.000Z",
    ],
)
def test_an_hour_that_was_met_lets_no_odd_time_of_it_pass(told: str) -> None:
    assert quick_instant("2026-03-01T09:00:00.000Z") == NINE
    assert quick_instant(told) is None


@given(st.integers(FIRST_MS, LAST_MS), st.integers(-3_600_000, 3_600_000))
def test_times_of_hours_that_were_met_are_those_of_hours_that_were_not(first: int, distance: int) -> None:
    for millis in (first, min(max(first + distance, FIRST_MS), LAST_MS)):
        assert quick_instant(rfc3339(millis)) == millis == read_instant(rfc3339(millis))
