"""Receipts, dead letters and rejects as somebody looks at them, also while a job writes: nothing is locked or changed.

What counts for a run is `transforms.receipts.index`. Here what cannot be read is left out, with a warning.
"""

import heapq
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastavro

from schemas import DeadLetter
from schemas.buckets import BUCKETS
from transforms.receipts.avro_container import NotAContainerError
from transforms.receipts.history import History
from transforms.receipts.index import beyond, write_index
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.receipts.known import KnownDeliveries
from transforms.receipts.parts import DamagedPartError, open_part, parts_written, reading_part, rows_of, warn_of_damage
from transforms.receipts.runs import place
from transforms.receipts.settlement_filter import SettlementFilter
from transforms.storage import LocalStorage, Storage

logger = logging.getLogger(__name__)

REJECTS = "rejects"
"""The directory under the output that holds what input was refused."""

Row = Mapping[str, Any]
_SHAPES = {RECEIPTS: "receipt", DEAD_LETTERS: "dead_letter"}


def newest(storage: Storage, directory: str, wanted: SettlementFilter, limit: int | None) -> list[Row]:
    """The newest receipts or dead letters that are looked for, the oldest of them first.

    Args:
        storage: of the output.
        directory: RECEIPTS or DEAD_LETTERS.
        wanted: which.
        limit: how many; None for all.
    """
    names = sorted(parts_written(storage, directory, PART, JOURNAL), key=place, reverse=True)
    found: list[Row] = []
    for name in names:
        rows = [row for row in _rows(storage, name, _SHAPES[directory]) if wanted.selects(row)]
        found += rows
        if limit is not None and len(found) >= limit:
            break
    found.sort(key=_settled)
    return found if limit is None else found[-limit:] if limit else []


def _settled(row: Row) -> Any:
    return row["settled_at"]


def _rows(storage: Storage, name: str, shape: str) -> Iterator[Row]:
    try:
        with reading_part(storage, name):
            for schema, blocks in open_part(storage, name):
                yield from rows_of(schema, blocks, shape, partial(warn_of_damage, storage, name))
    except (DamagedPartError, NotAContainerError) as error:
        logger.warning("%s", error)


@contextmanager
def current_history(storage: Storage) -> Iterator[History]:
    """What an output's receipts and dead letters say now, those of a run under way among them.

    It reads all of them, at some 3 us a receipt, and makes an index in a temporary directory.
    """
    known = KnownDeliveries.found(storage)
    receipts = sorted(beyond(known, parts_written(storage, RECEIPTS, PART, JOURNAL)), key=place)
    letters = sorted(parts_written(storage, DEAD_LETTERS, PART, JOURNAL), key=place)
    with tempfile.TemporaryDirectory(prefix="session-forwarder-show-") as directory:
        here = LocalStorage(Path(directory))
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            index = write_index(here.root, storage, receipts, letters, Path(scratch), here, "now", known=known)
        yield History(index)


def open_letters(history: History, wanted: SettlementFilter, limit: int | None) -> list[DeadLetter]:
    """The dead letters that a redrive would look at: those whose record was not delivered since.

    Args:
        history: of `current_history`.
        wanted: which of them.
        limit: how many, the newest ones; None for all.

    Returns:
        The oldest first.
    """
    letters = (letter for letter in history.undelivered_dead_letters() if wanted.selects(letter))
    key: Callable[[DeadLetter], tuple[int, str]] = lambda letter: (letter.settled_at, letter.id)  # noqa: E731
    return sorted(letters, key=key) if limit is None else heapq.nlargest(limit, letters, key=key)[::-1]


def settled_by_forwarder(history: History) -> dict[str, tuple[int, Counter[str]]]:
    """For each forwarder how many records it has, and its open dead letters by reason."""
    counts: dict[str, tuple[int, Counter[str]]] = {}
    delivered: Counter[str] = Counter()
    for bucket in range(BUCKETS):
        for forwarder_id, ids in history.bucket(bucket).items():
            delivered[forwarder_id] += len(ids)
    letters: dict[str, Counter[str]] = {}
    for letter in history.undelivered_dead_letters():
        letters.setdefault(letter.forwarder_id, Counter())[letter.reason] += 1
    for forwarder_id in sorted({*delivered, *letters}):
        counts[forwarder_id] = delivered[forwarder_id], letters.get(forwarder_id, Counter())
    return counts


def newest_rejects(storage: Storage, wanted: SettlementFilter, limit: int | None) -> list[Row]:
    """The rejects that are looked for, of the newest runs, in the order of their files. Each has its `run_id`.

    Args:
        storage: of the output.
        wanted: which; of it, `runs` and `reasons` count. A reason may be a part of that of a reject.
        limit: how many; None for all.
    """
    names = [name for name in storage.list(REJECTS) if name.endswith(PART)]
    found: list[Row] = []
    for run in _by_run(names):
        rows = [row for name in run for row in _rejects(storage, name) if _shows(wanted, row)]
        found = rows + found
        if limit is not None and len(found) >= limit:
            break
    return found if limit is None else found[:limit]


def _by_run(names: Sequence[str]) -> Iterable[list[str]]:
    """The names of files of rejects, run by run, the newest run first."""
    runs: dict[str, list[str]] = {}
    for name in sorted(names, key=place):
        runs.setdefault(_run_of(name), []).append(name)
    return reversed(list(runs.values()))


def _run_of(name: str) -> str:
    """The id of the run, with which the name of a file of rejects begins."""
    stem = name.removesuffix(PART)
    return "-".join(stem.split("-")[: 4 if "-replay" in stem else 3])


def _shows(wanted: SettlementFilter, row: Row) -> bool:
    if wanted.runs and row["run_id"] not in wanted.runs:
        return False
    return not wanted.reasons or any(reason in row["reason"] for reason in wanted.reasons)


def _rejects(storage: Storage, name: str) -> Iterator[Row]:
    try:
        with storage.open(f"{REJECTS}/{name}") as stream:
            for row in fastavro.reader(stream):
                if isinstance(row, dict):
                    yield {**row, "run_id": _run_of(name)}
    except (ValueError, EOFError) as error:
        logger.warning("%s/%s/%s cannot be read (%s)", storage.root, REJECTS, name, error)
