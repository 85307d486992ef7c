"""Old receipts and dead letters in few files, of which a run knows exactly what it knew of the many.

Parts of runs that follow each other become a family of merged parts, which stands where the last of these runs stood.
So the order of all that is left is as it was. Apart stay: the last run, whose time and number others go by; replays,
because what they give up takes back what was delivered before; and runs of which a part is damaged, so that a part that
is restored from a backup is read in its place.

Nothing is lost at any moment. A family is written, and on the disk, before what went into it is removed, and meanwhile
all of it counts twice, which changes nothing: a delivery is final, and of dead letters the last one counts. The name of
a family's last part says that it is whole. So the next compaction finishes what was broken off: what a whole family
stands for is removed, and what is there of a family that is not whole.
"""

import io
import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro

from schemas import avro_schema
from schemas.buckets import BUCKETS
from transforms.receipts.avro_container import EncodedBlock, Reader, TornError, block, header, plain
from transforms.receipts.families import MERGED, first_number, obsolete_parts, turn_of
from transforms.receipts.index import Partition, letter_of
from transforms.receipts.journal import DEAD_LETTERS, PART, PART_BYTES, RECEIPTS, sync_marker
from transforms.receipts.known import KNOWN, write_known
from transforms.receipts.parts import PLAIN_SCHEMAS, RECEIPT_SCHEMA, read_receipts, reading_part
from transforms.receipts.rows import DamagedError, read_rows
from transforms.receipts.runs import is_replay, place, run_number, started_at
from transforms.storage import Storage

logger = logging.getLogger(__name__)

_SHAPES = {RECEIPTS: "receipt", DEAD_LETTERS: "dead_letter"}

_RATIO = 4
"""A family stays as it is until what came after it has more than this share of its bytes: one in so many."""


@dataclass
class Compacted:
    """What a compaction did.

    Attributes:
        receipts: of which nothing is known any more but in a later receipt of the same record and forwarder.
        dead_letters: that were removed: delivered since, or given up before and again.
        parts_before: files of receipts and dead letters.
        parts: those that there are now.
    """

    receipts: int = 0
    dead_letters: int = 0
    parts_before: int = 0
    parts: int = 0


class Ages:
    """Whether runs are old, asked for one after the other, in the order of the runs.

    A run is not older than those before it, whatever the clock of its machine said; and one that is of the future, or
    does not say when it was, counts as one of now. So too much is kept rather than too little.

    Args:
        before: epoch ms; what is of before then is old.
        now: epoch ms.
    """

    def __init__(self, before: int, now: int) -> None:
        self._before = before
        self._now = now
        self._latest: float = -math.inf
        self._answers: dict[str, bool] = {}

    def is_old(self, run_id: str) -> bool:
        """Whether a run is old, by its id or the name of a file of it."""
        answer = self._answers.get(run_id)
        if answer is None:
            when = started_at(run_id)
            self._latest = max(self._latest, self._now if when is None else min(when, self._now))
            answer = self._answers[run_id] = self._latest < self._before
        return answer


@dataclass
class _Part:
    """A part that was read.

    Attributes:
        name: with its directory.
        first: the ordinal of its first row.
        rows: how many it has.
        damaged: whether some of it cannot be read.
    """

    name: str
    first: int
    rows: int = 0
    damaged: bool = False


@dataclass
class _Directory:
    """What is in the parts of a directory.

    Attributes:
        name: RECEIPTS or DEAD_LETTERS.
        parts: in their order.
        droppable: a byte for each row: 1 if its run is old and, later, the row does not count.
    """

    name: str
    parts: list[_Part] = field(default_factory=list)
    droppable: bytearray = field(default_factory=bytearray)


