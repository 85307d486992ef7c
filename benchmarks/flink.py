"""How a backfill scales on Flink: `python -m benchmarks.flink --distribution .local-flink/flink-1.19.3`.

The same job (ten forwarders, a dry run: read, derive, match, count) on DirectRunner with one and two processes, and on
the cluster of `run_flink.sh` at parallelism 1 and 2, in turn. Each is run on a smaller file too: what the larger takes
more is work, the rest is starting.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.workload import count_lines, sample_file, write_forwarders
from local.flink.cluster import Cluster, cluster
from local.process import ROOT

JAR = ROOT / "local/flink/target/flink-job-server.jar"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=1_000_000, help="activities")
    parser.add_argument("--large", type=int, default=3_000_000, help="activities")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "session-forwarder-benchmarks")
    parser.add_argument("--distribution", type=Path, required=True, help="a directory with Flink's lib/")
    parser.add_argument("--job_server_jar", type=Path, default=JAR, help="of local/flink/pom.xml")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    small, large = (sample_file(arguments.work, size) for size in (arguments.small, arguments.large))
    activities = count_lines(large) - count_lines(small)
    forwarders = write_forwarders(arguments.work, 9)
    runs: dict[str, Callable[[Cluster], Sequence[str]]] = {
        "DirectRunner": lambda flink: ["--runner=DirectRunner"],
        "DirectRunner, 2 processes": lambda flink: [
            "--runner=DirectRunner",
            "--direct_running_mode=multi_processing",
            "--direct_num_workers=2",
        ],
        "Flink, parallelism 1": lambda flink: flink_flags(flink, 1, arguments.job_server_jar),
        "Flink, parallelism 2": lambda flink: flink_flags(flink, 2, arguments.job_server_jar),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, flags in runs.items():
            directory = Path(tempfile.mkdtemp(dir=arguments.work))
            with cluster(arguments.distribution, directory / "flink", os.environ) as flink:
                started, worked = (seconds(file, forwarders, flags(flink)) for file in (small, large))
            measured[name].append((started, worked))
            print(f"  {name}: {started:.1f} s, {worked:.1f} s", flush=True)
    rates = {}
    print(f"\n{'':28}{'small, s':>10}{'large, s':>10}{'activities/s':>14}{'ratio':>8}")
    for name, times in measured.items():
        started, worked = (statistics.median(column) for column in zip(*times, strict=True))
        rates[name] = activities / (worked - started)
        ratio = rates[name] / next(iter(rates.values()))
        print(f"{name:28}{started:10.1f}{worked:10.1f}{rates[name]:14,.0f}{ratio:8.2f}")
    return 0


def flink_flags(flink: Cluster, parallelism: int, jar: Path) -> list[str]:
    return [*flink.flags(parallelism), f"--flink_job_server_jar={jar}"]


def seconds(file: Path, forwarders: Path, flags: Sequence[str]) -> float:
    """How long the job takes, from the command to its end. SystemExit, with what it said, when it fails."""
    command = [sys.executable, "-m", "pipeline", "--dry_run", f"--input={file}", f"--forwarders={forwarders}", *flags]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
