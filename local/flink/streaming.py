"""The streaming job on a Flink cluster of this machine: activity put into Kinesis at a rate, records at a receiver.

It measures the time from the put to the receiver, or how fast the job catches up with what is in the stream, can kill a
TaskManager halfway, and holds what arrived against one fold over all of it. Started by `./run_flink.sh --streaming`.
"""

import argparse
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from local.flink.cluster import Cluster, ClusterError, cluster
from local.process import GRACE, ROOT, Stopped, run_child, signals_as_exceptions
from local.receiver import Attempt, FaultPlan, Receiver
from local.stack import stack
from schemas import Activity, Record
from transforms.activity import ActivityDecoder, encode
from transforms.derivation import Derivation

PATH = "/records"
_TICK = 0.1
_SETTLE_WITHIN = 120.0
_CATCH_UP_WITHIN = 600.0
_PUT_RECORDS = 500
_WARM_UP_WITHIN = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run_flink.sh --streaming", description=__doc__)
    parser.add_argument("--rate", type=int, default=100, metavar="N", help="activities a second (default 100)")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="for how long (default 60)")
    parser.add_argument("--seed", type=int, default=7, metavar="S", help="of the sample (default 7)")
    parser.add_argument(
        "--max_bundle_time_mills", type=int, default=None, metavar="MS", help="the job's, in place of its default"
    )
    parser.add_argument("--parallelism", type=int, default=2, metavar="N", help="of the job: 1 or 2 (default 2)")
    trial = parser.add_mutually_exclusive_group()
    trial.add_argument("--kill", action="store_true", help="kill one of the two TaskManagers halfway")
    trial.add_argument(
        "--backlog", action="store_true", help="put it all before the job starts, and tell how fast it catches up"
    )
    parser.add_argument("--distribution", type=Path, required=True, help="a directory with Flink's lib/")
    parser.add_argument("--job_server_jar", type=Path, required=True, help="of local/flink/pom.xml")
    arguments = parser.parse_args(argv)
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
    millis = arguments.max_bundle_time_mills
    more = [] if millis is None else [f"--max_bundle_time_mills={millis}"]
    with (
        aws_endpoint() as endpoint,
        stack(endpoint, name) as aws,
        Receiver({PATH: None}, FaultPlan(0, share=0)) as receiver,
    ):
        aws.create_data_streams([name])
        # Local servers do not answer Java's client in CBOR. The source is used by the job server, which lists the
        # shards, and by the TaskManagers, which read them: both need it, and credentials.
        environment = endpoint.environment(os.environ) | {"CBOR_ENABLED": "false"}
        source = {each: environment[each] for each in environment if each.startswith(("AWS_", "CBOR_"))}
        write_forwarders(place / "forwarders.json", receiver.http)
        load = Load(endpoint.client("kinesis"), name)
        if arguments.backlog:
            load.put_all(activities)
        with (
            cluster(arguments.distribution, arguments.job_server_jar, place / "flink", environment, source) as flink,
            streaming_job(
                place,
                f"kinesis://{name}?region={REGION}&service_endpoint={endpoint.url}",
                [*flink.flags(arguments.parallelism), f"--flink_job_server_jar={arguments.job_server_jar}", *more],
                environment,
            ) as job,
        ):
            unmeasured, killed_at = (
                (set(due), None) if arguments.backlog else feed(load, activities, receiver, job, flink, arguments)
            )
            wait_for(receiver, due, _CATCH_UP_WITHIN if arguments.backlog else _SETTLE_WITHIN, job)
            # What should not come would come soon.
            sleep(3)
            if killed_at is not None:
                print(f"Flink has started the job again after {', '.join(flink.failures()) or 'nothing'}")
        attempts = receiver.attempts(PATH)
        if arguments.backlog:
            print(f"Caught up at {rate_of(attempts, len(activities)):,.0f} activities/s")
        return report(attempts, due, load.put_at, unmeasured, killed_at)


def feed(
    load: "Load",
    activities: Sequence[Activity],
    receiver: Receiver,
    job: "subprocess.Popen[bytes]",
    flink: Cluster,
    arguments: argparse.Namespace,
) -> tuple[set[str], float | None]:
    """Puts `activities` at the rate that is asked for, and kills a TaskManager halfway if it is.

    Returns the ids of what is not to be measured, and when the TaskManager was killed.
    """
    # The first few start the workers, and are not measured.
    head, rest = activities[:50], activities[50:]
    load.put(head)
    first = ever_right(head)
    wait_for(receiver, first, _WARM_UP_WITHIN, job)
    feeding = Thread(target=load.put_at_a_rate, args=(rest, arguments.rate), daemon=True)
    feeding.start()
    killed_at = None
    if arguments.kill:
        sleep(arguments.seconds / 2)
        flink.kill_task_manager()
        killed_at = monotonic()
        print(f"Killed a TaskManager after {arguments.seconds / 2:.0f} s", flush=True)
    feeding.join()
    return set(first), killed_at


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


def write_forwarders(file: Path, host: str) -> None:
    configuration = {"protocol": "http", "url": f"{host}{PATH}", "maxRetries": 5}
    document = {"_id": "live", "active": True, "query": "{}", "payload": "record", "configuration": configuration}
    file.write_bytes(orjson.dumps([document]))


@contextmanager
def streaming_job(
    place: Path, source: str, flags: Sequence[str], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The job under way, as a user would start it; cancelled at the end of the block."""
    command = [sys.executable, "-m", "pipeline", *flags, "--streaming", f"--input={source}"]
    command += ["--forwarders", f"{place}/forwarders.json", "--output", f"{place}/out", "--checkpointing_interval=5000"]
    command += ["--allow_network=127.0.0.0/8", "--max_backoff=2", "--outage_budget=30"]
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
    killed_at: float | None,
) -> int:
    """Prints what was seen; returns 0 when it was all as due, repeats after a kill aside."""
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
        told = (f"{name} {latencies[math.ceil(share * len(latencies)) - 1]:.2f} s" for share, name in shares)
        print(f"From the put to the receiver: {', '.join(told)} ({len(latencies):,} records)")
    if killed_at is not None:
        times = sorted(attempt.at for attempt in attempts)
        gaps = [later - earlier for earlier, later in pairwise(times) if later > killed_at]
        print(f"Longest silence after the kill: {max(gaps, default=math.inf):.1f} s")
    as_due = not (found.missing or found.unexpected)
    if killed_at is None:
        as_due = as_due and not (found.repeated or found.out_of_order)
    print("Everything arrived as due." if as_due else "NOT everything is as it should be.")
    return 0 if as_due else 1


if __name__ == "__main__":
    sys.exit(main())
