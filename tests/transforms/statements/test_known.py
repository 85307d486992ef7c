"""What is known of the statements of a user that have arrived."""

from typing import Any

import pytest

from tests.support.statements import statement, text
from transforms.reading.originals import Original
from transforms.statements import known
from transforms.statements.known import Arrival, KnownStatements


def original(number: int, lrs_id: str | None = None, **more: Any) -> Original:
    sent = statement(number, **more)
    return Original(sent["id"], 0, None, None, lrs_id, None, text(sent).encode())


def test_what_has_arrived_is_known_by_its_id_and_its_store() -> None:
    seen = KnownStatements(None, 0)
    assert seen.arrive(original(1), 5) is Arrival.NEW
    packed = seen.pack()
    assert KnownStatements(packed, 5).arrive(original(1, version="1.0.0"), 6) is Arrival.DUPLICATE
    assert KnownStatements(packed, 5).arrive(original(1, result={}), 6) is Arrival.CONFLICT
    assert KnownStatements(packed, 5).arrive(original(1, timestamp="2027-01-01T00:00:00Z"), 6) is Arrival.CONFLICT
    assert KnownStatements(packed, 5).arrive(original(1, lrs_id="another"), 6) is Arrival.NEW
    assert KnownStatements(packed, 6).arrive(original(1), 6) is Arrival.NEW


def test_of_a_user_with_very_many_the_latest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_KNOWN", 3)
    seen = KnownStatements(None, 0)
    for number in range(1, 5):
        seen.arrive(original(number), number)
    again = KnownStatements(seen.pack(), 0)
    assert list(again.arrivals()) == [2, 3, 4]
    assert again.arrive(original(2), 5) is Arrival.DUPLICATE
    assert again.arrive(original(1), 5) is Arrival.NEW
