"""How long a start takes: help, a mistake, and whole runs of ten activities, each in a process of its own:

    python -m benchmarks.start [--against DIRECTORY] [--rounds 5]

With `--against` the job of another checkout takes turns with this one, and the ratio is shown. Printed are the medians
of the processor time, which other work on the machine hardly changes, and the least wall clock. The other checkout must
have been run before: the first start compiles it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from statistics import median

from pipeline.sample import sample_activities

ROOT = Path(__file__).resolve().parents[1]
ACTIVITIES = 10


@dataclass
class Measured:
    """Starts of one command in one checkout: processor time and wall clock of each, in seconds."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class _Taker(BaseHTTPRequestHandler):
    """Takes every record."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def _receiver() -> Iterator[int]:
    """A receiver of HTTP in this process. Gives its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _commands(directory: Path, port: int) -> dict[str, tuple[list[str], int]]:
    """The arguments of each command, and the exit status that it must have."""
    activity = directory / "activity.jsonl"
    activity.write_text("".join(f"{json.dumps(each)}\n" for each in islice(sample_activities(2, seed=1), ACTIVITIES)))
    forwarders = directory / "forwarders.json"
    configuration = {"protocol": "http", "url": f"127.0.0.1:{port}/", "maxRetries": 0}
    document = {"_id": "all", "active": True, "query": "", "payload": "record", "configuration": configuration}
    forwarders.write_text(json.dumps([document]))
    reading = [f"--input={activity}", f"--forwarders={forwarders}"]
    delivering = [*reading, f"--output={directory / 'output'}", "--replay=all", "--allow_network=127.0.0.1/32"]
    return {
        "--help": (["--help"], 0),
        "an unknown flag": ([*delivering, "--dry-run"], 2),
        "ten activities, dry run": ([*reading, "--dry_run"], 0),
        "ten activities over HTTP": (delivering, 0),
    }


def _start(checkout: Path, arguments: list[str], status: int, measured: Measured) -> None:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    measured.wall.append(time.perf_counter() - begun)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    if done.returncode != status:
        raise SystemExit(f"{checkout}: exit status {done.returncode} instead of {status}\n{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="the root of another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = [options.against.resolve(), ROOT] if options.against else [ROOT]
    heads = "".join(f"{name:>14}" for name in ("before", "now")[-len(checkouts) :])
    print(f"{'seconds of processor time':28}{heads}{'ratio' if options.against else '':>8}   least wall clock")
    with tempfile.TemporaryDirectory(prefix="start-") as directory, _receiver() as port:
        for name, (arguments, status) in _commands(Path(directory), port).items():
            measured = {checkout: Measured() for checkout in checkouts}
            for _ in range(options.rounds):
                for checkout in checkouts:
                    _start(checkout, arguments, status, measured[checkout])
            times = [median(each.cpu) for each in measured.values()]
            walls = ", ".join(f"{min(each.wall):.2f}" for each in measured.values())
            ratio = f"{times[1] / times[0]:8.2f}" if options.against else f"{'':8}"
            print(f"{name:28}{''.join(f'{each:14.2f}' for each in times)}{ratio}   {walls}", flush=True)


if __name__ == "__main__":
    main()
