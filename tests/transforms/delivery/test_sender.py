"""A worker's sender where the input has no end, bundle by bundle, to a real HTTP receiver."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import Record
from tests.support import records
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread, scripted
from tests.support.receiver import by_user
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions, Sender
from transforms.forwarders.secrets import References
from transforms.forwarders.source import launch_rules, read_forwarders
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex, index_history

USERS = ("ann", "bob")
NAMES = ("fine", "down")


@pytest.fixture
def receivers() -> Iterator[FaultServer]:
    """One server: what is posted to /down it answers when it is released, all else at once."""

    def script(arrival: Arrival) -> Answer:
        return Answer(fault="hold") if " /down " in arrival.request_line else Answer()

    server = FaultServer(script)
    with in_thread(server):
        yield server


def record(user: str, number: int) -> Record:
    return records.record(user, number, b'{"user_id":"%b","session_id":"s","number":%d}' % (user.encode(), number))


def stored(server: FaultServer, path: str) -> list[tuple[str, str]]:
    """(user, id) of what a path has been sent."""
    return [(arrival.user, arrival.key) for arrival in server.log if f" /{path} " in arrival.request_line]


def sender(workshop: Workshop, server: FaultServer, query: str = "", **configuration: Any) -> Sender:
    """A worker's sender to the forwarders `fine` and `down`; nothing is given up for an hour."""
    workshop.write_forwarders(
        *(
            {
                "_id": name,
                "active": True,
                "query": "",
                "payload": "record",
                "configuration": {
                    "protocol": "http",
                    "url": f"127.0.0.1:{server.port}/{name}{query}",
                    "timeout": 600,
                    **configuration,
                },
            }
            for name in NAMES
        )
    )
    location = str(workshop.path / "forwarders.json")
    found = read_forwarders(location, launch_rules(References(), trusted=True, require_organisation=False))
    history = HistoryIndex(str(workshop.output), "")
    settings = DeliverySettings(outage_budget=3600)
    options = DeliverOptions(
        history.output, "run", history, {}, ("127.0.0.0/8",), settings, streaming=True, horizon=600
    )
    statements = StatementBuilder("https://example.org")
    return Sender(found.forwarders, statements, options, Board(str(workshop.path)), lambda forwarder_id, records: None)


def bundle(worker: Sender, number: int) -> Summary:
    """A record of each user, due to both."""
    for user in USERS:
        worker.send([Match(record(user, number), None, NAMES, ())])
    return worker.finish()


def undelivered(output: Path) -> list[tuple[str, str, str]]:
    """(forwarder, id, reason) of what a redrive would send."""
    history = History(index_history(str(output), "later", dead_letters=True))
    return sorted((each.forwarder_id, each.id, each.reason) for each in history.undelivered_dead_letters())


def due(bundles: int) -> list[str]:
    return sorted(record(user, number).id for number in range(bundles) for user in USERS)


def test_a_forwarder_that_is_down_stops_no_other_and_gets_all_in_order_when_it_is_back(
    workshop: Workshop, receivers: FaultServer
) -> None:
    with closing(sender(workshop, receivers)) as worker:
        for number in (0, 1):
            bundle(worker, number)
        assert sorted(id_ for _, id_ in stored(receivers, "fine")) == due(2)
        assert sorted(id_ for _, id_ in stored(receivers, "down")) == due(1), "the first of each user, unanswered"
        receivers.release()
        delivered, deadline = bundle(worker, 2).books.account("down").delivered, time.monotonic() + 120
        while delivered < 3 * len(USERS) and time.monotonic() < deadline:
            delivered += worker.finish().books.account("down").delivered

    everything = {user: [record(user, number).id for number in range(3)] for user in USERS}
    assert by_user(stored(receivers, "fine")) == everything
    assert by_user(stored(receivers, "down")) == everything
    letters = workshop.avro("dead_letters")
    assert {(letter["forwarder_id"], letter["reason"]) for letter in letters} == {("down", "deferred")}
    assert {letter["id"] for letter in letters} >= set(due(2))
    assert undelivered(workshop.output) == []


def test_what_a_forwarder_never_took_is_left_for_a_redrive(workshop: Workshop, receivers: FaultServer) -> None:
    with closing(sender(workshop, receivers)) as worker:
        for number in (0, 1):
            assert bundle(worker, number).books.account("fine").delivered == len(USERS)

    assert undelivered(workshop.output) == [("down", id_, "deferred") for id_ in due(2)]
    receipts = {(each["id"], each["ambiguous"]) for each in workshop.avro("receipts") if each["forwarder_id"] == "down"}
    assert receipts == {(id_, id_ in due(1)) for id_ in due(2)}, "those under way may be there"


def test_the_next_worker_sends_what_was_deferred_before_what_comes_then_and_nothing_twice(
    workshop: Workshop, receivers: FaultServer
) -> None:
    with closing(sender(workshop, receivers)) as killed:
        for number in (0, 1):
            bundle(killed, number)
    receivers.release()
    with closing(sender(workshop, receivers)) as worker:
        for number in (1, 2):  # as Flink gives what it has no checkpoint of once more
            bundle(worker, number)

    everything = {user: [record(user, number).id for number in range(3)] for user in USERS}
    assert by_user(stored(receivers, "fine")) == everything
    under_way = {user: [record(user, 0).id] for user in USERS}
    assert by_user(stored(receivers, "down")) == {user: [*under_way[user], *everything[user]] for user in USERS}
    assert undelivered(workshop.output) == []


def test_a_voiding_statement_follows_what_is_deferred_of_its_targets_user(
    workshop: Workshop, receivers: FaultServer
) -> None:
    target, more = record("ann", 0), record("ann", 1)
    voiding = msgspec.structs.replace(record("bob", 2), kind="statement", voids=target.id)
    with closing(sender(workshop, receivers)) as worker:
        for each in (target, more, voiding):
            worker.send([Match(each, None, NAMES, ())])
            worker.finish()
        assert [id_ for _, id_ in stored(receivers, "fine")] == [target.id, more.id, voiding.id]
        assert [id_ for _, id_ in stored(receivers, "down")] == [target.id], "unanswered, so nothing follows"
        receivers.release()
        worker.send([Match(record("bob", 3), None, NAMES, ())])
        delivered, deadline = worker.finish().books.account("down").delivered, time.monotonic() + 120
        while delivered < 4 and time.monotonic() < deadline:
            delivered += worker.finish().books.account("down").delivered
    assert [id_ for _, id_ in stored(receivers, "down") if id_ != record("bob", 3).id] == [
        target.id,
        more.id,
        voiding.id,
    ]
    assert undelivered(workshop.output) == []


def test_nothing_secret_is_on_the_board(workshop: Workshop) -> None:
    secret = "c0ffee-to-nobody"
    script = scripted(default=[503])
    echo = FaultServer(lambda arrival: replace(script(arrival), status=503, body=secret.encode()))
    board = Board(str(workshop.path))
    with (
        in_thread(echo),
        closing(sender(workshop, echo, f"?key={secret}", authType="token", secret=secret, maxRetries=9)) as worker,
    ):
        bundle(worker, 0)
        until(lambda: all(standing.failing for standing in board.mine().forwarders.values()), 60.0)
        board.publish(at_once=True)
        standing = board.read().forwarders["down"]
        assert (standing.due, standing.delivered, standing.last_answer) == (len(USERS), 0, "503")
        assert standing.deferred == len(USERS)
        files = [path.read_text() for path in (workshop.path / "board").iterdir()]
    assert files
    assert not any(secret in text or "127.0.0.1" in text or "ann" in text for text in files)
