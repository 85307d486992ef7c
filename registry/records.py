"""What a forwarder got and what it did not, looked up among the receipts and dead letters of the job's output.

A look goes from the newest part back, for a bounded time, and says where another one goes on. A place in a part names a
row: parts do not change. A compaction may take a part away, and then the row is to be looked for anew.
"""

import io
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import fastavro

from registry.deliveries import shown_receipt
from schemas.json_values import JsonObject
from transforms.receipts.avro_container import EncodedBlock, NotAContainerError, Reader, TornError
from transforms.receipts.families import obsolete_parts
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.receipts.parts import (
    PLAIN_SCHEMAS,
    RECEIPT_SCHEMA,
    parts_written,
    read_receipts,
    rows_of,
    written_since,
)
from transforms.receipts.rows import DamagedError
from transforms.receipts.runs import place, run_number
from transforms.storage import Storage, storage_at

MOST_ROWS = 200
"""Rows that one look gives."""

LOOKS_AT_ONCE = 4
"""Looks that are taken at a time. Each holds a thread of the service."""

_SECONDS = 2.0
"""Seconds after which a look begins with no further part."""

_MOST_PAYLOAD = 256 * 1024
"""Bytes of a payload that are shown."""

_PLACE = re.compile(rf"({RECEIPTS}|{DEAD_LETTERS})/([A-Za-z0-9._-]+)(?:{PART}|{JOURNAL}):([0-9]{{1,12}})", re.ASCII)
_BEHIND_ALL = 999_999_999_999

Outcome = Literal["delivered", "dead_lettered"]


class TooManyLooksError(Exception):
    """As many looks are taken as may be at a time."""


class NoSuchPlaceError(Exception):
    """There is no such row: the place is none, or its part was compacted since."""


@dataclass(frozen=True)
class RecordFilter:
    """Which rows are looked for. What is empty or None lets all through.

    Attributes:
        reasons: as they are shown.
        statuses: of the last answers, over HTTP.
        ids: of records.
        users: their ids.
        since: epoch ms; what ended from then on.
        until: epoch ms; what ended before.
    """

    outcome: Outcome | None = None
    reasons: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None

    def has(self, row: Mapping[str, Any], reason: str | None) -> bool:
        """Whether a row is looked for, of which the reason is shown as `reason`."""
        settled = row["settled_at"]
        return (
            (not self.reasons or reason in self.reasons)
            and (not self.statuses or row["status"] in self.statuses)
            and (not self.kinds or row["kind"] in self.kinds)
            and (not self.ids or row["id"] in self.ids)
            and (not self.users or row["user_id"] in self.users)
            and (self.since is None or settled >= self.since)
            and (self.until is None or settled < self.until)
        )


@dataclass(frozen=True)
class Found:
    """What a look has found.

    Attributes:
        rows: as `shown_receipt` gives them, each with its `place`; the latest first.
        next: where another look goes on; None if there is nothing more.
    """

    rows: list[JsonObject]
    next: str | None


class _Row(NamedTuple):
    """A row of a part, with its number in it."""

    number: int
    content: Mapping[str, Any]


