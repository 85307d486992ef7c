"""An outage over several scheduled runs, with kills in between: what arrives, and in which order.

Two forwarders take the same records: one is down in the first runs, the other never is.
"""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas import Activity
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, in_thread
from tests.support.laboratory.job_experiment import Experiment, HttpLog, due
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop

DOWN = 1 << 62
"""So many requests fail: all."""


@dataclass
class FailingFirst:
    """A script that fails for a number of requests to `/late`, then takes all. `/fine` takes everything.

    It takes its time over some, so that a kill finds requests in flight.

    Attributes:
        chance: what decides.
        left: how many requests are still to fail; or, if it is a float, the share of all that do.
    """

    chance: random.Random
    left: float = 0

    def __call__(self, arrival: Arrival) -> Answer:
        if arrival.request_line.split()[1] == "/late" and self._fails():
            return Answer(503)
        return Answer(fault="late", interval=0.05) if self.chance.random() < 0.2 else Answer()

    def _fails(self) -> bool:
        if isinstance(self.left, float):
            return self.chance.random() < self.left
        self.left -= 1
        return self.left >= 0


@dataclass
class OutageFigures:
    """What an outage over several runs came to. All are counts."""

    runs: int
    kills: int
    due: int
    letters: int
    twice: int
    in_flight: int


def file_of_a_run(number: int, users: int, each: int) -> list[Activity]:
    """`each` sessions that each user starts after those of all earlier files: one record each."""
    return [
        activity(
            "START",
            1000 * number + step,
            user_id=f"u{user}",
            session_id=f"u{user}-{number}-{step}",
            record_id=f"u{user}-{number}-{step}",
        )
        for step in range(each)
        for user in range(users)
    ]


def outage_over_runs(
    workshop: Workshop,
    failing: Sequence[float],
    *,
    kills: int,
    users: int = 20,
    each: int = 4,
    seed: int = 0,
    configuration: dict[str, Any] | None = None,
    arguments: tuple[str, ...] = (),
) -> OutageFigures:
    """One run after the other, each with a file of its own, and killed now and then.

    Args:
        workshop: a place to work in.
        failing: for each run how many requests fail before the forwarder takes any more; a float is a share of all.
        kills: about how many runs are killed and started again.
        users: that have records in each file.
        each: records of each user in each file.
        seed: of the moments of the kills.
        configuration: of the forwarder's document.
        arguments: of the job.

    Raises:
        AssertionError: a record was lost, came out of its user's order, or came twice and was not in flight at a kill;
            or there are two letters of one record, or books do not add up.
    """
    chance = random.Random(seed)  # noqa: S311
    receiver, script = Receiver(), FailingFirst(random.Random(seed))  # noqa: S311
    receiver.script = script
    with in_thread(receiver):
        workshop.write_forwarders(
            http_document(receiver, "late", {"maxRetries": 0, **(configuration or {})}), http_document(receiver, "fine")
        )
        files = [file_of_a_run(number, users, each) for number in range(len(failing))]
        workshop.write_activity([one for file in files for one in file])
        records = due(workshop)
        (workshop.path / "in" / "activity.jsonl").unlink()
        usual = ("--state", str(workshop.path / "state"), "--outage_budget=0.5", "--max_backoff=0.05", *arguments)
        logs = {name: HttpLog(receiver, name) for name in ("late", "fine")}
        experiment = Experiment(workshop, dict(logs), usual, (receiver,))
        runs = killed = 0
        for number, fails in enumerate(failing):
            workshop.write_activity(files[number], f"{number}.jsonl")
            for round_ in range(2):
                script.left = fails
                runs += 1
                if round_ == 0 and killed < kills and chance.random() < kills / len(failing):
                    # Some moments are in the start of the run; most are while records leave.
                    until = time.monotonic() + (chance.uniform(0.0, 2.0) if chance.random() < 0.2 else 120.0)
                    arrived = experiment.arrived() + chance.randrange(1, users * each)
                    with experiment.process() as job:
                        while job.poll() is None and time.monotonic() < until and experiment.arrived() < arrived:
                            time.sleep(0.002)
                    if experiment.starts[-1].killed:
                        killed += 1
                        continue
                else:
                    experiment.run()
                break
            assert workshop.report()["balanced"], experiment.told
            for entry in workshop.report()["forwarders"]:
                caught_up = entry["caught_up"]
                assert caught_up["tried"] == caught_up["delivered"] + caught_up["still_dead"], entry
        script.left = 0
        assert experiment.run() == 0, experiment.told
        return _judged(workshop, experiment, logs, records, runs + 1, killed)


def _judged(
    workshop: Workshop,
    experiment: Experiment,
    logs: dict[str, HttpLog],
    records: list[tuple[str, str]],
    runs: int,
    killed: int,
) -> OutageFigures:
    expected = by_user(records)
    twice = in_flight = 0
    for name, log in logs.items():
        users = {id_: user for user, id_ in records}
        stored = log.stored()
        arrived = by_user((users[id_], id_) for id_ in stored)
        once = {user: list(dict.fromkeys(ids)) for user, ids in arrived.items()}
        assert {*stored} == {*users}, f"{name}: {len({*users} - {*stored})} are lost"
        moved = [user for user, ids in once.items() if ids != expected[user]]
        assert not moved, f"{name}: out of order: {[(user, once[user], expected[user]) for user in moved][:3]}"
        of_kills = Counter(id_ for each in experiment.killed_under_way(name) for id_ in each.in_flight)
        more = {id_: count - 1 for id_, count in Counter(stored).items() if count > 1}
        assert all(count <= of_kills[id_] for id_, count in more.items()), f"{name}: twice, and not in flight"
        for user, ids in arrived.items():  # A repeat comes at once, before anything that is behind it.
            assert [id_ for id_, before in zip(ids, [None, *ids], strict=False) if id_ != before] == once[user]
        twice, in_flight = twice + sum(more.values()), in_flight + sum(of_kills.values())
    letters = workshop.avro("dead_letters")
    runs_of = Counter(letter["id"] for letter in letters)
    failed = dict.fromkeys(runs_of, 0)
    for letter in letters:
        failed[letter["id"]] = max(failed[letter["id"]], letter["failed_runs"])
    # A run that was killed derives its records again, and may give them up once more.
    assert all(count <= 1 + killed + failed[id_] for id_, count in runs_of.items())
    delivered = {(row["forwarder_id"], row["id"]) for row in workshop.avro("receipts") if row["outcome"] == "delivered"}
    assert len(delivered) == 2 * len(records)
    return OutageFigures(runs, killed, len(records), len(letters), twice, in_flight)
