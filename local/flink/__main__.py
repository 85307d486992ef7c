"""The whole job of `run_local.sh`, on a Flink cluster of this machine; its records are held against DirectRunner's."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

from local.__main__ import RunError, run, run_job, workspace
from local.endpoint import EndpointError
from local.examples import CONTRACT_ORGANISATION
from local.flink.cluster import Cluster, ClusterError, cluster
from local.process import ROOT, Stopped, run_child, signals_as_exceptions

_RECEIPTS_BEFORE_KILL = 64 * 1024
_KILL_WITHIN = 600.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run_flink.sh", description=__doc__)
    parser.add_argument("--sessions", type=int, default=3000, metavar="N", help="size of the sample (default 3000)")
    parser.add_argument(
        "--seed", type=int, default=7, metavar="S", help="of the sample and of the failures (default 7)"
    )
    parser.add_argument("--kill", action="store_true", help="kill one of the two TaskManagers while records are sent")
    parser.add_argument("--distribution", type=Path, required=True, help="a directory with Flink's lib/")
    parser.add_argument("--job_server_jar", type=Path, required=True, help="of Beam, for that version of Flink")
    arguments = parser.parse_args(argv)
    started = monotonic()

    def job(place: Path, environment: dict[str, str]) -> int:
        return run_on_flink(place, environment, arguments.distribution, arguments.job_server_jar, arguments.kill)

    try:
        with signals_as_exceptions(), workspace(ROOT / ".local") as place:
            status = run(place, arguments.sessions, arguments.seed, job, may_repeat=arguments.kill)
    except (RunError, EndpointError, ClusterError) as error:
        print(f"run_flink: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"run_flink: stopped by {stop}; nothing is left running", file=sys.stderr)
        return stop.status
    print(f"took {monotonic() - started:.0f} s")
    return status


def run_on_flink(place: Path, environment: dict[str, str], distribution: Path, jar: Path, kill: bool) -> int:
    """The job on a cluster of its own, killing one of its TaskManagers if asked to. Returns the job's exit status.

    Raises RunError when its records are not those of DirectRunner on the same input.
    """
    with cluster(distribution, place / "flink", environment) as flink:
        print(f"Flink: a JobManager and two TaskManagers; http://127.0.0.1:{flink.rest_port} shows them", flush=True)
        killer = Thread(target=_kill_in_the_middle, args=(flink, place), daemon=True)
        if kill:
            killer.start()
        status = run_job(place, environment, [*flink.flags(), f"--flink_job_server_jar={jar}"])
        if status not in (0, 3):
            return status
        if kill:
            failures = flink.failures()
            if not failures:
                raise RunError("the job ended before a TaskManager was killed: ask for more --sessions")
            print(f"Flink has started the job again after {', '.join(failures)}")
    command = [sys.executable, "-m", "pipeline", "--runner=DirectRunner", "--write_records=jsonl"]
    command += ["--input", f"{place}/in/*.jsonl.gz", "--output", f"{place}/direct"]
    command += ["--organisation", CONTRACT_ORGANISATION]
    if run_child(command, os.environ) not in (0, 3):
        raise RunError("the job on DirectRunner failed; what it printed above says why")
    on_flink, direct = _records(place / "out"), _records(place / "direct")
    if on_flink != direct:
        raise RunError(f"Flink derived {len(on_flink)} records, DirectRunner {len(direct)}, and they are not the same")
    print(f"Flink derived the same {len(direct):,} records as DirectRunner, byte for byte")
    return status


def _kill_in_the_middle(flink: Cluster, place: Path) -> None:
    deadline = monotonic() + _KILL_WITHIN
    while monotonic() < deadline:
        written = sum(part.stat().st_size for part in (place / "out" / "receipts").glob("*.journal"))
        if written >= _RECEIPTS_BEFORE_KILL:
            print(f"Killing a TaskManager: {written // 1024} KiB of receipts are written", flush=True)
            flink.kill_task_manager()
            return
        sleep(0.05)


def _records(output: Path) -> list[bytes]:
    return sorted(line for part in (output / "records").glob("*.jsonl") for line in part.read_bytes().splitlines())


if __name__ == "__main__":
    sys.exit(main())
