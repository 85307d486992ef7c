"""Ten thousand forwarders for the price of ten: which of them a document matches.

Forwarders with the same scope and the same query form a group. The groups stand in a tree of lookups (`lookups.py`),
which finds the few that a document could match. Each of those is verified with its scope and its whole query. A few
groups are asked all at once, by one function (`codegen.compile_together`): that takes less than to look them up.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from transforms.query.codegen import UNDECIDED, compile_together
from transforms.query.conditions import Alternative, alternatives, necessary_fields
from transforms.query.errors import QueryError
from transforms.query.lookups import Entry, Lookup, build
from transforms.query.nodes import Path
from transforms.query.query import Query, compile_query


class Forwarder(Protocol):
    """What the index needs of a forwarder (docs/spec/forwarders.md section 1)."""

    @property
    def id(self) -> str: ...
    @property
    def scope(self) -> Mapping[str, str]:
        """Top-level fields, and the string that a document must hold in each, whatever the query says."""
        ...

    @property
    def query(self) -> str | Mapping[str, Any] | None: ...


F = TypeVar("F", bound=Forwarder)


class Matching(tuple[F, ...]):
    """The forwarders that surely match a document, in the order in which they were given.

    Attributes:
        undecided: the forwarders of which nobody can say. A regular expression of their query hit its limit, and the
            answer depends on it (docs/spec/mongo-query.md section 7). The record belongs in their dead letters.
    """

    undecided: tuple[F, ...] = ()
    _ids: tuple[str, ...] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of those that surely match."""
        if self._ids is None:
            self._ids = tuple([forwarder.id for forwarder in self])
        return self._ids

    @property
    def matched(self) -> tuple[F, ...]:
        """The forwarders that surely match: this tuple itself."""
        return self


class Group(Generic[F]):
    """Forwarders with one scope and one query, which are evaluated once for all of them."""

    __slots__ = ("members", "query", "result", "scope", "truth")

    def __init__(self, query: Query, scope: Mapping[str, str]) -> None:
        self.query = query
        self.scope = scope
        self.members: list[tuple[int, F]] = []
        self.result: Matching[F] = Matching()
        # Whether scope and query match; None for undecided.
        self.truth: Callable[[Any], bool | None] = self._first_truth

    def _first_truth(self, document: Any) -> bool | None:
        truth = self.query.compiled()
        for field, value in self.scope.items():
            truth = _if_equal(field, value, truth)
        self.truth = truth
        return truth(document)


def _if_equal(field: str, value: str, then: Callable[[Any], bool | None]) -> Callable[[Any], bool | None]:
    """The truth of `then` for a document that holds `value` in `field`; False for any other."""

    def truth(document: Any) -> bool | None:
        return then(document) if document.get(field) == value else False

    return truth


FEW_GROUPS = 32
"""Up to so many groups are asked all at once. From about 64 on it takes less to look them up."""

_REMEMBERED_FORWARDERS = 200_000
"""How many forwarders are kept in the tuples that `matching` returns, over all combinations of groups.

Records of one kind match the same few combinations again and again.
"""


