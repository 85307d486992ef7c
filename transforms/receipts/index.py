"""The index of what earlier runs settled: receipts and dead letters are read once, and sorted by bucket of users."""

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
"""The directory under the output that holds the index of the present run, in a directory of the run's name."""

DELIVERED_FILE = "delivered"
"""The file of an index with the ids of delivered records: for each bucket msgpack of {forwarder id: [id, ...]}."""

LETTERS_FILE = "dead_letters"
"""The file of an index with the dead letters that are not delivered: for each bucket frames of msgpack."""

_SPILL_ROWS = 200_000
"""Receipts that are in memory before they are written to the files of their buckets."""

_SPILL_BYTES = 32 * 1024 * 1024
"""Bytes of dead letters that are in memory before they are written to the files of their buckets."""

_encode = msgspec.msgpack.Encoder().encode
decode_dead_letter = msgspec.msgpack.Decoder(DeadLetter).decode


class _Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is needed of a receipt to see which is the latest of (forwarder, id), and what that says."""

    forwarder: int
    """The forwarder's number (`_Partition`)."""
    id: str
    settled_at: int
    delivered: bool


_decode_rows = msgspec.msgpack.Decoder(list[_Row]).decode


class HistoryIndex(msgspec.Struct, frozen=True):
    """Where an index is, and how much went into it. It is small and pickles: it is what workers are given."""

    output: str
    """The output whose index it is."""

    name: str
    """The directory of the index, relative to the output."""

    receipts: int = 0
    """Receipts that were read, all of each (forwarder, id)."""

    dead_letters: int = 0
    """Dead letters that were read, all of each (forwarder, id)."""

    delivered_at: tuple[int, ...] = ()
    """The offset of each bucket in DELIVERED_FILE, and the end of the last one; empty if there is no such file."""

    letters_at: tuple[int, ...] = ()
    """The offset of each bucket in LETTERS_FILE, and the end of the last one; empty if there is no such file."""


def index_history(
    output: str, run_id: str, *, dead_letters: bool = False, horizon: float | None = None
) -> HistoryIndex:
    """Read the parts under `output`, and write what `History` needs under `<output>/.history/<run_id>`.

    Call it in the launcher, holding the output's lock, after `recover`. It removes the indexes that killed runs left.
    Memory holds the receipts of one bucket (1/64 of all), and some 0.4 KB for each dead letter of one bucket.

    Args:
        output: the output of the present run and of the earlier ones.
        run_id: the present run.
        dead_letters: whether dead letters are indexed, too, for a redrive.
        horizon: seconds; parts that were last written to longer than that before the latest part are left out. None
            for all parts.

    Raises:
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
    """Write an index.

    Args:
        output: where `History` is to look for the index: the root of `target`.
        source: where the parts are.
        receipts: the names of the parts of receipts.
        letters: the names of the parts of dead letters.
        scratch: an empty directory on this machine, for the files in between.
        target: where the index is written.
        name: the directory of the index in `target`.
    """
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
    """Remove an index. Call it when the run has ended, and still holds the lock."""
    storage_at(index.output).remove_all(INDEX)


def parts_written(storage: Storage, directory: str, *suffixes: str, prefix: str = "") -> dict[str, float]:
    """When the files of a directory were last written to.

    Args:
        storage: where the directory is.
        directory: RECEIPTS or DEAD_LETTERS.
        suffixes: how the names of the files may end.
        prefix: how they begin.

    Returns:
        Epoch seconds, infinity where nobody knows, by the name of the file with its directory.
    """
    return {
        f"{directory}/{name}": modified or math.inf
        for name, modified in storage.modified(directory).items()
        if name.startswith(prefix) and name.endswith(suffixes)
    }


def horizon_beginning(receipts: Mapping[str, float], horizon: float | None) -> float:
    """The moment `horizon` seconds before the latest of the files was written to, in epoch seconds.

    It is minus infinity, before all files, if `horizon` is None or nobody knows when they were written to.
    """
    known = [modified for modified in receipts.values() if modified < math.inf]
    return -math.inf if horizon is None or not known else max(known) - horizon


def written_since(written: Mapping[str, float], beginning: float) -> list[str]:
    """The names of the files that were written to since `beginning` (epoch seconds), sorted."""
    return sorted(name for name, modified in written.items() if modified >= beginning)


def _scratch_beside(storage: Storage) -> Path | None:
    """A directory beside the parts, where there is room for such amounts; None for a remote output: TMPDIR's then."""
    if not isinstance(storage, LocalStorage):
        return None
    beside = storage.path / INDEX
    beside.mkdir(parents=True, exist_ok=True)
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

    storage.write(name, pieces())
    return tuple(offsets)


