"""The whole job on a bad day: faults, kills, stops, and what is left afterwards.

The same scenarios run at full size in `python -m benchmarks.delivery --scenarios`.
"""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.command import main
from tests.support.activity import activity
from tests.support.forwarder_documents import aws_document, http_document
from tests.support.laboratory.aws_fake import AwsFake
from tests.support.laboratory.http_fault_server import Answer, Arrival, scripted
from tests.support.laboratory.job_experiment import Experiment, HttpLog, StreamLog, activities, assert_clean, due
from tests.support.laboratory.scenarios import (
    environment,
    killed_again_and_again,
    killed_with_batches,
    laboratory,
    resharded,
    scripted_statuses,
)
from tests.support.ports import free_port
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop
from transforms.accounting.accounts import Account
from transforms.sinks.base import Settlement


@pytest.fixture
def lab() -> Iterator[tuple[Receiver, AwsFake, AwsFake]]:
    with laboratory() as three:
        yield three


# --- scenarios -------------------------------------------------------------------------------------------------------


def test_killed_at_random_moments_and_resumed(workshop: Workshop) -> None:
    lines = killed_again_and_again(workshop, users=10, sessions=3, kills=2, seed=5)
    assert_clean(lines)
    assert {line.forwarder for line in lines} == {"http", "stream", "firehose"}
    assert all(line.faults > 0 and line.dead == 0 for line in lines)
    assert lines[0].note.startswith("2 kills")


def test_killed_at_random_moments_while_batches_leave(workshop: Workshop) -> None:
    (line,) = lines = killed_with_batches(workshop, users=10, sessions=6, kills=2, seed=2)
    assert_clean(lines)
    assert line.faults > 0
    assert line.dead > 0
    assert line.note.startswith("2 kills")


def test_fifty_users_with_scripted_statuses(workshop: Workshop) -> None:
    lines = scripted_statuses(workshop, users=50, sessions=1)
    assert_clean(lines)
    assert [line.dead for line in lines] == [0, 0, 200]
    assert all(line.duplicated == 0 for line in lines)


def test_partition_keys_keep_their_meaning_through_a_reshard(workshop: Workshop) -> None:
    lines = resharded(workshop, users=30, sessions=3)
    assert_clean(lines)
    assert lines[0].dead == 0
    assert "users moved" in lines[0].note
    assert ", 0 users moved" not in lines[0].note


def test_a_fine_forwarder_gets_everything_beside_a_dead_a_slow_and_a_throttling_one(
    workshop: Workshop, lab: tuple[Receiver, AwsFake, AwsFake]
) -> None:
    receiver, kinesis, _ = lab
    workshop.write_activity(activities(20, 3))
    everything = 20 * 3 * 4

    def script(arrival: Arrival) -> Answer:
        if "/slow" in arrival.request_line:
            return Answer(fault="hold")
        # The slow one stands still until the fine one has all there is: had one to wait for the other, nothing ended.
        if len(HttpLog(receiver, "fine")) + 1 == everything:
            receiver.release()
        return Answer()

    receiver.script = script
    stream = kinesis.add_stream("throttling", records_per_second=everything * 0.8)
    workshop.write_forwarders(
        http_document(receiver, "dead", {"url": f"127.0.0.1:{free_port()}"}),
        http_document(receiver, "slow", {"timeout": 60}),
        aws_document("throttling"),
        http_document(receiver, "fine"),
    )
    records = due(workshop)
    experiment = Experiment(
        workshop,
        {
            "slow": HttpLog(receiver, "slow"),
            "throttling": StreamLog(stream),
            "fine": HttpLog(receiver, "fine"),
            "dead": HttpLog(receiver, "dead"),
        },
    )
    assert workshop.run("--outage_budget=2", "--max_backoff=0.2") == 3
    for name in experiment.logs:
        experiment.judge(name, records).assert_clean()
    assert experiment.logs["throttling"].faults() > 0
    for name in ("slow", "throttling", "fine"):
        assert workshop.account(name)["delivered"] == everything
    reasons = workshop.account("dead")["dead_letter_reasons"]
    assert sum(reasons.values()) == everything
    # What is left waits as `unavailable`, and did not spend the attempts of one record after the other.
    assert reasons["unavailable"] > everything * 0.8
    assert workshop.account("dead")["attempts"] < everything / 2


