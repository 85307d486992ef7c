"""How forwarders do: counted in the background, from what runs leave and from the run that goes on."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.access import EDIT_ALL
from registry.console.operations import PATH as CONSOLE
from registry.health import SPANS, WEEK, Health
from registry.rest import PATH
from schemas.times import now_ms, rfc3339
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import ORGANISATION, House, create
from tests.support.settling import SettlingRun
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.accounting.board import Board, Failing, Post, RunInfo, Standing, _encoder
from transforms.accounting.holder import LOCK, Holder
from transforms.receipts.compaction import Ages, compact
from transforms.storage import LocalStorage

MINUTE = 60_000
# In the middle of a stretch of each span. Of the present time, since files that are older than a week are not opened.
NOW = now_ms() // SPANS[-1].step * SPANS[-1].step + 95 * MINUTE + 30_000


class Looked:
    """The health of an output, at a time that the test says."""

    def __init__(self, output: Path, **given: Any) -> None:
        self.now = NOW
        self.health = Health(str(output), clock=lambda: self.now, **given)

    def look(self, forwarder: str = "f-1") -> dict[str, Any]:
        self.health.look()
        return self.health.of(forwarder)


def settle(output: Path, number: int, at: int, *ends: str | None, forwarder: str = "f-1") -> None:
    """A run that settles so many records from that time on, each delivered (None) or given up."""
    run = SettlingRun(output, number, at)
    for name, reason in enumerate(ends):
        run.settle(f"{number}.{name}", forwarder, reason)
    run.end()


def test_of_each_time_it_says_what_was_delivered_and_what_was_given_up(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW - 6 * 1440 * MINUTE, None, "http_410")
    settle(tmp_path, 2, NOW - 5 * 60 * MINUTE, None, None, "timeout", "timeout")
    settle(tmp_path, 3, NOW - 2 * MINUTE, None, None, None, "http_503")
    found = Looked(tmp_path).look()
    counts = {span: (found[span]["delivered"], found[span]["dead_lettered"]) for span in ("hour", "day", "week")}
    assert counts == {"hour": (3, 1), "day": (5, 3), "week": (6, 4)}
    assert found["hour"]["share"] == 0.75
    assert found["day"]["reasons"] == {"timeout": 2, "http_503": 1}
    assert found["week"]["reasons"] == {"timeout": 2, "http_410": 1, "http_503": 1}
    assert found["hour"]["plot"][-3:] == [[3, 1], [0, 0], [0, 0]]
    assert [len(found[span.name]["plot"]) for span in SPANS] == [span.stretches for span in SPANS]
    assert found["as_of"] is not None


def test_a_forwarder_that_nothing_is_known_of_is_quiet(tmp_path: Path) -> None:
    looked = Looked(tmp_path)
    assert looked.health.of("f-1")["as_of"] is None
    found = looked.look()
    assert (found["hour"]["share"], found["hour"]["delivered"]) == (None, 0)
    assert found["unsent"]["oldest"] is None
    assert looked.health.state_of("f-1", active=True) == "quiet"
    assert looked.health.state_of("f-1", active=False) == "inactive"


@pytest.mark.parametrize(
    ("ends", "state"),
    [([None], "ok"), (["timeout"], "failing"), ([None] * 99 + ["timeout"], "ok"), ([None] * 98 + ["dns"], "failing")],
)
def test_more_than_one_in_a_hundred_given_up_is_failing(tmp_path: Path, ends: list[str | None], state: str) -> None:
    settle(tmp_path, 1, NOW - MINUTE, *ends)
    looked = Looked(tmp_path)
    looked.look()
    assert looked.health.state_of("f-1", active=True) == state


def test_what_has_come_right_within_the_hour_is_not_failing_for_yesterday(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW - 300 * MINUTE, "timeout", "timeout")
    looked = Looked(tmp_path)
    looked.look()
    assert looked.health.state_of("f-1", active=True) == "failing"
    settle(tmp_path, 2, NOW - MINUTE, None)
    looked.look()
    assert looked.health.state_of("f-1", active=True) == "ok"


def test_time_goes_by(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW, None, "timeout")
    looked = Looked(tmp_path)
    looked.look()
    seen = []
    for later in (59 * MINUTE, 60 * MINUTE, 1440 * MINUTE, WEEK):
        looked.now = NOW + later
        found = looked.look()
        seen.append([found[span.name]["delivered"] for span in SPANS])
    assert seen == [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_what_was_given_up_is_unsent_until_it_is_delivered(tmp_path: Path) -> None:
    first = SettlingRun(tmp_path, 1, NOW - 50 * MINUTE)
    first.settle("1", "f-1", "timeout")
    first.settle("2", "f-1", "timeout")
    first.end()
    looked = Looked(tmp_path)
    unsent = looked.look()["unsent"]
    assert (unsent["dead_letters"], unsent["oldest_age_seconds"]) == (2, 50 * 60)
    second = SettlingRun(tmp_path, 2, NOW - 10 * MINUTE)
    second.settle("1", "f-1")
    second.settle("2", "f-1", "timeout")
    second.end()
    unsent = looked.look()["unsent"]
    assert unsent["dead_letters"] == 1
    # It has waited since it was given up first.
    assert unsent["oldest_age_seconds"] == 50 * 60 - 1  # of the second record
    assert looked.health.of("f-1")["hour"]["dead_lettered"] == 3


def test_memory_is_bounded_whatever_is_given_up(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW - MINUTE, *[f"reason-{number}" for number in range(50)])
    looked = Looked(tmp_path, most_open=10)
    found = looked.look()
    assert (found["unsent"]["dead_letters"], found["unsent"]["more_dead_letters"]) == (10, True)
    assert found["hour"]["dead_lettered"] == 50
    assert len(found["hour"]["reasons"]) == 21
    assert found["hour"]["reasons"]["others"] == 30


def test_a_compaction_changes_nothing(tmp_path: Path) -> None:
    looked = Looked(tmp_path)
    for number in range(1, 6):
        settle(tmp_path, number, NOW - (10 - number) * MINUTE, None, "timeout")
        looked.look()
        compact(LocalStorage(tmp_path), lambda: Ages(0, NOW))
    found = looked.look()
    assert (found["hour"]["delivered"], found["hour"]["dead_lettered"]) == (5, 5)
    fresh = Looked(tmp_path)
    assert fresh.look() == found


def test_what_is_inside_is_not_shown(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW, "dns", "address_refused", "timeout")
    assert Looked(tmp_path).look()["hour"]["reasons"] == {"not_reached": 2, "timeout": 1}
    assert Looked(tmp_path, hides_inside=True).look()["hour"]["reasons"] == {"not_reached": 3}


# The run that goes on


def run_on(output: Path, board: Path, host: str | None = None, **standing: Any) -> None:
    """What a run leaves beside its output while it goes on: who holds the output, and the board."""
    (board / "board").mkdir(parents=True)
    output.mkdir(exist_ok=True)
    holder = Holder("x", os.getpid(), host or socket.gethostname(), "2027-01-15T08:00:00Z", str(board))
    (output / LOCK).write_bytes(_encoder.encode(holder))
    Board(str(board)).begin(RunInfo("run", os.getpid(), 0.0))
    post = Post("w", os.getpid(), 1.0, job=Board(str(board)).mine().job, forwarders={"f-1": Standing(**standing)})
    (board / "board" / "w.json").write_bytes(_encoder.encode(post))


def test_what_waits_in_the_run_is_unsent(tmp_path: Path) -> None:
    output, since = tmp_path / "out", (NOW - 5 * MINUTE) / 1000
    failing = Failing(since=since + 60, answer="dns")
    run_on(output, tmp_path / "board", waiting=3, in_flight=1, oldest_unsent=since, failing=failing)
    looked = Looked(output)
    unsent = looked.look()["unsent"]
    assert (unsent["waiting"], unsent["oldest_age_seconds"]) == (4, 300)
    assert unsent["answer"] == "not_reached"
    assert unsent["failing_since"] == rfc3339(NOW - 4 * MINUTE)
    assert looked.health.state_of("f-1", active=True) == "failing"
    # Once it is over nothing waits.
    (output / LOCK).write_bytes(b"")
    assert looked.look()["unsent"]["waiting"] == 0


def test_a_run_on_another_machine_is_known_by_its_metrics(tmp_path: Path) -> None:
    from pipeline.prometheus import MetricsFile
    from transforms.accounting.board import Snapshot
    from transforms.observing.metrics import End, Forwarders, Told, families

    output, file = tmp_path / "out", tmp_path / "job.prom"
    run_on(output, tmp_path / "board", host="elsewhere", waiting=9)
    looked = Looked(output, metrics=str(file))
    assert looked.look()["unsent"]["waiting"] == 0

    def write(told: Told) -> None:
        standing = Standing(waiting=2, in_flight=1, oldest_unsent=100.0, failing=Failing(since=130.0, answer="503"))
        known = Snapshot(forwarders={"f-1": standing})
        MetricsFile(str(file), lambda: families(known, 160.0, told, Forwarders())).write()

    write(Told(version="1", started=0.0))
    unsent = looked.look()["unsent"]
    assert (unsent["waiting"], unsent["answer"]) == (3, None)
    assert looked.health.state_of("f-1", active=True) == "failing"
    # The ages are those at which the file was written: by the clock of this machine, whatever that of the test says.
    assert unsent["oldest"] is not None
    write(Told(version="1", started=0.0, end=End(at=1.0, exit_status=0)))
    assert looked.look()["unsent"]["waiting"] == 0


def test_an_output_that_cannot_be_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    looked = Looked(tmp_path, metrics="http://127.0.0.1:1/metrics")
    for _ in range(3):
        looked.look()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("--job_metrics http://127.0.0.1:1/metrics cannot be read: ")


# The whole, with the job


def test_a_run_shows_in_the_health_of_its_forwarders(house: House, workshop: Workshop, receiver: Receiver) -> None:
    assert house.registry.health is not None
    client = house.client(EDIT_ALL)
    target = {"protocol": "http", "url": receiver.url("in"), "maxRetries": 0}
    create(client, _id="good", configuration={**target, "authType": "no auth"})
    create(client, _id="bad", configuration={**target, "authType": "token", "secret": "bad"})
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200)
    workshop.write_activity(msgspec.structs.replace(each, organisation=ORGANISATION) for each in sessions(4))
    documents = client.get(PATH).json()
    documents[0]["configuration"]["secret"] = "bad"
    workshop.write_forwarders(*documents)

    def health(name: str) -> dict[str, Any]:
        answer = client.get(f"{CONSOLE}/forwarders/{name}/health")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert health("good")["state"] == "quiet"
    house.registry.health.start()
    try:
        until(lambda: health("good")["as_of"] is not None)
        assert workshop.run() == 3
        house.registry.health.stop()
        house.registry.health.look()
    finally:
        house.registry.health.stop()
    good, bad = health("good"), health("bad")
    assert (good["state"], bad["state"]) == ("ok", "failing")
    heads = [client.get(f"{CONSOLE}/forwarders/{name}/rights").json()["state"] for name in ("good", "bad")]
    assert heads == ["ok", "failing"], "the head of its page says the same"
    assert good["hour"]["delivered"] == len(receiver.stored())
    assert good["hour"]["share"] == 1.0
    assert bad["hour"]["reasons"] == {"http_410": good["hour"]["delivered"]}
    assert bad["unsent"]["dead_letters"] == good["hour"]["delivered"]
    assert client.get(f"{CONSOLE}/forwarders/none/health").status_code == 404
    assert "sample-user" not in json.dumps(bad)