_RECEIPT_SCHEMA = avro_schema("receipt")
_PLAIN = {"receipt": plain(_RECEIPT_SCHEMA), "dead_letter": plain(avro_schema("dead_letter"))}


def _read(storage: Storage, name: str) -> Iterator[tuple[dict[str, Any], Iterator[Block]]]:
    """The schema of a part and its blocks, as one pair; nothing if the file is cut short inside its header."""
    try:
        stream = storage.open(name)
    except FileNotFoundError:
        if not name.endswith(JOURNAL):
            raise
        stream = storage.open(name.removesuffix(JOURNAL) + PART)  # It became a part since it was listed.
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
    """Log that a file is cut short.

    That is usual of a journal. Of a part it is not, except where a file is not written in one step, and a kill came.
    """
    level = logging.DEBUG if name.endswith(JOURNAL) else logging.WARNING
    logger.log(level, "%s/%s is %s; what came before is used", storage.root, name, torn)


def _rows(schema: dict[str, Any], blocks: Iterable[Block], shape: str) -> Iterator[dict[str, Any]]:
    """The rows of blocks, with the fields that the schema `shape` has now.

    Args:
        schema: what the blocks were written with, by this version of the job or another.
        blocks: of a part.
        shape: `receipt` or `dead_letter`.
    """
    written, wanted = plain(schema), _PLAIN[shape]
    if written == wanted:
        wanted = None  # fastavro takes half the time if it need not match the two.
    for block in blocks:
        stream = io.BytesIO(block.data)
        for _ in range(block.count):
            row = fastavro.schemaless_reader(stream, written, wanted)
            assert isinstance(row, dict)  # noqa: S101 - both schemas are records
            yield row


def read_receipts(data: bytes, count: int, take: Callable[[bytes, bytes, bytes, bool, int], None]) -> None:
    """Read the receipts of a block that was written with the present receipt.avsc, and no other version of it.

    It is done by hand because a run reads all receipts of earlier runs before it starts: 3 us each, where fastavro
    takes 9. The tests compare it with fastavro.

    Args:
        data: the rows of the block.
        count: how many these are.
        take: called for each with forwarder id, record id, user id, whether it was delivered, and `settled_at` in
            epoch ms.
    """

    # Each of these reads a value at an offset, and gives the offset after it.

    def long(offset: int) -> tuple[int, int]:
        byte = data[offset]
        number, shift, offset = byte & 0x7F, 7, offset + 1
        while byte > 0x7F:
            byte = data[offset]
            number |= (byte & 0x7F) << shift
            shift, offset = shift + 7, offset + 1
        return (number >> 1) ^ -(number & 1), offset

    def text(offset: int) -> tuple[bytes, int]:
        size = data[offset]
        if size > 0x7F:
            size, offset = long(offset)
        else:
            size, offset = size >> 1, offset + 1
        return data[offset : offset + size], offset + size

    def after_long(offset: int) -> int:
        while data[offset] > 0x7F:
            offset += 1
        return offset + 1

    offset = 0
    for _ in range(count):
        forwarder_id, offset = text(offset)
        record_id, offset = text(offset)
        user_id, offset = text(offset)
        _, offset = text(offset)  # kind
        delivered = data[offset] == 0  # The first symbol of the enum.
        offset = after_long(offset + 1)  # attempts
        offset = after_long(offset + 1) if data[offset] else offset + 1  # status
        offset = text(offset + 1)[1] if data[offset] else offset + 1  # shard
        offset = text(offset + 1)[1] if data[offset] else offset + 1  # sequence_number
        offset += 1  # ambiguous
        offset = after_long(offset + 1) if data[offset] else offset + 1  # first_attempt
        offset = after_long(offset + 1) if data[offset] else offset + 1  # last_attempt
        settled_at, offset = long(offset)
        _, offset = text(offset)  # run_id
        take(forwarder_id, record_id, user_id, delivered, settled_at)