@pytest.mark.parametrize("back_again", [True, False])
def test_a_stream_that_is_switched_to_auto_gets_nothing_more_until_it_is_switched_back(
    workshop: Workshop, lab: tuple[Receiver, AwsFake, AwsFake], back_again: bool
) -> None:
    _, kinesis, _ = lab
    stream = kinesis.add_stream("stream", shards=4)
    described = 0

    def flip() -> None:
        nonlocal described
        stream.strategy = "AUTO" if kinesis.calls["PutRecords"] > 4 else None
        # It is asked before each probe; somebody sees the log in the meantime.
        if back_again and kinesis.calls["DescribeStreamSummary"] > 2:
            kinesis.before_put = lambda: None
            stream.strategy = None

    kinesis.before_put = flip
    kinesis.before_describe = flip
    workshop.write_activity(activities(30, 10))
    workshop.write_forwarders(aws_document("stream"))
    status = workshop.run("--outage_budget=0.5", "--max_backoff=0.05")
    account = workshop.account("stream")
    assert account["matched"] == 1200
    if back_again:
        assert (status, account["delivered"]) == (0, 1200)
        return
    assert status == 3
    assert account["dead_lettered"] > 500
    for letter in workshop.avro("dead_letters"):
        assert (letter["reason"], "auto_distribution" in letter["response"]) == ("unavailable", True)


# --- what is given up ------------------------------------------------------------------------------------------------


def test_the_rest_of_a_user_waits_behind_a_record_that_was_given_up_if_asked(
    workshop: Workshop, receiver: Receiver
) -> None:
    workshop.write_activity(activities(3, 1))
    records = due(workshop_with_forwarder(workshop, receiver))
    of_u1 = [id_ for user, id_ in records if user == "u1"]
    receiver.script = scripted(by_key={of_u1[1]: [400]})
    assert workshop.run("--on_failure=block_user") == 3
    assert workshop.account("http")["dead_letter_reasons"] == {"blocked_by_earlier": 2, "http_400": 1}
    assert [id_ for user, id_ in receiver.stored() if user == "u1"] == of_u1[:1]
    assert len(receiver.stored()) == 4 + 1 + 4
    # Later the rest goes in order, for all that the receiver refuses the first of them once more.
    receiver.script = scripted(by_key={of_u1[1]: [400]})
    assert workshop.redrive("--on_failure=block_user") == 3
    assert len(receiver.stored()) == 9
    receiver.script = scripted()
    assert workshop.redrive("--on_failure=block_user") == 0
    assert by_user(receiver.stored()) == by_user(records)


def workshop_with_forwarder(workshop: Workshop, receiver: Receiver, **given: Any) -> Workshop:
    workshop.write_forwarders(http_document(receiver, "http") | given)
    return workshop


def undecidable(workshop: Workshop, receiver: Receiver) -> str:
    """Three records for u, of which the second is one that the query cannot be decided for; its id."""
    names = ["b", "a" * 40 + "!", "b"]
    steps = [activity("START", at, session_id=f"s{at}", activity_id=name) for at, name in enumerate(names)]
    workshop.write_activity(steps)
    query = json.dumps({"activity_id": {"$regex": "^(b|(a+)+)$"}})
    (_, id_) = due(workshop_with_forwarder(workshop, receiver))[1]
    workshop_with_forwarder(workshop, receiver, query=query)
    return id_


def test_what_no_query_could_decide_is_matched_again_by_a_redrive(workshop: Workshop, receiver: Receiver) -> None:
    undecided = undecidable(workshop, receiver)
    assert workshop.run() == 3
    assert workshop.account("http")["dead_letter_reasons"] == {"undecided": 1}
    assert [letter["id"] for letter in workshop.avro("dead_letters")] == [undecided]
    assert workshop.redrive() == 3
    assert workshop.account("http")["kept"] == {"undecided": 1}
    assert len(receiver.log) == 2
    workshop_with_forwarder(workshop, receiver, query='{"kind": "event"}')
    assert workshop.redrive() == 0
    assert [arrival.key for arrival in receiver.log[2:]] == [undecided]


def test_an_undecided_record_blocks_its_user_too_if_asked(workshop: Workshop, receiver: Receiver) -> None:
    undecidable(workshop, receiver)
    assert workshop.run("--on_failure=block_user") == 3
    assert workshop.account("http")["dead_letter_reasons"] == {"blocked_by_earlier": 1, "undecided": 1}
    assert len(receiver.log) == 1
    # As long as it is undecided, what follows it waits with it, in a redrive too; unless that is no longer asked for.
    assert workshop.redrive("--on_failure=block_user") == 3
    assert workshop.account("http")["kept"] == {"blocked_by_earlier": 1, "undecided": 1}
    assert len(receiver.log) == 1
    assert workshop.redrive() == 3
    assert workshop.account("http")["kept"] == {"undecided": 1}
    assert len(receiver.log) == 2


