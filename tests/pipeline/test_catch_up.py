"""Scheduled runs that catch up by themselves with what an outage of a forwarder has left."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.pipeline.test_originals import XAPI, to_statements, write
from tests.pipeline.test_voiding import number_of, of, voiding
from tests.support.forwarder_documents import aws_document, http_document
from tests.support.laboratory.batch_receiver import BatchReceiver
from tests.support.laboratory.http_fault_server import Answer, Arrival, scripted
from tests.support.laboratory.outage import DOWN, file_of_a_run, outage_over_runs
from tests.support.laboratory.scenarios import laboratory
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop
from transforms.delivery import failing_letters

Run = Callable[..., int]


@pytest.fixture
def run(workshop: Workshop) -> Run:
    """A run on a state, whose budget is short."""
    return lambda *more: workshop.run("--state", str(workshop.path / "state"), "--outage_budget=0.3", *more)


def down(_: object) -> Answer:
    return Answer(503)


def once(receiver: Receiver, *configuration: dict[str, Any]) -> dict[str, Any]:
    """A document that has each record tried once."""
    return http_document(receiver, "http", {"maxRetries": 0, **(configuration[0] if configuration else {})})


def in_order(workshop: Workshop, receiver: Receiver, runs: int, each: int) -> None:
    """All sessions have arrived, each user's in the order of the files and in it of their beginning."""
    arrived = [(arrival.user, json.loads(arrival.body)["session_id"]) for arrival in receiver.log if arrival.stored]
    expected = by_user(
        (one.user_id, one.session_id) for number in range(runs) for one in file_of_a_run(number, 6, each)
    )
    assert by_user(arrived) == expected


