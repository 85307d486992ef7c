"""What a forwarder got and what it did not, looked up in an output of real runs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_ALL, VIEW_ALL
from registry.console.operations import PATH as CONSOLE
from registry.records import NoSuchPlaceError, RecordFilter, Records
from registry.rest import PATH
from schemas.times import now_ms
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import ORGANISATION, House, create
from tests.support.settling import SettlingRun
from tests.support.workshop import Workshop
from transforms.receipts.compaction import Ages, compact
from transforms.storage import LocalStorage

NOW = now_ms() - 3_600_000
ALL = RecordFilter()


def output_of(path: Path, runs: int = 4, each: int = 30) -> list[str]:
    """Runs of two forwarders, each third record given up; gives the ids of the first one's, the latest first."""
    ids = []
    for number in range(1, runs + 1):
        run = SettlingRun(path, number, NOW + number * 100_000)
        for name in range(each):
            run.settle(f"{number}.{name}", "other")
            ids.append(run.settle(f"{number}.{name}", "f-1", None if name % 3 else f"http_50{name % 2}"))
        run.end()
    return ids[::-1]


def all_rows(records: Records, wanted: RecordFilter = ALL, limit: int = 7) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after: str | None = None
    for _ in range(1000):
        found = records.look("f-1", wanted, limit, after)
        assert len(found.rows) <= limit
        rows += found.rows
        after = found.next
        if after is None:
            return rows
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("limit", [1, 7, 200])
def test_page_by_page_each_is_found_once(tmp_path: Path, limit: int) -> None:
    ids = output_of(tmp_path)
    rows = all_rows(Records(str(tmp_path)), limit=limit)
    assert sorted(row["id"] for row in rows) == sorted(ids)
    runs = [row["run_id"] for row in rows]
    assert runs == sorted(runs, reverse=True)
    for outcome in ("delivered", "dead_lettered"):
        times = [row["settled_at"] for row in rows if row["outcome"] == outcome]
        assert times == sorted(times, reverse=True)


def test_filters_leave_what_they_say(tmp_path: Path) -> None:
    ids = output_of(tmp_path)
    records = Records(str(tmp_path))
    everything = all_rows(records)

    def found(**given: Any) -> list[str]:
        return [row["id"] for row in all_rows(records, RecordFilter(**given))]

    assert len(found(outcome="dead_lettered")) == 40
    assert len(found(outcome="delivered")) == 80
    assert len(found(reasons=frozenset({"http_500"}))) == 20
    assert found(ids=frozenset(ids[5:6])) == ids[5:6]
    assert found(users=frozenset({"nobody"})) == []
    assert found(kinds=frozenset({"score"})) == []
    assert len(found(kinds=frozenset({"event"}))) == len(everything)
    second, third = NOW + 200_000, NOW + 300_000
    assert len(found(since=third)) == 60
    assert len(found(since=second, until=third)) == 30


def test_a_look_that_takes_long_says_where_to_go_on(tmp_path: Path) -> None:
    ids = output_of(tmp_path)
    ticks = iter(range(0, 1_000_000, 10))
    records = Records(str(tmp_path), clock=lambda: float(next(ticks)))
    found = records.look("f-1", RecordFilter(ids=frozenset(ids[-1:])), 50)
    assert found.rows == []
    assert found.next is not None
    assert [row["id"] for row in all_rows(records, RecordFilter(ids=frozenset(ids[-1:])))] == ids[-1:]


def test_merged_parts_are_looked_through_as_well(tmp_path: Path) -> None:
    ids = output_of(tmp_path)
    compact(LocalStorage(tmp_path), lambda: Ages(0, NOW))
    assert sorted(row["id"] for row in all_rows(Records(str(tmp_path)))) == sorted(ids)


def test_a_run_that_goes_on_is_seen_and_its_places_stay(tmp_path: Path) -> None:
    run = SettlingRun(tmp_path, 1, NOW)
    run.settle("1", "f-1", "timeout")
    records = Records(str(tmp_path))
    (row,) = all_rows(records)
    run.end()
    assert records.row("f-1", row["place"], payload=True)["id"] == row["id"]


