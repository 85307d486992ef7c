"""The window of a run: half-open, and of some kinds."""

import pytest

from schemas import Kind, Record
from transforms.sessions.window import EVERYTHING, Window


def record(timestamp: int, kind: Kind = "event") -> Record:
    return Record(str(timestamp), kind, None, None, "u", timestamp, "r", 0, {}, b"", {})


RECORDS = [record(1), record(2, "score"), record(2), record(3, "status"), record(0)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (EVERYTHING, RECORDS),
        (Window(since=2), RECORDS[1:4]),
        (Window(until=2), [RECORDS[0], RECORDS[4]]),
        (Window(since=2, until=3), RECORDS[1:3]),
        (Window(since=2, until=2), []),
        (Window(record_ids=frozenset({"3", "0"})), [RECORDS[3], RECORDS[4]]),
        (Window(kinds=("score", "status")), [RECORDS[1], RECORDS[3]]),
        (Window(since=2, until=4, kinds=("event",)), [RECORDS[2]]),
    ],
)
def test_records_within_the_window_keep_their_order(window: Window, expected: list[Record]) -> None:
    assert window.select(RECORDS) == expected