def test_an_outage_of_two_runs_needs_no_hand(
    workshop: Workshop, receiver: Receiver, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_forwarders(once(receiver))
    receiver.script = down
    for number in (0, 1):
        workshop.write_activity(file_of_a_run(number, 6, 2), f"{number}.jsonl")
        assert run() == 3
    account = workshop.account("http")
    assert account["caught_up"]["tried"] == account["caught_up"]["still_dead"] == 12
    assert account["matched"] == account["dead_lettered"] == 12, "what is new is counted apart"
    letters = workshop.avro("dead_letters")
    assert len(letters) == len({letter["id"] for letter in letters}) == 24, "one letter of each record"
    receipts = workshop.avro("receipts")

    workshop.write_activity(file_of_a_run(2, 6, 2), "2.jsonl")
    capsys.readouterr()
    assert run("--dry_run") == 0
    assert workshop.account("http")["caught_up"] == {"would_try": 24}
    assert "24 dead letters of earlier runs would be tried first" in capsys.readouterr().out
    assert workshop.avro("receipts") == receipts

    # It is back in the middle of a run, when it counts as down. What is behind a letter that was given up waits for it.
    receiver.script = scripted(default=[503] * 12)
    assert run("--outage_budget=30") == 3
    assert workshop.report()["balanced"]
    assert workshop.account("http")["caught_up"]["still_dead"] >= 10
    receiver.script = scripted()
    assert run() == 0
    in_order(workshop, receiver, 3, 2)
    assert run() == 0
    assert workshop.account("http")["caught_up"]["tried"] == 0
    assert workshop.redrive("--dry_run") == 0
    assert workshop.account("http")["matched"] == 0, "no letter is open"


def test_what_is_the_records_own_fault_or_not_asked_for_any_more_is_not_tried_again(
    workshop: Workshop, receiver: Receiver, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_forwarders(once(receiver), http_document(receiver, "removed"))
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u0" else 503)
    workshop.write_activity(file_of_a_run(0, 3, 1), "0.jsonl")
    assert run() == 3
    workshop.write_forwarders(once(receiver) | {"query": '{"user_id": {"$ne": "u1"}}'})
    receiver.script = scripted()
    receiver.log.clear()
    capsys.readouterr()
    assert run() == 0
    assert [arrival.user for arrival in receiver.log] == ["u2"]
    assert workshop.account("http")["kept"] == {"no_longer_matches": 1}
    assert "dead letters of earlier runs left as they were: 2 no_active_forwarder" in capsys.readouterr().out
    # What the receiver refuses when it is back is a letter of its own then, and stays.
    workshop.write_forwarders(once(receiver))
    receiver.script = lambda arrival: Answer(422)
    assert run() == 3
    assert workshop.account("http")["caught_up"]["reasons"] == {"http_422": 1}
    assert run() == 0
    assert workshop.account("http")["caught_up"]["tried"] == 0
    reasons = sorted(letter["reason"] for letter in workshop.avro("dead_letters") if letter["forwarder_id"] == "http")
    assert reasons == ["http_400", "http_422", "http_503", "http_503"]


def test_it_is_left_to_a_redrive_if_asked(workshop: Workshop, receiver: Receiver, run: Run) -> None:
    workshop.write_forwarders(once(receiver))
    receiver.script = down
    workshop.write_activity(file_of_a_run(0, 6, 1), "0.jsonl")
    assert run("--catch_up=off") == 3
    receiver.script = scripted()
    assert run("--catch_up=off") == 0
    assert "caught_up" not in workshop.account("http")
    assert workshop.redrive() == 0
    in_order(workshop, receiver, 1, 1)


def test_with_block_user_what_waits_for_a_refused_record_goes_on_waiting(
    workshop: Workshop, receiver: Receiver, run: Run
) -> None:
    workshop.write_forwarders(once(receiver))
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u0" else 503)
    workshop.write_activity(file_of_a_run(0, 2, 3), "0.jsonl")
    assert run("--on_failure=block_user") == 3
    receiver.script = scripted()
    receiver.log.clear()
    assert run("--on_failure=block_user") == 0
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 3
    assert run() == 0, "without block_user nothing waits for it"
    assert [arrival.user for arrival in receiver.log] == ["u1"] * 3 + ["u0"] * 2


def test_batches_and_streams_catch_up_in_order(workshop: Workshop, run: Run) -> None:
    with laboratory() as (receiver, kinesis, _):
        judge = BatchReceiver(fault=lambda _: Answer(503))
        receiver.script = judge
        streams = [kinesis.add_stream(name, shards=2) for name in ("stream", "packed")]
        packed = aws_document("packed")
        packed["kinesisOptions"]["aggregate"] = True
        batch = {"batch": {"records": 10}, "maxRetries": 0}
        workshop.write_forwarders(
            http_document(receiver, "http", batch, payload="statement"), aws_document("stream"), packed
        )
        kinesis.faults.rates = {"cut_before_storing": 1.0}
        workshop.write_activity(file_of_a_run(0, 6, 4), "0.jsonl")
        assert run() == 3
        assert [entry["dead_lettered"] for entry in workshop.report()["forwarders"]] == [24] * 3
        judge.fault = lambda _: None
        kinesis.faults.rates = {}
        workshop.write_activity(file_of_a_run(1, 6, 4), "1.jsonl")
        assert run("--write_records=jsonl") == 0
        report = workshop.report()
        assert [entry["caught_up"]["delivered"] for entry in report["forwarders"]] == [24] * 3
        new = {record["id"] for record in workshop.records("event")}
        for user, ids in by_user((letter["user_id"], letter["id"]) for letter in workshop.avro("dead_letters")).items():
            assert len(set(ids)) == 4, user
        old = {letter["id"] for letter in workshop.avro("dead_letters")}
        stored = [json.loads(each.data)["id"] for each in streams[0].stored]
        for ids in (judge.stored, stored):
            assert len(ids) == len(set(ids)) == 48
            assert set(ids) == old | new
        users = {row["id"]: row["user_id"] for row in workshop.avro("receipts")}
        for ids in (judge.stored, stored):
            for of_user in by_user((users[id_], id_) for id_ in ids).values():
                assert [id_ in new for id_ in of_user] == [False] * 4 + [True] * 4
        assert workshop.account("packed")["delivered"] == 24


def test_voiding_statements_that_are_caught_up_leave_last(workshop: Workshop, receiver: Receiver, run: Run) -> None:
    write(workshop, [of("ann", 1), of("bob", 2), voiding("ann", 100, 2)], "0.jsonl")
    workshop.write_forwarders(to_statements(receiver, configuration={"maxRetries": 0}))
    receiver.script = down
    assert run(XAPI) == 3
    receiver.script = scripted()
    receiver.log.clear()
    write(workshop, [of("ann", 3), of("bob", 4), voiding("bob", 101, 1)], "1.jsonl")
    assert run(XAPI) == 0
    numbers = [number_of(arrival) for arrival in receiver.log]
    assert {*numbers[:4]} == {1, 2, 3, 4}
    assert {*numbers[4:]} == {100, 101}
    assert numbers.index(1) < numbers.index(3)
    assert numbers.index(2) < numbers.index(4)


def test_voiding_statements_leave_last_too_when_the_run_itself_reads_none(
    workshop: Workshop, receiver: Receiver, run: Run
) -> None:
    write(workshop, [*(of(f"user-{number}", number) for number in range(20)), voiding("ann", 100, 19)], "0.jsonl")
    workshop.write_forwarders(to_statements(receiver, configuration={"maxRetries": 0}))
    receiver.script = down
    assert run(XAPI) == 3
    receiver.script = scripted()
    receiver.log.clear()
    assert run(XAPI, "--kind=event") == 0
    numbers = [number_of(arrival) for arrival in receiver.log]
    assert {*numbers[:20]} == {*range(20)}
    assert numbers[20:] == [100]


def test_an_outage_with_kills_loses_nothing_and_keeps_the_order(workshop: Workshop) -> None:
    """It is down, it comes back soon, it fails now and then, it fails a little."""
    found = outage_over_runs(workshop, [DOWN, 12, 0.05, 3], kills=2, users=12, each=3, seed=3)
    assert found.kills > 0


@pytest.mark.parametrize("retries", [0, 1])
def test_what_follows_a_record_that_has_failed_follows_it_in_the_next_run(
    workshop: Workshop, receiver: Receiver, run: Run, retries: int
) -> None:
    workshop.write_forwarders(once(receiver, {"maxRetries": retries}))
    # Too few for a breaker: the receiver is not down.
    receiver.script = scripted(by_user={user: [503] * (1 + retries) for user in ("u0", "u2")})
    workshop.write_activity(file_of_a_run(0, 6, 3), "0.jsonl")
    assert run("--max_backoff=0.05") == 3
    assert workshop.account("http")["dead_letter_reasons"] == {"http_503": 2, "blocked_by_earlier": 4}
    assert workshop.account("http")["delivered"] == 12, "others go on"
    workshop.write_activity(file_of_a_run(1, 6, 3), "1.jsonl")
    assert run() == 0
    in_order(workshop, receiver, 2, 3)


def test_a_record_that_fails_run_after_run_while_others_are_taken_is_set_aside(
    workshop: Workshop,
    receiver: Receiver,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(failing_letters, "SET_ASIDE_AFTER", 2)
    workshop.write_forwarders(once(receiver))

    def taken(arrival: Arrival) -> Answer:
        return Answer(500, body=b"a fault in the receiver") if b"u0-0-0" in arrival.body else Answer()

    receiver.script = taken
    for number in range(3):
        # In the second run the forwarder takes nothing, so nobody knows whether it is the record.
        receiver.script = taken if number != 1 else down
        workshop.write_activity(file_of_a_run(number, 3, 2), f"{number}.jsonl")
        assert run() == 3
    letters = [letter for letter in workshop.avro("dead_letters") if letter["attempts"] and letter["user_id"] == "u0"]
    assert [(each["reason"], each["failed_runs"]) for each in letters] == [("http_500", 0), ("http_500", 1)]
    receiver.script = taken
    workshop.write_activity(file_of_a_run(3, 3, 2), "3.jsonl")
    assert run() == 3
    assert workshop.account("http")["caught_up"]["reasons"] == {"keeps_failing": 1, "blocked_by_earlier": 5}
    assert "session-forwarder redrive" in capsys.readouterr().out
    assert run() == 0
    order = [(arrival.user, json.loads(arrival.body)["session_id"]) for arrival in receiver.log if arrival.stored]
    for user, sessions in by_user(order).items():
        all_ = [f"{user}-{number}-{step}" for number in range(4) for step in range(2)]
        assert sessions == (all_[1:] if user == "u0" else all_)
    (letter,) = [letter for letter in workshop.avro("dead_letters") if letter["reason"] == "keeps_failing"]
    assert letter["response"] == "http_500 in 2 runs: a fault in the receiver"
    assert workshop.redrive("--reason=keeps_failing", "--dry_run") == 0
    assert workshop.account("http")["matched"] == 1, "it is for a hand"
