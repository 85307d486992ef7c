"""Lookups that give the few entries a document could match, out of many.

Each part of the tree leaves out only entries that surely do not match; an entry it gives must still be
verified.
"""

import bisect
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from transforms.query.conditions import Alternative, comparable, key_of, needs_element
from transforms.query.errors import UndecidedError
from transforms.query.nodes import Field, Found, Order, Path
from transforms.query.paths import expand
from transforms.query.query import Query
from transforms.query.regex import Search, required_prefix
from transforms.query.values import MISSING

G = TypeVar("G")
Document = Mapping[str, Any]


class Lookup(Protocol[G]):
    """A part of the tree."""

    def collect(self, document: Document, into: list[G]) -> None:
        """Add what the document could match; the same one may be added twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[G]):
    """Something to find, and what a document must hold for it: one alternative, and all fields."""

    found: G
    alternative: Alternative
    fields: tuple[Field, ...]


# A lookup costs about as much as verifying two queries.
_FEW = 2
# Ranges and beginnings let many through, so they must stand for more.
_WORTH_A_RANGE = 5
# Lookups inside lookups: after these the candidates are few, or alike.
_MAX_NESTING = 8


class Several(list[Any]):
    """The elements of a path that leads through or to an array."""


Reader = Callable[[Any], Any]


@functools.lru_cache(maxsize=4096)
def reader(path: Path) -> Reader:
    """A function that gives the one value at a path, None for none, `Several` where arrays are involved."""
    *first, last = path

    def several(document: Document) -> Several:
        return Several(element for element in expand(document, path, leaf=True) if element is not MISSING)

    def read_top(document: Any) -> Any:
        value = document.get(last)
        return several(document) if isinstance(value, list) else value

    def read(document: Any) -> Any:
        value = document
        for name in first:
            value = value.get(name)
            if type(value) is not dict:
                return None if value is None else several(document)
        value = value.get(last)
        return several(document) if isinstance(value, list) else value

    return read if first else read_top


class Verify(Generic[G]):
    """Entries nothing more is known of."""

    __slots__ = ("found",)

    def __init__(self, found: tuple[G, ...]) -> None:
        self.found = found

    def collect(self, document: Document, into: list[G]) -> None:
        into += self.found


class Choice(Generic[G]):
    """Entries by the key that an element at a path must have."""

    __slots__ = ("beyond", "found", "read")

    def __init__(self, path: Path, parts: dict[Any, tuple[Lookup[G], ...]]) -> None:
        self.read = reader(path)
        # What only needs verifying lies one step nearer: with ten thousand keys every step is a cache miss.
        self.found: dict[Any, tuple[G, ...]] = {}
        self.beyond: dict[Any, tuple[Lookup[G], ...]] = {}
        for key, part in parts.items():
            first = part[0]
            if len(part) == 1 and isinstance(first, Verify):
                self.found[key] = first.found
            else:
                self.beyond[key] = part

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if value is None:
            return
        if type(value) is str:
            into += self.found.get(value, ())
            if self.beyond:
                for lookup in self.beyond.get(value, ()):
                    lookup.collect(document, into)
            return
        elements = value if type(value) is Several else (value,)
        for key in {key_of(element) for element in elements}:
            into += self.found.get(key, ())
            for lookup in self.beyond.get(key, ()):
                lookup.collect(document, into)


class Prefixes(Generic[G]):
    """Entries by the beginning that a string at a path must have."""

    __slots__ = ("by_length", "read")

    def __init__(self, path: Path, by_length: dict[int, dict[str, list[G]]]) -> None:
        self.read = reader(path)
        self.by_length = tuple(by_length.items())

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if type(value) is str:
            for length, parts in self.by_length:
                into += parts.get(value[:length], ())
        elif value is not None:
            strings = [text for text in value if isinstance(text, str)] if type(value) is Several else ()
            for length, parts in self.by_length:
                for beginning in {text[:length] for text in strings}:
                    into += parts.get(beginning, ())


class Ranges(Generic[G]):
    """Entries by the least (or the greatest) value that an element at a path must have."""

    __slots__ = ("found", "is_least", "kind", "limits", "read")

    def __init__(self, path: Path, kind: str, is_least: bool, limits: list[tuple[Any, G]]) -> None:
        self.read = reader(path)
        self.kind = kind
        self.is_least = is_least
        limits.sort(key=_limit)
        self.limits = [limit for limit, _ in limits]
        self.found = [found for _, found in limits]

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if value is None:
            return
        elements = value if type(value) is Several else (value,)
        pairs = [comparable(element) for element in elements]
        values = [pair[1] for pair in pairs if pair is not None and pair[0] == self.kind]
        if not values:
            return
        if self.is_least:
            into += self.found[: bisect.bisect_right(self.limits, max(values))]
        else:
            into += self.found[bisect.bisect_left(self.limits, min(values)) :]


def _limit(pair: tuple[Any, Any]) -> Any:
    return pair[0]


class Gate(Generic[G]):
    """Entries that share a field: it is tested once for all of them."""

    __slots__ = ("beyond", "query")

    def __init__(self, field: Field, beyond: tuple[Lookup[G], ...]) -> None:
        self.query = Query(field, {})
        self.beyond = beyond

    def collect(self, document: Document, into: list[G]) -> None:
        # Undecided is let through: the whole query may still be surely false.
        if self.query.compiled()(document) is not False:
            for lookup in self.beyond:
                lookup.collect(document, into)


class Searches(Generic[G]):
    """Entries by a pattern that must be found in a string at a path: it is read once for all."""

    __slots__ = ("pairs", "read")

    def __init__(self, path: Path, pairs: list[tuple[Search, G]]) -> None:
        self.read = reader(path)
        self.pairs = pairs

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if type(value) is str:
            for search, found in self.pairs:
                try:
                    if search(value):
                        into.append(found)
                except UndecidedError:
                    into.append(found)
        elif value is not None:
            into += [found for _, found in self.pairs]


class Names(Generic[G]):
    """Entries by the name of a field that an object at a path must have."""

    __slots__ = ("everything", "found", "read")

    def __init__(self, path: Path, found: dict[str, list[G]]) -> None:
        self.read = reader(path) if path else None
        self.found = found
        self.everything = [entry for entries in found.values() for entry in entries]

    def collect(self, document: Document, into: list[G]) -> None:
        value = document if self.read is None else self.read(document)
        if type(value) is dict:
            for name in value.keys() & self.found.keys():
                into += self.found[name]
        elif value is not None:
            into += self.everything


def build(entries: list[Entry[G]], nesting: int = 0) -> tuple[Lookup[G], ...]:
    """The lookups for these entries: equality first, which leaves the fewest, then what the rest shares."""
    lookups: list[Lookup[G]] = []
    rest = entries
    if len(entries) > _FEW and nesting < _MAX_NESTING:
        rest = _by_key(rest, nesting, lookups)
        rest = _by_prefix(rest, lookups)
        rest = _by_range(rest, lookups)
        rest = _by_shared_field(rest, nesting, lookups)
        rest = _by_search(rest, lookups)
        rest = _by_name(rest, lookups)
    if rest:
        lookups.append(_verify(rest))
    return tuple(lookups)


def _verify(entries: Iterable[Entry[G]]) -> Verify[G]:
    return Verify(tuple({id(entry.found): entry.found for entry in entries}.values()))


def _by_key(entries: list[Entry[G]], nesting: int, lookups: list[Lookup[G]]) -> list[Entry[G]]:
    """Choices on the paths that spare the most verifications; gives back the entries that no choice holds."""
    left = dict(enumerate(entries))
    speaking: dict[Path, list[int]] = {}
    for number, entry in left.items():
        for path in entry.alternative:
            speaking.setdefault(path, []).append(number)
    spared = {path: _spared(path, numbers, left) for path, numbers in speaking.items()}
    for path in sorted(speaking, key=lambda path: spared[path], reverse=True):
        if _spared(path, speaking[path], left) <= _FEW:
            continue
        parts: dict[Any, list[Entry[G]]] = {}
        for number in speaking[path]:
            if number in left:
                entry = left.pop(number)
                others = {other: key for other, key in entry.alternative.items() if other != path}
                part = parts.setdefault(entry.alternative[path], [])
                part.append(Entry(entry.found, others, entry.fields))
        lookups.append(Choice(path, {key: build(part, nesting + 1) for key, part in parts.items()}))
    return list(left.values())


def _spared(path: Path, numbers: list[int], left: dict[int, Entry[G]]) -> float:
    """Verifications a choice spares, if a document's key is any one of those asked for."""
    sizes: dict[Any, int] = {}
    count = 0
    for number in numbers:
        entry = left.get(number)
        if entry is not None:
            key = entry.alternative[path]
            sizes[key] = sizes.get(key, 0) + 1
            count += 1
    return count - sum(size * size for size in sizes.values()) / count if count else 0.0


