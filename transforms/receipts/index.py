"""The index of what earlier runs settled: receipts and dead letters are read once, and sorted by bucket of users."""

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from schemas import KINDS, DeadLetter, Kind
from schemas.buckets import BUCKETS, bucket_of
from schemas.record import decode_record
from transforms import durability
from transforms.receipts.journal import DEAD_LETTERS, PART, RECEIPTS
from transforms.receipts.known import Ids, KnownDeliveries
from transforms.receipts.outage_letters import (
    KEPT,
    NOTHING_KEPT,
    KeptLetters,
    OpenLetter,
    OutageLetters,
    keep_letters,
    kept_bytes,
    known_letters,
    new_parts,
    split_kept,
    to_keep,
)
from transforms.receipts.parts import (
    RECEIPT_SCHEMA,
    horizon_beginning,
    open_part,
    parts_written,
    place_of,
    read_receipts,
    reading_part,
    rows_of,
    warn_of_damage,
    written_since,
)
from transforms.receipts.rows import DamagedError
from transforms.receipts.runs import is_replay, place, run_number
from transforms.storage import LocalStorage, Storage, frame, read_frame, read_frames, storage_at, write_frame, writing

INDEX = ".history"
"""The directory under the output that holds the index of the present run, in a directory of the run's name."""

DELIVERED_FILE = "delivered"
"""The file of an index with the ids of delivered records: for each bucket msgpack of {forwarder id: [id, ...]}, and of
the same of what is not delivered any more, though `KnownDeliveries` may say so."""

LETTERS_FILE = "dead_letters"
"""The file of an index with the dead letters that are not delivered: for each bucket frames of msgpack."""

_SPILL_ROWS = 200_000
"""Receipts that are in memory before they are written to the files of their buckets."""

_SPILL_BYTES = 32 * 1024 * 1024
"""Bytes of dead letters that are in memory before they are written to the files of their buckets."""

_encode = msgspec.msgpack.Encoder().encode
decode_dead_letter = msgspec.msgpack.Decoder(DeadLetter).decode


