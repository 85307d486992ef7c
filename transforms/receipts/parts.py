"""Parts as they are read: which files there are, their blocks, and the rows of these."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

from schemas import avro_schema
from transforms.receipts.avro_container import EncodedBlock, NotAContainerError, Reader, TornError, plain
from transforms.receipts.journal import JOURNAL, PART
from transforms.receipts.rows import DamagedError, read_rows
from transforms.receipts.runs import generation_of, place, run_number
from transforms.storage import LocalStorage, Storage, StorageError, remedy

logger = logging.getLogger(__name__)

RECEIPT_SCHEMA = avro_schema("receipt")
"""What receipts are written with now: `read_receipts` reads these, `rows_of` those of any version."""

PLAIN_SCHEMAS = {"receipt": plain(RECEIPT_SCHEMA), "dead_letter": plain(avro_schema("dead_letter"))}


_MOST = 1 << 63
"""A long of Avro is less than this."""


class DamagedPartError(StorageError):
    """A part holds what the job never wrote, or cannot be read at all. The text names it, and says what to do."""


_DAMAGE = (
    ValueError,  # a text that is not UTF-8, a number that does not fit, a dead letter without its fields
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,  # a length that was a small number once
    RecursionError,
    SchemaParseException,
    SchemaResolutionError,
)
"""What readers raise, by hand or by fastavro and msgspec, when bytes are not those that were written."""


@contextmanager
def reading_part(storage: Storage, name: str) -> Iterator[None]:
    """Turns what goes wrong while a part is read into a DamagedPartError that names the part.

    Do nothing else inside: the errors are also those of a mistake in a program.
    """
    path = f"{storage.root}/{name}"
    try:
        yield
    except FileNotFoundError:
        raise DamagedPartError(f"{path} has gone since the run began: put it back, then run again") from None
    except OSError as error:
        raise DamagedPartError(
            f"{path} cannot be read: {error.strerror or error}; {remedy(error)}, then run again"
        ) from error
    except _DAMAGE as error:
        raise DamagedPartError(
            f"{path} is damaged: restore it from a backup, or move it away. Without a part of receipts, what it says "
            "is delivered is sent again; without a part of dead letters, those are not sent again"
        ) from error


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


def horizon_beginning(receipts: Mapping[str, float], horizon: float | None, now: float) -> float:
    """The moment `horizon` seconds before the last run wrote receipts, in epoch seconds.

    A file that was written while the clock was ahead seems to be of the future. It does not count as later than `now`:
    else all that was written since the clock was set right would seem too old.

    Args:
        receipts: when the files of receipts were written to (`parts_written`).
        horizon: seconds, or None.
        now: epoch seconds.

    Returns:
        Minus infinity, before all files, if `horizon` is None or nobody knows when they were written to.
    """
    last = max((run_number(name) for name in receipts), default=0)
    known = [time for name, time in receipts.items() if time < math.inf and run_number(name) == last]
    return -math.inf if horizon is None or not known else min(max(known), now) - horizon


def written_since(written: Mapping[str, float], beginning: float) -> list[str]:
    """The names of the files that were written to since `beginning` (epoch seconds), in their order (`place`).

    A file is not older than those before it: those of earlier runs and generations, and earlier ones of its own worker.
    If its time says so, the clock was behind then. So it counts as old as the latest of these. This keeps too many
    files rather than too few: a receipt that is left out is a record that is sent twice.
    """
    times: dict[str, float] = {}
    earlier = -math.inf
    for _, names in groupby(sorted(written, key=place), key=generation_of):
        of_worker: dict[str, float] = {}
        for name in names:
            worker = name.rpartition("-")[0]
            of_worker[worker] = times[name] = max(written[name], earlier, of_worker.get(worker, -math.inf))
        earlier = max([earlier, *(time for time in of_worker.values() if time < math.inf)])
    return [name for name, time in times.items() if time >= beginning]


def open_part(
    storage: Storage, name: str, damaged: set[str] | None = None
) -> Iterator[tuple[dict[str, Any], Iterator[EncodedBlock]]]:
    """The schema of a part and its blocks, as one pair; nothing if a journal is cut short inside its header.

    The name is added to `damaged` if not all of it can be read.

    Raises:
        NotAContainerError: the file is none of the job's; or it is empty, and became so on a local disk. There a part
            has a header from its first moment on, so what was in it is lost, and that must not pass in silence.
    """
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
            if isinstance(storage, LocalStorage) and name.endswith(PART):
                raise NotAContainerError(
                    f"{storage.root}/{name} is empty, or has lost its beginning: restore it, or move it away. Without "
                    "it, what it says was delivered is sent again, and its dead letters are lost"
                ) from None
            _warn(storage, name, torn)
            if damaged is not None:
                damaged.add(name)
            return
        yield reader.header.schema, _whole_blocks(storage, name, reader, damaged)


def _whole_blocks(storage: Storage, name: str, reader: Reader, damaged: set[str] | None) -> Iterator[EncodedBlock]:
    torn_at: TornError | None = None
    try:
        yield from reader
    except TornError as torn:
        torn_at = torn
        _warn(storage, name, torn)
    if damaged is not None and (torn_at or reader.lost):
        damaged.add(name)
    for start, end in reader.lost:
        warn_of_damage(storage, name, f"from byte {start} to {end}")


def _warn(storage: Storage, name: str, torn: TornError) -> None:
    """Log that a file is cut short.

    That is usual of a journal. Of a part it is not, except where a file is not written in one step, and a kill came.
    """
    level = logging.DEBUG if name.endswith(JOURNAL) else logging.WARNING
    logger.log(level, "%s/%s is %s; what came before is used", storage.root, name, torn)


def warn_of_damage(storage: Storage, name: str, where: str) -> None:
    """Log that rows of a part cannot be used, and what follows from it."""
    logger.warning(
        "%s/%s is damaged %s: restore it if you can. Without the receipts there records are sent again; dead letters "
        "there are lost to --redrive",
        storage.root,
        name,
        where,
    )


def rows_of(
    schema: dict[str, Any],
    blocks: Iterable[EncodedBlock],
    shape: str,
    on_damage: Callable[[str], None] = lambda where: None,
) -> Iterator[dict[str, Any]]:
    """The rows of blocks, with the fields that the schema `shape` has now.

    Args:
        schema: what the blocks were written with, by this version of the job or another.
        blocks: of a part.
        shape: `receipt` or `dead_letter`.
        on_damage: called with where a block is that is left out, because its rows are not as they were written.
    """
    written, wanted = plain(schema), PLAIN_SCHEMAS[shape]
    if written == wanted:
        wanted = None  # fastavro takes half the time if it need not match the two.
    for block in blocks:
        try:
            rows = read_rows(written, wanted, block)
        except DamagedError:
            on_damage(place_of(block))
            continue
        yield from rows


def place_of(block: EncodedBlock) -> str:
    """Where a block is in its file, for a message."""
    return f"from byte {block.end - block.size} to {block.end}"


def read_receipts(
    data: bytes,
    count: int,
    take: Callable[[bytes, bytes, bytes, bool], None],
    ends: list[int] | None = None,
    times: list[int] | None = None,
) -> bytes:
    """Read the receipts of a block that was written with the present receipt.avsc, and no other version of it.

    It is done by hand because a run reads all receipts of earlier runs before it starts: 3 us each, where fastavro
    takes 9. The tests compare it with fastavro.

    Args:
        data: the rows of the block.
        count: how many these are.
        take: called for each with forwarder id, record id, user id, and whether it was delivered.
        ends: where the end of each row in `data` is appended to; None if nobody asks.
        times: where the time at which each was settled (epoch ms) is appended to; None if nobody asks.

    Returns:
        The id of the run, which is the same for all of them.

    Raises:
        DamagedError: they are not as they were written (`transforms.receipts.rows`). Then none of them is taken.
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
            if size < 0:
                raise ValueError("a text of negative length")
        else:
            size, offset = size >> 1, offset + 1
        return data[offset : offset + size], offset + size

    def after_long(offset: int) -> int:
        while data[offset] > 0x7F:
            offset += 1
        return offset + 1

    rows: list[tuple[bytes, bytes, bytes, bool]] = []
    offset, run_id = 0, b""
    try:
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
            of_run, offset = text(offset)
            remarks, offset = long(offset)  # blocks of texts, until one of none
            while remarks:
                if remarks < 0:
                    raise DamagedError("a receipt has remarks in a form that is never written")
                for _ in range(remarks):
                    _, offset = text(offset)
                remarks, offset = long(offset)
            if not (forwarder_id and record_id and of_run) or of_run != (run_id or of_run):
                raise DamagedError("a receipt names no forwarder, no record, or another run")
            if not -_MOST <= settled_at < _MOST:
                raise DamagedError("a receipt is of a time of more than 64 bits")
            run_id = of_run
            (forwarder_id + record_id + user_id).decode()
            rows.append((forwarder_id, record_id, user_id, delivered))
            if ends is not None:
                ends.append(offset)
            if times is not None:
                times.append(settled_at)
    except (IndexError, UnicodeDecodeError):
        raise DamagedError("a receipt ends behind its block, or has an id that is no text") from None
    if offset != len(data):
        raise DamagedError("the receipts do not fill the block")
    for row in rows:
        take(*row)
    return run_id
