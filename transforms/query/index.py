"""Ten thousand forwarders at the price of ten: which of them a document matches."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from transforms.query.access import Alternative, alternatives, key_of
from transforms.query.errors import QueryError
from transforms.query.nodes import Path
from transforms.query.query import Query, compile_query
from transforms.query.walk import expand


class Forwarder(Protocol):
    """What the index needs to know of a forwarder (spec/forwarders.md, section 1)."""

    @property
    def id(self) -> str: ...
    @property
    def organisation(self) -> str | None: ...
    @property
    def lrs_id(self) -> str | None: ...
    @property
    def query(self) -> str | Mapping[str, Any] | None: ...


F = TypeVar("F", bound=Forwarder)


class Matching(tuple[F, ...]):
    """The forwarders that match a document, in their given order; `undecided` are those of which nobody can
    say.

    Undecided: a regular expression of the forwarder's query hit its limit, and the answer hangs on it
    (spec/mongo-query.md, section 7). Such a record belongs in the dead letters of that forwarder.
    """

    undecided: tuple[F, ...] = ()

    @property
    def matched(self) -> tuple[F, ...]:
        """The forwarders that surely match: this tuple itself."""
        return self


@dataclass(slots=True, eq=False)
class _Group(Generic[F]):
    """Forwarders of one scope and one query: one evaluation for all of them."""

    query: Query
    organisation: str | None
    lrs_id: str | None
    members: list[tuple[int, F]]
    # Known to be found more than once: it has several alternatives.
    several: bool = False


class _Switch(Generic[F]):
    """A choice by the keys a document has at a path."""

    __slots__ = ("children", "path", "rest")

    def __init__(self, path: Path, children: "dict[Any, _Tree[F]]", rest: "_Tree[F] | None") -> None:
        self.path = path
        self.children = children
        self.rest = rest


_Tree = _Switch[F] | list[_Group[F]]
_Entry = tuple[Alternative, _Group[F]]

# A choice costs about as much as verifying two queries.
_LEAF_SIZE: Final = 2


class ForwarderIndex(Generic[F]):
    """The forwarders of a job, by what a document must hold for their scope and query to match.

    Raises QueryError, naming the forwarder, when a query cannot be used. Pickles as its forwarders and is
    rebuilt. Source: spec/forwarders.md, section 1, spec/mongo-query.md.
    """

    def __init__(self, forwarders: Iterable[F]) -> None:
        self.forwarders: tuple[F, ...] = tuple(forwarders)
        self._groups = _group(self.forwarders)
        entries: list[_Entry[F]] = []
        for group in self._groups:
            found = alternatives(group.query.node)
            group.several = len(found) > 1
            scope: Alternative = {}
            if group.organisation is not None:
                scope[("organisation",)] = group.organisation
            if group.lrs_id is not None:
                scope[("lrs_id",)] = group.lrs_id
            entries.extend(({**alternative, **scope}, group) for alternative in found)
        self._tree = _build(entries)

    def matching(self, document: Mapping[str, Any]) -> Matching[F]:
        """The forwarders whose scope and query match the document, in their given order. Never raises."""
        matched: list[tuple[int, F]] = []
        undecided: list[tuple[int, F]] = []
        organisation, lrs_id = document.get("organisation"), document.get("lrs_id")
        seen: set[int] = set()
        stack = [self._tree]
        while stack:
            tree = stack.pop()
            if isinstance(tree, _Switch):
                if tree.rest is not None:
                    stack.append(tree.rest)
                keys = {key_of(element) for element in expand(document, tree.path, leaf=True)}
                for key in keys:
                    child = tree.children.get(key)
                    if child is not None:
                        stack.append(child)
                continue
            for group in tree:
                if group.organisation is not None and group.organisation != organisation:
                    continue
                if group.lrs_id is not None and group.lrs_id != lrs_id:
                    continue
                if group.several:
                    if id(group) in seen:
                        continue
                    seen.add(id(group))
                truth = group.query.compiled()(document)
                if truth:
                    matched.extend(group.members)
                elif truth is None:
                    undecided.extend(group.members)
        result = Matching(_in_order(matched))
        if undecided:
            result.undecided = _in_order(undecided)
        return result

    def __len__(self) -> int:
        return len(self.forwarders)

    def __reduce__(self) -> tuple[Any, ...]:
        return ForwarderIndex, (self.forwarders,)


def _in_order(members: list[tuple[int, F]]) -> tuple[F, ...]:
    return tuple(forwarder for _, forwarder in sorted(members, key=_position))


def _position(member: tuple[int, Any]) -> int:
    return member[0]


def _group(forwarders: Iterable[F]) -> list[_Group[F]]:
    queries: dict[Any, Query] = {}
    groups: dict[Any, _Group[F]] = {}
    for position, forwarder in enumerate(forwarders):
        text = _text(forwarder.query)
        key = text if text is not None else position
        query = queries.get(key)
        if query is None:
            try:
                query = compile_query(forwarder.query)
            except QueryError as error:
                raise QueryError(
                    f"forwarder {forwarder.id}: {error.message}",
                    operator=error.operator, where=error.where, allowed=error.allowed,
                ) from None  # fmt: skip
            queries[key] = query
        scope = (forwarder.organisation, forwarder.lrs_id)
        group = groups.get((scope, key))
        if group is None:
            group = groups[scope, key] = _Group(query, *scope, [])
        group.members.append((position, forwarder))
    return list(groups.values())


def _text(query: str | Mapping[str, Any] | None) -> str | None:
    """A text that equal queries share; None where there is no such text."""
    if isinstance(query, str):
        return query
    try:
        return json.dumps(query)
    except (TypeError, ValueError, RecursionError):
        return None


def _build(entries: list[_Entry[F]]) -> _Tree[F]:
    """The tree over entries: the path that parts them best is looked up first, what does not speak of it
    stands beside.
    """
    path = _best_path(entries) if len(entries) > _LEAF_SIZE else None
    if path is None:
        return list({id(group): group for _, group in entries}.values())
    parted: dict[Any, list[_Entry[F]]] = {}
    rest: list[_Entry[F]] = []
    for alternative, group in entries:
        if path in alternative:
            remaining = {other: key for other, key in alternative.items() if other != path}
            parted.setdefault(alternative[path], []).append((remaining, group))
        else:
            rest.append((alternative, group))
    children = {key: _build(part) for key, part in parted.items()}
    return _Switch(path, children, _build(rest) if rest else None)


def _best_path(entries: list[_Entry[F]]) -> Path | None:
    """The path that spares the most evaluations, if a document's key is any one of those asked for."""
    sizes: dict[Path, dict[Any, int]] = {}
    for alternative, _ in entries:
        for path, key in alternative.items():
            keys = sizes.setdefault(path, {})
            keys[key] = keys.get(key, 0) + 1
    best: Path | None = None
    most = float(_LEAF_SIZE)
    for path, keys in sizes.items():
        count = sum(keys.values())
        spared = count - sum(size * size for size in keys.values()) / count
        if spared > most:
            best, most = path, spared
    return best
