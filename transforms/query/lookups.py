"""Lookups that find, among many entries, the few that a document could match.

They are a tree. Each part of it leaves out only entries that surely do not match. An entry that it finds has yet to be
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
        """Append the groups that the document could match. The same one may be appended twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[G]):
    """A group that is to be found, and what a document must hold for that.

    Attributes:
        group: what is found.
        alternative: the conditions of one alternative of its query.
        fields: the fields of its query that must hold whatever the alternative.
    """

    group: G
    alternative: Alternative
    fields: tuple[Field, ...]


_FEW = 2
"""Entries up to this many get no lookup: it would cost about as much as to verify two queries."""

_FEW_IN_RANGE = 5
"""The same for a lookup by ranges. It leaves out fewer of its entries, so it takes more of them to pay."""

_MAX_NESTING = 8
"""How deep lookups may stand inside lookups. So deep down the entries are few, or cannot be told apart."""


class Several(list[Any]):
    """The elements of a path that leads through an array or to one."""


Reader = Callable[[Any], Any]


@functools.lru_cache(maxsize=4096)
def reader(path: Path) -> Reader:
    """A function that reads the one value at a path; None if there is none, `Several` where arrays are involved."""
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
    """Entries of which nothing more is known."""

    __slots__ = ("groups",)

    def __init__(self, groups: tuple[G, ...]) -> None:
        self.groups = groups

    def collect(self, document: Document, into: list[G]) -> None:
        into += self.groups


class Choice(Generic[G]):
    """Entries by the key that an element at a path must have."""

    __slots__ = ("groups", "lookups", "read")

    def __init__(self, path: Path, parts: dict[Any, tuple[Lookup[G], ...]]) -> None:
        self.read = reader(path)
        # What only needs to be verified is kept one step nearer. With ten thousand keys every step is a cache miss.
        self.groups: dict[Any, tuple[G, ...]] = {}
        self.lookups: dict[Any, tuple[Lookup[G], ...]] = {}
        for key, part in parts.items():
            first = part[0]
            if len(part) == 1 and isinstance(first, Verify):
                self.groups[key] = first.groups
            else:
                self.lookups[key] = part

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if value is None:
            return
        if type(value) is str:
            into += self.groups.get(value, ())
            if self.lookups:
                for lookup in self.lookups.get(value, ()):
                    lookup.collect(document, into)
            return
        elements = value if type(value) is Several else (value,)
        for key in {key_of(element) for element in elements}:
            into += self.groups.get(key, ())
            for lookup in self.lookups.get(key, ()):
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
    """Entries by the least or the greatest value that an element at a path must have."""

    __slots__ = ("groups", "is_least", "kind", "limits", "read")

    def __init__(self, path: Path, kind: str, is_least: bool, limits: list[tuple[Any, G]]) -> None:
        self.read = reader(path)
        self.kind = kind
        self.is_least = is_least
        limits.sort(key=_limit)
        self.limits = [limit for limit, _ in limits]
        self.groups = [group for _, group in limits]

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
            into += self.groups[: bisect.bisect_right(self.limits, max(values))]
        else:
            into += self.groups[bisect.bisect_left(self.limits, min(values)) :]


def _limit(pair: tuple[Any, Any]) -> Any:
    return pair[0]


class Gate(Generic[G]):
    """Entries that have a field in common. It is tested once for all of them."""

    __slots__ = ("lookups", "query")

    def __init__(self, field: Field, lookups: tuple[Lookup[G], ...]) -> None:
        self.query = Query(field, {})
        self.lookups = lookups

    def collect(self, document: Document, into: list[G]) -> None:
        # Undecided is let through, since the whole query may still be surely false.
        if self.query.compiled()(document) is not False:
            for lookup in self.lookups:
                lookup.collect(document, into)


class Searches(Generic[G]):
    """Entries by a pattern that must be found in a string at a path. The string is read once for all of them."""

    __slots__ = ("pairs", "read")

    def __init__(self, path: Path, pairs: list[tuple[Search, G]]) -> None:
        self.read = reader(path)
        self.pairs = pairs

    def collect(self, document: Document, into: list[G]) -> None:
        value = self.read(document)
        if type(value) is str:
            for search, group in self.pairs:
                try:
                    if search(value):
                        into.append(group)
                except UndecidedError:
                    into.append(group)
        elif value is not None:
            into += [group for _, group in self.pairs]