class _Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is needed of a receipt to see what became of a record.

    Attributes:
        forwarder: the forwarder's number (`Partition`).
        id: the record's.
        run: the number of the run.
        delivered: whether the forwarder got the record.
        ordinal: its number among all receipts that were read.
    """

    forwarder: int
    id: str
    run: int
    delivered: bool
    ordinal: int


class Resolved(NamedTuple):
    """What the receipts of a bucket say.

    Attributes:
        rows: the receipt that counts, by the forwarder's number and the record's id.
        undone: what a replay has given up after it had been delivered, if it ever was, and nobody delivered since.
    """

    rows: dict[tuple[int, str], _Row]
    undone: set[tuple[int, str]]


_decode_rows = msgspec.msgpack.Decoder(list[_Row]).decode


class HistoryIndex(msgspec.Struct, frozen=True):
    """Where an index is, and how much went into it. It is small and pickles: it is what workers are given.

    Attributes:
        output: the output whose index it is.
        name: the directory of the index, relative to the output.
        receipts: receipts that were read, all of each (forwarder, id).
        dead_letters: dead letters that were read, all of each (forwarder, id).
        delivered_at: the offset of each bucket in DELIVERED_FILE, and the end of the last one; empty if there is no
            such file.
        letters_at: the offset of each bucket in LETTERS_FILE, and the end of the last one; empty if there is no such
            file.
        letters_file: the file that `letters_at` is of, relative to the output; empty: LETTERS_FILE of the index.
        catch_up: chooses among the dead letters, if these are the open ones that are kept; None: all are chosen.
        delivered_since: by forwarder, how many records that once were dead letters have been delivered since.
        known: what compacted receipts say, which are not among `receipts`; None if all were read.
    """

    output: str
    name: str
    receipts: int = 0
    dead_letters: int = 0
    delivered_at: tuple[int, ...] = ()
    letters_at: tuple[int, ...] = ()
    letters_file: str = ""
    catch_up: OutageLetters | None = None
    delivered_since: dict[str, int] = {}
    known: KnownDeliveries | None = None

    @property
    def buckets(self) -> tuple[int, ...]:
        """The buckets of users that have dead letters in the index."""
        return tuple(bucket for bucket, (start, end) in enumerate(pairwise(self.letters_at)) if start < end)


def index_history(
    output: str,
    run_id: str,
    *,
    dead_letters: bool = False,
    horizon: float | None = None,
    catch_up: OutageLetters | None = None,
) -> HistoryIndex:
    """Read the parts under `output`, and write what `History` needs under `<output>/.history/<run_id>`.

    Call it in the launcher, holding the output's lock, after `recover`. It removes the indexes that killed runs left.
    Memory holds the receipts of one bucket (1/64 of all), and some 0.4 KB for each dead letter of one bucket.

    Args:
        output: the output of the present run and of the earlier ones.
        run_id: the present run.
        dead_letters: whether dead letters are indexed, too, for a redrive.
        horizon: seconds; parts that were last written to longer than that before the last run's latest receipts are
            left out. None for all parts.
        catch_up: chooses dead letters that are indexed, for a run that tries them again by itself.

    Raises:
        NotAContainerError: a file in `receipts/` or `dead_letters/` is not one of this job's.
    """
    storage = storage_at(output)
    storage.remove_all(INDEX)
    name = f"{INDEX}/{run_id}"
    written = parts_written(storage, RECEIPTS, PART)
    known = KnownDeliveries.found(storage) if horizon is None else None
    beginning = horizon_beginning(written, horizon, time.time())
    receipts = written_since(beyond(known, written), beginning)
    if catch_up is not None:
        return _index_open_letters(storage, output, receipts, run_id, catch_up, known)
    letters = written_since(parts_written(storage, DEAD_LETTERS, PART), beginning) if dead_letters else []
    if not receipts and not letters:
        return HistoryIndex(output, name, known=known)
    with tempfile.TemporaryDirectory(dir=_scratch_beside(storage)) as scratch:
        return write_index(output, storage, receipts, letters, Path(scratch), storage, name, known=known)


def beyond(known: KnownDeliveries | None, written: Mapping[str, float]) -> Mapping[str, float]:
    """Of the parts of receipts those that have to be read though that is known."""
    if known is None:
        return written
    return {name: modified for name, modified in written.items() if run_number(name) > known.up_to}


def write_index(
    output: str,
    source: Storage,
    receipts: list[str],
    letters: list[str],
    scratch: Path,
    target: Storage,
    name: str,
    *,
    letters_with_receipts: bool = False,
    known: KnownDeliveries | None = None,
) -> HistoryIndex:
    """Write an index.

    Args:
        output: where `History` is to look for the index: the root of `target`.
        source: where the parts are.
        receipts: the names of the parts of receipts, in their order (`runs.place`).
        letters: the names of the parts of dead letters, in their order.
        scratch: an empty directory on this machine, for the files in between.
        target: where the index is written.
        name: the directory of the index in `target`.
        letters_with_receipts: leave out the dead letters whose own receipts are in no part of `receipts`. If only the
            latest parts are given, a later receipt of such a record may be missing, too.
        known: what earlier receipts say, which are not given.
    """
    settled = _partition_receipts(source, receipts, scratch)
    letter_rows = _partition_dead_letters(source, letters, scratch)
    delivered_at = _write_delivered(target, name, settled)
    letters_at: tuple[int, ...] = ()
    delivered_since: Counter[str] = Counter()
    if letter_rows:
        letters_at = _write_buckets(
            target,
            f"{name}/{LETTERS_FILE}",
            lambda bucket: _undelivered(
                scratch, bucket, _Outcomes(bucket, settled, known, letters_with_receipts), delivered_since
            ),
        )
    return HistoryIndex(
        output,
        name,
        settled.total,
        letter_rows,
        delivered_at,
        letters_at,
        delivered_since=dict(delivered_since),
        known=known,
    )


def _write_delivered(target: Storage, name: str, settled: "Partition") -> tuple[int, ...]:
    return _write_buckets(
        target, f"{name}/{DELIVERED_FILE}", lambda bucket: [_encode(settled.outcomes(settled.resolve(bucket)))]
    )


class _SpoiltError(Exception):
    """The open letters that were kept are not as they were written."""


def _index_open_letters(
    storage: Storage,
    output: str,
    receipts: list[str],
    run_id: str,
    catch_up: OutageLetters,
    known: KnownDeliveries | None,
) -> HistoryIndex:
    """Write the index of a run that catches up, and the open letters that it and the next runs begin with."""
    letters = sorted(parts_written(storage, DEAD_LETTERS, PART), key=place)
    kept = known_letters(storage, letters, run_id)
    name = f"{INDEX}/{run_id}"
    if not receipts and not letters:
        return HistoryIndex(output, name, known=known)
    with ExitStack() as stack:

        def scratch() -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_scratch_beside(storage))))

        settled = _partition_receipts(storage, receipts, scratch())
        delivered_at = _write_delivered(storage, name, settled)
        outcomes = partial(_Outcomes, settled=settled, known=known, missing=False)
        file = f"{name}/{LETTERS_FILE}" if catch_up.looks_only else f"{KEPT}/{run_id}"
        damaged: set[str] = set()
        try:
            at = _write_open_letters(storage, kept, new_parts(kept, letters), outcomes, scratch(), file, damaged)
        except _SpoiltError:
            at = _write_open_letters(storage, NOTHING_KEPT, letters, outcomes, scratch(), file, damaged)
    if not catch_up.looks_only and letters:
        keep_letters(storage, letters, damaged, file if at else "", at)
    return HistoryIndex(output, name, settled.total, 0, delivered_at, at, file, catch_up, known=known)


def _write_open_letters(
    storage: Storage,
    kept: KeptLetters,
    parts: list[str],
    outcomes: Callable[[int], "_Outcomes"],
    scratch: Path,
    file: str,
    damaged: set[str],
) -> tuple[int, ...]:
    """Write the open letters: those that were kept, and those of the files `parts`. The damaged ones are noted.

    Returns:
        The offset of each bucket in the file, and the end of the last one; nothing if no letter is open.

    Raises:
        _SpoiltError: what was kept cannot be read.
    """
    rows = _partition_dead_letters(storage, parts, scratch, damaged)
    if not rows and not kept.name:
        return ()
    with ExitStack() as stack:
        earlier: IO[bytes] | None = None
        if kept.name:
            earlier = stack.enter_context(_seekable(storage, kept.name, scratch))
        at = _write_buckets(
            storage, file, lambda bucket: _open_letters(earlier, kept.at, scratch, bucket, outcomes(bucket))
        )
    if not at[-1]:
        storage.remove(file)
        return ()
    return at


@contextmanager
def _seekable(storage: Storage, name: str, scratch: Path) -> Iterator[IO[bytes]]:
    """A file of the output, of this machine: one of a store is copied."""
    if isinstance(storage, LocalStorage):
        with storage.open(name) as stream:
            yield stream
        return
    with (scratch / "kept").open("w+b") as copy, storage.open(name) as stream:
        shutil.copyfileobj(stream, copy)
        yield copy


def _open_letters(
    earlier: IO[bytes] | None, at: tuple[int, ...], scratch: Path, bucket: int, outcomes: "_Outcomes"
) -> Iterator[bytes]:
    """The open letters of a bucket that are kept, in order, as frames."""
    found: dict[tuple[str, str], OpenLetter] = {}

    def add(letter: DeadLetter, first_run: int, read: Callable[[], bytes]) -> None:
        due = letter.forwarder_id, letter.id
        if outcomes.is_delivered(*due):
            return
        if due in found:
            first_run = found[due].first_run
        key = _decode_position(letter.record).key()
        reason, last_run = sys.intern(letter.reason), run_number(letter.run_id)
        found[due] = OpenLetter(letter.forwarder_id, letter.user_id, reason, first_run, last_run, key, read)

    if earlier is not None:
        try:
            earlier.seek(at[bucket])
            for offset, data in read_frames(earlier, at[bucket], at[bucket + 1]):
                first_run, encoded = split_kept(data)
                add(decode_dead_letter(encoded), first_run, partial(_encoded_letter, earlier, offset))
        except (EOFError, ValueError) as error:
            raise _SpoiltError from error
    spilled = _bucket_file(scratch, "dead_letters", bucket)
    with ExitStack() as stack:
        if spilled.exists():
            stream = stack.enter_context(spilled.open("rb"))
            for offset, data in read_frames(stream):
                letter = decode_dead_letter(data)
                add(letter, run_number(letter.run_id), partial(read_frame, stream, offset))
        for each in to_keep(sorted(found.values(), key=attrgetter("key"))):
            yield frame(kept_bytes(each.first_run, each.read()))


def _encoded_letter(stream: IO[bytes], offset: int) -> bytes:
    return split_kept(read_frame(stream, offset))[1]


def remove_index(index: HistoryIndex) -> None:
    """Remove an index. Call it when the run has ended, and still holds the lock."""
    storage_at(index.output).remove_all(INDEX)


def _scratch_beside(storage: Storage) -> Path | None:
    """A directory beside the parts, where there is room for such amounts; None for a remote output: TMPDIR's then."""
    if not isinstance(storage, LocalStorage):
        return None
    beside = storage.path / INDEX
    durability.make_directories(beside)
    return beside


