"""Filters, sorting and selection over documents whose secrets are redacted (docs/spec/forwarders.md section 5).

A filter is a MongoDB query, and the job's own engine answers it. Ids are texts in it; `{"$oid": ...}` stands for such a
text, too. `createdAt` and `updatedAt` are dates.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.stores.base import Snapshot, StoredDocument
from schemas.json_values import JsonObject
from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.values import value_faults
from transforms.query import QueryError, compile_query
from transforms.query.extended_json import parse_date
from transforms.query.paths import expand
from transforms.query.values import NUMBER_TYPE, as_utc, canonical_type, compare_any, is_nan

MOST = 1000
"""Documents that a page may have."""

USUAL = 100
"""Documents that a page has if the request does not say."""

_MOST_SORTED = 8
"""Paths that a list may be sorted by."""

_MOST_ANSWERS = 16
"""Answers that one snapshot remembers. An answer is a list, its documents are no copies."""

_DATES = ("createdAt", "updatedAt")


class ParameterError(ValueError):
    """A parameter cannot be used. The text says which one, why, and what to write.

    Attributes:
        name: the parameter's.
        message: the rest of a sentence that begins with the name.
    """

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        self.message = message
        super().__init__(f"{name} {message}")


# Filters


def filtered(documents: Iterable[StoredDocument], query: str | None, name: str = "query") -> list[StoredDocument]:
    """The documents that a query matches. One whose match is undecided is left out.

    Args:
        query: as JSON; None or blank matches every document.
        name: of the query's parameter, for errors.

    Raises:
        ParameterError: the query is refused.
    """
    if query is None or not query.strip():
        return list(documents)
    parsed = _json(name, query)
    try:
        compiled = compile_query(_plain_object_ids(parsed))
    except (QueryError, ValueError) as error:
        raise ParameterError(name, f"is refused: {error}") from None
    matches = compiled.matches
    if compiled.fields.isdisjoint(_DATES):
        return [stored for stored in documents if matches(stored.content)]
    return [stored for stored in documents if matches(_with_dates(stored.content))]


def _plain_object_ids(query: Any) -> Any:
    if isinstance(query, dict):
        if set(query) == {"$oid"} and isinstance(query["$oid"], str):
            return query["$oid"].lower()
        return {name: _plain_object_ids(value) for name, value in query.items()}
    return [_plain_object_ids(value) for value in query] if isinstance(query, list) else query


def _with_dates(content: JsonObject) -> JsonObject:
    dates = {name: date for name in _DATES if (date := _date(content.get(name))) is not None}
    return {**content, **dates}


@functools.lru_cache(maxsize=65536)
def _parsed_date(text: str) -> datetime | None:
    return parse_date(text)


def _date(value: Any) -> datetime | None:
    return _parsed_date(value) if isinstance(value, str) else None


def _json(name: str, text: str) -> Any:
    try:
        value, duplicates = loads_strictly(text)
    except ValueError as error:
        raise ParameterError(name, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ParameterError(name, 'is not a JSON object, such as {"active": true}')
    if duplicates:
        raise ParameterError(name, f"holds {duplicates[0]} twice")
    for path, message in value_faults(value):
        raise ParameterError(name, f"is refused: {path[:80]} {message}")
    return value


# Sorting


@dataclass(frozen=True, slots=True)
class SortOrder:
    """What a list is sorted by.

    Attributes:
        paths: each with whether it descends. The last is `_id`, so that no two documents have the same place.
    """

    paths: tuple[tuple[str, bool], ...]

    @property
    def fingerprint(self) -> str:
        """A short text that is another one for another order."""
        return hashlib.sha256(json.dumps(self.paths).encode()).hexdigest()[:8]


def read_order(text: str | None) -> SortOrder:
    """The order that a parameter asks for: `{"updatedAt": -1, "_id": 1}` or `-updatedAt,_id`. Raises ParameterError."""
    paths: dict[str, bool] = {}
    if text is not None and text.strip().startswith("{"):
        for path, direction in _json("sort", text).items():
            if isinstance(direction, bool) or direction not in (1, -1):
                raise ParameterError("sort", f"has a direction of {path[:80]!r} that is neither 1 nor -1")
            paths[path] = direction == -1
    else:
        for word in (text or "").replace(",", " ").split():
            paths[word.lstrip("+-")] = word.startswith("-")
    if any(not all(path.split(".")) or path.startswith("$") for path in paths):
        raise ParameterError("sort", 'names no path: write {"updatedAt": -1} or -updatedAt')
    if len(paths) > _MOST_SORTED:
        raise ParameterError("sort", f"names more than {_MOST_SORTED} paths")
    paths.setdefault("_id", False)
    return SortOrder(tuple(paths.items()))


def ordered(documents: list[StoredDocument], order: SortOrder) -> list[StoredDocument]:
    """The documents in an order, as MongoDB sorts: by type, then by value.

    An array counts as its least element where the order ascends, and as its greatest where it descends.

    Args:
        documents: in the order of their ids, as stores give them.
    """
    paths = order.paths[:-1] if order.paths[-1] == ("_id", False) else order.paths
    for path, descends in reversed(paths):
        documents = sorted(
            documents, key=lambda stored: sort_key(sort_value(stored.content, path, descends)), reverse=descends
        )
    return documents


def listed(
    snapshot: Snapshot, query: str | None, sort: str | None, name: str = "query"
) -> tuple[list[StoredDocument], SortOrder]:
    """The documents that a query matches, sorted.

    The snapshot remembers the answer, so that only the first of several pages takes time.

    Args:
        query: as `filtered` takes it.
        sort: as `read_order` takes it.
        name: of the query's parameter, for errors.

    Returns:
        The documents, and the order that they are in.

    Raises:
        ParameterError: the query or the order cannot be used.
    """
    order = read_order(sort)
    matches = snapshot.answers.get((query, order))
    if matches is None:
        matches = ordered(filtered(snapshot.documents, query, name), order)
        if len(snapshot.answers) < _MOST_ANSWERS:
            snapshot.answers[query, order] = matches
    return matches, order


def sort_value(content: JsonObject, path: str, descends: bool) -> Any:
    """The value at a path that decides a document's place, for `sort_key`."""
    if path in _DATES:
        date = _date(content.get(path))
        if date is not None:
            return date
    value: Any = content
    names = path.split(".")
    for name in names:
        value = value.get(name) if isinstance(value, dict) else value if isinstance(value, list) else None
        if isinstance(value, list):
            break
    else:
        # No array is on the way, as in nearly every document. A shortcut, since ten thousand documents are sorted anew
        # after each change.
        return value if canonical_type(value) > canonical_type(None) else None
    elements = [value for value in expand(content, tuple(names), leaf=True) if not isinstance(value, list)]
    # A missing field has the place of null.
    values = [value if canonical_type(value) > canonical_type(None) else None for value in elements] or [None]
    return (max if descends else min)(values, key=sort_key)