@pytest.mark.parametrize(
    "place",
    [
        "",
        "x",
        "receipts/../secret.avro:1",
        "rejects/a.avro:1",
        "receipts/none.avro:0",
        "dead_letters/a.avro:" + "9" * 99,
    ],
)
def test_a_place_that_is_none_opens_nothing(tmp_path: Path, place: str) -> None:
    output_of(tmp_path, runs=1)
    (tmp_path / "secret.avro").write_bytes(b"secret")
    with pytest.raises(NoSuchPlaceError):
        Records(str(tmp_path)).row("f-1", place, payload=True)


def test_another_forwarders_row_is_not_there(tmp_path: Path) -> None:
    output_of(tmp_path, runs=1)
    records = Records(str(tmp_path))
    place = records.look("other", ALL, 1).rows[0]["place"]
    with pytest.raises(NoSuchPlaceError):
        records.row("f-1", place, payload=True)


# Over HTTP, of what the job has done


@pytest.fixture
def ran(house: House, workshop: Workshop, receiver: Receiver) -> TestClient:
    """A client of a service whose job has run: `a` got everything, and `b` nothing."""
    client = house.client(EDIT_ALL, user="ann")
    target = {"protocol": "http", "url": receiver.url("in"), "maxRetries": 0}
    create(client, _id="a", configuration={**target, "authType": "no auth"})
    create(client, _id="b", configuration={**target, "authType": "token", "secret": "bad"})
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200, body=b"gone for good")
    workshop.write_activity(msgspec.structs.replace(each, organisation=ORGANISATION) for each in sessions(2))
    documents = client.get(PATH).json()
    documents[1]["configuration"]["secret"] = "bad"
    workshop.write_forwarders(*documents)
    assert workshop.run() == 3
    return client


def test_what_was_sent_and_answered_can_be_opened(ran: TestClient, house: House, receiver: Receiver) -> None:
    answer = ran.get(f"{CONSOLE}/forwarders/b/records", params={"reason": "http_410", "limit": 3}).json()
    assert len(answer["records"]) == 3
    row = answer["records"][0]
    assert (row["status"], row["attempts"], row["outcome"]) == (410, 1, "dead_lettered")
    assert "gone" in row["response"]
    assert "payload" not in row
    opened = ran.get(f"{CONSOLE}/forwarders/b/record", params={"place": row["place"]}).json()
    assert opened["id"] == row["id"]
    sent = [arrival.body for arrival in receiver.log if arrival.key == row["id"]]
    assert opened["payload"].encode() in sent
    # What was sent is learners' data.
    viewed = house.client(VIEW_ALL).get(f"{CONSOLE}/forwarders/b/record", params={"place": row["place"]}).json()
    assert (viewed["payload"], viewed["payload_hidden"], viewed["id"]) == (None, True, row["id"])
    delivered = ran.get(f"{CONSOLE}/forwarders/a/records", params={"record": row["id"].upper()}).json()["records"]
    assert [(each["id"], each["outcome"]) for each in delivered] == [(row["id"], "delivered")]


def test_who_may_not_view_it_finds_nothing(ran: TestClient, house: House) -> None:
    place = ran.get(f"{CONSOLE}/forwarders/b/records").json()["records"][0]["place"]
    stranger = house.client(EDIT_ALL, organisation="other")
    assert stranger.get(f"{CONSOLE}/forwarders/b/records").status_code == 404
    assert stranger.get(f"{CONSOLE}/forwarders/b/record", params={"place": place}).status_code == 404
    assert ran.get(f"{CONSOLE}/forwarders/a/record", params={"place": place}).status_code == 404


@pytest.mark.parametrize("params", [{"since": "soon"}, {"after": "x"}, {"limit": 0}, {"outcome": "lost"}])
def test_what_cannot_be_read_is_said(house: House, params: dict[str, Any]) -> None:
    client = house.client(EDIT_ALL)
    create(client, _id="a")
    answer = client.get(f"{CONSOLE}/forwarders/a/records", params=params)
    assert answer.status_code == 400
    assert answer.json()["faults"][0]["field"] == next(iter(params))