def compact(storage: Storage, ages: Callable[[], Ages], scratch: Path | None = None) -> Compacted:
    """Merge the parts of receipts and dead letters of an output, and leave out what is old and does not count.

    Old receipts go if there is a later one of the same record and forwarder that counts. Old dead letters go if the
    record was delivered since, or if there is an earlier and a later one. Call it holding the output's lock, after
    `recover`. Memory holds the receipts of one bucket (1/64 of all), and a byte for each row.

    Args:
        storage: the output.
        ages: makes what says which runs are old.
        scratch: a directory of this machine for files in between; None for the usual one.

    Raises:
        StorageError: a file cannot be read or written, or is none of the job's.
    """
    done = Compacted(parts_before=sum(len(_names(storage, directory)) for directory in _SHAPES))
    for directory in _SHAPES:
        _finish(storage, directory)
    with tempfile.TemporaryDirectory(dir=scratch) as place_:
        _compact(storage, ages, Path(place_), done)
    done.parts = sum(len(_names(storage, directory)) for directory in _SHAPES)
    return done


def _compact(storage: Storage, ages: Callable[[], Ages], scratch: Path, done: Compacted) -> None:
    names = [name for directory in _SHAPES for name in _names(storage, directory)]
    last = max(map(run_number, names), default=0)
    settled, given_up = Partition(scratch, RECEIPTS), Partition(scratch, DEAD_LETTERS)
    receipts = _read_receipts(storage, settled, ages())
    letters = _read_letters(storage, given_up, ages())
    for bucket in range(BUCKETS):
        resolved = settled.resolve(bucket)
        for row in resolved.rows.values():
            receipts.droppable[row.ordinal] = 0
        # Of each record and forwarder the last one, if the record was not delivered: a redrive needs no other. And the
        # first, which says which run gave the record up: by that a run that catches up knows its place.
        for (forwarder_id, id_), ordinals in given_up.ends(bucket).items():
            if not settled.has_delivered(resolved, forwarder_id, id_):
                for ordinal in ordinals:
                    letters.droppable[ordinal] = 0
    damaged = [part.name for part in (*letters.parts, *receipts.parts) if part.damaged]
    if damaged:
        logger.warning(
            "%d parts are damaged, and are left as they are, such as %s/%s: restore them if you can",
            len(damaged),
            storage.root,
            damaged[0],
        )
    gone, done.dead_letters = _merge(storage, letters, last)
    of_receipts, done.receipts = _merge(storage, receipts, last)
    gone += of_receipts
    # What is damaged may be restored, in as many bytes. So it is read each time, and so is what came after it.
    up_to = min([last, *(run_number(part.name) for part in receipts.parts if part.damaged)]) - 1
    left = {
        name: size
        for name, size in storage.sizes(RECEIPTS).items()
        if name.endswith(PART) and run_number(name) <= up_to and f"{RECEIPTS}/{name}" not in of_receipts
    }
    if left:
        write_known(storage, up_to, left, lambda bucket: settled.outcomes(settled.resolve(bucket, up_to))[0])
    else:
        storage.remove(KNOWN)
    storage.remove_each(gone)


def _names(storage: Storage, directory: str) -> list[str]:
    return sorted((f"{directory}/{name}" for name in storage.list(directory) if name.endswith(PART)), key=place)


def _read_receipts(storage: Storage, settled: Partition, ages: Ages) -> _Directory:
    """Sort all receipts into the files of their buckets."""
    found = _Directory(RECEIPTS)
    for name in _names(storage, RECEIPTS):
        part = _Part(name, settled.total)
        settled.begin(name)
        for of_block in _blocks(storage, part):
            try:
                run_id = _take_receipts(*of_block, settled.add)
            except DamagedError:
                part.damaged = True
                continue
            rows = settled.total - len(found.droppable)
            found.droppable += bytes((ages.is_old(run_id),)) * rows
        part.rows = settled.total - part.first
        found.parts.append(part)
    settled.spill()
    return found


