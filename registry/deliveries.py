"""What became of records lately: the receipts and dead letters that runs left under their output (forwarders.md 4)."""

import io
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import fastavro

from schemas.times import rfc3339
from transforms.receipts.avro_container import Block, NotAContainerError, Reader, TornError, plain
from transforms.receipts.journal import DEAD_LETTERS, PART, RECEIPTS
from transforms.storage import Storage, storage_at

JsonObject = dict[str, Any]

KEPT: Final = 100
"""Entries of one forwarder that can be asked for."""

_MOST_PARTS: Final = 50
_MOST_BYTES: Final = 64 * 1024 * 1024
_FIELDS: Final = (
    "id", "user_id", "kind", "outcome", "attempts", "status", "shard", "sequence_number", "ambiguous", "run_id",
    "reason", "response",
)  # fmt: skip
_TIMES: Final = ("first_attempt", "last_attempt", "settled_at")


@dataclass
class RecentDeliveries:
    """The newest entries of each forwarder in one job's output. Each part is read once: parts do not change.

    Looks at the newest parts only, up to a number and a size: this is for looking, the books are the job's. What was
    sent is not in an entry, since it is learners' data; it is in the dead letters.
    """

    output: str
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: set[str] = field(default_factory=set, repr=False)
    _entries: defaultdict[str, deque[JsonObject]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT)), repr=False
    )

    def of(self, forwarder_id: str, limit: int = KEPT) -> list[JsonObject]:
        """The latest first."""
        with self._lock:
            self._catch_up()
            entries = list(self._entries.get(forwarder_id, ()))
        entries.sort(key=lambda entry: str(entry["settled_at"]), reverse=True)
        return entries[:limit]

    def last_of(self) -> dict[str, JsonObject]:
        """The latest entry of every forwarder that has one."""
        with self._lock:
            self._catch_up()
            return {
                forwarder_id: max(entries, key=lambda entry: str(entry["settled_at"]))
                for forwarder_id, entries in self._entries.items()
            }

    def _catch_up(self) -> None:
        storage = storage_at(self.output)
        # A part's name begins with its run's, and that with the time.
        names = sorted(
            (name for directory in (RECEIPTS, DEAD_LETTERS) for name in _parts(storage, directory)),
            key=lambda name: name.partition("/")[2],
        )[-_MOST_PARTS:]
        for name in names:
            if name not in self._read:
                for row in _rows(storage, name):
                    self._entries[row["forwarder_id"]].append(_entry(row))
                self._read.add(name)


def _parts(storage: Storage, directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in storage.list(directory) if name.endswith(PART)]


def _rows(storage: Storage, name: str) -> Iterator[JsonObject]:
    # A dead letter has a receipt too, with less in it: the one that says why is shown.
    is_receipt = name.startswith(RECEIPTS)
    try:
        with storage.open(name) as stream:
            reader = Reader(stream, f"{storage.root}/{name}")
            schema = plain(reader.header.schema)
            for block in _bounded(reader):
                data = io.BytesIO(block.data)
                for _ in range(block.count):
                    row: Any = fastavro.schemaless_reader(data, schema, None)
                    if not (is_receipt and row["outcome"] == "dead_lettered"):
                        yield row
    except (TornError, NotAContainerError, FileNotFoundError):
        return  # cut short by a kill, or not the job's: what could be read was


def _bounded(reader: Reader) -> Iterator[Block]:
    for block in reader:
        yield block
        if block.end > _MOST_BYTES:
            return


def _entry(row: JsonObject) -> JsonObject:
    times = {name: None if row[name] is None else rfc3339(row[name]) for name in _TIMES}
    return {**{name: row.get(name) for name in _FIELDS}, **times}
