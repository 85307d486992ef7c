"""What became of records lately (`GET /:id/deliveries`): receipts and dead letters that runs left under their output.

They are described in docs/spec/forwarders.md section 4.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from schemas import avro_schema
from schemas.json_values import JsonObject
from schemas.times import rfc3339
from transforms.receipts.avro_container import NotAContainerError, TornError
from transforms.receipts.journal import DEAD_LETTERS, PART, RECEIPTS
from transforms.receipts.runs import place, run_number
from transforms.receipts.tail import last_rows
from transforms.sinks.http_errors import UNANSWERED
from transforms.storage import Storage, StorageError, storage_at

logger = logging.getLogger(__name__)

KEPT = 100
"""Receipts of one forwarder that are kept in memory, the newest ones."""

NOT_REACHED = "not_reached"
"""What is shown instead of a reason that would tell of the inside, such as which names resolve there."""

_MOST_PARTS = 50
"""The newest parts, of receipts and dead letters together. Of each, only the end is read."""

_SECONDS = 5.0
"""Seconds that one look at the output may take. What it has not come to is for the next."""

WAIT = 2.0
"""Seconds that a request waits for a look at the output. Then it is answered with what is known."""

_RECEIPT_TYPES: dict[str, Any] = {field["name"]: field["type"] for field in avro_schema("receipt")["fields"]}
_TIMES = frozenset(name for name, type_ in _RECEIPT_TYPES.items() if "timestamp-millis" in str(type_))
SHOWN = (*_RECEIPT_TYPES, "reason", "response")
"""The fields of a receipt, and of a dead letter why it is one. Not what was sent, which is learners' data."""

_ALWAYS_HIDDEN = frozenset(("dns", "address_refused"))


def shown_reason(reason: str | None, hides_inside: bool) -> str | None:
    """The reason of a dead letter as it is shown to those whose forwarder it is.

    Args:
        reason: as the job wrote it.
        hides_inside: the receiver may be inside, at an address that `--allow_network` alone permits. Then none of the
            ways in which an attempt can fail without an answer is told from another: they would tell what is there.
    """
    hidden = UNANSWERED if hides_inside else _ALWAYS_HIDDEN
    return NOT_REACHED if reason in hidden else reason