def _take_receipts(
    schema: dict[str, Any], block_: EncodedBlock, take: Callable[[bytes, bytes, bytes, bool], None]
) -> str:
    """The receipts of a block, of any version. Returns the id of their run."""
    if schema == RECEIPT_SCHEMA:
        return read_receipts(block_.data, block_.count, take).decode()
    rows = _rows(schema, "receipt", block_)
    for row in rows:
        ids = (row["forwarder_id"].encode(), row["id"].encode(), row["user_id"].encode())
        take(*ids, row["outcome"] == "delivered")
    return str(rows[0]["run_id"])


def _read_letters(storage: Storage, given_up: Partition, ages: Ages) -> _Directory:
    """Sort what dead letters there are into the files of their buckets."""
    found = _Directory(DEAD_LETTERS)
    for name in _names(storage, DEAD_LETTERS):
        part = _Part(name, given_up.total)
        for schema, block_ in _blocks(storage, part):
            try:
                rows = _rows(schema, "dead_letter", block_)
            except DamagedError:
                part.damaged = True
                continue
            for row in rows:
                if letter_of(row) is None:
                    part.damaged = True
                given_up.add(row["forwarder_id"].encode(), row["id"].encode(), row["user_id"].encode(), False)
            found.droppable += bytes((ages.is_old(rows[0]["run_id"]),)) * len(rows)
        part.rows = given_up.total - part.first
        found.parts.append(part)
    given_up.spill()
    return found


def _blocks(storage: Storage, part: _Part) -> Iterator[tuple[dict[str, Any], EncodedBlock]]:
    """The blocks of a part that are whole, each with the schema it was written with. Damage is noted."""
    with reading_part(storage, part.name), storage.open(part.name) as stream:
        try:
            reader = Reader(stream, f"{storage.root}/{part.name}")
        except TornError:
            part.damaged = True
            return
        try:
            for whole in reader:
                yield reader.header.schema, whole
        except TornError:
            part.damaged = True
        part.damaged |= bool(reader.lost)


def _rows(schema: dict[str, Any], shape: str, block_: EncodedBlock) -> list[dict[str, Any]]:
    written, wanted = plain(schema), PLAIN_SCHEMAS[shape]
    return read_rows(written, None if written == wanted else wanted, block_)


# Families of merged parts.


def _finish(storage: Storage, directory: str) -> None:
    """Finish a compaction that was broken off."""
    storage.remove_each(sorted(obsolete_parts(_names(storage, directory))))


def _merge(storage: Storage, directory: _Directory, last: int) -> tuple[list[str], int]:
    """Write families in the place of the parts of a directory.

    Args:
        storage: the output.
        directory: what is there.
        last: the number of the last run, which is left as it is.

    Returns:
        The parts that are to be removed, and how many rows are left out.
    """
    turn = 1 + max((turn_of(part.name) for part in directory.parts), default=0)
    sizes = {f"{directory.name}/{name}": size for name, size in storage.sizes(directory.name).items()}
    obsolete: list[str] = []
    dropped = 0
    for group in _groups(directory.parts, last):
        group = _without_large(group, directory, sizes)
        rows = sum(_dropped(directory, part) for part in group)
        if not group or (not rows and len(_runs_and_families(group)) < 2):
            continue
        _write_family(storage, directory, group, turn)
        obsolete += [part.name for part in group]
        dropped += rows
    return obsolete, dropped


def _groups(parts: Sequence[_Part], last: int) -> Iterator[list[_Part]]:
    """Parts of runs that follow each other and can be merged, as many as possible together. A run is never cut."""
    runs: dict[int, list[_Part]] = {}
    for part in parts:
        runs.setdefault(run_number(part.name), []).append(part)
    group: list[_Part] = []
    for number, of_run in runs.items():
        if number == last or any(part.damaged or is_replay(part.name) for part in of_run):
            if group:
                yield group
            group = []
        else:
            group += of_run
    if group:
        yield group


def _runs_and_families(group: Sequence[_Part]) -> list[list[_Part]]:
    """The parts of a group: those of one run together, and those of one family."""
    units: dict[tuple[int, int], list[_Part]] = {}
    for part in group:
        units.setdefault((run_number(part.name), turn_of(part.name)), []).append(part)
    return list(units.values())


