"""Batches over HTTP, by the real engine and sink, to receivers that refuse, lie, fail, or know no arrays."""

import asyncio
import json
import logging
import random
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import pytest
from msgspec.structs import replace

from schemas.record import NAMESPACE
from tests.support.http_sink import LOCAL, delivered, loaded_forwarder
from tests.support.laboratory.batch_receiver import BatchReceiver, sometimes
from tests.support.laboratory.checker import Findings, check
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread
from tests.support.records import item, items, number_of
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http_batches import BatchPostSink, post_sink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer as Answered
from transforms.sinks.http_exchange import Request

FAST = DeliverySettings(max_backoff=0.02, outage_budget=20.0, linger=0.002)
BATCH = {"batch": {"records": 100}, "maxRetries": 10}


def deliver(
    receiver: BatchReceiver,
    due: Sequence[Item],
    configuration: dict[str, Any] | None = None,
    settings: DeliverySettings = FAST,
) -> tuple[dict[str, Settlement], LaneCounts]:
    """Deliver all of them to the end; how each was settled, by id."""
    server = FaultServer(receiver)
    with in_thread(server):
        forwarder = loaded_forwarder(
            {"protocol": "http", "url": f"127.0.0.1:{server.port}/in", **BATCH, **(configuration or {})}
        )
        settled, counts = delivered(forwarder, due, settings)
    assert len(settled) == len(due)
    return {settlement.item.record.id: settlement for settlement in settled}, counts


def judged(
    receiver: BatchReceiver, due: Sequence[Item], settled: dict[str, Settlement], ambiguous: Sequence[str] = ()
) -> Findings:
    found = check(
        [(each.record.user_id, each.record.id) for each in due],
        receiver.stored,
        list(settled.values()),
        dict.fromkeys([*receiver.doubtful, *ambiguous], True),
    )
    found.assert_clean()
    return found


def due_items(users: int, each: int) -> list[Item]:
    return items(users, each, "f1")


def test_many_records_of_a_user_leave_in_one_request() -> None:
    receiver = BatchReceiver()
    due = due_items(3, 100)
    settled, counts = deliver(receiver, due)
    assert judged(receiver, due, settled).duplicated == []
    assert all(settlement.delivered and settlement.item.attempts == 1 for settlement in settled.values())
    assert {len(call) for call in receiver.calls} == {100}
    assert (counts.calls, counts.attempts, counts.delivered) == (3, 300, 300)


def test_a_request_says_what_it_holds() -> None:
    receiver = BatchReceiver()
    due = due_items(2, 2)
    deliver(receiver, due, {"signingSecret": "whsec_c2VjcmV0LW9uZQ=="})
    (arrival,) = receiver.arrivals
    ids = receiver.calls[0]
    key = str(uuid.uuid5(NAMESPACE, "\n".join(ids)))
    assert arrival.headers["idempotency-key"] == arrival.headers["webhook-id"] == key
    assert arrival.headers["content-type"] == "application/json"
    assert arrival.headers["x-forward-hops"] == "1"
    payloads = {each.record.id: each.payload for each in due}
    assert arrival.body == b"[" + b",".join(payloads[id_] for id_ in ids) + b"]"