@functools.total_ordering
class _Compared:
    """A value that Python cannot order, ordered by the query engine."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Compared) and compare_any(self.value, other.value) == 0

    def __lt__(self, other: "_Compared") -> bool:
        return compare_any(self.value, other.value) < 0

    def __hash__(self) -> int:
        return 0


def sort_key(value: Any) -> tuple[int, Any]:
    """A key that sorts values as `compare_any` orders them, by Python's own comparisons where there are any."""
    kind = canonical_type(value)
    if value is None:
        return kind, 0
    if isinstance(value, str | bool) or (kind == NUMBER_TYPE and not is_nan(value)):
        return kind, (1, value)
    if isinstance(value, datetime):
        return kind, as_utc(value)
    # NaN comes before every other number.
    return (kind, (0, 0)) if kind == NUMBER_TYPE else (kind, _Compared(value))


# Selection


def read_selection(text: str | None, name: str = "select") -> Callable[[JsonObject], JsonObject]:
    """What a parameter selects of each document: `{"description": 1}`, `{"query": 0}`, `description,-_id`.

    Args:
        text: the parameter's value; None or blank selects everything.
        name: of the parameter, for errors.

    Returns:
        A function that takes a document and returns what is selected of it.

    Raises:
        ParameterError: the selection cannot be used.
    """
    wanted: dict[str, bool] = {}
    if text is not None and text.strip().startswith("{"):
        for path, value in _json(name, text).items():
            if value not in (0, 1):
                raise ParameterError(name, f"has a value of {path[:80]!r} that is neither 0 nor 1")
            wanted[path] = bool(value)
    else:
        for word in (text or "").replace(",", " ").split():
            wanted[word.lstrip("+-")] = not word.startswith("-")
    if any(not all(path.split(".")) or path.startswith("$") for path in wanted):
        raise ParameterError(name, 'names no path: write {"description": 1} or description')
    with_id = wanted.pop("_id", None)
    if len(set(wanted.values())) > 1:
        raise ParameterError(name, "both takes fields in and leaves fields out: only _id may differ from the others")
    paths = [tuple(path.split(".")) for path in wanted]
    if not paths:
        if with_id is None:
            return lambda document: document
        paths, takes_in = [("_id",)], with_id
    else:
        takes_in = next(iter(wanted.values()))
        if takes_in == (with_id is not False):
            paths.append(("_id",))
    return functools.partial(_taken_in if takes_in else _left_out, paths)


def _taken_in(paths: Sequence[tuple[str, ...]], value: Any) -> Any:
    if isinstance(value, list):
        return [_taken_in(paths, member) for member in value if isinstance(member, dict | list)]
    taken = {}
    for name, member in value.items():
        inner = [path[1:] for path in paths if path[0] == name]
        if () in inner:
            taken[name] = member
        elif inner and isinstance(member, dict | list):
            taken[name] = _taken_in(inner, member)
    return taken


def _left_out(paths: Sequence[tuple[str, ...]], value: Any) -> Any:
    if isinstance(value, list):
        return [_left_out(paths, member) if isinstance(member, dict | list) else member for member in value]
    left = {}
    for name, member in value.items():
        inner = [path[1:] for path in paths if path[0] == name]
        if () in inner:
            continue
        left[name] = _left_out(inner, member) if inner and isinstance(member, dict | list) else member
    return left