class ForwarderIndex(Generic[F]):
    """The forwarders of a job, by what a document must hold for their scope and query to match.

    It pickles as its forwarders, and is built again. The rules are those of docs/spec/forwarders.md section 1 and of
    docs/spec/mongo-query.md.

    Args:
        forwarders: of the job.
        few_groups: up to so many groups are asked all at once.

    Raises:
        QueryError: a query cannot be used. The error names the forwarder.
    """

    def __init__(self, forwarders: Iterable[F], few_groups: int = FEW_GROUPS) -> None:
        self.forwarders: tuple[F, ...] = tuple(forwarders)
        groups = _group(self.forwarders)
        entries: list[Entry[Group[F]]] = []
        for group in groups:
            group.result = Matching(forwarder for _, forwarder in group.members)
            scope: Alternative = {(field,): value for field, value in group.scope.items()}
            fields = necessary_fields(group.query.node)
            for alternative in alternatives(group.query.node):
                entries.append(Entry(group, {**alternative, **scope}, fields))
        self._paths = frozenset(path for group in groups for path in group.query.split_paths)
        self._fields = frozenset(path[0] for path in self._paths)
        self._lookups: tuple[Lookup[Group[F]], ...] = build(entries)
        self._remembered: dict[tuple[int, ...], Matching[F]] = {}
        self._room = _REMEMBERED_FORWARDERS
        self._groups = tuple(groups)
        self._by_bits: dict[int, Matching[F]] = {0: _NOTHING}
        self._ask_all: Callable[[Any], int] | None = self._first_asked if 0 < len(groups) <= few_groups else None

    def matching(self, document: Mapping[str, Any]) -> Matching[F]:
        """The forwarders whose scope and query match the document, in the order in which they were given.

        It never raises.

        Args:
            document: see `schemas.query_document`.
        """
        if self._ask_all is not None and (bits := self._ask_all(document)) != UNDECIDED:
            result = self._by_bits.get(bits)
            return self._of_bits(bits) if result is None else result
        candidates: list[Group[F]] = []
        for lookup in self._lookups:
            lookup.collect(document, candidates)
        if not candidates:
            return _NOTHING
        matched: list[Group[F]] = []
        undecided: list[Group[F]] = []
        for group in candidates:
            truth = group.truth(document)
            if truth:
                matched.append(group)
            elif truth is None:
                undecided.append(group)
        if undecided:
            result = Matching(_in_order(matched))
            result.undecided = _in_order(undecided)
            return result
        if len(matched) == 1:
            return matched[0].result
        return self._together(matched) if matched else _NOTHING

    def _first_asked(self, document: Any) -> int:
        self._ask_all = compile_together([(group.scope, group.query.node) for group in self._groups])
        return UNDECIDED if self._ask_all is None else self._ask_all(document)

    def _of_bits(self, bits: int) -> Matching[F]:
        """The forwarders of the groups whose bits are set."""
        matched = [group for number, group in enumerate(self._groups) if bits >> number & 1]
        result = matched[0].result if len(matched) == 1 else Matching(_in_order(matched))
        if len(self._by_bits) < _REMEMBERED_FORWARDERS // len(self.forwarders):
            self._by_bits[bits] = result
        return result

    def _together(self, matched: list[Group[F]]) -> Matching[F]:
        """The forwarders of several groups, in order. A group may be among them twice, by two of its alternatives."""
        key = tuple(map(id, matched))
        result = self._remembered.get(key)
        if result is None:
            result = Matching(_in_order(matched))
            self._room -= len(result) + len(key)
            if self._room < 0:
                self._remembered.clear()
                self._room = _REMEMBERED_FORWARDERS
            self._remembered[key] = result
        return result

    @property
    def fields(self) -> frozenset[str]:
        """The names of the top-level fields that some query can look at. Others need not be built."""
        return self._fields

    @property
    def paths(self) -> frozenset[Path]:
        """All paths that some query can look at, each as the names on its way."""
        return self._paths

    def __len__(self) -> int:
        return len(self.forwarders)

    def __reduce__(self) -> tuple[Any, ...]:
        return ForwarderIndex, (self.forwarders,)


_NOTHING: Matching[Any] = Matching()


def _in_order(groups: list[Group[F]]) -> tuple[F, ...]:
    members = {position: forwarder for group in groups for position, forwarder in group.members}
    return tuple(members[position] for position in sorted(members))


def _group(forwarders: Iterable[F]) -> list[Group[F]]:
    queries: dict[Any, Query] = {}
    groups: dict[Any, Group[F]] = {}
    for position, forwarder in enumerate(forwarders):
        text = _text(forwarder.query)
        key = text if text is not None else position
        query = queries.get(key)
        if query is None:
            try:
                query = compile_query(forwarder.query)
            except QueryError as error:
                message = f"forwarder {forwarder.id}: {error.message}"
                raise QueryError(message, operator=error.operator, where=error.where, allowed=error.allowed) from None
            queries[key] = query
        scope = forwarder.scope
        group_key = (key, *scope.items())
        group = groups.get(group_key)
        if group is None:
            group = groups[group_key] = Group(query, scope)
        group.members.append((position, forwarder))
    return list(groups.values())


def _text(query: str | Mapping[str, Any] | None) -> str | None:
    """A text that is the same for equal queries; None for a query that has none."""
    if isinstance(query, str):
        return query
    try:
        return json.dumps(query)
    except (TypeError, ValueError, RecursionError):
        return None