class Records:
    """Looks things up in the output of one job. Safe to use from several threads.

    Args:
        output: the job's `--output`, a directory or a url.
        hides_inside: as `registry.deliveries.shown_reason` takes it.
        clock: gives seconds; monotonic.
    """

    def __init__(self, output: str, *, hides_inside: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._hides_inside = hides_inside
        self._clock = clock
        self._places = threading.BoundedSemaphore(LOOKS_AT_ONCE)

    def look(self, forwarder_id: str, wanted: RecordFilter, limit: int, after: str | None = None) -> Found:
        """What ended with a forwarder, the newest parts first.

        Args:
            limit: how many rows, at most MOST_ROWS.
            after: `next` of the look before.

        Raises:
            NoSuchPlaceError: `after` is none.
            TooManyLooksError: try again.
        """
        beginning = None if after is None else _read_place(after)
        with self._turn():
            storage = storage_at(self._output)
            names = _names(storage, wanted)
            if beginning is not None:
                start = _order(beginning[0])
                names = [name for name in names if _order(_stem(name)) <= start]
            return self._look(storage, names, beginning, forwarder_id, wanted, min(limit, MOST_ROWS))

    def _look(
        self,
        storage: Storage,
        names: list[str],
        beginning: tuple[str, int] | None,
        forwarder_id: str,
        wanted: RecordFilter,
        limit: int,
    ) -> Found:
        deadline = self._clock() + _SECONDS
        found: list[JsonObject] = []
        for index, name in enumerate(names):
            if index and (len(found) >= limit or self._clock() >= deadline):
                return Found(_sorted(found), f"{name}:{_BEHIND_ALL}")
            below = _BEHIND_ALL
            if beginning is not None and _stem(name) == beginning[0]:
                below = beginning[1]
            rows, more = self._last_rows(storage, name, forwarder_id, wanted, limit - len(found), below)
            found += [{**shown, "place": f"{name}:{number}"} for number, shown in rows]
            if more:
                return Found(_sorted(found), f"{name}:{rows[0][0]}")
        return Found(_sorted(found), None)

    def _last_rows(
        self, storage: Storage, name: str, forwarder_id: str, wanted: RecordFilter, limit: int, below: int
    ) -> tuple[list[tuple[int, JsonObject]], bool]:
        """The last rows of a part that are looked for, below a number; and whether there are more before them."""
        kept: deque[tuple[int, JsonObject]] = deque(maxlen=limit)
        count = 0
        for row in _rows(storage, name, forwarder_id):
            if row.number >= below:
                break
            shown = shown_receipt(row.content, self._hides_inside)
            if wanted.has(row.content, shown["reason"]):
                kept.append((row.number, shown))
                count += 1
        return list(kept), count > len(kept)

    def row(self, forwarder_id: str, at: str, *, payload: bool) -> JsonObject:
        """One row, with what was sent.

        Args:
            at: its `place`.
            payload: whether what was sent is given. A receipt of a delivery has none.

        Returns:
            The row as `look` gives it, and `payload` (null if there is none, or it is not given), `payload_kind`,
            `payload_bytes` and `payload_cut`: whether only its beginning is there.

        Raises:
            NoSuchPlaceError, TooManyLooksError: as `look`.
        """
        stem, number = _read_place(at)
        with self._turn():
            storage = storage_at(self._output)
            for suffix in (PART, JOURNAL):
                for row in _rows(storage, stem + suffix, forwarder_id):
                    if row.number == number:
                        return self._whole(row.content, at, payload=payload)
        raise NoSuchPlaceError

    def _whole(self, row: Mapping[str, Any], at: str, *, payload: bool) -> JsonObject:
        sent: bytes | None = row.get("payload")
        return {
            **shown_receipt(row, self._hides_inside),
            "place": at,
            "payload": sent[:_MOST_PAYLOAD].decode("utf-8", "replace") if sent is not None and payload else None,
            "payload_kind": row.get("payload_kind"),
            "payload_bytes": None if sent is None else len(sent),
            "payload_cut": sent is not None and len(sent) > _MOST_PAYLOAD,
        }

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooManyLooksError
        try:
            yield
        finally:
            self._places.release()


def _sorted(rows: list[JsonObject]) -> list[JsonObject]:
    """Rows of several parts, the latest first: by run, since clocks are set back, and then by time."""
    return sorted(rows, key=lambda row: (run_number(row["run_id"]), row["settled_at"]), reverse=True)


def _names(storage: Storage, wanted: RecordFilter) -> list[str]:
    """The parts, and journals that grow, in which the rows may be, the newest first."""
    names: list[str] = []
    for directory, outcome in ((RECEIPTS, "delivered"), (DEAD_LETTERS, "dead_lettered")):
        if wanted.outcome not in (None, outcome) or (directory == RECEIPTS and wanted.reasons):
            continue
        written = parts_written(storage, directory, PART, JOURNAL)
        obsolete = obsolete_parts([name for name in written if name.endswith(PART)])
        recent = written if wanted.since is None else written_since(written, wanted.since / 1000)
        names += [name for name in recent if name not in obsolete]
    return sorted(names, key=lambda name: _order(_stem(name)), reverse=True)


def _stem(name: str) -> str:
    return name.removesuffix(PART).removesuffix(JOURNAL)


def _order(stem: str) -> tuple[Any, ...]:
    """What sorts the files of both directories together."""
    directory, _, name = stem.partition("/")
    return *place(name), directory


def _read_place(text: str) -> tuple[str, int]:
    """The part, without its suffix, and the number of a row in it. Raises NoSuchPlaceError."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise NoSuchPlaceError
    return f"{match[1]}/{match[2]}", int(match[3])


def _rows(storage: Storage, name: str, forwarder_id: str) -> Iterator[_Row]:
    """The rows of a part that are of a forwarder. Deliveries alone are those of receipts: a dead letter has one too."""
    try:
        with storage.open(name) as stream:
            reader = Reader(stream, f"{storage.root}/{name}")
            decode = _receipts if name.startswith(RECEIPTS) else _letters
            number = 0
            for block in reader:
                for row in decode(reader.header.schema, block, forwarder_id):
                    yield _Row(number + row.number, row.content)
                number += block.count
    except (TornError, NotAContainerError, FileNotFoundError):
        return  # What could be read was. The part may be of another name since it was listed.


def _receipts(schema: dict[str, Any], block: EncodedBlock, forwarder_id: str) -> Iterator[_Row]:
    if schema != RECEIPT_SCHEMA:
        yield from _of(forwarder_id, rows_of(schema, [block], "receipt"))
        return
    wanted = forwarder_id.encode()
    chosen: list[bool] = []
    ends = [0]
    try:
        read_receipts(
            block.data,
            block.count,
            lambda forwarder, id_, user, delivered: chosen.append(delivered and forwarder == wanted),
            ends,
        )
    except DamagedError:
        return
    for number, is_chosen in enumerate(chosen):
        if is_chosen:
            stream = io.BytesIO(block.data[ends[number] : ends[number + 1]])
            row = fastavro.schemaless_reader(stream, PLAIN_SCHEMAS["receipt"], None)
            if isinstance(row, dict):
                yield _Row(number, row)


def _letters(schema: dict[str, Any], block: EncodedBlock, forwarder_id: str) -> Iterator[_Row]:
    yield from _of(forwarder_id, rows_of(schema, [block], "dead_letter"))


def _of(forwarder_id: str, rows: Iterator[dict[str, Any]]) -> Iterator[_Row]:
    for number, row in enumerate(rows):
        is_letter = "reason" in row
        if row["forwarder_id"] == forwarder_id and (is_letter or row["outcome"] == "delivered"):
            yield _Row(number, row)