def _write_buckets(storage: Storage, name: str, pieces_of: Callable[[int], Iterable[bytes]]) -> tuple[int, ...]:
    """Write one file that holds all buckets, because an object store charges, and waits, for each file.

    Returns:
        The offset of each bucket, and the end of the last one.
    """
    offsets = [0]

    def pieces() -> Iterator[bytes]:
        end = 0
        for bucket in range(BUCKETS):
            for piece in pieces_of(bucket):
                yield piece
                end += len(piece)
            offsets.append(end)
        if not end:
            yield b"\n"  # A file must not be empty (`Storage.write`).

    storage.write(name, pieces(), durable=False)  # A run makes its own.
    return tuple(offsets)


def _bucket_file(scratch: Path, what: str, bucket: int) -> Path:
    return scratch / f"{what}-{bucket:02}"


class Partition:
    """Sorts receipts into a file for each bucket. Forwarders are numbered as their ids come, to save room.

    Args:
        scratch: a directory of this machine.
        what: the files' names begin with it.

    Attributes:
        total: how many there are.
    """

    def __init__(self, scratch: Path, what: str = RECEIPTS) -> None:
        self._scratch = scratch
        self._what = what
        self._run = 0
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[list[_Row]] = [[] for _ in range(BUCKETS)]
        self._held = 0
        self.total = 0
        self._replays: set[int] = set()

    def begin(self, part: str) -> None:
        """Go on with this part."""
        self._run = run_number(part)
        if is_replay(part):
            self._replays.add(self._run)

    def add(self, forwarder_id: bytes, record_id: bytes, user_id: bytes, delivered: bool) -> None:
        """Put one receipt into the file of its bucket, sooner or later."""
        number = self._numbers.setdefault(forwarder_id, len(self._numbers))
        bucket = bucket_of(user_id.decode())
        self._waiting[bucket].append(_Row(number, record_id.decode(), self._run, delivered, self.total))
        self._held += 1
        self.total += 1
        if self._held >= _SPILL_ROWS:
            self.spill()

    def spill(self) -> None:
        """Write all receipts that are still in memory."""
        for bucket, rows in enumerate(self._waiting):
            if rows:
                path = _bucket_file(self._scratch, self._what, bucket)
                with writing(path), path.open("ab") as stream:
                    write_frame(stream, _encode(rows))
                rows.clear()
        self._held = 0

    def resolve(self, bucket: int, up_to: int | None = None) -> Resolved:
        """What the receipts say for the users of a bucket.

        A delivery is final. Only a later run that sent again what had been delivered takes it back, if it gave the
        record up. No time is looked at: clocks differ, and are set back.

        Args:
            bucket: of users.
            up_to: the number of the last run whose receipts count; None for all.
        """
        counts: dict[tuple[int, str], _Row] = {}
        undone: set[tuple[int, str]] = set()
        for row in self._rows(bucket):
            if up_to is not None and row.run > up_to:
                continue
            key = (row.forwarder, row.id)
            known = counts.get(key)
            if known is None or row.delivered or not known.delivered or self._takes_back(row, known):
                counts[key] = row
                if row.delivered:
                    undone.discard(key)
                elif row.run in self._replays:
                    undone.add(key)
        return Resolved(counts, undone)

    def ends(self, bucket: int) -> dict[tuple[str, str], tuple[int, int]]:
        """The ordinals of the first and the last of each forwarder and record, for the users of a bucket."""
        forwarders = [forwarder.decode() for forwarder in self._numbers]
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for row in self._rows(bucket):
            key = (forwarders[row.forwarder], row.id)
            found[key] = (found[key][0] if key in found else row.ordinal, row.ordinal)
        return found

    def _rows(self, bucket: int) -> Iterator[_Row]:
        spilled = _bucket_file(self._scratch, self._what, bucket)
        if spilled.exists():
            with spilled.open("rb") as stream:
                for _, data in read_frames(stream):
                    yield from _decode_rows(data)

    def _takes_back(self, given_up: _Row, delivered: _Row) -> bool:
        return given_up.run > delivered.run and given_up.run in self._replays

    def outcomes(self, resolved: Resolved) -> tuple[Ids, Ids]:
        """The ids of the records that each forwarder has, and of those that it has no more."""
        delivered = (key for key, row in resolved.rows.items() if row.delivered)
        return self._ids(delivered), self._ids(resolved.undone)

    def _ids(self, keys: Iterable[tuple[int, str]]) -> Ids:
        forwarders = [forwarder.decode() for forwarder in self._numbers]
        ids: Ids = {}
        for forwarder, id_ in keys:
            ids.setdefault(forwarders[forwarder], []).append(id_)
        return ids

    def has_delivered(self, resolved: Resolved, forwarder_id: str, id_: str) -> bool:
        """Whether the forwarder has the record, by what `resolve` gave."""
        receipt = resolved.rows.get((self.number(forwarder_id), id_))
        return receipt is not None and receipt.delivered

    def number(self, forwarder_id: str) -> int:
        """The forwarder's number; -1 if there is no receipt of it."""
        return self._numbers.get(forwarder_id.encode(), -1)