def _bucket_file(scratch: Path, what: str, bucket: int) -> Path:
    return scratch / f"{what}-{bucket:02}"


class _Partition:
    """Sorts receipts into a file for each bucket. Forwarders are numbered as their ids come, to save room."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[list[_Row]] = [[] for _ in range(BUCKETS)]
        self._rows = 0
        self.total = 0

    @property
    def forwarders(self) -> list[str]:
        """The ids of the forwarders, in the order of their numbers."""
        return [forwarder.decode() for forwarder in self._numbers]

    def add(self, forwarder_id: bytes, record_id: bytes, user_id: bytes, delivered: bool, settled_at: int) -> None:
        """Put one receipt into the file of its bucket, sooner or later."""
        number = self._numbers.setdefault(forwarder_id, len(self._numbers))
        bucket = bucket_of(user_id.decode())
        self._waiting[bucket].append(_Row(number, record_id.decode(), settled_at, delivered))
        self._rows += 1
        self.total += 1
        if self._rows >= _SPILL_ROWS:
            self.spill()

    def spill(self) -> None:
        """Write all receipts that are still in memory."""
        for bucket, rows in enumerate(self._waiting):
            if rows:
                with _bucket_file(self._scratch, "receipts", bucket).open("ab") as stream:
                    write_frame(stream, _encode(rows))
                rows.clear()
        self._rows = 0


def _partition_receipts(storage: Storage, parts: list[str], scratch: Path) -> tuple[list[str], int]:
    """Sort all receipts into a file for each bucket, in the order of the parts.

    Returns:
        The ids of the forwarders in the order of their numbers, and how many receipts there are.
    """
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
    """The ids of the records that each forwarder has, for the users of a bucket.

    The latest receipt of (forwarder, id) decides, and of two in the same ms the one that was written later.
    """
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


class _Position(msgspec.Struct, frozen=True, gc=False):
    """What sorts dead letters by user, and each user's in the order of the records (docs/spec/records.md section 2).

    It is read from the record's line. The `timestamp` is a text of fixed width, which sorts as the time does.
    """

    user_id: str
    timestamp: str
    place: int
    session_id: str
    kind: Kind
    id: str

    def key(self) -> tuple[str, str, int, str, int, str]:
        return (self.user_id, self.timestamp, self.place, self.session_id, KINDS.index(self.kind), self.id)


_decode_position = msgspec.json.Decoder(_Position).decode


def _partition_dead_letters(storage: Storage, parts: list[str], scratch: Path) -> int:
    """Sort all dead letters into a file for each bucket, in the order of the parts. Returns how many there are."""
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
    """The dead letters of a bucket that a redrive has to send, in order, as frames.

    They are the latest of each (forwarder, id) that is not delivered. Memory holds their places, not their payloads.
    """
    spilled = _bucket_file(scratch, "dead_letters", bucket)
    if not spilled.exists():
        return
    has = {forwarder: frozenset(ids) for forwarder, ids in delivered.items()}
    latest: dict[tuple[str, str], tuple[int, int, _Position]] = {}
    with spilled.open("rb") as stream:
        for offset, data in read_frames(stream):
            letter = decode_dead_letter(data)
            if letter.id in has.get(letter.forwarder_id, ()):
                continue
            known = latest.get((letter.forwarder_id, letter.id))
            if known is None or letter.settled_at >= known[0]:
                latest[letter.forwarder_id, letter.id] = (letter.settled_at, offset, _decode_position(letter.record))
        for _, offset, _ in sorted(latest.values(), key=lambda letter: letter[2].key()):
            yield frame(read_frame(stream, offset))
