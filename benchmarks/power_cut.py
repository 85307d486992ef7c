"""What a power cut costs, on a file system: `python -m benchmarks.power_cut [--durability group] [--cuts 6]`, as root.

The output and the state of a job are on an ext4 file system of their own, in a file that is mounted as a loop device.
At some moment of the run, or after it, the file system is shut down as xfstests do it (the ioctl EXT4_IOC_SHUTDOWN,
without flushing its journal): what it has not given to the device is gone, as in a power cut. It is mounted again,
which replays its journal, and the next run goes on from what is left, with new input. Then the receiver's own log says
what was lost, and what came twice.

A device's own cache is not modelled: what was written to the device, but not flushed, is kept here.
`tests/pipeline/test_power_cut.py` drops that, too.
"""

import argparse
import fcntl
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from local.process import ROOT
from schemas import Activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, in_thread
from tests.support.laboratory.job_experiment import activities
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms.durability import Durability
from transforms.receipts.history import History
from transforms.receipts.index import index_history
from transforms.sessions.derivation import Derivation

_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING = struct.pack("I", 2)
_IMAGE_SIZE = 256 * 1024 * 1024
_ANSWER_AFTER = 0.02
_USERS, _SESSIONS = 100, 5
_REFUSED = 9
_FINISHED = (0, 3)


@dataclass(frozen=True)
class Outcome:
    """What one cut did.

    Attributes:
        moment: of the cut.
        acknowledged: records that the receiver had until then.
        known: those of them that the next run knew as delivered.
        statuses: the exit statuses of the runs after it.
        lost: due records that never reached the receiver, and are no dead letters either.
        doubled: records that reached it more than once.
    """

    moment: str
    acknowledged: int
    known: int
    statuses: list[int]
    lost: int
    doubled: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.power_cut", description=__doc__.split("\n")[0])
    parser.add_argument("--durability", choices=get_args(Durability), default="group")
    parser.add_argument("--cuts", type=int, default=6, help="during a run; two more come after it")
    parser.add_argument("--after", type=float, default=8.0, help="seconds after a run's end of the second of these")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("it mounts a file system: run it as root")
    rng = random.Random(options.seed)  # noqa: S311
    moments: list[tuple[float, float]] = [(rng.random(), 0.0) for _ in range(options.cuts)]
    print(
        f"--durability {options.durability}\n{'cut':24}{'acknowledged':>14}{'known':>8}{'lost':>7}{'doubled':>9}  exits"
    )
    lost = 0
    for share, after in [*moments, (1.0, 0.0), (1.0, options.after)]:
        with tempfile.TemporaryDirectory(prefix="power-cut-") as directory:
            outcome = cut(Path(directory), options.durability, share, after)
        lost += outcome.lost
        print(
            f"{outcome.moment:24}{outcome.acknowledged:>14,}{outcome.known:>8,}{outcome.lost:>7,}"
            f"{outcome.doubled:>9,}  {', '.join(map(str, outcome.statuses))}",
            flush=True,
        )
    return 1 if lost else 0


def cut(directory: Path, durability: Durability, share: float, after: float) -> Outcome:
    """Run the job, cut the power, and go on.

    Args:
        directory: for everything.
        durability: of the runs.
        share: of what the run has to send, after which it is cut; 1 for its end.
        after: seconds from its end to the cut.
    """
    workshop = Workshop(directory)
    every = activities(_USERS, _SESSIONS)
    tuesday = [each for each in every if each.action == "SUBMIT" and each.session_id.endswith(f"s{_SESSIONS - 1}")]
    monday = [each for each in every if each not in tuesday]
    due, due_on_monday = _records(every), _records(monday)
    refused = set(due[::_REFUSED])
    receiver = Receiver()

    def script(arrival: Arrival) -> Answer:
        return Answer(400) if arrival.key in refused else Answer(fault="late", interval=_ANSWER_AFTER)

    receiver.script = script
    workshop.write_activity(monday, "monday.jsonl")
    disk = directory / "disk"
    with in_thread(receiver), _image(directory) as image:
        workshop.write_forwarders(http_document(receiver))
        with _mounted(image, disk):
            run = _start(workshop, disk, durability)
            if share < 1:
                receiver.wait_for(round(share * len(due_on_monday)))
            else:
                assert run.wait() in _FINISHED
                time.sleep(after)
            acknowledged = len({id_ for _, id_ in receiver.stored()})
            _shut_down(disk)
            run.kill()
            run.wait()
        workshop.write_activity(tuesday, "tuesday.jsonl")
        statuses = []
        known = 0
        with _mounted(image, disk):
            for _ in range(3):
                statuses.append(_start(workshop, disk, durability).wait())
                if statuses[-1] in _FINISHED:
                    known = known or _known(disk)
                    break
            index = index_history(str(disk / "out"), "afterwards", dead_letters=True)
            letters = {letter.id for letter in History(index).undelivered_dead_letters()}
    stored = Counter(id_ for _, id_ in receiver.stored())
    moment = f"at {share:.0%} of the run" if share < 1 else f"{after:g} s after its end"
    doubled = sum(count > 1 for count in stored.values())
    return Outcome(moment, acknowledged, known, statuses, len(set(due) - set(stored) - letters), doubled)


def _records(every: list[Activity]) -> list[str]:
    by_user: defaultdict[str, list[Activity]] = defaultdict(list)
    for each in every:
        by_user[each.user_id].append(each)
    return [record.id for of_user in by_user.values() for record in Derivation().user(of_user)]


def _start(workshop: Workshop, disk: Path, durability: Durability) -> subprocess.Popen[bytes]:
    arguments = workshop.arguments(
        f"--durability={durability}",
        "--input",
        str(workshop.path / "in" / "*"),
        "--state",
        str(disk / "state"),
        "--output",
        str(disk / "out"),
    )
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet)  # noqa: S603


def _known(disk: Path) -> int:
    """What the last run found in the receipts."""
    (account,) = Workshop(disk).report()["forwarders"]
    return int(account["already_delivered"])


@contextmanager
def _image(directory: Path) -> Iterator[Path]:
    image = directory / "image"
    with image.open("wb") as file:
        file.truncate(_IMAGE_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)  # noqa: S603, S607
    yield image


@contextmanager
def _mounted(image: Path, disk: Path) -> Iterator[None]:
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)  # noqa: S603, S607
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S603, S607


def _shut_down(disk: Path) -> None:
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSHING)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