def _partition_receipts(storage: Storage, parts: list[str], scratch: Path) -> Partition:
    """Sort all receipts into a file for each bucket, in the order of the parts."""
    partition = Partition(scratch)
    for name in parts:
        on_damage = partial(warn_of_damage, storage, name)
        partition.begin(name)
        with reading_part(storage, name):
            for schema, blocks in open_part(storage, name):
                if schema == RECEIPT_SCHEMA:
                    for block in blocks:
                        try:
                            read_receipts(block.data, block.count, partition.add)
                        except DamagedError:
                            on_damage(place_of(block))
                    continue
                for row in rows_of(schema, blocks, "receipt", on_damage):
                    ids = (row["forwarder_id"].encode(), row["id"].encode(), row["user_id"].encode())
                    partition.add(*ids, row["outcome"] == "delivered")
    partition.spill()
    return partition


class _Outcomes:
    """What became of the records of a bucket, by receipts that were read and those that are known.

    Args:
        bucket: of users.
        settled: the receipts that were read.
        known: the others, if there are any.
        missing: what is said of a record without a receipt.
    """

    def __init__(self, bucket: int, settled: Partition, known: KnownDeliveries | None, missing: bool) -> None:
        self._settled = settled
        self._resolved = settled.resolve(bucket)
        self._known = {} if known is None else known.bucket(bucket)
        self._missing = missing

    def is_delivered(self, forwarder_id: str, id_: str) -> bool:
        """Whether the forwarder has the record."""
        key = (self._settled.number(forwarder_id), id_)
        receipt = self._resolved.rows.get(key)
        if receipt is not None and receipt.delivered:
            return True
        if key not in self._resolved.undone and id_ in self._known.get(forwarder_id, ()):
            return True
        return receipt is None and self._missing


