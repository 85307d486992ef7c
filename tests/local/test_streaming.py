"""What the measurement of the streaming job makes of what arrived."""

from local.flink.streaming import compare, ever_right
from tests.support.activity import activity


def test_what_is_missing_unexpected_repeated_or_out_of_order_is_counted() -> None:
    due = ever_right([activity("START", 0), activity("SUBMIT", 100), activity("SUBMIT", 200)])
    ids = list(due)
    assert len(ids) == 5
    as_due = compare(ids, due)
    assert (as_due.missing, as_due.unexpected, as_due.repeated, as_due.out_of_order) == (0, 0, 0, 0)
    found = compare([ids[1], ids[0], ids[1], ids[2], "x"], due)
    assert (found.missing, found.unexpected, found.repeated, found.out_of_order) == (2, 1, 1, 1)