def _without_large(group: Sequence[_Part], directory: _Directory, sizes: Mapping[str, int]) -> list[_Part]:
    """The parts of a group without the families at its beginning that are large beside what follows, and complete.

    So a row is not written anew each time, but some times in the life of an output.
    """
    units = _runs_and_families(group)
    while units and turn_of(units[0][0].name):
        first, *rest = units
        size = sum(sizes[part.name] for part in first)
        after = sum(sizes[part.name] for unit in rest for part in unit)
        if after * _RATIO > size or any(
            1 in directory.droppable[part.first : part.first + part.rows] for part in first
        ):
            break
        units = rest
    return [part for unit in units for part in unit]


def _dropped(directory: _Directory, part: _Part) -> int:
    """How many rows of a part do not stay."""
    return sum(directory.droppable[part.first : part.first + part.rows])


def _write_family(storage: Storage, directory: _Directory, group: Sequence[_Part], turn: int) -> None:
    """Write the rows of a group that are kept, as a family. All of it is on the disk when this returns.

    If none is kept, none is written: then it does not matter how many of the parts are removed.
    """
    stem = f"{_run_id(group[-1].name)}-000000-merged-{first_number(group[0].name):06}-{turn:06}"
    marker = sync_marker(stem)
    head = header(avro_schema(_SHAPES[directory.name]), marker)
    modified = storage.modified(directory.name)
    latest = max(modified.get(part.name.rpartition("/")[2], 0.0) for part in group)
    waiting: list[bytes] = []
    size = number = 0

    def write(end: str) -> None:
        name = f"{directory.name}/{stem}-{number:06}{end}{PART}"
        storage.write(name, [head, *waiting])
        # A streaming job goes by when parts were written: it must not find fewer than before.
        storage.keep_time(name, latest)

    for part in group:
        for count, data in _kept_blocks(storage, directory, part):
            if size >= PART_BYTES:
                write("")
                number += 1
                waiting, size = [], 0
            waiting.append(block(count, data, marker))
            size += len(data)
    if waiting:
        write("-end")


def _run_id(name: str) -> str:
    """The id of the run that a part is of; of a merged part, of the last run in it."""
    file = name.rpartition("/")[2]
    match = MERGED.fullmatch(file)
    if match:
        return match["last"]
    numbered = re.match(r"r[0-9]{6,18}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]+", file)
    return numbered[0] if numbered else re.sub(r"-[^-]+-\d+\.avro$", "", file)


def _kept_blocks(storage: Storage, directory: _Directory, part: _Part) -> Iterator[tuple[int, bytes]]:
    """The rows of a part that are kept, block by block, encoded as now: how many, and these."""
    shape, ordinal = _SHAPES[directory.name], part.first
    present = avro_schema(shape)
    for schema, block_ in _blocks(storage, _Part(part.name, 0)):
        dropped = directory.droppable[ordinal : ordinal + block_.count]
        ordinal += block_.count
        if schema == present and not any(dropped):
            yield block_.count, block_.data
        elif not all(dropped):
            rows = _encoded_rows(schema, shape, block_)
            kept = [row for row, drop in zip(rows, dropped, strict=True) if not drop]
            yield len(kept), b"".join(kept)


def _encoded_rows(schema: dict[str, Any], shape: str, block_: EncodedBlock) -> list[bytes]:
    """The rows of a block, each as the present schema has it."""
    if shape == "receipt" and schema == RECEIPT_SCHEMA:
        ends = [0]
        read_receipts(block_.data, block_.count, lambda *_: None, ends)
        return [block_.data[start:end] for start, end in pairwise(ends)]
    return [_encoded(shape, row) for row in _rows(schema, shape, block_)]


def _encoded(shape: str, row: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, PLAIN_SCHEMAS[shape], row)
    return stream.getvalue()
