"""Any history of an output on which runs catch up: outages of every kind, kills, stops, redrives, `compact`."""

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from pipeline.compact import compact_output
from schemas.times import now_ms
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, in_thread
from tests.support.laboratory.job_experiment import Experiment, HttpLog, Start, due
from tests.support.laboratory.outage import file_of_a_run
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop

_FAILURES = (
    Answer(500),
    Answer(503),
    Answer(429),
    Answer(fault="reset", stored=False),
    Answer(fault="reset", stored=True),
    Answer(502, stored=True),
)
_DAY_MS = 86_400_000


@dataclass
class Moods:
    """A script: it takes all, refuses all, fails for some requests or for a share of them; and some records always.

    Attributes:
        chance: what decides.
        left: requests that still fail.
        share: of the other requests, how many fail.
        poison: ids that it always fails with, while `is_odd`.
        refused: ids that it always refuses.
        doubtful: ids that it may have stored though it did not say so.
    """

    chance: random.Random
    left: int = 0
    share: float = 0.0
    is_odd: bool = True
    poison: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    doubtful: Counter[str] = field(default_factory=Counter)

    def __call__(self, arrival: Arrival) -> Answer:
        if arrival.request_line.split()[1] != "/late":
            return Answer()
        self.left -= 1
        if self.left >= 0 or self.chance.random() < self.share:
            answer = self.chance.choice(_FAILURES)
            self.doubtful[arrival.key] += bool(answer.stored)
            return Answer(answer.status, fault=answer.fault, stored=answer.stored)
        if self.is_odd and arrival.key in self.poison:
            return Answer(500)
        if arrival.key in self.refused:
            return Answer(422)
        return Answer(fault="late", interval=0.03) if self.chance.random() < 0.1 else Answer()


@dataclass
class History:
    """What a history came to. The steps say what was done."""

    steps: list[str] = field(default_factory=list)
    kills: int = 0
    due: int = 0
    letters: int = 0
    twice: int = 0
    set_aside: int = 0


def any_history(workshop: Workshop, seed: int, steps: int = 10, users: int = 8, each: int = 3) -> History:
    """Do `steps` things that `seed` chooses, then let all be well and run twice.

    Raises:
        AssertionError: a record was lost, came out of its user's order, or came twice without a cause; or books do not
            add up. The text has the steps.
    """
    chance = random.Random(seed)  # noqa: S311
    history, moods, receiver = History(), Moods(random.Random(seed)), Receiver()  # noqa: S311
    receiver.script = moods
    with in_thread(receiver):
        try:
            _live(workshop, chance, history, moods, receiver, (steps, users, each))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {'; '.join(history.steps)}: {error}") from error
    return history


