"""Records of a job's output to try queries on: those of its last run, if it wrote them, else those of dead letters."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from schemas import KINDS, Kind, Record
from schemas.record import decode_record
from transforms.reading.record_files import RECORD_FILE, RECORDS, read_records
from transforms.receipts.journal import DEAD_LETTERS, PART
from transforms.receipts.runs import place
from transforms.receipts.tail import last_rows
from transforms.storage import Storage, storage_at

logger = logging.getLogger(__name__)

Source = Literal["records", "dead_letters"]
"""Where records are from: the files of `--write_records`, or the payloads that were given up."""

MOST_OF_A_KIND = 1500
"""Records of one kind that are kept, of all organisations together. Most take some 2 kB of memory."""

_MOST_PARTS = 10
"""The newest parts of dead letters that are read, and of each the end."""

_MOST_BYTES = 8 * 1024 * 1024
"""Of the bodies of the records of one kind. Statements may be large."""

WAIT = 2.0
"""Seconds that a request waits for a look at the output. Then it is answered with what is known."""

_PAUSE = 5.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class KnownRecords:
    """What was read. It does not change, so that requests look at it without a lock.

    Attributes:
        source: None if there is nothing of either.
        modified: when the newest of the files was written, in epoch seconds; 0 where nobody knows.
        records: by organisation, in the order of their files.
        left_out: whether there are more than were read.
    """

    source: Source | None = None
    modified: float = 0.0
    records: Mapping[str | None, tuple[Record, ...]] = field(default_factory=dict)
    left_out: bool = False


class RecentRecords:
    """The records of one job's output, as far as it has kept them. Safe to use from several threads.

    One thread of its own reads, and only if the files have changed; requests wait for it for a while.

    Args:
        output: the job's `--output`, a directory or a url.
        clock: gives seconds; monotonic.
    """

    def __init__(self, output: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._lock = threading.Lock()
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="records")
        self._look: Future[None] | None = None
        self._looked_at = float("-inf")
        self._seen: object = None
        self.known = KnownRecords()
        """What is known now."""

    async def refreshed(self) -> KnownRecords:
        """What is known once the output was looked at, a few seconds ago at most. It waits no longer than `WAIT`."""
        with self._lock:
            is_due = self._clock() - self._looked_at >= _PAUSE
            if self._look is None or (self._look.done() and is_due):
                self._look = self._looking.submit(self._read)
            look = self._look
        await asyncio.wait([asyncio.wrap_future(look)], timeout=WAIT)
        return self.known

    def _read(self) -> None:
        try:
            storage = storage_at(self._output)
            files = _files(storage)
            if files != self._seen:
                self.known = _known(storage, files)
                self._seen = files
        except Exception as error:  # Each file system raises its own.
            logger.warning("records of --deliveries %s cannot be read: %s", self._output, error)
        finally:
            self._looked_at = self._clock()


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that records are read of, and what tells whether they have changed, by name."""

    source: Source | None
    sizes: Mapping[str, int]
    modified: Mapping[str, float]


def _files(storage: Storage) -> _Files:
    for source, directory in (("records", RECORDS), ("dead_letters", DEAD_LETTERS)):
        sizes = {name: size for name, size in storage.sizes(directory).items() if _is_of(name, source) and size}
        if sizes:
            modified = {name: time for name, time in storage.modified(directory).items() if name in sizes}
            return _Files("records" if source == "records" else "dead_letters", sizes, modified)
    return _Files(None, {}, {})


def _is_of(name: str, source: str) -> bool:
    return RECORD_FILE.fullmatch(name) is not None if source == "records" else name.endswith(PART)


def _known(storage: Storage, files: _Files) -> KnownRecords:
    kept: defaultdict[str | None, list[Record]] = defaultdict(list)
    left_out = False
    for records in _by_kind(storage, files):
        bytes_left = _MOST_BYTES
        for count, record in enumerate(records):
            if count == MOST_OF_A_KIND or bytes_left <= 0:
                left_out = True
                break
            bytes_left -= len(record.body)
            kept[record.organisation].append(record)
    newest = max(files.modified.values(), default=0.0)
    left_out = left_out or (files.source == "dead_letters" and len(files.sizes) > _MOST_PARTS)
    return KnownRecords(files.source, newest, {name: tuple(found) for name, found in kept.items()}, left_out)


def _by_kind(storage: Storage, files: _Files) -> Iterator[Iterator[Record]]:
    """For each kind, its records; of dead letters all together."""
    if files.source == "records":
        for kind in KINDS:
            yield _in_turn([_of_file(storage, name) for name in sorted(files.sizes) if _kind_of(name) == kind])
    elif files.source == "dead_letters":
        newest = sorted(files.sizes, key=place)[-_MOST_PARTS:]
        yield (record for name in reversed(newest) for record in _of_letters(storage, f"{DEAD_LETTERS}/{name}"))


def _kind_of(name: str) -> Kind | None:
    found = RECORD_FILE.fullmatch(name)
    return next(kind for kind in KINDS if kind == found[1]) if found else None


def _in_turn(files: list[Iterator[Record]]) -> Iterator[Record]:
    """A record of each file in turn, since a file holds the records of some users only."""
    while files:
        for records in list(files):
            record = next(records, None)
            if record is None:
                files.remove(records)
            else:
                yield record


def _of_file(storage: Storage, name: str) -> Iterator[Record]:
    try:
        with storage.open(f"{RECORDS}/{name}") as stream:
            yield from read_records(stream, name.rpartition(".")[2])
    except Exception as error:  # A run replaces the files meanwhile, or somebody has changed one.
        logger.warning("%s/%s/%s is not read on: %s", storage.root, RECORDS, name, type(error).__name__)


def _of_letters(storage: Storage, name: str) -> Iterator[Record]:
    try:
        with storage.open(name) as stream:
            rows = list(last_rows(stream, f"{storage.root}/{name}", "dead_letter"))
        yield from (decode_record(row["record"]) for row in reversed(rows))
    except Exception as error:  # A run removes old parts, and a kill cuts one short.
        logger.warning("%s/%s is not read on: %s", storage.root, name, type(error).__name__)
