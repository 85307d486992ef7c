"""The index of what earlier runs settled: one pass over receipts and dead letters, sorted into buckets of users."""

import io
import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import msgspec

from schemas import KINDS, DeadLetter, Kind, avro_schema
from schemas.buckets import BUCKETS, bucket_of
from transforms.receipts.avro_container import Block, Reader, TornError, plain
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.storage import LocalStorage, Storage, frame, read_frame, read_frames, storage_at, write_frame

logger = logging.getLogger(__name__)

INDEX = ".history"
"""The directory under the output that holds indexes, one directory for each run that is under way."""


_SPILL_ROWS = 200_000
_SPILL_BYTES = 32 * 1024 * 1024
_encode = msgspec.msgpack.Encoder().encode
decode_dead_letter = msgspec.msgpack.Decoder(DeadLetter).decode


class _Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What decides, of one receipt."""

    forwarder: int
    id: str
    settled_at: int
    delivered: bool


_decode_rows = msgspec.msgpack.Decoder(list[_Row]).decode


class HistoryIndex(msgspec.Struct, frozen=True):
    """Where an index is, and how much went into it. Small, and may be pickled: this is what workers are given.

    `receipts` and `dead_letters` count rows read, before the latest of each (forwarder, id) is taken. `delivered_at`
    and `letters_at` are where each bucket begins in the index's two files, and where the last one ends; empty when
    there is no such file, so when nothing was ever settled.
    """

    output: str
    name: str
    receipts: int = 0
    dead_letters: int = 0
    delivered_at: tuple[int, ...] = ()
    letters_at: tuple[int, ...] = ()


def index_history(
    output: str, run_id: str, *, dead_letters: bool = False, horizon: float | None = None
) -> HistoryIndex:
    """Reads the parts under `output` and writes what `History` needs under `<output>/.history/<run_id>`.

    Call it in the launcher, holding the output's lock, after `recover`. Memory: one bucket's receipts (1/64 of all),
    and with `dead_letters` (for a redrive) about 0.4 KB for each dead letter of a bucket. With `horizon`, in seconds,
    parts that were written so long before the latest are left out. Removes the indexes of runs that were killed.
    NotAContainerError: a file in `receipts/` or `dead_letters/` is not one of this job's.
    """
    storage = storage_at(output)
    storage.remove_all(INDEX)
    name = f"{INDEX}/{run_id}"
    written = parts_written(storage, RECEIPTS, PART)
    beginning = horizon_beginning(written, horizon)
    receipts = written_since(written, beginning)
    letters = written_since(parts_written(storage, DEAD_LETTERS, PART), beginning) if dead_letters else []
    if not receipts and not letters:
        return HistoryIndex(output, name)
    with tempfile.TemporaryDirectory(dir=_scratch_beside(storage)) as scratch:
        return write_index(output, storage, receipts, letters, Path(scratch), storage, name)


def write_index(
    output: str,
    source: Storage,
    receipts: list[str],
    letters: list[str],
    scratch: Path,
    target: Storage,
    name: str,
) -> HistoryIndex:
    """The index of those parts of `source`, written in `target` under `name`; it is for `output`."""
    forwarders, receipt_rows = _partition_receipts(source, receipts, scratch)
    letter_rows = _partition_dead_letters(source, letters, scratch)
    delivered_at = _write_buckets(
        target, f"{name}/{DELIVERED_FILE}", lambda bucket: [_encode(_resolve(scratch, bucket, forwarders))]
    )
    letters_at: tuple[int, ...] = ()
    if letter_rows:
        letters_at = _write_buckets(
            target,
            f"{name}/{LETTERS_FILE}",
            lambda bucket: _undelivered(scratch, bucket, _resolve(scratch, bucket, forwarders)),
        )
    return HistoryIndex(output, name, receipt_rows, letter_rows, delivered_at, letters_at)


def remove_index(index: HistoryIndex) -> None:
    """Call it when the run has ended and still holds the lock."""
    storage_at(index.output).remove_all(INDEX)


DELIVERED_FILE = "delivered"
LETTERS_FILE = "dead_letters"


def parts_written(storage: Storage, directory: str, *suffixes: str, prefix: str = "") -> dict[str, float]:
    """The files of a directory that are named so, and when each was last written to (epoch seconds)."""
    return {
        f"{directory}/{name}": at or math.inf
        for name, at in storage.modified(directory).items()
        if name.startswith(prefix) and name.endswith(suffixes)
    }


def horizon_beginning(receipts: Mapping[str, float], horizon: float | None) -> float:
    """`horizon` seconds before the latest of them was written to, in epoch seconds; None: before all."""
    known = [at for at in receipts.values() if at < math.inf]
    return -math.inf if horizon is None or not known else max(known) - horizon


def written_since(written: Mapping[str, float], beginning: float) -> list[str]:
    return sorted(name for name, at in written.items() if at >= beginning)


def _scratch_beside(storage: Storage) -> Path | None:
    """Next to the parts, where there is room for such amounts; for a remote output, wherever TMPDIR says."""
    if not isinstance(storage, LocalStorage):
        return None
    beside = storage.path / INDEX
    beside.mkdir(parents=True, exist_ok=True)
    return beside


def _write_buckets(storage: Storage, name: str, pieces_of: Callable[[int], Iterable[bytes]]) -> tuple[int, ...]:
    """One file of all buckets, one after the other (a store charges, and waits, by the file). Gives their offsets."""
    offsets = [0]

    def pieces() -> Iterator[bytes]:
        end = 0
        for bucket in range(BUCKETS):
            for piece in pieces_of(bucket):
                yield piece
                end += len(piece)
            offsets.append(end)

    storage.write(name, pieces())
    return tuple(offsets)


_RECEIPT_SCHEMA = avro_schema("receipt")
_PLAIN = {"receipt": plain(_RECEIPT_SCHEMA), "dead_letter": plain(avro_schema("dead_letter"))}


def _read(storage: Storage, name: str) -> Iterator[tuple[dict[str, Any], Iterator[Block]]]:
    """The schema of a part, and its blocks: one pair, or none of a file cut short in its header."""
    try:
        stream = storage.open(name)
    except FileNotFoundError:
        if not name.endswith(JOURNAL):
            raise
        stream = storage.open(name.removesuffix(JOURNAL) + PART)  # become a part since it was listed
    with stream:
        try:
            reader = Reader(stream, f"{storage.root}/{name}")
        except TornError as torn:
            _warn(storage, name, torn)
            return
        yield reader.header.schema, _whole_blocks(storage, name, reader)


def _whole_blocks(storage: Storage, name: str, reader: Reader) -> Iterator[Block]:
    try:
        yield from reader
    except TornError as torn:
        _warn(storage, name, torn)


def _warn(storage: Storage, name: str, torn: TornError) -> None:
    """Expected of a journal. Of a part, only where files are not written in one step: a kill during the upload."""
    level = logging.DEBUG if name.endswith(JOURNAL) else logging.WARNING
    logger.log(level, "%s/%s is %s; what came before is used", storage.root, name, torn)


def _rows(schema: dict[str, Any], blocks: Iterable[Block], shape: str) -> Iterator[dict[str, Any]]:
    """The rows of blocks as `shape` has them now, whatever version of the schema they were written with."""
    written, wanted = plain(schema), _PLAIN[shape]
    if written == wanted:
        wanted = None  # fastavro need not match the two: half the time
    for block in blocks:
        stream = io.BytesIO(block.data)
        for _ in range(block.count):
            row = fastavro.schemaless_reader(stream, written, wanted)
            assert isinstance(row, dict)  # noqa: S101 - both schemas are records
            yield row


_Take = Callable[[bytes, bytes, bytes, bool, int], None]


def read_receipts(data: bytes, count: int, take: _Take) -> None:
    """Calls take(forwarder id, id, user id, delivered?, settled_at in epoch ms) for each of a block's receipts.

    By hand because a rerun reads all receipts before it starts: 3 us each where fastavro takes 9. Only for blocks
    written with this very receipt.avsc; the tests hold it to fastavro.
    """

    def long(at: int) -> tuple[int, int]:
        byte = data[at]
        number, shift, at = byte & 0x7F, 7, at + 1
        while byte > 0x7F:
            byte = data[at]
            number |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
        return (number >> 1) ^ -(number & 1), at

    def text(at: int) -> tuple[bytes, int]:
        size = data[at]
        if size > 0x7F:
            size, at = long(at)
        else:
            size, at = size >> 1, at + 1
        return data[at : at + size], at + size

    def after_long(at: int) -> int:
        while data[at] > 0x7F:
            at += 1
        return at + 1

    at = 0
    for _ in range(count):
        forwarder_id, at = text(at)
        record_id, at = text(at)
        user_id, at = text(at)
        _, at = text(at)  # kind
        delivered = data[at] == 0  # the first symbol of the enum
        at = after_long(at + 1)  # attempts
        at = after_long(at + 1) if data[at] else at + 1  # status
        at = text(at + 1)[1] if data[at] else at + 1  # shard
        at = text(at + 1)[1] if data[at] else at + 1  # sequence_number
        at += 1  # ambiguous
        at = after_long(at + 1) if data[at] else at + 1  # first_attempt
        at = after_long(at + 1) if data[at] else at + 1  # last_attempt
        settled_at, at = long(at)
        _, at = text(at)  # run_id
        take(forwarder_id, record_id, user_id, delivered, settled_at)


def _bucket_file(scratch: Path, what: str, bucket: int) -> Path:
    return scratch / f"{what}-{bucket:02}"


class _Partition:
    """Receipts on their way into bucket files; the forwarders' ids are numbered as they come."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[list[_Row]] = [[] for _ in range(BUCKETS)]
        self._rows = 0
        self.total = 0

    @property
    def forwarders(self) -> list[str]:
        return [forwarder.decode() for forwarder in self._numbers]

    def add(self, forwarder_id: bytes, record_id: bytes, user_id: bytes, delivered: bool, settled_at: int) -> None:
        number = self._numbers.setdefault(forwarder_id, len(self._numbers))
        bucket = bucket_of(user_id.decode())
        self._waiting[bucket].append(_Row(number, record_id.decode(), settled_at, delivered))
        self._rows += 1
        self.total += 1
        if self._rows >= _SPILL_ROWS:
            self.spill()

    def spill(self) -> None:
        for bucket, rows in enumerate(self._waiting):
            if rows:
                with _bucket_file(self._scratch, "receipts", bucket).open("ab") as stream:
                    write_frame(stream, _encode(rows))
                rows.clear()
        self._rows = 0