def _live(
    workshop: Workshop,
    chance: random.Random,
    history: History,
    moods: Moods,
    receiver: Receiver,
    size: tuple[int, int, int],
) -> None:
    steps, users, each = size
    retries = chance.choice([0, 0, 1, 3])
    block_user = chance.random() < 0.2
    workshop.write_forwarders(
        http_document(receiver, "late", {"maxRetries": retries, "concurrency": chance.choice([1, 4, 16])}),
        http_document(receiver, "fine"),
    )
    workshop.write_activity([one for number in range(steps) for one in file_of_a_run(number, users, each)])
    records = due(workshop)
    (workshop.path / "in" / "activity.jsonl").unlink()
    if not block_user:
        if chance.random() < 0.4:
            moods.poison = {chance.choice(records)[1] for _ in range(2)}
        if chance.random() < 0.3:
            moods.refused = {chance.choice(records)[1] for _ in range(2)} - moods.poison
    usual = ["--state", str(workshop.path / "state"), "--outage_budget=0.5", "--max_backoff=0.02"]
    usual += ["--on_failure=block_user"] if block_user else []
    logs = {name: HttpLog(receiver, name) for name in ("late", "fine")}
    experiment = Experiment(workshop, dict(logs), tuple(usual), (receiver,))
    history.steps.append(f"maxRetries {retries}{', block_user' if block_user else ''}")
    files = 0

    def run(*more: str, redrive: bool = False) -> int:
        experiment.starts.append(Start({name: len(log) for name, log in logs.items()}))
        status = workshop.redrive(*more) if redrive else workshop.run(*usual, *more)
        assert status in (0, 3)
        assert workshop.report()["balanced"]
        return status

    while len(history.steps) <= steps:
        moods.left = chance.choice([0, 0, 0, 1, 3, 8, 30, 1 << 40])
        moods.share = chance.choice([0.0, 0.0, 0.05, 0.3, 0.7])
        mood = f"{moods.left if moods.left < 1 << 40 else 'all'} fail, then {moods.share:.0%}"
        what = chance.choices(
            ["run", "run on nothing", "kill", "two workers", "stop", "redrive", "compact", "copy removed"],
            [5, 2, 3, 1, 1, 1, 1, 1],
        )[0]
        history.steps.append(f"{what} ({mood})")
        if what in ("run", "kill", "two workers", "stop") and files < steps:
            workshop.write_activity(file_of_a_run(files, users, each), f"{files}.jsonl")
            files += 1
        if what in ("run", "run on nothing") and files:
            run()
        elif what == "redrive" and files:
            run("--on_failure=block_user", "--outage_budget=0.5", redrive=True)
        elif what == "compact" and files:
            compact_output(str(workshop.output), chance.choice([0.0, 90.0 * 86_400]), lambda: now_ms() + 2 * _DAY_MS)
        elif what == "copy removed":
            shutil.rmtree(workshop.output / ".catch_up", ignore_errors=True)
        elif what in ("kill", "two workers", "stop"):
            more = ("--direct_running_mode=multi_processing", "--direct_num_workers=2") if what == "two workers" else ()
            experiment.arguments = (*usual, *more)
            _begin(experiment, chance, history, what, users * each)
    while files < steps:
        workshop.write_activity(file_of_a_run(files, users, each), f"{files}.jsonl")
        files += 1
    moods.left, moods.share, moods.is_odd = 0, 0.0, False
    run()
    run()
    _judge(workshop, history, moods, experiment, logs, records)


def _begin(experiment: Experiment, chance: random.Random, history: History, what: str, records: int) -> None:
    """A run in a process of its own, which is killed or stopped while records leave, or as it starts."""
    with experiment.process() as job:
        if what == "two workers" and chance.random() < 0.5:
            assert job.wait(120) in (0, 3), experiment.told
            return
        arrived = experiment.arrived() + chance.randrange(0, 2 * records)
        ends = time.monotonic() + chance.choice([0.5, 2.0, 4.0, 60.0, 60.0])
        while job.poll() is None and experiment.arrived() <= arrived and time.monotonic() < ends:
            time.sleep(0.002)
        if what == "stop" and job.poll() is None:
            experiment.signal(signal.SIGTERM)
            job.wait(60)
    history.kills += experiment.starts[-1].killed


def _judge(
    workshop: Workshop,
    history: History,
    moods: Moods,
    experiment: Experiment,
    logs: dict[str, HttpLog],
    records: list[tuple[str, str]],
) -> None:
    letters = workshop.avro("dead_letters")
    history.due, history.letters = len(records), len(letters)
    aside = {letter["id"] for letter in letters if letter["reason"] == "keeps_failing"}
    history.set_aside = len(aside)
    assert aside <= moods.poison or moods.share, f"set aside: {aside}"
    users = {id_: user for user, id_ in records}
    expected = by_user(records)
    for name, log in logs.items():
        missing = (moods.refused | aside) if name == "late" else set()
        stored = log.stored()
        assert {*users} - missing <= {*stored}, f"{name}: lost: {({*users} - missing) - {*stored}}"
        in_doubt = Counter(id_ for each in experiment.killed_under_way(name) for id_ in each.in_flight)
        in_doubt += moods.doubtful if name == "late" else Counter()
        twice = Counter(stored) - Counter({*stored})
        assert not twice - in_doubt, f"{name}: twice without a cause: {twice - in_doubt}"
        history.twice += twice.total()
        for user, ids in by_user((users[id_], id_) for id_ in dict.fromkeys(stored)).items():
            assert ids == [id_ for id_ in expected[user] if id_ in {*ids}], f"{name}: out of order: {user}: {ids}"
