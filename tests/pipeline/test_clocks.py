"""Whole runs by clocks that are ahead, behind, or set right between them."""

import pytest

from tests.support.activity import sessions
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.moved_clock import DAY, MovedClock
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

# --- what was delivered


@pytest.mark.parametrize("days", [-40, 1])
def test_dead_letters_by_another_clock_are_not_sent_again_once_they_are_delivered(
    workshop: Workshop, receiver: Receiver, clock: MovedClock, days: int
) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u1" else 200)
    clock.ahead = days * DAY
    assert workshop.run() == 3
    clock.ahead = 0
    receiver.script = scripted()
    receiver.log.clear()
    assert workshop.redrive() == 0
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 4
    for again in (workshop.run, workshop.redrive):
        receiver.log.clear()
        assert again() == 0
        assert not receiver.log
    assert workshop.account("http")["matched"] == 0, "a redrive has nothing left to look at"


def test_no_order_of_clocks_sends_a_delivered_record_again(
    workshop: Workshop, receiver: Receiver, clock: MovedClock
) -> None:
    """In each run the receiver refuses other users. So each record is refused, and later delivered, at some time."""
    workshop.write_activity(sessions(4))
    workshop.write_forwarders(http_document(receiver))
    refused: set[str] = set()
    receiver.script = lambda arrival: Answer(400 if arrival.user in refused else 200)
    for turn, days in enumerate((40, 0, -40, 1, -1)):
        clock.ahead = days * DAY
        refused.clear()
        refused.update((f"u{turn}", f"u{turn + 1}"))
        (workshop.redrive if turn % 2 else workshop.run)()
    keys = [key for _, key in receiver.stored()]
    assert len(keys) == len(set(keys)) == 16


def test_what_a_replay_gave_up_is_due_again(workshop: Workshop, receiver: Receiver, clock: MovedClock) -> None:
    """Also by a clock behind that of the run which had delivered it."""
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    clock.ahead = -DAY
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u1" else 200)
    assert workshop.run("--replay=all") == 3
    receiver.script = scripted()
    receiver.log.clear()
    assert workshop.redrive() == 0
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 4
    assert workshop.run() == 0
    assert len(receiver.log) == 4


def test_a_redrive_sends_nothing_that_is_delivered_though_it_is_to_replay(
    workshop: Workshop, receiver: Receiver, clock: MovedClock
) -> None:
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver))
    receiver.script = scripted(default=[400] * 4)
    assert workshop.run() == 3
    receiver.script = scripted()
    clock.ahead = -DAY
    assert workshop.run() == 0
    receiver.log.clear()
    assert workshop.redrive("--replay=all") == 0
    assert not receiver.log
