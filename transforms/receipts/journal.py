"""Receipts and dead letters, durable as the work goes on (docs/spec/forwarders.md section 4).

On a local disk a journal is an Avro container file that grows by one block, in one write, each time items are settled.
What `settle` has written survives a SIGKILL of the process when it returns, because the kernel has it. It is not synced
to the disk, so a power cut can take the last seconds: a sync would cost more than to send the record did. A journal
that is large enough, or closed, is renamed, and is then a part, which never changes. One that a kill left behind
becomes a part in `recover`.

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
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from schemas import avro_schema
from schemas.times import now_ms
from transforms.receipts.avro_container import SYNC_SIZE, Reader, TornError, block, header
from transforms.receipts.encoder import Blocks, Encoder, in_blocks
from transforms.sinks.base import Settlement
from transforms.storage import LocalStorage, Storage, storage_at

logger = logging.getLogger(__name__)

RECEIPTS = "receipts"
DEAD_LETTERS = "dead_letters"
"""The directories under the output that hold the journals and parts."""

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


class JournalError(RuntimeError):
    """A journal cannot be written or taken over. The text says where and why, and what to do."""


def new_run_id(now: datetime | None = None) -> str:
    """A name for a run, which sorts by the time of its start and is used once: `20260203T101500Z-5f3a9c`."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def new_worker_name() -> str:
    """A name for the owner of one journal, used once: host, process and a random part. A process may have several."""
    host = re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


class _Writer(Protocol):
    """How a journal writes to its file system. Each method is as the journal's; `write` is for `settle`."""

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
        clock: Callable[[], int] = now_ms,
        part_bytes: int = PART_BYTES,
        flush_after: float = FLUSH_AFTER,
    ) -> None:
        for what, name in (("run_id", run_id), ("worker", worker)):
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r} goes into file names: use letters, digits, '.', '_' and '-' only")
        self._clock = clock
        self._latest = 0
        self._encoder = Encoder(run_id)
        storage = storage_at(output)
        stem = f"{run_id}-{worker}"
        self._writer: _Writer
        if isinstance(storage, LocalStorage):
            self._writer = _LocalWriter(storage.path, stem, part_bytes)
        else:
            self._writer = _ObjectWriter(storage, stem, part_bytes, flush_after)
        _open.add(self)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Write a receipt for each settlement, and before those a dead letter for each item that was given up.

        It may be called from any thread. On a local disk they survive the death of the process when this returns;
        elsewhere a second later.

        Raises:
            JournalError: they cannot be made durable, because the disk is full or the store cannot be reached. Send
                nothing more then: the next run would not know that it was delivered.
        """
        # Within a journal time does not run backwards, so that the latest receipt is also the last one written.
        settled_at = self._latest = max(self._clock(), self._latest)
        encoder = self._encoder
        encoder.forget()
        receipts = [encoder.receipt(settlement, settled_at) for settlement in settlements]
        dead_letters = [
            encoder.dead_letter(settlement, settled_at) for settlement in settlements if not settlement.delivered
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


class _LocalLog:
    """The journals of one kind, receipts or dead letters, one after the other. Each is made by its first write."""

    def __init__(self, directory: Path, stem: str, schema: str, part_bytes: int) -> None:
        self._directory = directory
        self._stem = stem
        self._schema = schema
        self._part_bytes = part_bytes
        self._number = 0
        self._descriptor: int | None = None
        self._journal = directory
        self._sync = b""
        self._size = 0

    def write(self, blocks: Blocks) -> None:
        for count, data in blocks:
            descriptor = self._begin() if self._descriptor is None else self._descriptor
            self._append(descriptor, block(count, data, self._sync))
            if self._size >= self._part_bytes:
                self.roll()

    def _begin(self) -> int:
        """Make a journal, and lock it.

        It has its lock and its header before it has the name that `recover` looks for. So `recover` takes no journal
        away from a worker that lives.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{self._stem}-{self._number:06}"
        unfinished, journal, part = (self._directory / (name + suffix) for suffix in (UNFINISHED, JOURNAL, PART))
        try:
            descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        except FileExistsError:
            raise _taken(unfinished) from None
        self._size = 0
        self._sync = os.urandom(SYNC_SIZE)
        try:
            for taken in (journal, part):
                if taken.exists():
                    raise _taken(taken)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append(descriptor, header(avro_schema(self._schema), self._sync))
            unfinished.rename(journal)
        except BaseException:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)
            raise
        self._number += 1
        self._journal, self._descriptor = journal, descriptor
        return descriptor

    def _append(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, or none of it and raise JournalError.

        It is one write. The loop is for a system that writes a part of it only.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            os.ftruncate(descriptor, self._size)
            raise JournalError(
                f"cannot write the journal in {self._directory}: {error.strerror}; make room, then run again: "
                "what is in the journal is not sent twice"
            ) from error
        self._size += len(data)

    def roll(self) -> None:
        """Make the journal a part, if there is one."""
        if self._descriptor is not None:
            self._journal.rename(self._journal.with_suffix(PART))
            self.forsake()

    def forsake(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _taken(path: Path) -> JournalError:
    return JournalError(f"{path} exists: two journals with one name; give each worker a name of its own")


class _LocalWriter:
    """Writes to a local disk, where files grow."""

    def __init__(self, root: Path, stem: str, part_bytes: int) -> None:
        self._lock = threading.Lock()
        self._dead_letters = _LocalLog(root / DEAD_LETTERS, stem, "dead_letter", part_bytes)
        self._receipts = _LocalLog(root / RECEIPTS, stem, "receipt", part_bytes)
        self._closed = False

    def write(self, dead_letters: Blocks, receipts: Blocks) -> None:
        with self._lock:
            if self._closed:
                raise JournalError("the journal is closed")
            self._dead_letters.write(dead_letters)
            self._receipts.write(receipts)

    def flush(self) -> None:
        """Nothing to do: what is written is durable."""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._dead_letters.roll()
            self._receipts.roll()

    def forsake(self) -> None:
        self._lock = threading.Lock()  # A new one: at the fork another thread of the parent may have held it.
        self._closed = True
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
    """Make parts of the journals that killed workers left under an output.

    Call it under the output's lock, before receipts are indexed, and again when all journals of a run are closed. A
    last block that a kill cut short is dropped: `settle` had not returned from writing it. It costs nothing where
    nothing is left, and does nothing where files cannot grow.

    Args:
        output: a path or a url.
        wait: seconds to wait for workers that still write though their job was killed.

    Returns:
        The names of the parts that were made.

    Raises:
        JournalError: a worker of an earlier run still writes.
    """
    storage = storage_at(output)
    if not isinstance(storage, LocalStorage):
        return []
    parts = []
    for directory in (DEAD_LETTERS, RECEIPTS):
        for name in storage.list(directory):
            journal = storage.path / directory / name
            if journal.suffix == UNFINISHED:
                journal.unlink(missing_ok=True)
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
        rows = whole = 0
        try:
            reader = Reader(stream, str(journal))
            whole = reader.header.length
            for written in reader:
                rows += written.count
                whole = written.end
        except TornError as torn:
            whole = torn.whole
        if not rows:
            journal.unlink()
            return False
        if whole < size:
            logger.warning("%s: dropped the last %d bytes, cut short by a kill", journal, size - whole)
            stream.truncate(whole)
        journal.rename(journal.with_suffix(PART))
        return True