def shown_receipt(row: Mapping[str, Any], hides_inside: bool | None = None) -> JsonObject:
    """A receipt or a dead letter as the interfaces show it: times as RFC 3339, fields it does not have as null.

    Args:
        row: of `receipt.avsc` or `dead_letter.avsc`, with times in epoch milliseconds.
        hides_inside: as `shown_reason` takes it; None: the reason is left as it is.
    """
    shown = {name: row.get(name) for name in SHOWN}
    if hides_inside is not None:
        shown["reason"] = shown_reason(shown["reason"], hides_inside)
        if shown["reason"] == "unavailable" and shown["response"] is not None:
            # It ends with the reason of the last failure.
            said, _, last = shown["response"].rpartition(" ")
            shown["response"] = f"{said} {shown_reason(last, hides_inside)}"
    return {name: rfc3339(value) if name in _TIMES and value is not None else value for name, value in shown.items()}


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read. It does not change, so that requests look at it without a lock.

    Attributes:
        recent: receipts by the forwarder's id, the latest first.
        last: the latest receipt, by the forwarder's id.
    """

    recent: Mapping[str, list[JsonObject]] = field(default_factory=dict)
    last: Mapping[str, JsonObject] = field(default_factory=dict)


class RecentDeliveries:
    """The newest receipts of each forwarder in one job's output. Safe to use from several threads.

    One thread of its own looks at the output, and requests wait for it for a while. Only the ends of the newest parts
    are read: this is for looking, while the report of a run is what counts. Parts do not change, so each is read once.

    Args:
        output: the job's `--output`, a directory or a url.
        hides_inside: as `shown_reason` takes it.
        clock: gives seconds; monotonic.
    """

    def __init__(self, output: str, *, hides_inside: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._hides_inside = hides_inside
        self._clock = clock
        self._lock = threading.Lock()
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="deliveries")
        self._next: Future[None] | None = None
        self._parts: dict[str, dict[str, list[JsonObject]]] = {}
        self._known = _Known()
        self._has_looked = False

    async def refreshed(self) -> None:
        """Wait until the output was looked at, from now on, but no longer than `WAIT`."""
        await asyncio.wait([asyncio.wrap_future(self.look())], timeout=WAIT)

    async def looked_once(self) -> None:
        """Have the output looked at without waiting for that, unless nothing is known of it yet."""
        looking = self.look()
        if not self._has_looked:
            await asyncio.wait([asyncio.wrap_future(looking)], timeout=WAIT)

    def look(self) -> Future[None]:
        """Have the output looked at. Whoever asks before that has begun shares it."""
        with self._lock:
            if self._next is None:
                self._next = self._looking.submit(self._look)
            return self._next

    def of(self, forwarder_id: str, limit: int = KEPT) -> list[JsonObject]:
        """The forwarder's newest receipts as `shown_receipt` gives them, the latest first, at most `limit`."""
        return self._known.recent.get(forwarder_id, [])[:limit]

    def last_of(self) -> Mapping[str, JsonObject]:
        """The latest receipt of every forwarder that has one, by the forwarder's id.

        It does not change: when receipts have come, this gives another.
        """
        return self._known.last

    def _look(self) -> None:
        with self._lock:
            self._next = None
        try:
            storage = storage_at(self._output)
            self._read_parts(storage, self._clock() + _SECONDS)
        except Exception as error:  # Each file system raises its own.
            logger.warning("--deliveries %s cannot be read: %s", self._output, error)
        self._has_looked = True

    def _read_parts(self, storage: Storage, deadline: float) -> None:
        names = sorted(
            (name for directory in (RECEIPTS, DEAD_LETTERS) for name in _parts(storage, directory)),
            key=lambda name: place(name.partition("/")[2]),
        )[-_MOST_PARTS:]
        unread = [name for name in names if name not in self._parts]
        if not unread and len(names) == len(self._parts):
            return
        for name in reversed(unread):
            self._parts[name] = _rows(storage, name, self._hides_inside)
            if self._clock() >= deadline:
                break
        for name in self._parts.keys() - set(names):
            del self._parts[name]
        recent: defaultdict[str, list[JsonObject]] = defaultdict(list)
        for part in self._parts.values():
            for forwarder_id, receipts in part.items():
                recent[forwarder_id] += receipts
        for forwarder_id, receipts in recent.items():
            recent[forwarder_id] = sorted(receipts, key=_order, reverse=True)[:KEPT]
        self._known = _Known(dict(recent), {name: receipts[0] for name, receipts in recent.items()})


def _order(receipt: JsonObject) -> tuple[int, str]:
    """Runs are in the order of their numbers, since clocks are set back. What one run did is in the order of time."""
    return run_number(receipt["run_id"]), str(receipt["settled_at"])


def _parts(storage: Storage, directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in storage.list(directory) if name.endswith(PART)]


def _rows(storage: Storage, name: str, hides_inside: bool) -> dict[str, list[JsonObject]]:
    """The last receipts in a part as they are shown, by the forwarder's id."""
    # A dead letter has a receipt too. The dead letter is shown, since it says why the record was given up.
    is_receipt = name.startswith(RECEIPTS)
    rows: defaultdict[str, deque[JsonObject]] = defaultdict(lambda: deque(maxlen=KEPT))
    try:
        with storage.open(name) as stream:
            for row in last_rows(stream, f"{storage.root}/{name}", "receipt" if is_receipt else "dead_letter"):
                if not (is_receipt and row["outcome"] == "dead_lettered"):
                    rows[row["forwarder_id"]].append(shown_receipt(row, hides_inside))
    except (TornError, NotAContainerError, FileNotFoundError):
        pass  # The part was cut short by a kill, or is not the job's. What could be read was.
    except StorageError as error:
        logger.warning("--deliveries: %s", error)
    except Exception as error:  # Damage inside of a row may become any error.
        logger.warning("--deliveries: %s/%s is damaged (%s)", storage.root, name, type(error).__name__)
    return {forwarder_id: list(kept) for forwarder_id, kept in rows.items()}