@pytest.mark.parametrize("format", ["array", "lines"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_body_is_an_array_or_lines_and_may_be_compressed(format: str, compression: str) -> None:
    receiver = BatchReceiver()
    due = due_items(2, 60)
    settled, _ = deliver(receiver, due, {"batch": {"records": 50, "format": format}, "compression": compression})
    judged(receiver, due, settled)
    assert len(receiver.calls) == 4
    encodings = {arrival.headers.get("content-encoding") for arrival in receiver.arrivals}
    assert encodings == {"gzip" if compression == "gzip" else None}


def test_no_request_is_larger_than_said_but_a_record_that_is_alone() -> None:
    receiver = BatchReceiver()
    due = [
        item("ann", number, "f1", b'{"user_id":"ann","number":%d,"pad":"%s"}' % (number, b"x" * size))
        for number, size in enumerate([10] * 100 + [5000] + [10] * 100)
    ]
    settled, _ = deliver(receiver, due, {"batch": {"records": 1000, "bytes": 2048}})
    judged(receiver, due, settled)
    lengths = [len(arrival.body) for arrival in receiver.arrivals]
    assert [length > 2048 for length in lengths].count(True) == 1
    assert receiver.calls[[length > 2048 for length in lengths].index(True)] == ["ann/100"]
    assert len(lengths) <= 9


GUILTY: dict[str, set[int]] = {
    "one": {37},
    "two": {3, 64},
    "first": {0},
    "last": {99},
    "twenty-fives": set(range(0, 100, 4)),
    "five percent": set(random.Random(3).sample(range(100), 5)),  # noqa: S311
    "all": set(range(100)),
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", GUILTY)
def test_the_guilty_become_dead_letters_and_no_others(name: str, status: int) -> None:
    guilty = {f"ann/{number}" for number in GUILTY[name]}
    receiver = BatchReceiver(guilty, status)
    first = [item("bob", 0, "f1")]  # An array that is taken.
    due = [item("ann", number, "f1") for number in range(100)]
    receiver.fault = lambda arrival: None
    settled, counts = deliver(receiver, [*first, *due], {"concurrency": 1, "batch": {"records": 100, "wait": 0}})
    judged(receiver, [*first, *due], settled)
    assert {id_ for id_, settlement in settled.items() if not settlement.delivered} == guilty
    for id_ in guilty:
        outcome = settled[id_].outcome
        assert (outcome.reason, outcome.status) == (f"http_{status}", status)
        assert outcome.response == "one of them is not valid"
    assert all(settlement.item.attempts == 1 for settlement in settled.values()), "splitting spends no attempt"
    more = len(receiver.calls) - 2
    assert more <= 2 * len(guilty) * 7 + 1
    assert counts.calls <= len(receiver.calls)


def test_after_a_guilty_record_a_user_may_be_blocked() -> None:
    receiver = BatchReceiver({"user-0/3", "user-2/0"})
    due = due_items(3, 10)
    settings = DeliverySettings(max_backoff=0.02, on_failure="block_user")
    settled, _ = deliver(receiver, due, settings=settings)
    judged(receiver, due, settled)
    for id_, settlement in settled.items():
        user, number = number_of(id_)
        after = {"user-0": 3, "user-1": 99, "user-2": 0}[user]
        assert settlement.delivered == (number < after)
        assert settlement.delivered or settlement.outcome.reason == (
            "http_400" if number == after else "blocked_by_earlier"
        )


@pytest.mark.parametrize("seed", range(6))
def test_any_day_loses_nothing_and_keeps_order(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    due = due_items(20, 30)
    guilty = {each.record.id for each in due if chance.random() < 0.05}
    receiver = BatchReceiver(guilty, fault=sometimes(seed))
    batch = {"records": chance.choice([3, 20, 100]), "format": chance.choice(["array", "lines"])}
    settled, _ = deliver(receiver, due, {"batch": batch, "compression": chance.choice(["none", "gzip"])})
    judged(receiver, due, settled)
    assert {id_ for id_, settlement in settled.items() if not settlement.delivered} == guilty
    for settlement in settled.values():
        assert not settlement.item.ambiguous or settlement.item.record.id in receiver.doubtful


def test_a_batch_in_doubt_is_sent_again_whole_under_the_same_key() -> None:
    def cut_twice(arrival: Arrival) -> Answer | None:
        return Answer(fault="cut_headers", stored=True) if arrival.attempt <= 2 else None

    receiver = BatchReceiver(fault=cut_twice)
    due = due_items(5, 20)
    settled, _ = deliver(receiver, due)
    found = judged(receiver, due, settled)
    assert len(found.duplicated) == 100
    assert len({arrival.key for arrival in receiver.arrivals}) == 1
    assert [len(call) for call in receiver.calls] == [100] * 3
    assert all(settlement.item.ambiguous and settlement.item.attempts == 3 for settlement in settled.values())


@pytest.mark.parametrize("lie", [500, 400])
def test_a_liar_gets_duplicates_and_loses_nothing(lie: int) -> None:
    """It takes half of an "all or nothing" batch, and then fails or refuses: twice, of each batch."""
    receiver = BatchReceiver(liar={"user-1/10"}, lie=lie)
    due = due_items(3, 30)
    settled, _ = deliver(receiver, due)
    found = judged(receiver, due, settled)
    assert found.duplicated, "it did lie"
    given_up = {id_ for id_, settlement in settled.items() if not settlement.delivered}
    assert given_up <= {"user-1/10"}


def test_the_size_that_is_too_large_is_learnt(caplog: pytest.LogCaptureFixture) -> None:
    receiver = BatchReceiver(most_bytes=700)
    due = due_items(10, 100)
    settled, _ = deliver(receiver, due, {"concurrency": 1})
    judged(receiver, due, settled)
    assert all(settlement.delivered and settlement.item.attempts == 1 for settlement in settled.values())
    refused = [index for index, (_, is_too_large) in enumerate(receiver.sizes) if is_too_large]
    assert len(refused) <= 10
    assert max(refused) < 15, "what is sent later is smaller"
    assert "refuses a request of" in caplog.text


def test_a_record_that_is_too_large_by_itself_is_a_dead_letter() -> None:
    receiver = BatchReceiver(most_bytes=700)
    due = due_items(1, 20)
    due[7].payload = b'{"user_id":"user-0","number":7,"pad":"%s"}' % (b"x" * 800)
    settled, _ = deliver(receiver, due)
    judged(receiver, due, settled)
    assert {id_: each.outcome.reason for id_, each in settled.items() if not each.delivered} == {"user-0/7": "http_413"}


def test_a_receiver_that_knows_no_arrays_gets_every_record_alone(caplog: pytest.LogCaptureFixture) -> None:
    receiver = BatchReceiver({"user-2/3"}, knows_arrays=False)
    due = due_items(5, 40)
    settled, _ = deliver(receiver, due)
    judged(receiver, due, settled)
    assert {id_ for id_, settlement in settled.items() if not settlement.delivered} == {"user-2/3"}
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["is taken not to know batches" in record.getMessage() for record in warnings].count(True) == 1
    alone = [arrival for arrival in receiver.arrivals if not isinstance(json.loads(arrival.body), list)]
    assert {arrival.key for arrival in alone} == {each.record.id for each in due}
    assert len(receiver.arrivals) - len(alone) < 60


def test_twenty_refused_in_a_row_end_batches_where_none_was_ever_taken() -> None:
    receiver = BatchReceiver({f"ann/{number}" for number in range(100)})
    due = [item("ann", number, "f1") for number in range(100)]
    settled, _ = deliver(receiver, due)
    assert {each.outcome.reason for each in settled.values()} == {"http_400"}
    assert len(receiver.calls) < 100 + 80
    assert [len(call) for call in receiver.calls[-60:]] == [1] * 60


def test_a_refusal_of_an_array_does_not_count_that_comes_after_another_request_has_shown_that_none_is_taken() -> None:
    """Two workers each have one record in an array; the answer to the second comes when the first is taken alone."""
    both_are_sent, first_is_taken = asyncio.Event(), asyncio.Event()

    class Wire:
        arrays = 0

        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def exchange(self, request: Request) -> Answered:
            if not bytes(cast(bytes, request.body)).startswith(b"["):
                first_is_taken.set()
                return Answered(200, {}, b"")
            Wire.arrays += 1
            if Wire.arrays == 1:
                await both_are_sent.wait()
            else:
                both_are_sent.set()
                await first_is_taken.wait()
            return Answered(400, {}, b"an array is no record")

    class Client:
        def carrier(self, *_: Any, **__: Any) -> Wire:
            return Wire()

    async def both() -> list[list[AttemptResult]]:
        forwarder = loaded_forwarder({"protocol": "http", "url": "127.0.0.1:1/in", **BATCH})
        sink = cast(BatchPostSink, post_sink(forwarder, cast(HttpClient, Client())))
        return await asyncio.gather(*(sink.send_batch([each]) for each in due_items(2, 1)))

    assert [outcome.verdict for (outcome,) in asyncio.run(both())] == [Verdict.DELIVERED] * 2


def test_arrays_are_tried_again_when_a_record_is_taken_after_many_that_were_to_blame(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As of the next run on the same input: what the one before has given up comes first."""
    guilty = {f"ann/{number}" for number in range(100)}
    receiver = BatchReceiver(guilty)
    due = [item("ann", number, "f1") for number in range(1100)]
    settled, _ = deliver(receiver, due)
    judged(receiver, due, settled)
    assert {id_ for id_, settlement in settled.items() if not settlement.delivered} == guilty
    assert [len(call) for call in receiver.calls].count(100) >= 9
    assert "not to know batches" not in caplog.text
    assert caplog.text.count("goes alone until one is taken") == 1


def test_a_receiver_that_knows_no_arrays_is_told_from_many_that_were_to_blame(caplog: pytest.LogCaptureFixture) -> None:
    guilty = {f"ann/{number}" for number in range(30)}
    receiver = BatchReceiver(guilty, knows_arrays=False)
    due = [item("ann", number, "f1") for number in range(300)]
    settled, _ = deliver(receiver, due)
    judged(receiver, due, settled)
    assert {id_ for id_, settlement in settled.items() if not settlement.delivered} == guilty
    assert caplog.text.count("is taken not to know batches") == 1
    assert len(receiver.calls) < 300 + 80


def test_who_answers_that_it_has_a_record_knows_arrays(caplog: pytest.LogCaptureFixture) -> None:
    """As of a replay: it has each of the first records."""
    receiver = BatchReceiver({f"ann/{number}" for number in range(40)}, status=409)
    due = [replace(item("ann", number, "f1"), payload_kind="statement") for number in range(300)]
    settled, _ = deliver(receiver, due)
    assert all(settlement.delivered for settlement in settled.values())
    assert len(receiver.calls) < 120
    assert "alone" not in caplog.text


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410, 415, 302, 501])
def test_what_speaks_of_the_forwarder_opens_the_breaker_and_one_record_probes(status: int) -> None:
    refused: list[int] = []

    def at_first(arrival: Arrival) -> Answer | None:
        if len(refused) >= 4:
            return None
        refused.append(len(json.loads(arrival.body)))
        return Answer(status)

    receiver = BatchReceiver(fault=at_first)
    due = due_items(10, 30)
    settled, _ = deliver(receiver, due, {"concurrency": 1, "maxRetries": 0})
    judged(receiver, due, settled)
    assert refused == [100, 1, 1, 1], "half-open probes of one record"
    assert all(settlement.delivered and settlement.item.attempts == 1 for settlement in settled.values())


def test_a_forwarder_that_stays_refused_costs_the_outage_budget_and_no_attempt() -> None:
    receiver = BatchReceiver(fault=lambda arrival: Answer(401))
    due = due_items(2, 50)
    settled, _ = deliver(receiver, due, settings=DeliverySettings(max_backoff=0.02, outage_budget=0.3))
    reasons = {each.outcome.reason for each in settled.values()}
    assert reasons <= {"unavailable", "http_401"}
    assert all(each.item.attempts == 0 for each in settled.values())


def test_a_receiver_may_answer_for_each_record() -> None:
    receiver = BatchReceiver({"user-3/2", "user-5/0"}, 422, per_record=True)
    due = due_items(30, 10)
    batch = {"records": 20, "outcome": "per_record"}
    settled, _ = deliver(receiver, due, {"batch": batch, "maxRetries": 0})
    judged(receiver, due, settled)
    given_up = {id_: each.outcome for id_, each in settled.items() if not each.delivered}
    assert {id_: outcome.reason for id_, outcome in given_up.items()} == {
        "user-3/2": "http_422",
        "user-5/0": "http_422",
    }
    assert given_up["user-3/2"].response == '{"status": 422, "error": "user-3/2 is not valid"}'
    for call in receiver.calls:
        users = [number_of(id_)[0] for id_ in call]
        assert len(users) == len(set(users)), "a user's next record waits for the one before"


def test_a_record_that_is_answered_with_503_is_tried_again_alone() -> None:
    busy = {"user-1/0": 3}

    def answers(arrival: Arrival) -> Answer | None:
        ids = [f"{payload['user_id']}/{payload['number']}" for payload in json.loads(arrival.body)]
        statuses = []
        for id_ in ids:
            if busy.get(id_):
                busy[id_] -= 1
                statuses.append(503)
            else:
                receiver.stored.append(id_)
                statuses.append(201)
        return Answer(200, body=json.dumps(statuses).encode(), stored=False)

    receiver = BatchReceiver(fault=answers)
    due = due_items(10, 3)
    settled, _ = deliver(receiver, due, {"batch": {"records": 10, "outcome": "per_record"}})
    judged(receiver, due, settled)
    assert settled["user-1/0"].item.attempts == 4
    assert all(each.delivered for each in settled.values())


def test_an_answer_that_cannot_be_read_leaves_all_in_doubt() -> None:
    def unreadable(arrival: Arrival) -> Answer | None:
        return Answer(200, body=b'{"ok":true}') if len(receiver.calls) == 1 else None

    receiver = BatchReceiver(per_record=True, fault=unreadable)
    due = due_items(5, 1)
    settled, _ = deliver(receiver, due, {"batch": {"records": 10, "outcome": "per_record"}})
    judged(receiver, due, settled, [each.record.id for each in due])
    assert all(each.delivered and each.item.ambiguous and each.item.attempts == 2 for each in settled.values())


def test_records_that_came_another_number_of_hops_go_in_another_request() -> None:
    receiver = BatchReceiver()
    due = due_items(10, 1)
    for index, each in enumerate(due):
        each.hops = index % 3 * 2 + (index % 3 == 2)
    settled, _ = deliver(receiver, due)
    hops = {arrival.headers["x-forward-hops"] for arrival in receiver.arrivals}
    assert hops == {"1", "3"}
    assert {each.outcome.reason for each in settled.values() if each.item.hops == 5} == {"too_many_hops"}


def test_a_request_that_is_not_full_waits_for_more_as_long_as_said() -> None:
    receiver = BatchReceiver()
    server = FaultServer(receiver)
    settled: list[Settlement] = []
    with in_thread(server):
        document = {"protocol": "http", "url": f"127.0.0.1:{server.port}", "batch": {"records": 10, "wait": 30}}
        engine = DeliveryEngine(
            [loaded_forwarder(document)],
            settled.extend,
            FAST,
            http_sink=partial(post_sink, client=HttpClient(LOCAL)),
            batch_sink=batch_sinks(),
        )
        try:
            for number in range(25):
                engine.submit([item("ann", number, "f1")])
            engine.drain()  # Nothing else comes.
        finally:
            engine.close()
    assert [len(call) for call in receiver.calls] == [10, 10, 5]
    assert len(settled) == 25


def test_a_rate_that_is_limited_holds_beside_one_that_is_not() -> None:
    receiver = BatchReceiver()
    due = due_items(40, 1)
    settled, _ = deliver(receiver, due, {"batch": {"records": 4}, "rateLimit": {"requests": 20, "burst": 2}})
    judged(receiver, due, settled)
    times = [arrival.time for arrival in receiver.arrivals]
    assert len(times) == 10
    assert times[-1] - times[0] >= 7 / 20 * 0.9
