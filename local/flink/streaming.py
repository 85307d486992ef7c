"""The streaming job on a Flink cluster of this machine: activity put into Kinesis at a rate, records at a receiver.

It measures the time from the put to the receiver, or how fast the job catches up with what is in the stream; halfway it
can kill a TaskManager, or cancel the job and go on from its checkpoint; and it holds what arrived against one fold over
all of it. Started by `./run_flink.sh --streaming`.
"""

import argparse
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import orjson

from local.__main__ import RunError, workspace
from local.endpoint import REGION, EndpointError, aws_endpoint
from local.flink.cluster import Cluster, ClusterError, cluster, free_ports
from local.process import GRACE, ROOT, Stopped, run_child, signals_as_exceptions
from local.receiver import Attempt, FaultPlan, Receiver
from local.stack import stack
from schemas import Activity, Record
from transforms.reading.activity import ActivityDecoder, encode
from transforms.receipts.history import History
from transforms.receipts.index import index_history
from transforms.receipts.journal import recover
from transforms.sessions.derivation import Derivation

PATH = "/records"
SECOND = "second"
_TICK = 0.1
_SETTLE_WITHIN = 120.0
_CATCH_UP_WITHIN = 600.0
_PUT_RECORDS = 500
_QUIET = 20.0
_WARM_UP = 50
_WARM_UP_WITHIN = 120.0
_RETAINED = ("--externalized_checkpoints_enabled", "--retain_externalized_checkpoints_on_cancellation")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run_flink.sh --streaming", description=__doc__)
    parser.add_argument("--rate", type=int, default=100, metavar="N", help="activities a second (default 100)")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="for how long (default 60)")
    parser.add_argument("--seed", type=int, default=7, metavar="S", help="of the sample (default 7)")
    parser.add_argument(
        "--max_bundle_time_mills", type=int, default=None, metavar="MS", help="the job's, in place of its default"
    )
    parser.add_argument("--parallelism", type=int, default=2, metavar="N", help="of the job: 1 or 2 (default 2)")
    parser.add_argument(
        "--down", action="store_true", help="a second forwarder of everything, down in the middle half of the time"
    )
    trial = parser.add_mutually_exclusive_group()
    trial.add_argument("--kill", action="store_true", help="kill one of the two TaskManagers halfway")
    trial.add_argument(
        "--backlog", action="store_true", help="put it all before the job starts, and tell how fast it catches up"
    )
    trial.add_argument(
        "--resume", action="store_true", help="cancel the job halfway, and start another from its last checkpoint"
    )
    parser.add_argument("--distribution", type=Path, required=True, help="a directory with Flink's lib/")
    parser.add_argument("--job_server_jar", type=Path, required=True, help="of local/flink/pom.xml")
    arguments = parser.parse_args(argv)
    if arguments.down and (arguments.backlog or arguments.resume):
        parser.error("--down goes without --backlog and --resume")
    try:
        with signals_as_exceptions(), workspace(ROOT / ".local") as place:
            return run(place, arguments)
    except (RunError, EndpointError, ClusterError) as error:
        print(f"run_flink: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"run_flink: stopped by {stop}; nothing is left running", file=sys.stderr)
        return stop.status


def run(place: Path, arguments: argparse.Namespace) -> int:
    """One run inside the empty directory `place`. Returns 0 when all that was due has arrived, as it was due."""
    name = f"session-forwarder-local-{uuid4().hex[:8]}"
    activities = sample(place / "sample.jsonl", arguments.rate * arguments.seconds, arguments.seed)
    due = ever_right(activities)
    with (
        aws_endpoint() as endpoint,
        stack(endpoint, name) as aws,
        Receiver({PATH: None}, FaultPlan(0, share=0)) as receiver,
    ):
        aws.create_data_streams([name])
        # Local servers do not answer Java's client in CBOR. The source is used by the job server, which lists the
        # shards, and by the TaskManagers, which read them: both need it, and credentials.
        environment = endpoint.environment(os.environ) | {"CBOR_ENABLED": "false"}
        source = {name: value for name, value in environment.items() if name.startswith(("AWS_", "CBOR_"))}
        second = Second(free_ports(1)[0])
        write_forwarders(place / "forwarders.json", receiver.http, second.host if arguments.down else None)
        load = Load(endpoint.client("kinesis"), name)
        url = f"kinesis://{name}?region={REGION}&service_endpoint={endpoint.url}"
        with cluster(arguments.distribution, place / "flink", environment, source) as flink:
            trial = Trial(place, flink, receiver, load, url, environment, activities, due, arguments)
            if arguments.backlog:
                unmeasured, broken_off = trial.catch_up()
            elif arguments.resume:
                unmeasured, broken_off = trial.cancel_and_resume()
            elif arguments.down:
                unmeasured, broken_off = trial.interrupt(second)
            else:
                unmeasured, broken_off = trial.feed()
        status = report(receiver.attempts(PATH), due, load.put_at, unmeasured, broken_off)
        if arguments.down:
            status = max(status, second.report(due, place / "out"))
        return status


@dataclass
class Trial:
    """What is done with the job while activity arrives. `due`: see `ever_right`.

    The methods return the ids of what is not to be measured, and when the job was broken off (None: it was not).
    """

    place: Path
    flink: Cluster
    receiver: Receiver
    load: "Load"
    url: str
    environment: Mapping[str, str]
    activities: Sequence[Activity]
    due: Mapping[str, Record]
    arguments: argparse.Namespace

    def catch_up(self) -> tuple[set[str], float | None]:
        """The job, on a stream that has it all."""
        self.load.put_all(self.activities)
        with self._job() as job:
            self._settle(job, _CATCH_UP_WITHIN)
        rate = rate_of(self.receiver.attempts(PATH), len(self.activities))
        print(f"Caught up at {rate:,.0f} activities/s")
        return set(self.due), None

    def feed(self) -> tuple[set[str], float | None]:
        """The activity at the rate that was asked for; halfway a TaskManager is killed, if it is to be."""
        killed_at = None
        with self._job() as job:
            first = self._warm_up(job)
            before = self.flink.largest_worker()
            feeding = self._feeding(_WARM_UP, len(self.activities))
            if self.arguments.kill:
                sleep(self.arguments.seconds / 2)
                killed_at = self._kill(self.arguments.seconds / 2)
            feeding.join()
            self._settle(job, _SETTLE_WITHIN)
            if killed_at is not None:
                print(f"Flink has started the job again after {', '.join(self.flink.failures()) or 'nothing'}")
            print(f"Largest worker: {before >> 20} MB at first, {self.flink.largest_worker() >> 20} MB in the end")
        return first, killed_at

    def interrupt(self, second: "Second") -> tuple[set[str], float | None]:
        """The activity at the rate that was asked for; the second receiver is down in the middle half of the time.

        Halfway through that a TaskManager is killed, if it is to be.
        """
        quarter = self.arguments.seconds / 4
        killed_at = None
        with ExitStack() as stack:
            with second.listening():
                job = stack.enter_context(self._job())
                first = self._warm_up(job)
                before = self.flink.largest_worker()
                feeding = self._feeding(_WARM_UP, len(self.activities))
                sleep(quarter)
            sleep(quarter)
            if self.arguments.kill:
                killed_at = self._kill(2 * quarter)
            sleep(quarter)
            with second.listening():
                feeding.join()
                self._settle(job, _SETTLE_WITHIN)
                second.settle(self.due)
            print(f"Largest worker: {before >> 20} MB at first, {self.flink.largest_worker() >> 20} MB in the end")
        return first, killed_at

    def _kill(self, after: float) -> float:
        """Kills a TaskManager; when that was."""
        self.flink.kill_task_manager()
        print(f"Killed a TaskManager after {after:.0f} s", flush=True)
        return monotonic()

    def _checkpoints(self) -> list[Path]:
        """The metadata of all checkpoints. One that the end of a job has broken off has none."""
        return list(self.place.glob("flink/checkpoints/*/chk-*/_metadata"))

    def cancel_and_resume(self) -> tuple[set[str], float | None]:
        """The job is cancelled halfway, with activity on its way, and another goes on from the last checkpoint."""
        half = len(self.activities) // 2
        with self._job(*_RETAINED) as job:
            first = self._warm_up(job)
            self._feeding(_WARM_UP, half).join()
            deadline = monotonic() + _SETTLE_WITHIN
            while not self._checkpoints() and monotonic() < deadline:
                sleep(_TICK)
        cancelled_at = monotonic()
        checkpoints = self._checkpoints()
        if not checkpoints:
            raise RunError(f"the job has made no checkpoint within {_SETTLE_WITHIN:.0f} s: look at Flink's log")
        checkpoint = max(checkpoints, key=lambda path: path.stat().st_mtime).parent
        print(f"Cancelled the job; going on from {checkpoint.name}", flush=True)
        feeding = self._feeding(half, len(self.activities))
        # Were the checkpoint not taken up, LATEST would lose what is in the stream by now.
        with self._job(f"--savepoint_path={checkpoint.resolve().as_uri()}", position="LATEST") as job:
            feeding.join()
            self._settle(job, _SETTLE_WITHIN)
        return first, cancelled_at

    def _job(self, *more: str, position: str = "TRIM_HORIZON") -> AbstractContextManager["subprocess.Popen[bytes]"]:
        flags = [*self.flink.flags(self.arguments.parallelism), *more]
        flags.append(f"--flink_job_server_jar={self.arguments.job_server_jar}")
        if self.arguments.max_bundle_time_mills is not None:
            flags.append(f"--max_bundle_time_mills={self.arguments.max_bundle_time_mills}")
        source = f"{self.url}&initial_position_in_stream={position}"
        return streaming_job(self.place, source, flags, self.environment)

    def _warm_up(self, job: "subprocess.Popen[bytes]") -> set[str]:
        """The first few start the workers, and are not measured."""
        head = self.activities[:_WARM_UP]
        self.load.put(head)
        first = ever_right(head)
        wait_for(self.receiver, first, _WARM_UP_WITHIN, job)
        return set(first)

    def _feeding(self, start: int, end: int) -> Thread:
        part = self.activities[start:end]
        thread = Thread(target=self.load.put_at_a_rate, args=(part, self.arguments.rate), daemon=True)
        thread.start()
        return thread

    def _settle(self, job: "subprocess.Popen[bytes]", seconds: float) -> None:
        wait_for(self.receiver, self.due, seconds, job)
        # What should not come would come soon.
        sleep(3)


class Second:
    """A receiver of everything that comes and goes, at one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._attempts: list[Attempt] = []
        self._listening_from: list[float] = []
        self._receiver: Receiver | None = None
        self.host = f"127.0.0.1:{port}"

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._listening_from.append(monotonic())
        with Receiver({PATH: None}, FaultPlan(0, share=0), port=self._port) as self._receiver:
            yield
        self._attempts += self._receiver.attempts(PATH)
        self._receiver = None

    def settle(self, due: Mapping[str, Record]) -> None:
        """Until all of it has arrived, or nothing new has for long enough: some may have used up their attempts."""
        arrived, since = 0, monotonic()
        while arrived < len(due) and monotonic() - since < _QUIET:
            sleep(_TICK)
            now = len(self._all())
            if now != arrived:
                arrived, since = now, monotonic()

    def _all(self) -> list[Attempt]:
        return self._attempts + (self._receiver.attempts(PATH) if self._receiver else [])

    def report(self, due: Mapping[str, Record], output: Path) -> int:
        """Prints what it got, and what is left as dead letters; returns 0 when that is all there was, in order."""
        attempts = self._all()
        back = self._listening_from[-1]
        first = min((attempt.at - back for attempt in attempts if attempt.at > back), default=None)
        recover(str(output))
        history = History(index_history(str(output), "report", dead_letters=True))
        left = {letter.id for letter in history.undelivered_dead_letters() if letter.forwarder_id == SECOND}
        found = compare([attempt.key for attempt in attempts], due)
        lost = len(due.keys() - {attempt.key for attempt in attempts} - left)
        print(
            f"The second, down in the middle half: {len(attempts):,} arrived, {found.repeated} repeated, "
            f"{found.out_of_order} out of order; {len(left)} left as dead letters, {lost} neither"
        )
        if first is not None:
            print(f"Back again, it had its first after {first:.1f} s")
        return 1 if lost or found.unexpected or found.out_of_order else 0


def rate_of(attempts: Sequence[Attempt], activities: int) -> float:
    """Activities a second, by the middle eight tenths of the records that they gave."""
    times = sorted(attempt.at for attempt in attempts)
    tenth = len(times) // 10
    return 0.8 * activities / (times[-tenth - 1] - times[tenth])


class Load:
    """Puts activity into a stream, and remembers when: `put_at` by record_id, the clock before the call."""

    def __init__(self, kinesis: Any, stream: str) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self.put_at: dict[str, float] = {}

    def put(self, activities: Sequence[Activity]) -> None:
        """At once; at most 500."""
        now = monotonic()
        self.put_at |= {each.record_id: now for each in activities}
        records = [{"Data": encode(each), "PartitionKey": each.user_id} for each in activities]
        self._kinesis.put_records(StreamName=self._stream, Records=records)

    def put_all(self, activities: Sequence[Activity]) -> None:
        """As fast as it goes."""
        for start in range(0, len(activities), _PUT_RECORDS):
            self.put(activities[start : start + _PUT_RECORDS])

    def put_at_a_rate(self, activities: Sequence[Activity], rate: int) -> None:
        """`rate` a second, ten times a second."""
        start, size = monotonic(), max(1, round(rate * _TICK))
        for number, first in enumerate(range(0, len(activities), size)):
            sleep(max(0.0, start + number * size / rate - monotonic()))
            self.put(activities[first : first + size])


def sample(file: Path, count: int, seed: int) -> list[Activity]:
    """The first `count` activities, by time, of the project's generator."""
    command = [sys.executable, "-m", "pipeline.sample", f"--sessions={count // 10 + 20}", f"--seed={seed}"]
    if run_child([*command, f"--output={file}"], os.environ):
        raise RunError("the generator failed; what it printed above says why")
    decode = ActivityDecoder().decode
    # A duplicate's put would be taken for its first one's.
    found = {each.record_id: each for each in map(decode, file.read_bytes().splitlines())}
    return sorted(found.values(), key=lambda each: each.occurred_at)[:count]


def ever_right(activities: Iterable[Activity]) -> dict[str, Record]:
    """By id, the records due of activity that arrives in this order, each user's in the order they are to arrive."""
    known: defaultdict[str, list[Activity]] = defaultdict(list)
    found: dict[str, Record] = {}
    for each in activities:
        known[each.user_id].append(each)
        found.update({record.id: record for record in Derivation().user(known[each.user_id]) if record.id not in found})
    return found


def write_forwarders(file: Path, host: str, second: str | None) -> None:
    """One forwarder of everything to `host`, and another to `second` if that is given."""
    documents = [
        {
            "_id": name,
            "active": True,
            "query": "{}",
            "payload": "record",
            "configuration": {"protocol": "http", "url": f"{where}{PATH}", "maxRetries": 5},
        }
        for name, where in (("live", host), (SECOND, second))
        if where is not None
    ]
    file.write_bytes(orjson.dumps(documents))


@contextmanager
def streaming_job(
    place: Path, source: str, flags: Sequence[str], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The job under way, as a user would start it; cancelled at the end of the block."""
    command = [sys.executable, "-m", "pipeline", *flags, "--streaming", f"--input={source}"]
    command += ["--forwarders", f"{place}/forwarders.json", "--output", f"{place}/out", "--checkpointing_interval=5000"]
    command += ["--allow_network=127.0.0.0/8", "--max_backoff=2"]
    # A session of its own: Ctrl-C reaches this process alone, which passes it on.
    with (place / "job.log").open("wb") as log:
        job = subprocess.Popen(  # noqa: S603 - our own module
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield job
        if job.poll() is not None:
            raise RunError(f"the job ended with status {job.returncode}: see {place}/job.log")
    finally:
        job.terminate()
        with suppress(subprocess.TimeoutExpired):
            job.wait(GRACE)
        job.kill()
        job.wait()


def wait_for(receiver: Receiver, due: Mapping[str, Record], seconds: float, job: "subprocess.Popen[bytes]") -> None:
    """Until all of it has arrived, so many seconds have gone by, or the job has ended."""
    deadline = monotonic() + seconds
    while monotonic() < deadline and job.poll() is None:
        if due.keys() <= {attempt.key for attempt in receiver.attempts(PATH)}:
            return
        sleep(_TICK)


@dataclass
class Findings:
    """What arrived against what was due."""

    missing: int
    unexpected: int
    repeated: int
    out_of_order: int


def compare(arrived: Sequence[str], due: Mapping[str, Record]) -> Findings:
    """arrived: ids in their order; out of order is a record whose first arrival came after a later one's of its user.

    due: by id, each user's records in their order.
    """
    first = list(dict.fromkeys(arrived))
    place = {key: number for number, key in enumerate(due)}
    latest: dict[str, int] = {}
    out_of_order = 0
    for key in first:
        if key in due:
            user = due[key].user_id
            out_of_order += place[key] < latest.get(user, -1)
            latest[user] = max(place[key], latest.get(user, -1))
    return Findings(
        missing=len(due.keys() - set(first)),
        unexpected=len(set(first) - due.keys()),
        repeated=len(arrived) - len(first),
        out_of_order=out_of_order,
    )


def report(
    attempts: Sequence[Attempt],
    due: Mapping[str, Record],
    put_at: Mapping[str, float],
    unmeasured: set[str],
    broken_off: float | None,
) -> int:
    """Prints what was seen; returns 0 when it was all as due, repeats of a job that was broken off aside."""
    found = compare([attempt.key for attempt in attempts], due)
    print(
        f"{len(due):,} records due, {len(attempts):,} arrived: {found.missing} missing, {found.unexpected} unexpected, "
        f"{found.repeated} repeated, {found.out_of_order} out of order"
    )
    seen: set[str] = set(unmeasured)
    latencies = []
    for attempt in attempts:
        if attempt.key in due and attempt.key not in seen:
            seen.add(attempt.key)
            latencies.append(attempt.at - put_at[due[attempt.key].record_id])
    latencies.sort()
    if latencies:
        shares = ((0.5, "p50"), (0.99, "p99"), (1.0, "most"))
        quantiles = (f"{name} {latencies[math.ceil(share * len(latencies)) - 1]:.2f} s" for share, name in shares)
        print(f"From the put to the receiver: {', '.join(quantiles)} ({len(latencies):,} records)")
    times = sorted(attempt.at for attempt in attempts if attempt.key not in unmeasured)
    gaps = [later - earlier for earlier, later in pairwise(times) if broken_off is None or later > broken_off]
    print(f"Longest silence: {max(gaps, default=0):.1f} s")
    as_due = not (found.missing or found.unexpected)
    if broken_off is None:
        as_due = as_due and not (found.repeated or found.out_of_order)
    print("Everything arrived as due." if as_due else "NOT everything is as it should be.")
    return 0 if as_due else 1


if __name__ == "__main__":
    sys.exit(main())