def _by_prefix(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def beginning(field: Field) -> tuple[Path, str] | None:
        if not isinstance(field.test, Found):
            return None
        prefix = required_prefix(field.test.regex.pattern, field.test.regex.options)
        return (field.path, prefix) if prefix else None

    chosen, rest = _most_shared(entries, beginning, _FEW)
    for path, members in chosen.items():
        by_length: dict[int, dict[str, list[G]]] = {}
        for entry, prefix in members:
            by_length.setdefault(len(prefix), {}).setdefault(prefix, []).append(entry.found)
        lookups.append(Prefixes(path, by_length))
    return rest


def _by_range(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def bound(field: Field) -> tuple[tuple[Path, str, bool], Any] | None:
        pair = comparable(field.test.value) if isinstance(field.test, Order) else None
        if pair is None or not isinstance(field.test, Order):
            return None
        return (field.path, pair[0], field.test.operator in ("$gt", "$gte")), pair[1]

    chosen, rest = _most_shared(entries, bound, _WORTH_A_RANGE)
    for (path, kind, is_least), members in chosen.items():
        lookups.append(Ranges(path, kind, is_least, [(limit, entry.found) for entry, limit in members]))
    return rest


def _by_shared_field(entries: list[Entry[G]], nesting: int, lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def itself(field: Field) -> tuple[Any, Field]:
        # repr tells 1, 1.0 and True apart, and the order of an object's fields.
        return (field.path, field.clause.operator, repr(field.clause.argument)), field

    chosen, rest = _most_shared(entries, itself, _FEW)
    for members in chosen.values():
        shared = members[0][1]
        others = [
            Entry(entry.found, {}, tuple(field for field in entry.fields if field is not same))
            for entry, same in members
        ]
        lookups.append(Gate(shared, build(others, nesting + 1)))
    return rest


def _by_search(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def pattern(field: Field) -> tuple[Path, Search] | None:
        return (field.path, field.test.search) if isinstance(field.test, Found) else None

    chosen, rest = _most_shared(entries, pattern, _FEW)
    for path, members in chosen.items():
        lookups.append(Searches(path, [(search, entry.found) for entry, search in members]))
    return rest


def _by_name(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def parent(field: Field) -> tuple[Path, str] | None:
        return (field.path[:-1], field.path[-1]) if needs_element(field.test) else None

    chosen, rest = _most_shared(entries, parent, _FEW)
    for path, members in chosen.items():
        found: dict[str, list[G]] = {}
        for entry, name in members:
            found.setdefault(name, []).append(entry.found)
        lookups.append(Names(path, found))
    return rest


K = TypeVar("K")
T = TypeVar("T")


def _most_shared(
    entries: list[Entry[G]], feature: Callable[[Field], tuple[K, T] | None], few: int
) -> tuple[dict[K, list[tuple[Entry[G], T]]], list[Entry[G]]]:
    """Entries by the feature of theirs that most others have too, and those whose features are too rare."""
    features: list[dict[K, T]] = []
    counts: dict[K, int] = {}
    for entry in entries:
        own = dict(pair for pair in map(feature, entry.fields) if pair is not None)
        features.append(own)
        for key in own:
            counts[key] = counts.get(key, 0) + 1
    chosen: dict[K, list[tuple[Entry[G], T]]] = {}
    rest: list[Entry[G]] = []
    for entry, own in zip(entries, features, strict=True):
        best = max(own, key=lambda key: counts[key], default=None)
        if best is None or counts[best] <= few:
            rest.append(entry)
        else:
            chosen.setdefault(best, []).append((entry, own[best]))
    return chosen, rest