class Names(Generic[G]):
    """Entries by the name of a field that an object at a path must have."""

    __slots__ = ("all_groups", "groups", "read")

    def __init__(self, path: Path, groups: dict[str, list[G]]) -> None:
        self.read = reader(path) if path else None
        self.groups = groups
        self.all_groups = [group for of_name in groups.values() for group in of_name]

    def collect(self, document: Document, into: list[G]) -> None:
        value = document if self.read is None else self.read(document)
        if type(value) is dict:
            for name in value.keys() & self.groups.keys():
                into += self.groups[name]
        elif value is not None:
            into += self.all_groups


def build(entries: list[Entry[G]], nesting: int = 0) -> tuple[Lookup[G], ...]:
    """The lookups for these entries.

    Equality comes first, since it leaves the fewest candidates. The rest is looked up by what most of it has in common.

    Args:
        entries: what is to be found.
        nesting: how many lookups stand around these.
    """
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
    return Verify(tuple({id(entry.group): entry.group for entry in entries}.values()))


def _by_key(entries: list[Entry[G]], nesting: int, lookups: list[Lookup[G]]) -> list[Entry[G]]:
    """Make choices on the paths that spare the most verifications. Returns the entries that no choice holds."""
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
                part.append(Entry(entry.group, others, entry.fields))
        lookups.append(Choice(path, {key: build(part, nesting + 1) for key, part in parts.items()}))
    return list(left.values())


def _spared(path: Path, numbers: list[int], left: dict[int, Entry[G]]) -> float:
    """How many verifications a choice spares, if the key of a document is any one of those that are asked for."""
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
            by_length.setdefault(len(prefix), {}).setdefault(prefix, []).append(entry.group)
        lookups.append(Prefixes(path, by_length))
    return rest


def _by_range(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def bound(field: Field) -> tuple[tuple[Path, str, bool], Any] | None:
        pair = comparable(field.test.value) if isinstance(field.test, Order) else None
        if pair is None or not isinstance(field.test, Order):
            return None
        return (field.path, pair[0], field.test.operator in ("$gt", "$gte")), pair[1]

    chosen, rest = _most_shared(entries, bound, _FEW_IN_RANGE)
    for (path, kind, is_least), members in chosen.items():
        lookups.append(Ranges(path, kind, is_least, [(limit, entry.group) for entry, limit in members]))
    return rest


def _by_shared_field(entries: list[Entry[G]], nesting: int, lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def itself(field: Field) -> tuple[Any, Field]:
        # repr tells 1, 1.0 and True apart, and the order of an object's fields.
        return (field.path, field.clause.operator, repr(field.clause.argument)), field

    chosen, rest = _most_shared(entries, itself, _FEW)
    for members in chosen.values():
        shared = members[0][1]
        others = [
            Entry(entry.group, {}, tuple(field for field in entry.fields if field is not same))
            for entry, same in members
        ]
        lookups.append(Gate(shared, build(others, nesting + 1)))
    return rest


def _by_search(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def pattern(field: Field) -> tuple[Path, Search] | None:
        return (field.path, field.test.search) if isinstance(field.test, Found) else None

    chosen, rest = _most_shared(entries, pattern, _FEW)
    for path, members in chosen.items():
        lookups.append(Searches(path, [(search, entry.group) for entry, search in members]))
    return rest


def _by_name(entries: list[Entry[G]], lookups: list[Lookup[G]]) -> list[Entry[G]]:
    def parent(field: Field) -> tuple[Path, str] | None:
        return (field.path[:-1], field.path[-1]) if needs_element(field.test) else None

    chosen, rest = _most_shared(entries, parent, _FEW)
    for path, members in chosen.items():
        groups: dict[str, list[G]] = {}
        for entry, name in members:
            groups.setdefault(name, []).append(entry.group)
        lookups.append(Names(path, groups))
    return rest


K = TypeVar("K")
T = TypeVar("T")


def _most_shared(
    entries: list[Entry[G]], feature: Callable[[Field], tuple[K, T] | None], few: int
) -> tuple[dict[K, list[tuple[Entry[G], T]]], list[Entry[G]]]:
    """Sort entries by a feature of their fields; of several features by the one that most entries have.

    Returns the entries by their feature, and those whose features no more than `few` entries have.
    """
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
