"""The part of a statement's query document that queries look at, made alone.

A query can look at its own paths and at nothing else. What no path leads to is passed over by the decoder, which takes
a fraction of the time that its values would take.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypedDict

import msgspec

from schemas import Record
from schemas.times import utc
from transforms.matching.document import query_document
from transforms.reading.exact_json import loads

Path = tuple[str, ...]
Tree = dict[str, "Tree | None"]
"""The names that are looked at in an object, each with those inside of it; None: all that is inside."""


class StatementView:
    """Makes the query documents of statements, with what is under the paths of some queries and the scope, alone.

    Args:
        paths: all that the queries can look at.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        known = frozenset(paths)
        inside = [path[1:] for path in known if path[0] == "statement"]
        self._view = view_of(inside) if inside else None
        self._only_statement = all(path[0] in _PLAIN for path in known)
        self._sees_timestamp = any(path[:2] in (("statement",), ("statement", "timestamp")) for path in known)
        self._sees_stored = any(path[:2] in (("statement",), ("statement", "stored")) for path in known)

    def document(self, record: Record) -> dict[str, Any]:
        """The query document of a record that is a statement.

        Raises:
            RecursionError: the statement is nested deeper than can be read.
        """
        statement: Any = None
        if self._view is not None:
            try:
                statement = self._view(record.body)
            except msgspec.DecodeError:
                statement = loads(record.body)  # a number beyond double
        if record.document is not None or not self._only_statement:
            return query_document(record, statement)
        if self._sees_timestamp and "timestamp" in statement:
            statement["timestamp"] = utc(record.timestamp)
        if self._sees_stored and record.stored is not None and "stored" in statement:
            statement["stored"] = utc(record.stored)
        return {
            "_id": record.id,
            "kind": "statement",
            "organisation": record.organisation,
            "lrs_id": record.lrs_id,
            "statement": statement,
        }


_PLAIN = frozenset({"_id", "kind", "organisation", "lrs_id", "statement"})
"""What needs no work."""


def view_of(paths: Iterable[Path]) -> Callable[[bytes], Any]:
    """A function that decodes what `paths` lead to in a JSON object.

    Its value and that of the whole object look the same to a query of these paths. In arrays everything is decoded. It
    raises msgspec.DecodeError for a number that no double holds.

    Args:
        paths: from the object on. The empty path leads to all of it.
    """
    return msgspec.json.Decoder(_type(_tree(paths))).decode


def _tree(paths: Iterable[Path]) -> Tree | None:
    inside: dict[str, list[Path]] = {}
    for path in paths:
        if not path:
            return None
        inside.setdefault(path[0], []).append(path[1:])
    return {name: _tree(below) for name, below in inside.items()}


def _type(tree: Tree | None) -> Any:
    """The type that msgspec is to decode. What is no object is taken as it is."""
    if tree is None:
        return Any
    fields = {name: _type(inner) for name, inner in tree.items()}
    return TypedDict("View", fields, total=False) | list[Any] | str | int | float | bool | None  # type: ignore[operator]