class _Position(msgspec.Struct, frozen=True, gc=False):
    """What sorts dead letters by user, and each user's in the order of the records (docs/spec/records.md section 2).

    It is read from the record's line. The times are texts of fixed width, which sort as the times do. A statement has
    no `session_id`; its `stored` goes before its `timestamp`.
    """

    user_id: str
    timestamp: str
    place: int
    kind: Kind
    id: str
    session_id: str = ""
    stored: str | None = None

    def key(self) -> tuple[str, str, int, str, int, str]:
        time = self.stored or self.timestamp
        return (self.user_id, time, self.place, self.session_id, KINDS.index(self.kind), self.id)


_decode_position = msgspec.json.Decoder(_Position).decode


def _partition_dead_letters(storage: Storage, parts: list[str], scratch: Path, damaged: set[str] | None = None) -> int:
    """Sort all dead letters into a file for each bucket, in the order of the parts. Returns how many there are.

    Parts that are damaged are added to `damaged`.
    """
    waiting: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    size = total = 0

    def spill() -> None:
        for bucket, letters in enumerate(waiting):
            if letters:
                path = _bucket_file(scratch, "dead_letters", bucket)
                with writing(path), path.open("ab") as stream:
                    for letter in letters:
                        write_frame(stream, letter)
                letters.clear()

    def on_damage(name: str, where: str) -> None:
        if damaged is not None:
            damaged.add(name)
        warn_of_damage(storage, name, where)

    for name in parts:
        with reading_part(storage, name):
            for schema, blocks in open_part(storage, name, damaged):
                for row in rows_of(schema, blocks, "dead_letter", partial(on_damage, name)):
                    letter = letter_of(row)
                    if letter is None:
                        on_damage(name, f"in the dead letter of {row['id']!a} to {row['forwarder_id']!a}")
                        continue
                    encoded = _encode(letter)
                    waiting[bucket_of(letter.user_id)].append(encoded)
                    total += 1
                    size += len(encoded)
                    if size >= _SPILL_BYTES:
                        spill()
                        size = 0
    spill()
    return total