def test_a_redrive_goes_by_the_present_document_and_only_the_forwarders_named(
    workshop: Workshop, receiver: Receiver
) -> None:
    receiver.script = lambda arrival: Answer(401)
    workshop.write_activity(activities(4, 2))
    token = {"authType": "token", "secret": "old-token"}
    workshop.write_forwarders(http_document(receiver, "one", token), http_document(receiver, "two", token))
    records = due(workshop)
    assert workshop.run() == 3
    sent = {arrival.key: arrival.body for arrival in receiver.log}

    receiver.script = scripted()
    receiver.log.clear()
    token["secret"] = "new-token"
    workshop.write_forwarders(
        http_document(receiver, "one", {**token, "url": receiver.url("elsewhere")}),
        http_document(receiver, "two", token),
    )
    assert workshop.redrive("--forwarder=one") == 0
    assert {arrival.request_line for arrival in receiver.log} == {"POST /elsewhere HTTP/1.1"}
    assert {arrival.headers["authorization"] for arrival in receiver.log} == {"Bearer new-token"}
    assert {arrival.key: arrival.body for arrival in receiver.log} == sent
    for user in ("u0", "u1", "u2", "u3"):
        due_to_user = [id_ for whose, id_ in records if whose == user]
        assert [arrival.key for arrival in receiver.log if arrival.user == user] == due_to_user
    # The other's letters are where they were.
    assert workshop.redrive() == 0
    assert workshop.account("two")["delivered"] == len(records)
    assert workshop.account("one")["matched"] == 0


