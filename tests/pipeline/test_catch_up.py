"""Scheduled runs that catch up by themselves with what an outage of a forwarder has left."""

import pytest

from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop


def down(_: object) -> Answer:
    return Answer(503)


def write_run(workshop: Workshop, number: int, users: int = 6) -> None:
    """A file with one START of a session of its own for each user: one record each, after those of earlier files."""
    started = [
        activity("START", 60 * number, user_id=f"u{user}", session_id=f"s{user}-{number}", record_id=f"{user}-{number}")
        for user in range(users)
    ]
    workshop.write_activity(started, f"{number}.jsonl")


def test_what_two_runs_could_not_deliver_goes_first_in_the_third(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_forwarders(http_document(receiver, "http", {"maxRetries": 0}))
    scheduled = ("--state", str(workshop.path / "state"), "--outage_budget=0.3")
    receiver.script = down
    for number in (1, 2):
        write_run(workshop, number)
        assert workshop.run(*scheduled) == 3
    print(workshop.report()["forwarders"])
    letters = workshop.avro("dead_letters")
    assert len(letters) == len({letter["id"] for letter in letters}) == 12
    receiver.log.clear()
    receiver.script = scripted()
    write_run(workshop, 3)
    assert workshop.run(*scheduled) == 0
    account = workshop.account("http")
    print(account)
    assert account["matched"] == account["delivered"] == 6
    assert (account["caught_up"]["tried"], account["caught_up"]["delivered"]) == (12, 12)
    arrived = by_user(receiver.stored())
    assert len(arrived) == 6
    in_order = {letter["id"]: letter["run_id"] for letter in letters}
    for ids in arrived.values():
        assert len(ids) == 3
        assert in_order[ids[0]] < in_order[ids[1]]
        assert ids[2] not in in_order
    assert workshop.run(*scheduled) == 0
    assert workshop.account("http")["caught_up"]["tried"] == 0
