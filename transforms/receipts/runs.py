"""Which run of an output came first. Runs are numbered, since clocks differ between machines and are set back.

A run's number begins its id, and its id begins the names of its files. So the order of an output's files is in their
names: by run, and in a run by generation, worker and number (`new_worker_name`). Files of releases that did not number
their runs come before all others.
"""

import re
import secrets
from datetime import datetime

from schemas.times import millis_of, now_ms, utc
from transforms.receipts.journal import DEAD_LETTERS, RECEIPTS
from transforms.storage import Storage, storage_at

_NAME = re.compile(r"(?:.*/)?r([0-9]{6,18})-[0-9]{8}T[0-9]{6}Z-[0-9a-f]+(-replay)?(?:-([0-9]{6,18})-)?")

_STARTED = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def new_run_id(number: int, *, replay: bool = False) -> str:
    """A name for a run, used once: its number, the time of its start and a random part.

    Args:
        number: as `next_run_number` gives it; any for a run without an output.
        replay: whether the run sends again what had been delivered (`--replay all`).

    Returns:
        Such as `r000042-20260203T101500Z-5f3a9c`, with `-replay` behind it for a replay. It sorts behind the ids of
        runs without a number, which begin with the time.
    """
    name = f"r{number:06}-{utc(now_ms()):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return name + "-replay" if replay else name


def run_number(name: str) -> int:
    """The number of a run, from its id or from the name of a file of it; 0 if its release did not number runs."""
    return generation_of(name)[0]


def started_at(name: str) -> int | None:
    """When a run began by its clock, in epoch ms, from its id or the name of a file of it; None if unsaid."""
    match = _STARTED.search(name)
    try:
        return millis_of(datetime.strptime(match[0], "%Y%m%dT%H%M%S%z")) if match else None
    except ValueError:
        return None


def is_replay(name: str) -> bool:
    """Whether a run sent again what had been delivered, from its id or from the name of a file of it."""
    match = _NAME.match(name)
    return match is not None and match[2] is not None


def generation_of(name: str) -> tuple[int, int]:
    """The number of a run, and of the generation in it that wrote a file.

    A runner that lost workers works again on what they had, with new workers: that is a new generation. Generations are
    numbered from 1 (`History.generation`).

    Args:
        name: of a file, with or without its directory. It begins with the run's id and the worker's name.

    Returns:
        0 for what the name does not say.
    """
    match = _NAME.match(name)
    return (int(match[1]), int(match[3] or 0)) if match else (0, 0)


def place(name: str) -> tuple[int, int, str]:
    """What sorts the names of files, in one directory, by run, by generation, and then as a worker wrote them."""
    return *generation_of(name), name


def next_run_number(output: str | Storage, latest: str = "") -> int:
    """One more than the highest number of a run on an output that has settled anything, or was the latest.

    Call it holding the output's lock.

    Args:
        output: a path or a url.
        latest: the id of the latest run, which may have settled nothing; empty if nobody knows.
    """
    storage = storage_at(output)
    names = [name for directory in (RECEIPTS, DEAD_LETTERS) for name in storage.list(directory)]
    return 1 + max(map(run_number, (latest, *names)))