def _partition_receipts(storage: Storage, parts: list[str], scratch: Path) -> tuple[list[str], int]:
    """All receipts into bucket files, in the order of the parts. Gives the forwarders' ids by number, and the rows."""
    partition = _Partition(scratch)
    for name in parts:
        for schema, blocks in _read(storage, name):
            if schema == _RECEIPT_SCHEMA:
                for block in blocks:
                    read_receipts(block.data, block.count, partition.add)
                continue
            for row in _rows(schema, blocks, "receipt"):
                ids = (row["forwarder_id"].encode(), row["id"].encode(), row["user_id"].encode())
                partition.add(*ids, row["outcome"] == "delivered", row["settled_at"])
    partition.spill()
    return partition.forwarders, partition.total


def _resolve(scratch: Path, bucket: int, forwarders: list[str]) -> dict[str, list[str]]:
    """The ids each forwarder has, by the latest receipt of each; of two in one ms, the one written later."""
    spilled = _bucket_file(scratch, "receipts", bucket)
    if not spilled.exists():
        return {}
    latest: dict[tuple[int, str], _Row] = {}
    with spilled.open("rb") as stream:
        for _, data in read_frames(stream):
            for row in _decode_rows(data):
                key = (row.forwarder, row.id)
                known = latest.get(key)
                if known is None or row.settled_at >= known.settled_at:
                    latest[key] = row
    delivered: dict[str, list[str]] = {}
    for row in latest.values():
        if row.delivered:
            delivered.setdefault(forwarders[row.forwarder], []).append(row.id)
    return delivered


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Of a dead letter's record: by user, and for each in the order in which records leave (records.md section 2).

    Read from the record's line; its `timestamp` is a text of fixed width, which sorts as the time does.
    """

    user_id: str
    timestamp: str
    place: int
    session_id: str
    kind: Kind
    id: str

    def key(self) -> tuple[str, str, int, str, int, str]:
        return (self.user_id, self.timestamp, self.place, self.session_id, KINDS.index(self.kind), self.id)


_decode_place = msgspec.json.Decoder(_Place).decode


def _partition_dead_letters(storage: Storage, parts: list[str], scratch: Path) -> int:
    """All dead letters into bucket files, in the order of the parts. Gives their number."""
    waiting: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    size = total = 0

    def spill() -> None:
        for bucket, letters in enumerate(waiting):
            if letters:
                with _bucket_file(scratch, "dead_letters", bucket).open("ab") as stream:
                    for letter in letters:
                        write_frame(stream, letter)
                letters.clear()

    for name in parts:
        for schema, blocks in _read(storage, name):
            for row in _rows(schema, blocks, "dead_letter"):
                letter = _encode(msgspec.convert(row, DeadLetter))
                waiting[bucket_of(row["user_id"])].append(letter)
                total += 1
                size += len(letter)
                if size >= _SPILL_BYTES:
                    spill()
                    size = 0
    spill()
    return total


def _undelivered(scratch: Path, bucket: int, delivered: dict[str, list[str]]) -> Iterator[bytes]:
    """The latest dead letter of each key that is not delivered, in order, as frames. Keeps no payloads in memory."""
    spilled = _bucket_file(scratch, "dead_letters", bucket)
    if not spilled.exists():
        return
    has = {forwarder: frozenset(ids) for forwarder, ids in delivered.items()}
    latest: dict[tuple[str, str], tuple[int, int, _Place]] = {}
    with spilled.open("rb") as stream:
        for offset, data in read_frames(stream):
            letter = decode_dead_letter(data)
            if letter.id in has.get(letter.forwarder_id, ()):
                continue
            known = latest.get((letter.forwarder_id, letter.id))
            if known is None or letter.settled_at >= known[0]:
                latest[letter.forwarder_id, letter.id] = (letter.settled_at, offset, _decode_place(letter.record))
        for _, offset, _ in sorted(latest.values(), key=lambda found: found[2].key()):
            yield frame(read_frame(stream, offset))
