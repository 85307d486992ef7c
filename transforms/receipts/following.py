"""What is settled in an output, as it comes, for whoever watches all of it. Nothing is locked or changed.

Each file is read once, and a journal goes on where it was left. What files stand for is told apart from how they lie
about: a compaction merges the files of old runs, and what was read of these is not read again.

Runs follow each other. So as soon as there is a later run and the files of an earlier one have been read, that one is
closed, and no file of it is looked at again. If a run is merged before it is closed, it is told anew, and all that
follows it, after a batch that says so.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from transforms.receipts.avro_container import EncodedBlock, NotAContainerError, Reader, TornError
from transforms.receipts.families import first_number, obsolete_parts, turn_of
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.receipts.parts import (
    RECEIPT_SCHEMA,
    parts_written,
    place_of,
    read_receipts,
    rows_of,
    warn_of_damage,
    written_since,
)
from transforms.receipts.rows import DamagedError
from transforms.receipts.runs import place, run_number
from transforms.storage import Storage

logger = logging.getLogger(__name__)


class Settled(NamedTuple):
    """How a record ended with a forwarder.

    Attributes:
        forwarder_id: of the forwarder.
        id: of the record.
        at: epoch ms.
        reason: for which it was given up; None: it was delivered.
    """

    forwarder_id: str
    id: str
    at: int
    reason: str | None


class Batch(NamedTuple):
    """Records that ended in one run.

    Attributes:
        run: its number.
        settled: some of them, in no order. None: all that was told of this run and of later ones is to be forgotten,
            since it is told anew.
    """

    run: int
    settled: list[Settled] | None


@dataclass(slots=True)
class _Progress:
    """How far a file was read.

    Attributes:
        end: of what was read, in bytes.
        done: whether the file has no more, and will have no more.
    """

    end: int = 0
    done: bool = False


class Following:
    """Reads an output as it grows. Use it from one thread.

    Attributes:
        closed_below: the number of the first run that is not closed: of none before it anything more is told.
    """

    def __init__(self) -> None:
        self.closed_below = 0
        self._latest: int | None = None
        self._read: dict[str, _Progress] = {}
        self._merged: set[str] = set()

    def new(self, storage: Storage, since: int) -> Iterator[Batch]:
        """What is new in the output, from the earlier runs to the later, and of each run what was given up first.

        Whoever stops iterating goes on with the next call.

        Args:
            storage: of the output.
            since: epoch ms; what was settled before is left out, and files that were last written to before are not
                opened.
        """
        if self._latest is None:
            # A run that is there by now, and was followed by another one as the files are listed, has ended.
            self._latest = self._latest_of(_names(storage, since))
        names = _names(storage, since)
        ended_below, self._latest = self._latest, self._latest_of(names)
        yield from self._without_what_was_merged(names)
        for name, first in zip(names, _first_of_rest(names), strict=True):
            if run_number(name) < self.closed_below:
                continue
            self._close(min(first, ended_below))
            progress = self._read.setdefault(_stem(name), _Progress())
            if not progress.done:
                yield from _batches(storage, name, progress, since, self.closed_below)
        self._close(ended_below)

    def _close(self, below: int) -> None:
        if below <= self.closed_below:
            return
        self.closed_below = below
        for stem in [stem for stem in self._read if run_number(stem) < below]:
            del self._read[stem]

    def _latest_of(self, names: list[str]) -> int:
        return max(map(run_number, names), default=0)

    def _without_what_was_merged(self, names: list[str]) -> Iterator[Batch]:
        """Begin anew with what is not closed, if some of it was read and is merged by now."""
        known, self._merged = self._merged, {name for name in names if turn_of(name)}
        if self._read and any(run_number(name) >= self.closed_below for name in self._merged - known):
            self._read.clear()
            yield Batch(self.closed_below, None)


def _names(storage: Storage, since: int) -> list[str]:
    """The files to read, in the order in which it is done."""
    names: list[str] = []
    for directory in (DEAD_LETTERS, RECEIPTS):
        written = parts_written(storage, directory, PART, JOURNAL)
        obsolete = obsolete_parts([name for name in written if name.endswith(PART)])
        beginning = since / 1000 if since > 0 else -math.inf
        names += [name for name in written_since(written, beginning) if name not in obsolete]
    return sorted(names, key=_place)


def _place(name: str) -> tuple[Any, ...]:
    """What sorts files of both directories so that a letter comes before the receipt of a later delivery."""
    is_receipt = name.startswith(RECEIPTS)
    return (run_number(name) if is_receipt else first_number(name)), is_receipt, place(name)


def _first_of_rest(names: list[str]) -> list[int]:
    """For each file the number of the first run that it, or one behind it, is of."""
    return list(accumulate(map(first_number, reversed(names)), min))[::-1]


def _stem(name: str) -> str:
    """The name of a file without what says whether it grows."""
    return name.removesuffix(PART).removesuffix(JOURNAL)


def _batches(storage: Storage, name: str, progress: _Progress, since: int, closed_below: int) -> Iterator[Batch]:
    """What is new in a file, of the runs that are not closed."""
    is_part = name.endswith(PART)
    merges_closed = first_number(name) < closed_below
    try:
        stream = storage.open(name)
    except OSError:
        return  # It became a part, or was merged, since it was listed. The next look finds it.
    with stream:
        try:
            reader = Reader(stream, f"{storage.root}/{name}", start=progress.end)
            decode = _decoder(storage, name, reader.header.schema)
            for block in reader:
                progress.end = block.end
                run, settled = decode(block)
                if not (merges_closed and run < closed_below):
                    yield Batch(run, [each for each in settled if each.at >= since])
        except TornError as torn:
            progress.end = max(progress.end, torn.whole)
        except NotAContainerError as error:
            logger.warning("%s", error)
    progress.done = is_part


def _decoder(
    storage: Storage, name: str, schema: dict[str, Any]
) -> Callable[[EncodedBlock], tuple[int, list[Settled]]]:
    """What reads the blocks of a file: gives the number of the block's run, and what it says."""

    def receipts(block: EncodedBlock) -> tuple[int, list[Settled]]:
        ids: list[tuple[bytes, bytes, bytes, bool]] = []
        times: list[int] = []
        try:
            run_id = read_receipts(block.data, block.count, lambda *row: ids.append(row), None, times)
        except DamagedError:
            warn_of_damage(storage, name, place_of(block))
            return 0, []
        delivered = [
            Settled(forwarder.decode(), id_.decode(), at, None)
            for (forwarder, id_, _, is_delivered), at in zip(ids, times, strict=True)
            if is_delivered
        ]
        return run_number(run_id.decode()), delivered

    def rows(block: EncodedBlock) -> tuple[int, list[Settled]]:
        # A dead letter has a receipt, too. The letter counts, since it says why.
        found = [
            row
            for row in rows_of(schema, [block], shape, lambda where: warn_of_damage(storage, name, where))
            if shape == "dead_letter" or row["outcome"] == "delivered"
        ]
        run = run_number(found[0]["run_id"]) if found else 0
        return run, [Settled(row["forwarder_id"], row["id"], row["settled_at"], row.get("reason")) for row in found]

    shape = "receipt" if name.startswith(RECEIPTS) else "dead_letter"
    return receipts if shape == "receipt" and schema == RECEIPT_SCHEMA else rows
