"""Receipts and dead letters, durable as the work goes on (docs/spec/forwarders.md section 4).

On a local disk a journal is an Avro container file that grows by some blocks, in one write, each time items are
settled. What `settle` has written survives a SIGKILL of the process when it returns, because the kernel has it. To
survive a power cut it has to be synced to the disk, which takes longer than to send a record did. So a thread of its
own syncs journals together, GROUP_SECONDS after something was written, dead letters before receipts. `settle` does not
wait for it unless it is told to. After a cut, what was acknowledged since the last sync is sent again. `flush` and
`close` do wait: what a runner takes as done is on the disk.

A journal that is large enough, or closed, is renamed, and is then a part, which never changes. One that a kill or a
power cut left behind becomes a part in `recover`.

On any other file system files cannot grow. There a part is collected in memory, and a thread of its own writes it
within a second after its first receipt.
"""

import fcntl
import logging
import os
import re
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Protocol

from schemas import avro_schema
from schemas.times import now_ms
from transforms import durability
from transforms.durability import GROUP_SECONDS, Durability
from transforms.receipts.avro_container import SYNC_SIZE, EncodedBlock, Header, Reader, TornError, block, header, plain
from transforms.receipts.encoder import Blocks, Encoder, in_blocks
from transforms.receipts.rows import DamagedError, read_rows
from transforms.sinks.base import Settlement
from transforms.storage import LocalStorage, Storage, StorageError, remedy, storage_at

logger = logging.getLogger(__name__)

RECEIPTS = "receipts"
DEAD_LETTERS = "dead_letters"
"""The directories under the output that hold the journals and parts."""

_SCHEMAS = {RECEIPTS: "receipt", DEAD_LETTERS: "dead_letter"}

PART = ".avro"
"""The suffix of a part: a whole file, which never changes."""

JOURNAL = ".journal"
"""The suffix of a journal: a file that a worker writes to, or that a kill left."""

UNFINISHED = ".new"
"""The suffix of a journal that has no header yet."""

PART_BYTES = 32 * 1024 * 1024
"""Bytes from which on a journal becomes a part, and the next one begins."""

FLUSH_AFTER = 0.4
"""Seconds from a part's first receipt to the start of its upload (docs/spec/forwarders.md section 4: 1 s at most)."""

UPLOAD_RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each further try of an upload that failed. Beam's own retries come on top of these."""

BACKLOG_BYTES = 2 * PART_BYTES
"""Bytes that may wait to be uploaded; with more, `settle` waits. So memory is bounded when the store is slow."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]+")


class JournalError(StorageError):
    """A journal cannot be written or taken over. The text says where and why, and what to do."""


def new_worker_name(generation: int = 1) -> str:
    """A name for the owner of one journal, used once: generation, host, process and a random part.

    A process may have several.

    Args:
        generation: of the run (`History.generation`). It sorts the journals of a run.
    """
    host = re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40]
    return f"{generation:06}-{host}-{os.getpid()}-{secrets.token_hex(3)}"


class _Writer(Protocol):
    """How a journal writes to its file system. Each method is as the journal's; `write` is for `settle`."""

    def open(self) -> None: ...
    def check(self) -> None: ...
    def write(self, dead_letters: Blocks, receipts: Blocks) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def forsake(self) -> None: ...


