"""Pages of a list by cursor, as Relay's connections have them.

A cursor holds a place in the order of a list, and neither a number nor a document. It does not move while documents
come and go elsewhere, and it stays when its own document is deleted.
"""

import base64
import binascii
import bisect
import functools
import json
from dataclasses import dataclass
from typing import Any

from registry.filters import USUAL, ParameterError, SortOrder, sort_key, sort_value
from registry.stores.base import StoredDocument
from transforms.forwarders.documents import loads_strictly
from transforms.query import from_extended_json
from transforms.query.values import as_utc


@dataclass(frozen=True, slots=True)
class Connection:
    """One page of a list.

    Attributes:
        edges: the documents, each after its cursor.
        has_next: whether there are documents after these.
        has_previous: whether there are documents before these.
    """

    edges: tuple[tuple[str, StoredDocument], ...]
    has_next: bool
    has_previous: bool


def page(
    documents: list[StoredDocument],
    order: SortOrder,
    *,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Connection:
    """One page of a list.

    Args:
        documents: the whole list.
        order: what the list is sorted by.
        first: take so many documents from the beginning of what the cursors leave; with neither this nor `last`, 100.
        last: take so many from the end of it.
        after: leave only what comes after this cursor's place.
        before: leave only what comes before this cursor's place.

    Raises:
        ParameterError: a cursor is none, or is one of another order.
    """
    if first is None and last is None:
        first = USUAL
    placed = functools.partial(_place, order=order)
    start, end = 0, len(documents)
    # The document at a cursor's own place is on neither side of it.
    if after is not None:
        start = bisect.bisect_right(documents, _read_cursor("after", after, order), key=placed)
    if before is not None:
        end = bisect.bisect_left(documents, _read_cursor("before", before, order), key=placed)
    end = max(start, end)
    if first is not None:
        end = min(end, start + first)
    if last is not None:
        start = max(start, end - last)
    edges = tuple((_cursor(stored, order), stored) for stored in documents[start:end])
    return Connection(edges, has_next=end < len(documents), has_previous=start > 0)


@functools.total_ordering
class _Place:
    """A place in an order, which compares as the documents there do."""

    __slots__ = ("_keys", "_order")

    def __init__(self, values: list[Any], order: SortOrder) -> None:
        self._keys = [sort_key(value) for value in values]
        self._order = order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place) and self._keys == other._keys

    def __lt__(self, other: "_Place") -> bool:
        for mine, theirs, (_, descends) in zip(self._keys, other._keys, self._order.paths, strict=True):
            if mine != theirs:
                return (mine < theirs) is not descends
        return False

    def __hash__(self) -> int:
        return 0


def _values(stored: StoredDocument, order: SortOrder) -> list[Any]:
    return [sort_value(stored.content, path, descends) for path, descends in order.paths]


def _place(stored: StoredDocument, order: SortOrder) -> _Place:
    return _Place(_values(stored, order), order)


def _cursor(stored: StoredDocument, order: SortOrder) -> str:
    text = json.dumps(
        [order.fingerprint, *_values(stored, order)], default=_dated, allow_nan=False, separators=(",", ":")
    )
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _dated(value: Any) -> Any:
    return {"$date": as_utc(value).isoformat()}


def _read_cursor(name: str, cursor: str, order: SortOrder) -> _Place:
    problem = ParameterError(name, "is not a cursor that this service gave for this sort")
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        values, _ = loads_strictly(text)
        values = from_extended_json(values)
    except (binascii.Error, ValueError, RecursionError):
        raise problem from None
    if not isinstance(values, list) or len(values) != len(order.paths) + 1 or values[0] != order.fingerprint:
        raise problem
    return _Place(values[1:], order)
