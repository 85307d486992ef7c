"""A redrive of chosen dead letters, and its plan."""

import pytest

from schemas.times import rfc3339
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.laboratory.job_experiment import activities
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop


def test_a_redrive_of_chosen_letters_leaves_the_others_and_its_plan_said_so(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_activity(activities(1, 1))
    workshop.write_forwarders(http_document(receiver, "http", {"maxRetries": 0}))
    answers = iter((400, 201, 503, 503))
    receiver.script = lambda arrival: Answer(next(answers))
    assert workshop.run() == 3
    receiver.script = scripted()
    ids = [arrival.key for arrival in receiver.log]
    receiver.log.clear()

    # The activity is of years ago: the times are those at which the letters were written.
    assert workshop.redrive("--reason=http_503", "--reason=timeout", "--since=-1h", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert receiver.log == []
    account = workshop.account("http")
    assert (account["matched"], type(account["sample"])) == (2, dict)
    assert account["letters"] == {
        "delivered_since": 0,
        "by_reason": {
            "http_400": {"open": 1, "not_selected": 1, "sent": 0, "ahead": 0},
            "http_503": {"open": 2, "not_selected": 0, "sent": 2, "ahead": 2},
        },
    }
    assert "2 of these leave before an earlier dead letter of their user" in shown

    assert workshop.redrive("--reason=http_503", "--on_failure=block_user") == 3
    assert workshop.account("http")["kept"] == {"blocked_by_earlier": 2}
    assert workshop.redrive(f"--id={ids[3].upper()}") == 0
    assert [id_ for _, id_ in receiver.stored()] == ids[3:]

    until = rfc3339(min(int(letter["settled_at"].timestamp() * 1000) for letter in workshop.avro("dead_letters")))
    capsys.readouterr()
    assert workshop.redrive(f"--until={until}") == 0
    shown = capsys.readouterr().out
    assert "none of the open dead letters is sent again" in shown
    assert "delivered since they were dead letters: 1" in shown
    assert workshop.redrive() == 0
    assert [id_ for _, id_ in receiver.stored()] == [ids[3], ids[0], ids[2]]


def test_a_part_of_the_letters_arrives_in_order(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(401)
    workshop.write_activity(activities(5, 3))
    workshop.write_forwarders(http_document(receiver, "http"))
    assert workshop.run() == 3
    refused = [(arrival.user, arrival.key) for arrival in receiver.log]
    chosen = {id_ for _, id_ in refused[::2]}
    receiver.script = scripted()
    receiver.log.clear()
    assert workshop.redrive(*(f"--id={id_}" for id_ in chosen)) == 0
    assert by_user(receiver.stored()) == by_user(pair for pair in refused if pair[1] in chosen)