def test_a_redrive_leaves_the_letters_of_an_inactive_document_alone(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(401)
    workshop.write_activity(activities(2, 1))
    workshop.write_forwarders(http_document(receiver, "one"), http_document(receiver, "two"))
    assert workshop.run() == 3
    receiver.script = scripted()
    receiver.log.clear()
    workshop.write_forwarders(http_document(receiver, "one") | {"active": False}, http_document(receiver, "two"))
    assert workshop.redrive() == 3
    assert {arrival.request_line.split()[1] for arrival in receiver.log} == {"/two"}
    workshop.write_forwarders(http_document(receiver, "one"), http_document(receiver, "two"))
    assert workshop.redrive() == 0
    assert workshop.account("one")["delivered"] == 8


def test_a_record_that_came_through_five_forwarders_goes_no_further(workshop: Workshop, receiver: Receiver) -> None:
    steps = [
        activity("START", number, session_id=f"s{number}", user_id=f"u{number}", metadata={"forward_hops": number})
        for number in (4, 5)
    ]
    workshop.write_activity(steps)
    assert workshop_with_forwarder(workshop, receiver).run() == 3
    assert [arrival.headers["x-forward-hops"] for arrival in receiver.log] == ["5"]
    (letter,) = workshop.avro("dead_letters")
    assert (letter["user_id"], letter["reason"], letter["hops"]) == ("u5", "too_many_hops", 5)


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_books_that_do_not_balance_fail_the_run(
    workshop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settle = Account.settle

    def forgets_one(account: Account, settlements: Iterable[Settlement], settled_at: int) -> None:
        settle(account, [each for each in settlements if each.item.record.user_id != "u1"], settled_at)

    workshop.write_activity(activities(3, 1))
    workshop_with_forwarder(workshop, receiver)
    monkeypatch.setattr(Account, "settle", forgets_one)
    assert workshop.run() == 1
    assert workshop.report()["balanced"] is False
    assert "the books do not balance for http" in capsys.readouterr().out


def test_a_signal_to_all_processes_ends_in_receipts_and_a_report(workshop: Workshop, receiver: Receiver) -> None:
    arguments = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    taken = 40
    receiver.script = lambda arrival: Answer() if len(receiver.log) < taken else Answer(fault="hold")
    workshop.write_activity(activities(60, 1))
    workshop_with_forwarder(workshop, receiver)
    records = due(workshop)
    experiment = Experiment(workshop, {"http": HttpLog(receiver, "http")}, arguments)
    with experiment.process() as job:
        receiver.wait_for(taken + 1)
        # As a service manager does it to the workers, and then as a terminal does it: to launcher and workers alike.
        workers = [
            int(each) for of in Path(f"/proc/{job.pid}/task").glob("*/children") for each in of.read_text().split()
        ]
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        experiment.signal(signal.SIGINT)
        experiment.wait_until_stopping()
        receiver.release()
        assert job.wait(60) == 1
    report, account = workshop.report(), workshop.account("http")
    assert (report["state"], report["balanced"]) == ("stopped", True)
    assert account["pending"] > 0
    assert account["delivered"] == len(workshop.avro("receipts")) == len(receiver.stored())

    receiver.script = scripted()
    assert workshop.run() == 0
    findings = experiment.judge("http", records)
    findings.assert_clean()
    assert findings.duplicated == []


def test_a_second_run_is_refused_until_the_first_is_killed(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = lambda arrival: Answer(fault="hold")
    workshop.write_activity(activities(5, 1))
    workshop_with_forwarder(workshop, receiver)
    experiment = Experiment(workshop, {"http": HttpLog(receiver, "http")})
    with experiment.process() as job:
        receiver.wait_for(1)
        assert workshop.run() == 1
        assert f"in use by another run (process {job.pid} " in caplog.text
        assert workshop.redrive() == 1
        in_flight = len(receiver.log)
        assert in_flight <= 5
        job.kill()
        job.wait()
        receiver.script = scripted()
        assert workshop.run() == 0
    assert workshop.account("http")["delivered"] == 20


# --- permissions and networks ----------------------------------------------------------------------------------------


def test_the_least_documented_policy_delivers(
    workshop: Workshop, lab: tuple[Receiver, AwsFake, AwsFake], caplog: pytest.LogCaptureFixture
) -> None:
    _, kinesis, firehose = lab
    # As Learning Locker documents it: firehose:PutRecord and nothing else.
    firehose.denied = {"firehose:PutRecordBatch", "firehose:DescribeDeliveryStream"}
    kinesis.denied = {"kinesis:DescribeStreamSummary"}
    stream, delivery = kinesis.add_stream("stream"), firehose.add_delivery_stream("delivery")
    workshop.write_activity(activities(10, 2))
    workshop.write_forwarders(
        aws_document("stream", configuration={"maxRetries": 0}), aws_document("delivery", "firehose", {"maxRetries": 0})
    )
    records = due(workshop)
    caplog.clear()
    assert workshop.run() == 0
    assert set(firehose.calls) == {"PutRecord"}
    assert set(kinesis.calls) == {"PutRecords"}
    for action in ("firehose:DescribeDeliveryStream", "kinesis:DescribeStreamSummary"):
        assert f"not allowed to {action}" in caplog.text
        assert any(action in warning for warning in workshop.report()["warnings"])
    experiment = Experiment(workshop, {"stream": StreamLog(stream), "delivery": StreamLog(delivery)})
    for name in experiment.logs:
        findings = experiment.judge(name, records)
        findings.assert_clean()
        assert findings.duplicated == []


def test_aws_endpoints_need_no_allowed_network_and_allow_none(
    workshop: Workshop, lab: tuple[Receiver, AwsFake, AwsFake], caplog: pytest.LogCaptureFixture
) -> None:
    receiver, kinesis, _ = lab
    kinesis.add_stream("stream")
    workshop.write_activity(activities(2, 1))
    arguments = [one for one in workshop.arguments() if not one.startswith("--allow_network")]
    arguments += ["--input", str(workshop.path / "in" / "*")]

    # An endpoint on this machine, set by the operator, is exempt from the address guard.
    workshop.write_forwarders(aws_document("stream"))
    assert main(arguments) == 0
    assert workshop.account("stream")["delivered"] == 8

    # That this address is AWS's does not make it one that HTTP may reach.
    at_aws = kinesis.endpoint.removeprefix("http://")
    workshop.write_forwarders(aws_document("stream"), http_document(receiver, "http", {"url": at_aws}))
    assert main(arguments) == 2
    assert "127.0.0.1 (loopback)" in caplog.text
    # And it is still refused when it is dialled, should it only turn up then.
    with environment(AWS_ENDPOINT_URL=kinesis.endpoint):
        assert main([*arguments, "--allow_network=10.0.0.0/8"]) == 2
    assert receiver.log == []


def test_no_proxy_of_the_environment_sees_a_record(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(activities(2, 1))
    workshop_with_forwarder(workshop, receiver)
    proxy = f"http://127.0.0.1:{free_port()}"
    with environment(HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy, all_proxy=proxy, NO_PROXY="", no_proxy=""):
        assert workshop.run() == 0
    assert len(receiver.stored()) == 8
