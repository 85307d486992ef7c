"""What operators ask beyond the contract: a sample record sent, who would get a record and why, recent deliveries."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_ALL, VIEW_ALL
from registry.rest import PATH
from registry.sample_delivery import SAMPLES_AT_ONCE, SAMPLES_OF_ONE, SampleDelivery, sample_record
from schemas.record import encode_record
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.receiver import Receiver
from tests.support.registry_house import House, create
from tests.support.workshop import Workshop
from transforms.matching.statement import StatementBuilder

TOKEN = "hunter-token"


def to(receiver: Receiver, **given: Any) -> dict[str, Any]:
    configuration = {"protocol": "http", "url": receiver.url("in"), "authType": "token", "secret": TOKEN}
    return {"payload": "record", "configuration": {**configuration, **given.pop("configuration", {})}, **given}


def tried(client: TestClient, document_id: str, **asked: Any) -> dict[str, Any]:
    answer = client.post(f"{PATH}/{document_id}/test", json=asked)
    assert answer.status_code == 200, answer.text
    assert TOKEN not in answer.text
    found: dict[str, Any] = answer.json()
    return found


# POST /:id/test


def test_a_sample_goes_the_real_way_and_the_receipt_comes_back(editor: TestClient, receiver: Receiver) -> None:
    document_id = create(editor, **to(receiver, query='{"kind": "score"}'))["_id"]
    answer = tried(editor, document_id)
    (arrival,) = receiver.log
    assert arrival.headers["authorization"] == f"Bearer {TOKEN}"
    assert arrival.key == answer["receipt"]["id"]
    assert json.loads(arrival.body) == json.loads(answer["receipt"]["payload"])
    assert answer["matches"] is True
    receipt = answer["receipt"]
    assert (receipt["forwarder_id"], receipt["kind"]) == (document_id, "score")
    assert (receipt["outcome"], receipt["status"], receipt["attempts"]) == ("delivered", 200, 1)
    assert receipt["first_attempt"] <= receipt["last_attempt"]


def test_the_sample_may_be_chosen_and_need_not_match(editor: TestClient, receiver: Receiver) -> None:
    document_id = create(editor, **to(receiver, query='{"kind": "score"}', payload="statement"))["_id"]
    answer = tried(editor, document_id, kind="event")
    assert answer["matches"] is False
    assert json.loads(receiver.log[0].body)["verb"]["id"] == "http://adlnet.gov/expapi/verbs/completed"
    assert editor.post(f"{PATH}/{document_id}/test", json={"kind": "letter"}).status_code == 422


def test_a_sample_may_be_a_statement_as_it_is(editor: TestClient, receiver: Receiver) -> None:
    query = '{"statement.result.completion": true}'
    document_id = create(editor, **to(receiver, query=query, kinds=["statement"]))["_id"]
    answer = tried(editor, document_id)
    assert (answer["matches"], answer["receipt"]["kind"]) == (True, "statement")
    sent = json.loads(receiver.log[0].body)
    assert sent["id"] == answer["receipt"]["id"] == receiver.log[0].key
    assert sent["actor"]["account"]["name"] == "sample-user"
    assert tried(editor, document_id, kind="score")["matches"] is False


def test_a_receiver_that_refuses_is_told_after_one_attempt(editor: TestClient, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(503, body=f"no {TOKEN}".encode())
    answer = tried(editor, create(editor, **to(receiver, active=False, configuration={"maxRetries": 5}))["_id"])
    receipt = answer["receipt"]
    assert (receipt["outcome"], receipt["status"], receipt["reason"]) == ("dead_lettered", 503, "http_503")
    assert receipt["response"] == "no [redacted]"
    assert len(receiver.log) == 1


def test_a_sample_goes_to_a_stream(editor: TestClient, aws: boto3.Session) -> None:
    kinesis = aws.client("kinesis")
    kinesis.create_stream(StreamName="records", ShardCount=1)
    options = {"service": "streams", "streamName": "records", "awsRegion": "us-east-1"}
    keys = {"awsClientKey": "test", "awsClientSecret": "hunter-secret"}
    configuration = {"protocol": "Kinesis", "url": None}
    document_id = create(editor, configuration=configuration, kinesisOptions={**options, **keys})["_id"]
    receipt = tried(editor, document_id)["receipt"]
    assert receipt["outcome"] == "delivered"
    shard = kinesis.get_shard_iterator(
        StreamName="records", ShardId=receipt["shard"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=shard)["Records"]
    assert [record["SequenceNumber"] for record in records] == [receipt["sequence_number"]]
    editor.patch(f"{PATH}/{document_id}", json={"kinesisOptions": {"streamName": "absent"}})
    answer = editor.post(f"{PATH}/{document_id}/test", json={})
    assert answer.status_code == 422
    assert "absent" in answer.json()["faults"][0]["message"]


NOWHERE = ["10.0.0.1", "169.254.169.254", "[::1]", "0x7f.1", "localhost", "nowhere.invalid", "a..b.invalid"]


def test_a_test_tells_nobody_what_there_is_inside(
    house: House, editor: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """What may not be reached, what is not there and what does not answer inside have one answer, to the byte."""
    answers = []
    with socket.socket() as bound:
        # Bound, and nobody listens. House lets forwarders reach 127.0.0.0/8.
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        create(editor, _id="a", configuration={"protocol": "http", "url": f"127.0.0.1:{port}/in"})
        answers.append(editor.post(f"{PATH}/a/test", json={}))
        create(editor, _id="b", configuration={"protocol": "https", "url": f"127.0.0.1:{port}/in"})
        answers.append(editor.post(f"{PATH}/b/test", json={}))
    object.__setattr__(house.registry, "sample_delivery", SampleDelivery(house.service.rules, StatementBuilder()))
    for number, host in enumerate(NOWHERE):
        create(editor, _id=f"c{number}", configuration={"protocol": "http", "url": f"{host}/latest"})
        answers.append(editor.post(f"{PATH}/c{number}/test", json={}))
    assert {(answer.status_code, answer.content) for answer in answers} == {(422, answers[0].content)}
    assert [fault["field"] for fault in answers[0].json()["faults"]] == ["configuration.url"]
    assert not {"127.0.0.1", "10.0.0.1", "private", "refused", "resolve"} & set(answers[0].text.split())
    # The operator is told.
    for said in ("connection_refused", "10.0.0.1 (private)", "a metadata service", "nowhere.invalid does not resolve"):
        assert said in caplog.text


def test_what_answers_inside_is_told_as_it_is(editor: TestClient, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(404)
    document_id = create(editor, **to(receiver))["_id"]
    assert tried(editor, document_id)["receipt"]["reason"] == "http_404"


def test_what_the_job_would_refuse_is_not_tried(editor: TestClient, receiver: Receiver) -> None:
    document_id = editor.post(PATH, json={"active": False, "query": "{"}).json()["_id"]
    answer = editor.post(f"{PATH}/{document_id}/test", json={})
    assert answer.status_code == 422
    assert {fault["field"] for fault in answer.json()["faults"]} == {"query", "configuration.url"}


def test_one_organisation_takes_its_share_of_the_tests_and_no_more(
    house: House, editor: TestClient, receiver: Receiver
) -> None:
    def of(organisation: str) -> tuple[TestClient, str]:
        client = house.client(EDIT_ALL, organisation=organisation)
        return client, create(client, **to(receiver))["_id"]

    receiver.script = lambda arrival: Answer(fault="hold")
    organisations = [f"organisation-{number}" for number in range(SAMPLES_AT_ONCE // SAMPLES_OF_ONE)]
    clients = [of(organisation) for organisation in organisations for _ in range(SAMPLES_OF_ONE)]
    with ThreadPoolExecutor(SAMPLES_AT_ONCE) as pool:
        under_way = [pool.submit(tried, *client) for client in clients[:SAMPLES_OF_ONE]]
        receiver.wait_for(SAMPLES_OF_ONE)
        one_more, its_id = of(organisations[0])
        refused = one_more.post(f"{PATH}/{its_id}/test", json={})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert "of this organisation" in refused.json()["message"]
        # Others are not held up by it, until all places are taken.
        under_way += [pool.submit(tried, *client) for client in clients[SAMPLES_OF_ONE:]]
        receiver.wait_for(SAMPLES_AT_ONCE)
        client, document_id = of("late")
        refused = client.post(f"{PATH}/{document_id}/test", json={})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        receiver.release()
        assert [sample.result()["receipt"]["outcome"] for sample in under_way] == ["delivered"] * SAMPLES_AT_ONCE
    receiver.script = scripted()
    tried(client, document_id)


# POST /match


SCORE = {
    "user_id": "u",
    "activity_id": "a",
    "session_id": "s",
    "score": 9,
    "max_score": 10,
    "subscores": [],
    "status": "Completed",
}


def test_who_would_get_a_record_and_why(house: House, editor: TestClient) -> None:
    create(editor, _id="all")
    create(editor, _id="high", query='{"score": {"$gte": 5}}')
    create(editor, _id="low", query='{"score": {"$lt": 5}}')
    create(editor, _id="off", active=False)
    create(editor, _id="store", lrs_id="another")
    create(editor, _id="statements", query='{"statement.result.score.raw": 9}', configuration={"secret": TOKEN})
    editor.post(PATH, json={"_id": "broken", "active": False, "query": "{"})
    answer = editor.post(f"{PATH}/match", json=SCORE).json()
    assert answer["kind"] == "score"
    found = {one["_id"]: one for one in answer["forwarders"]}
    assert {name for name, one in found.items() if one["reached"]} == {"all", "high", "statements"}
    assert "score" in found["low"]["reason"]
    assert "9" in found["low"]["reason"]
    assert "not active" in found["off"]["reason"]
    assert found["store"]["reason"] == "not in scope: lrs_id is None, the forwarder's is 'another'"
    assert found["broken"]["reason"].startswith("query ")


def test_a_forwarder_that_was_changed_is_matched_as_it_is_now(editor: TestClient) -> None:
    def reached() -> dict[str, bool]:
        answer = editor.post(f"{PATH}/match", json=SCORE).json()
        return {one["_id"]: one["reached"] for one in answer["forwarders"]}

    create(editor, _id="a", query='{"score": 9}')
    create(editor, _id="b", query='{"score": 9}')
    assert reached() == {"a": True, "b": True}
    editor.patch(f"{PATH}/a", json={"query": '{"score": 8}'})
    editor.patch(f"{PATH}/b", json={"lrs_id": "store"})
    assert reached() == {"a": False, "b": False}
    editor.patch(f"{PATH}/a", json={"query": {"score": 9}})
    editor.patch(f"{PATH}/b", json={"lrs_id": None, "active": False})
    assert reached() == {"a": True, "b": False}


def test_what_nobody_can_decide_is_not_reached_and_says_so(editor: TestClient) -> None:
    create(editor, _id="a", query=json.dumps({"user_id": {"$regex": "^(a+)+$"}}))
    answer = editor.post(f"{PATH}/match", json={**SCORE, "user_id": "a" * 40 + "!"}).json()
    (found,) = answer["forwarders"]
    assert found["reached"] is False
    assert found["reason"].startswith("undecided: user_id")


def test_a_records_line_is_taken_as_it_is_but_for_its_organisation(editor: TestClient) -> None:
    create(editor, _id="a", query='{"metadata.sample": true}', lrs_id="store")
    record = sample_record("status", "somebody-else", "store")
    answer = editor.post(
        f"{PATH}/match", content=encode_record(record), headers={"Content-Type": "application/json"}
    ).json()
    assert (answer["id"], answer["kind"]) == (record.id, "status")
    assert [one["reached"] for one in answer["forwarders"]] == [True]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": "u"},
        {**SCORE, "user_id": 7},
        {**SCORE, "kind": "letter"},
        {**SCORE, "timestamp": "yesterday"},
        {**SCORE, "kind": "status"},
        {**SCORE, "activity_id": 7},
        {**SCORE, "score": "9", "max_score": []},
    ],
)
def test_what_is_no_record_is_told(editor: TestClient, body: dict[str, Any]) -> None:
    answer = editor.post(f"{PATH}/match", json=body)
    assert answer.status_code == 422
    assert "is no record" in answer.json()["message"]


# GET /:id/deliveries


def test_deliveries_of_runs_are_shown(workshop: Workshop, receiver: Receiver, house: House) -> None:
    editor = house.client(EDIT_ALL, organisation="school")
    create(editor, _id="good", **to(receiver))
    create(editor, _id="bad", **to(receiver))
    workshop.write_activity(sessions(3))
    workshop.write_forwarders(
        {"_id": "good", "active": True, **to(receiver)},
        {"_id": "bad", "active": True, **to(receiver, configuration={"secret": "bad"})},
    )
    receiver.script = lambda arrival: Answer(410 if arrival.headers["authorization"] == "Bearer bad" else 200)
    assert house.client(VIEW_ALL, organisation="school").get(f"{PATH}/good/deliveries").json() == []

    assert workshop.run() == 3

    good = editor.get(f"{PATH}/good/deliveries").json()
    bad = editor.get(f"{PATH}/bad/deliveries", params={"limit": 5}).json()
    assert len(good) == 12
    assert {entry["outcome"] for entry in good} == {"delivered"}
    assert {entry["id"] for entry in good} == {arrival.key for arrival in receiver.log if arrival.stored}
    assert [entry["settled_at"] for entry in good] == sorted((entry["settled_at"] for entry in good), reverse=True)
    assert len(bad) == 5
    assert {(entry["outcome"], entry["reason"], entry["status"]) for entry in bad} == {
        ("dead_lettered", "http_410", 410)
    }
    assert not {"payload", "record"} & set(bad[0])
    last = editor.get(f"{PATH}/deliveries").json()
    assert {name: entry["outcome"] for name, entry in last.items()} == {"good": "delivered", "bad": "dead_lettered"}
    # A later run is seen too, and nothing twice.
    receiver.script = scripted()
    assert workshop.run() == 0
    assert editor.get(f"{PATH}/bad/deliveries").json()[0]["outcome"] == "delivered"
    assert len(editor.get(f"{PATH}/bad/deliveries").json()) == 24
    assert house.client(EDIT_ALL, organisation="other").get(f"{PATH}/deliveries").json() == {}