def letter_of(row: dict[str, Any]) -> DeadLetter | None:
    """The dead letter of a row; None if its record cannot be read, or is another one.

    It is asked here, where the file is known that the row is from.
    """
    try:
        letter = msgspec.convert(row, DeadLetter)
        record = decode_record(letter.record)
        _decode_position(letter.record)
    except ValueError:
        return None
    return letter if (record.id, record.user_id) == (letter.id, letter.user_id) else None


def _undelivered(scratch: Path, bucket: int, outcomes: _Outcomes, delivered_since: Counter[str]) -> Iterator[bytes]:
    """The dead letters of a bucket that are to be sent, in order, as frames; the others are counted, by forwarder.

    Of each (forwarder, id) that is not delivered it is the last one, by run and place. Memory holds their places in the
    file, not their payloads.
    """
    spilled = _bucket_file(scratch, "dead_letters", bucket)
    if not spilled.exists():
        return
    last: dict[tuple[str, str], tuple[int, _Position]] = {}
    delivered: set[tuple[str, str]] = set()
    with spilled.open("rb") as stream:
        for offset, data in read_frames(stream):
            letter = decode_dead_letter(data)
            if outcomes.is_delivered(letter.forwarder_id, letter.id):
                delivered.add((letter.forwarder_id, letter.id))
                continue
            last[letter.forwarder_id, letter.id] = (offset, _decode_position(letter.record))
        delivered_since.update(forwarder_id for forwarder_id, _ in delivered)
        for offset, _ in sorted(last.values(), key=lambda letter: letter[1].key()):
            yield frame(read_frame(stream, offset))
