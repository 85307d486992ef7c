"""What became of records lately (`GET /:id/deliveries`): receipts and dead letters that runs left under their output.

They are described in docs/spec/forwarders.md section 4.
"""

import io
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import fastavro

from schemas import avro_schema
from schemas.json_values import JsonObject
from schemas.times import rfc3339
from transforms.receipts.avro_container import EncodedBlock, NotAContainerError, Reader, TornError, plain
from transforms.receipts.journal import DEAD_LETTERS, PART, RECEIPTS
from transforms.receipts.runs import place, run_number
from transforms.storage import Storage, storage_at

KEPT = 100
"""Receipts of one forwarder that are kept in memory, the newest ones."""

_MOST_PARTS = 50
_MOST_BYTES = 64 * 1024 * 1024
"""Of a part, no more than this is read."""

_RECEIPT_TYPES: dict[str, Any] = {field["name"]: field["type"] for field in avro_schema("receipt")["fields"]}
_TIMES = frozenset(name for name, type_ in _RECEIPT_TYPES.items() if "timestamp-millis" in str(type_))
_SHOWN = (*_RECEIPT_TYPES, "reason", "response")
"""The fields of a receipt, and of a dead letter why it is one. Not what was sent, which is learners' data."""


def shown_receipt(row: Mapping[str, Any]) -> JsonObject:
    """A receipt or a dead letter as the interfaces show it: times as RFC 3339, fields it does not have as null.

    Args:
        row: of `receipt.avsc` or `dead_letter.avsc`, with times in epoch milliseconds.
    """
    shown = {name: row.get(name) for name in _SHOWN}
    return {name: rfc3339(value) if name in _TIMES and value is not None else value for name, value in shown.items()}


class RecentDeliveries:
    """The newest receipts of each forwarder in one job's output. Safe to use from several threads.

    Only the newest parts of the output are read, up to a number and a size: this is for looking, while the report of a
    run is what counts. Parts do not change, so each is read once.

    Args:
        output: the job's `--output`, a directory or a url.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._read: set[str] = set()
        self._receipts: defaultdict[str, deque[JsonObject]] = defaultdict(lambda: deque(maxlen=KEPT))

    def of(self, forwarder_id: str, limit: int = KEPT) -> list[JsonObject]:
        """The forwarder's newest receipts as `shown_receipt` gives them, the latest first, at most `limit`."""
        with self._lock:
            self._catch_up()
            receipts = list(self._receipts.get(forwarder_id, ()))
        receipts.sort(key=_order, reverse=True)
        return receipts[:limit]

    def last_of(self) -> dict[str, JsonObject]:
        """The latest receipt of every forwarder that has one, by the forwarder's id."""
        with self._lock:
            self._catch_up()
            return {forwarder_id: max(receipts, key=_order) for forwarder_id, receipts in self._receipts.items()}

    def _catch_up(self) -> None:
        storage = storage_at(self._output)
        names = sorted(
            (name for directory in (RECEIPTS, DEAD_LETTERS) for name in _parts(storage, directory)),
            key=lambda name: place(name.partition("/")[2]),
        )[-_MOST_PARTS:]
        for name in names:
            if name not in self._read:
                for row in _rows(storage, name):
                    self._receipts[row["forwarder_id"]].append(shown_receipt(row))
                self._read.add(name)


def _order(receipt: JsonObject) -> tuple[int, str]:
    """Runs are in the order of their numbers, since clocks are set back. What one run did is in the order of time."""
    return run_number(receipt["run_id"]), str(receipt["settled_at"])


def _parts(storage: Storage, directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in storage.list(directory) if name.endswith(PART)]


def _rows(storage: Storage, name: str) -> Iterator[JsonObject]:
    # A dead letter has a receipt too. The dead letter is shown, since it says why the record was given up.
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
        return  # The part was cut short by a kill, or is not the job's. What could be read was.


def _bounded(reader: Reader) -> Iterator[EncodedBlock]:
    for block in reader:
        yield block
        if block.end > _MOST_BYTES:
            return
