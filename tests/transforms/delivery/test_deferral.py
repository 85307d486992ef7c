"""What a bundle's end waits for where the input has no end, with a clock that the test moves."""

from collections.abc import Sequence

import pytest

from tests.support.records import item
from transforms.delivery.deferral import BACKLOG_LIMIT, BEHIND_USERS, HOLD, Deferral
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

SOON = HOLD / 4


class Desk:
    """A Deferral, its clock, and what it wrote: (forwarder, record id, reason) of each, in that order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.written: list[tuple[str, str, str]] = []
        self.deferral = Deferral(self.write, lambda: self.now)

    def write(self, settlements: Sequence[Settlement]) -> None:
        self.written += [(each.item.forwarder_id, each.item.record.id, each.outcome.reason) for each in settlements]

    def submit(self, *items: Item) -> None:
        self.deferral.submit(items)

    def settle(self, *items: Item, reason: str = "") -> None:
        verdict = Verdict.GIVE_UP if reason else Verdict.DELIVERED
        self.deferral.settle([Settlement(each, AttemptResult(verdict, reason)) for each in items])

    def waits(self, seconds: float = 0.0) -> bool:
        """Whether the bundle's end waits on, `seconds` later."""
        asked = self.deferral.should_wait()
        if seconds:
            self.now += seconds
            asked = self.deferral.should_wait()
        return asked

    def end(self) -> dict[str, int]:
        """Ends the bundle: how many it deferred, by forwarder."""
        return dict(self.deferral.defer(self.write))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_bundle_of_which_all_is_settled_waits_for_nothing_and_defers_nothing(desk: Desk) -> None:
    desk.submit(item("ann", 1), item("bob", 1))
    assert desk.waits()
    desk.settle(item("ann", 1))
    assert desk.waits()
    desk.settle(item("bob", 1), reason="http_400")
    assert not desk.waits()
    assert desk.end() == {}
    assert desk.written == [("f", "ann/1", ""), ("f", "bob/1", "http_400")]


def test_a_forwarder_that_takes_nothing_holds_the_first_bundle_for_a_moment_and_no_other(desk: Desk) -> None:
    desk.submit(item("ann", 1))
    assert desk.waits(HOLD * 0.9)
    assert not desk.waits(HOLD * 0.2)
    assert desk.end() == {"f": 1}
    desk.submit(item("bob", 1))
    assert not desk.waits()
    assert desk.end() == {"f": 1}
    assert desk.written == [("f", "ann/1", "deferred"), ("f", "bob/1", "deferred")]


def test_what_was_deferred_is_settled_later_and_is_then_waited_for_again(desk: Desk) -> None:
    desk.submit(item("ann", 1))
    desk.waits(2 * HOLD)
    desk.end()
    desk.now += 60
    desk.settle(item("ann", 1))
    assert desk.written == [("f", "ann/1", "deferred"), ("f", "ann/1", "")], "the latest decides"
    desk.now += 60
    desk.submit(item("ann", 2))
    assert desk.waits(HOLD * 0.9)
    desk.settle(item("ann", 2))
    assert desk.end() == {}


def test_a_record_that_was_sent_and_not_answered_is_deferred_as_ambiguous() -> None:
    found: list[Settlement] = []
    outstanding = Deferral(found.extend)
    sent, unsent = item("ann", 1), item("bob", 1)
    sent.first_attempt = 1
    outstanding.submit([sent, unsent])
    outstanding.defer(found.extend)
    assert [(each.item.record.user_id, each.outcome.ambiguous) for each in found] == [("ann", True), ("bob", False)]


def test_the_only_forwarder_is_waited_for_as_long_as_it_takes_records(desk: Desk) -> None:
    desk.submit(*(item("ann", number) for number in range(100)))
    for number in range(99):
        desk.now += HOLD / 2
        desk.settle(item("ann", number))
        assert desk.waits()
    desk.settle(item("ann", 99))
    assert not desk.waits()


def test_one_that_still_takes_when_another_has_all_its_own_is_waited_for_a_moment(desk: Desk) -> None:
    desk.submit(item("ann", 0, "quick"), *(item(f"user-{number}", 0, "slow") for number in range(20)))
    desk.settle(item("user-0", 0, "slow"))
    assert desk.waits(), "both are at it"
    desk.settle(item("ann", 0, "quick"))
    for number in (1, 2, 3):
        assert desk.waits(SOON)
        desk.settle(item(f"user-{number}", 0, "slow"))
    assert not desk.waits(SOON)
    assert desk.end() == {"slow": 16}
    desk.submit(item("bob", 0, "slow"))
    desk.settle(item("user-4", 0, "slow"))
    assert not desk.waits(), "it has not caught up"
    assert desk.end() == {"slow": 1}
    desk.settle(*(item(f"user-{number}", 0, "slow") for number in range(5, 20)), item("bob", 0, "slow"))
    desk.submit(item("bob", 1, "slow"))
    assert desk.waits()


def test_a_user_whose_record_fails_is_not_waited_for_twice_and_the_others_are(desk: Desk) -> None:
    desk.submit(item("poison", 1), item("ann", 1))
    desk.settle(item("ann", 1))
    desk.waits(2 * HOLD)
    assert desk.end() == {"f": 1}
    for number in (2, 3):
        desk.submit(item("poison", number), item("ann", number), item("bob", number))
        desk.settle(item("bob", number))
        assert desk.waits(SOON)
        desk.settle(item("ann", number))
        assert not desk.waits()
        assert desk.end() == {"f": 1}
    desk.settle(item("poison", 1), item("poison", 2), item("poison", 3))
    desk.submit(item("poison", 4))
    assert desk.waits()


def test_one_that_is_behind_is_not_waited_for_until_it_has_all(desk: Desk) -> None:
    late = [item(f"user-{number}", 0) for number in range(BEHIND_USERS + 1)]
    desk.submit(*late)
    desk.waits(2 * HOLD)
    desk.end()
    desk.settle(*late[:-1])
    desk.submit(item("ann", 1))
    assert not desk.waits()
    desk.end()
    desk.settle(late[-1], item("ann", 1))
    desk.submit(item("ann", 2))
    assert desk.waits()


def test_one_that_is_far_behind_is_waited_for_as_long_as_it_takes_records(desk: Desk) -> None:
    late = [item("ann", number) for number in range(BACKLOG_LIMIT)]
    desk.submit(*late)
    desk.waits(2 * HOLD)
    assert desk.end() == {"f": BACKLOG_LIMIT}
    desk.submit(item("bob", 0))
    assert not desk.waits(), "it takes none"
    desk.end()
    desk.settle(late[0])
    desk.submit(item("bob", 1))
    assert desk.waits()
    desk.settle(late[1])
    assert not desk.waits()
