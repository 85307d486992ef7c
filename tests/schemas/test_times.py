"""Times as messages print them."""

from datetime import UTC, datetime

import pytest

from schemas.times import event_time, rfc3339, snapshot_time, utc


@pytest.mark.parametrize(
    ("millis", "snapshot", "event", "exact"),
    [
        (1_581_951_803_000, "2020-02-17T15:03:23Z", "2020-02-17 15:03:23", "2020-02-17T15:03:23.000Z"),
        (1_581_951_803_999, "2020-02-17T15:03:23Z", "2020-02-17 15:03:23", "2020-02-17T15:03:23.999Z"),
        (1_582_934_400_007, "2020-02-29T00:00:00Z", "2020-02-29 00:00:00", "2020-02-29T00:00:00.007Z"),
        (1_609_459_199_999, "2020-12-31T23:59:59Z", "2020-12-31 23:59:59", "2020-12-31T23:59:59.999Z"),
        (0, "1970-01-01T00:00:00Z", "1970-01-01 00:00:00", "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59Z", "1969-12-31 23:59:59", "1969-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00Z", "0001-01-01 00:00:00", "0001-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59Z", "9999-12-31 23:59:59", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_prints_in_utc_truncated_to_what_the_form_holds(
    millis: int, snapshot: str, event: str, exact: str
) -> None:
    assert (snapshot_time(millis), event_time(millis), rfc3339(millis)) == (snapshot, event, exact)


def test_an_instant_as_a_date_keeps_its_milliseconds_and_its_zone() -> None:
    assert utc(1_581_951_803_007) == datetime(2020, 2, 17, 15, 3, 23, 7000, tzinfo=UTC)
    assert utc(1_581_951_803_007).tzinfo is UTC