class Journal:
    """Writes receipts and dead letters under an output. `Journal.settle` is the engine's `Settle`.

    The files are `receipts/<run_id>-<worker>-<number>.avro`, and so in `dead_letters/`.

    Args:
        output: a path, or a url of a file system that is registered with Beam.
        run_id: of the run; letters, digits, `.`, `_` and `-`.
        worker: whose journal it is, in the same characters. No two journals of an output may share both names.
        durability: what of it is synced to a local disk, and when.
        clock: epoch ms.
        part_bytes: see PART_BYTES.
        flush_after: see FLUSH_AFTER.

    Raises:
        ValueError: a name has other characters.
    """

    def __init__(
        self,
        output: str | Storage,
        run_id: str,
        worker: str,
        *,
        durability: Durability = "group",
        clock: Callable[[], int] = now_ms,
        part_bytes: int = PART_BYTES,
        flush_after: float = FLUSH_AFTER,
    ) -> None:
        for what, name in (("run_id", run_id), ("worker", worker)):
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r} goes into file names: use letters, digits, '.', '_' and '-' only")
        self._clock = clock
        self._encoder = Encoder(run_id)
        storage = storage_at(output)
        stem = f"{run_id}-{worker}"
        self._writer: _Writer
        if isinstance(storage, LocalStorage):
            self._writer = _LocalWriter(storage.path, stem, part_bytes, durability)
        else:
            self._writer = _ObjectWriter(storage, stem, part_bytes, flush_after)
        _open.add(self)

    def open(self) -> None:
        """Make the files, so that what is sent from now on can be booked: a lack of descriptors or of room shows here.

        Raises:
            JournalError: they cannot be made.
        """
        self._writer.open()

    def check(self) -> None:
        """See that the files are still there. Call it now and then.

        Raises:
            JournalError: one was deleted or moved away, so that nobody would find what is settled from now on.
        """
        self._writer.check()

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Write a receipt for each settlement, and before those a dead letter for each item that was given up.

        It may be called from any thread. On a local disk they survive the death of the process when this returns, and
        that of the machine GROUP_SECONDS later or, with the durability `each`, when this returns. Elsewhere they
        survive both a second later.

        Raises:
            JournalError: they cannot be made durable, because the disk is full or the store cannot be reached; also
                when what was settled before could not be synced. Send nothing more then: the next run would not know
                that it was delivered.
        """
        settled_at = self._clock()
        encoder = self._encoder
        encoder.forget()
        receipts = encoder.receipts(settlements, settled_at)
        dead_letters = [
            encoder.dead_letter(settlement, receipt)
            for settlement, receipt in zip(settlements, receipts, strict=True)
            if not settlement.delivered
        ]
        self._writer.write(in_blocks(dead_letters), in_blocks(receipts))

    def flush(self) -> None:
        """Wait until all that was settled is durable. Call it before a bundle is committed.

        Raises:
            JournalError: as `settle`.
        """
        self._writer.flush()

    def close(self) -> None:
        """Turn what is open into parts. `settle` is refused from now on. May be called again."""
        self._writer.close()

    def forsake(self) -> None:
        """Let go of the files in a forked child, and refuse `settle`.

        The files are the parent's, and so are their locks, which the child would else hold after the parent's death.
        """
        self._writer.forsake()


_open: weakref.WeakSet[Journal] = weakref.WeakSet()


def close_journals() -> None:
    """Close every journal of this process that is still open.

    Call it before `recover` when a run failed or was stopped: Beam does not tear its DoFns down then. Raises
    JournalError as `Journal.close` does.
    """
    for journal in list(_open):
        journal.close()


def _forsake_in_child() -> None:
    for journal in list(_open):
        journal.forsake()


os.register_at_fork(after_in_child=_forsake_in_child)


def sync_marker(stem: str) -> bytes:
    """The sync marker of a journal: it follows from the name, so that it is known when its header is damaged.

    A name is used once, and has random parts. So markers differ as random ones do.
    """
    return blake2b(stem.encode(), digest_size=SYNC_SIZE).digest()


class _LocalLog:
    """The journals of one kind, receipts or dead letters, one after the other. Each is made by its first write.

    The first one may be made before by `begin`. One without rows does not become a part.
    """

    def __init__(self, root: Path, directory: str, stem: str, part_bytes: int) -> None:
        self._directory = root / directory
        self._stem = stem
        self._schema = _SCHEMAS[directory]
        self._part_bytes = part_bytes
        self._number = 0
        self._descriptor: int | None = None
        self._journal = self._directory
        self._marker = b""
        self._size = 0
        self._synced = 0
        self._has_rows = False

    @property
    def is_full(self) -> bool:
        return self._descriptor is not None and self._size >= self._part_bytes

    def begin(self) -> None:
        """Make a journal, if there is none."""
        if self._descriptor is None:
            self._begin()

    def check(self) -> None:
        """Raises JournalError if the journal is no longer what has its name."""
        if self._descriptor is None:
            return
        try:
            there = self._journal.stat()
        except OSError:
            raise _gone(self._journal) from None
        if not os.path.samestat(there, os.fstat(self._descriptor)):
            raise _gone(self._journal)

    def write(self, blocks: Blocks) -> None:
        """Append blocks in one write: all of them, or none and raise JournalError."""
        if blocks:
            descriptor = self._begin() if self._descriptor is None else self._descriptor
            self._append(descriptor, b"".join([block(count, data, self._marker) for count, data in blocks]))
            self._has_rows = True

    def _begin(self) -> int:
        """Make a journal, and lock it.

        It has its lock and its header before it has the name that `recover` looks for. So `recover` takes no journal
        away from a worker that lives.
        """
        name = f"{self._stem}-{self._number:06}"
        unfinished, journal, part = (self._directory / (name + suffix) for suffix in (UNFINISHED, JOURNAL, PART))
        try:
            durability.make_directories(self._directory)
            descriptor = durability.create(unfinished)
        except FileExistsError:
            raise _taken(unfinished) from None
        except OSError as error:
            raise _unwritable(self._directory, error) from error
        self._size = self._synced = 0
        self._has_rows = False
        self._marker = sync_marker(name)
        try:
            for taken in (journal, part):
                if taken.exists():
                    raise _taken(taken)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append(descriptor, header(avro_schema(self._schema), self._marker))
            durability.replace(unfinished, journal)
        except BaseException:
            os.close(descriptor)
            durability.remove(unfinished)
            raise
        self._number += 1
        self._journal, self._descriptor = journal, descriptor
        return descriptor

    def _append(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, or none of it and raise JournalError."""
        try:
            durability.append_all(descriptor, data)
        except OSError as error:
            durability.truncate(descriptor, self._size)
            raise _unwritable(self._directory, error) from error
        self._size += len(data)
        if not os.fstat(descriptor).st_nlink:  # Nobody would ever read what was written.
            raise _gone(self._journal)

    def sync(self) -> None:
        """Wait until what was written before this call is on the disk. Another thread may write meanwhile."""
        descriptor, size = self._descriptor, self._size
        if descriptor is None or size == self._synced or not self._has_rows:
            return
        try:
            durability.sync(descriptor)
            if not self._synced:
                durability.sync_directory(self._directory)
        except FileNotFoundError:
            raise _gone(self._journal) from None
        except OSError as error:
            raise _unsynced(self._directory, error) from error
        self._synced = size

    def roll(self) -> None:
        """Make the journal a part, if there is one; one without rows is removed.

        What is in it has been synced, if anything is.
        """
        if self._descriptor is not None:
            try:
                if self._has_rows:
                    durability.replace(self._journal, self._journal.with_suffix(PART))
                else:
                    durability.remove(self._journal)
                if self._synced:
                    durability.sync_directory(self._directory)
            except FileNotFoundError:
                raise _gone(self._journal) from None
            except OSError as error:
                raise _unsynced(self._directory, error) from error
            finally:
                self.forsake()

    def forsake(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _unwritable(directory: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot write the journal in {directory}: {error.strerror}; {remedy(error)}, then run again: what is in the "
        "journal is not sent twice"
    )


def _unsynced(directory: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot sync the journal in {directory}: {error.strerror}; {remedy(error)}, then run again: what was "
        "acknowledged in the last moment may be sent twice"
    )


def _gone(journal: Path) -> JournalError:
    return JournalError(
        f"{journal} was deleted or moved during the run, so nothing more is sent: leave the output alone while a run "
        "is under way. Put it back if you can, then run again: what is not in the receipts is sent again"
    )


def _taken(path: Path) -> JournalError:
    return JournalError(f"{path} exists: two journals with one name; give each worker a name of its own")


class _LocalWriter:
    """Writes to a local disk, where files grow, and syncs what was written, in groups.

    A group is synced without the lock, so that nobody who settles waits for the disk. Files are closed only while no
    group is being synced.
    """

    def __init__(self, root: Path, stem: str, part_bytes: int, durability: Durability) -> None:
        self._durability = durability
        self._dead_letters = _LocalLog(root, DEAD_LETTERS, stem, part_bytes)
        self._receipts = _LocalLog(root, RECEIPTS, stem, part_bytes)
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        # Calls of `write`, and how many of the first of them are synced.
        self._written = self._synced = 0
        self._idle = self._syncing = self._closed = False
        self._error: JournalError | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        with self._changed:
            self._dead_letters.begin()
            self._receipts.begin()

    def check(self) -> None:
        with self._changed:
            self._dead_letters.check()
            self._receipts.check()

    def write(self, dead_letters: Blocks, receipts: Blocks) -> None:
        with self._changed:
            if self._closed:
                raise JournalError("the journal is closed")
            self._check()
            self._dead_letters.write(dead_letters)
            self._receipts.write(receipts)
            if self._durability != "none" and (dead_letters or receipts):
                self._written += 1
                self._wake()
            if self._dead_letters.is_full or self._receipts.is_full:
                self._end_full()
            if self._durability == "each":
                self._await_sync()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._sync_groups, name="journal", daemon=True)
            self._thread.start()
        elif self._idle:
            self._changed.notify_all()

    def _end_full(self) -> None:
        self._sync_now()
        for log in (self._dead_letters, self._receipts):
            if log.is_full:
                log.roll()

    def _sync_now(self) -> None:
        """Sync all that is written, while nobody writes."""
        while self._syncing:
            self._changed.wait()
        self._check()
        if self._durability != "none":
            try:
                self._sync()
                self._synced = self._written
            finally:
                self._changed.notify_all()

    def _sync(self) -> None:
        # Receipts say of dead letters that they are there. So these come first.
        try:
            self._dead_letters.sync()
            self._receipts.sync()
        except JournalError as error:
            self._error = error
            raise
        except Exception as error:
            # A fault in this program. Those who wait for the disk must not wait for ever.
            self._error = JournalError(f"cannot sync the journal: {error}")
            raise self._error from error

    def _check(self) -> None:
        """Raises JournalError once a sync has failed: the kernel may have dropped the data, and says so only once."""
        if self._error is not None:
            raise JournalError(str(self._error)) from self._error

    def _await_sync(self) -> None:
        written = self._written
        while self._synced < written:
            self._check()
            self._hurry.set()
            self._changed.wait()

    def _sync_groups(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                while self._written == self._synced and not self._closed:
                    self._changed.wait()
                self._idle = False
            self._hurry.wait(GROUP_SECONDS)
            with self._changed:
                self._hurry.clear()
                if self._closed or self._error is not None:
                    return
                self._syncing = True
                written = self._written
            try:
                self._sync()
            except JournalError as error:
                logger.error("%s", error)
            with self._changed:
                self._syncing = False
                if self._error is None:
                    self._synced = max(self._synced, written)
                self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            if self._durability != "none" and not self._closed:
                self._check()
                self._await_sync()

    def close(self) -> None:
        with self._changed:
            if not self._closed:
                self._closed = True
                self._changed.notify_all()
                self._hurry.set()
                try:
                    self._sync_now()
                    self._dead_letters.roll()
                    self._receipts.roll()
                finally:
                    self._forsake_files()
        if self._thread is not None:
            self._thread.join()

    def forsake(self) -> None:
        # New ones: at the fork another thread of the parent may have held them.
        self._changed, self._hurry = threading.Condition(), threading.Event()
        self._thread = None
        self._closed = True
        self._forsake_files()

    def _forsake_files(self) -> None:
        self._dead_letters.forsake()
        self._receipts.forsake()


class _ObjectWriter:
    """Writes to a file system where files cannot grow.

    Parts are collected in memory. One thread uploads them, dead letters before the receipts of the same records.
    """

    def __init__(self, storage: Storage, stem: str, part_bytes: int, flush_after: float) -> None:
        self._storage = storage
        self._stem = stem
        self._part_bytes = part_bytes
        self._flush_after = flush_after
        self._changed = threading.Condition()
        self._dead_letters: Blocks = []
        self._receipts: Blocks = []
        self._size = 0
        self._due = 0.0
        self._hurry = False
        self._busy = False
        self._closed = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._number = 0

    def open(self) -> None:
        """Nothing to do: a file is made when it is complete."""

    def check(self) -> None:
        """Nothing to do: nothing is kept open, so each upload finds the place or says that it does not."""

    def write(self, dead_letters: Blocks, receipts: Blocks) -> None:
        with self._changed:
            if self._closed:
                raise JournalError("the journal is closed")
            while self._size >= BACKLOG_BYTES and self._error is None:
                self._changed.wait()
            self._check()
            if self._thread is None:
                self._thread = threading.Thread(target=self._upload_all, name="journal", daemon=True)
                self._thread.start()
            if not self._size:
                self._due = time.monotonic() + self._flush_after
            self._dead_letters += dead_letters
            self._receipts += receipts
            self._size += sum(len(data) for _, data in (*dead_letters, *receipts))
            self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            while (self._size or self._busy) and self._error is None:
                self._hurry = True
                self._changed.notify_all()
                self._changed.wait()
            self._check()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._check()

    def forsake(self) -> None:
        self._changed = threading.Condition()  # A new one: at the fork another thread of the parent may have held it.
        self._closed = True
        self._thread = None

    def _check(self) -> None:
        if self._error is not None:
            raise JournalError(
                f"cannot write receipts under {self._storage.root}: {self._error}; see that the store can be reached "
                "and written, then run again: receipts of the last seconds are missing, so some are sent twice"
            ) from self._error

    def _upload_all(self) -> None:
        """Upload parts as they are due, until the journal is closed and nothing is left."""
        while True:
            with self._changed:
                while not self._ready():
                    left = self._due - time.monotonic() if self._size else None
                    self._changed.wait(left)
                if not self._size:
                    return
                dead_letters, self._dead_letters = self._dead_letters, []
                receipts, self._receipts = self._receipts, []
                self._size = 0
                self._hurry = False
                self._busy = True
                self._changed.notify_all()
            try:
                self._upload(DEAD_LETTERS, "dead_letter", dead_letters)
                self._upload(RECEIPTS, "receipt", receipts)
            except Exception as error:
                logger.exception("writing receipts under %s failed", self._storage.root)
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._number += 1
                self._busy = False
                self._changed.notify_all()

    def _ready(self) -> bool:
        """Whether a part is due to be uploaded, or there will be none any more."""
        if not self._size:
            return self._closed
        return self._closed or self._hurry or self._size >= self._part_bytes or time.monotonic() >= self._due

    def _upload(self, directory: str, schema: str, blocks: Blocks) -> None:
        if not blocks:
            return
        sync = os.urandom(SYNC_SIZE)
        part = [header(avro_schema(schema), sync), *(block(count, data, sync) for count, data in blocks)]
        name = f"{directory}/{self._stem}-{self._number:06}{PART}"
        for wait in (*UPLOAD_RETRIES, None):
            try:
                self._storage.write(name, part)
                return
            except Exception:
                if wait is None:
                    raise
                logger.warning("writing %s failed; trying again in %s s", name, wait, exc_info=True)
                time.sleep(wait)


def recover(output: str, *, wait: float = 10.0) -> list[str]:
    """Make parts of the journals that killed workers, or a power cut, left under an output.

    Call it under the output's lock, before receipts are indexed, and again when all journals of a run are closed. Of a
    journal that is damaged the blocks that are whole are kept, before the damage and behind it. The others are dropped:
    `settle` had not returned from writing them, or they had not been synced when the power went. It costs nothing where
    nothing is left, and does nothing where files cannot grow.

    Args:
        output: a path or a url.
        wait: seconds to wait for workers that still write though their job was killed.

    Returns:
        The names of the parts that were made. They are on the disk.

    Raises:
        JournalError: a worker of an earlier run still writes, or a journal cannot be made a part.
    """
    storage = storage_at(output)
    if not isinstance(storage, LocalStorage):
        return []
    parts = []
    for directory in (DEAD_LETTERS, RECEIPTS):
        for name in storage.list(directory):
            journal = storage.path / directory / name
            if journal.suffix == UNFINISHED:
                durability.remove(journal)
            elif journal.suffix == JOURNAL and _recover_one(journal, time.monotonic() + wait):
                parts.append(f"{directory}/{journal.with_suffix(PART).name}")
    return parts


def _recover_one(journal: Path, deadline: float) -> bool:
    """Make a part of one journal. Returns False if it held nothing, or its worker has made the part itself."""
    with journal.open("r+b") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise JournalError(
                        f"{journal} is still being written: a worker of an earlier run is alive. End it, then run again"
                    ) from None
                time.sleep(0.05)
        if not journal.exists():
            return False  # Its worker has closed it meanwhile, so it is a part.
        size = os.fstat(stream.fileno()).st_size
        reader = _reader(stream, journal)
        kept = reader.header.length
        rows = 0
        for written in _whole_blocks(reader):
            kept += written.size
            rows += written.count
        if not rows:
            durability.remove(journal)
            return False
        if kept < size:
            logger.warning("%s: dropped %d bytes, damaged by a kill or a power cut", journal, size - kept)
        part = journal.with_suffix(PART)
        try:
            if kept < size:
                stream.seek(0)
                durability.write_file(part, _whole_part(_reader(stream, journal), journal))
                durability.remove(journal)
            else:
                durability.sync(stream.fileno())
                durability.replace(journal, part)
                durability.sync_directory(part.parent)
        except OSError as error:
            raise _unwritable(journal.parent, error) from error
        return True


def _reader(stream: BinaryIO, journal: Path) -> Reader:
    """Reads a journal, also if its header is damaged: of what this release writes, it is known."""
    known = Header(avro_schema(_SCHEMAS[journal.parent.name]), sync_marker(journal.stem), 0)
    return Reader(stream, str(journal), known)


def _whole_blocks(reader: Reader) -> Iterator[EncodedBlock]:
    """The blocks that are whole. One may be framed well and hold a damaged page: that is no whole block either."""
    schema = plain(reader.header.schema)
    try:
        for written in reader:
            with suppress(DamagedError):
                read_rows(schema, None, written)
                yield written
    except TornError:
        return


def _whole_part(reader: Reader, journal: Path) -> Iterator[bytes]:
    """A container of the blocks that are whole."""
    marker = sync_marker(journal.stem)
    yield header(reader.header.schema, marker)
    for written in _whole_blocks(reader):
        yield block(written.count, written.data, marker)
