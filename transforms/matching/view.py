"""The part of a statement's query document that queries look at, made alone.

A query can look at its own paths and at nothing else.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.times import utc
from transforms.matching.document import query_document
from transforms.reading.exact_json import loads
from transforms.reading.originals import Original
from transforms.reading.views import Path, view_of
from transforms.statements.passage import record_of


class StatementView:
    """Makes the query documents of statements, with what is under the paths of some queries and the scope, alone.

    Args:
        paths: all that the queries can look at.

    Attributes:
        paths: what they can look at in the statement, from it on.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        known = frozenset(paths)
        self.paths = frozenset(path[1:] for path in known if path[0] == "statement")
        self._view = view_of(self.paths) if self.paths else None
        self._only_statement = all(path[0] in _PLAIN for path in known)
        self._sees_timestamp = any(path[:2] in (("statement",), ("statement", "timestamp")) for path in known)
        self._sees_stored = any(path[:2] in (("statement",), ("statement", "stored")) for path in known)

    def document(self, original: Original, statement: Any = None) -> dict[str, Any]:
        """The query document of a statement.

        Args:
            original: the statement.
            statement: what `paths` lead to in it, which becomes part of the document; None: it is decoded here.

        Raises:
            RecursionError: the statement is nested deeper than can be read.
        """
        if statement is None and self._view is not None:
            try:
                statement = self._view(original.text)
            except msgspec.DecodeError:
                statement = loads(original.text)  # a number beyond double
        if original.document is not None or not self._only_statement:
            return query_document(record_of("", original), statement)
        if self._sees_timestamp and "timestamp" in statement:
            statement["timestamp"] = utc(original.timestamp)
        if self._sees_stored and original.stored is not None and "stored" in statement:
            statement["stored"] = utc(original.stored)
        return {
            "_id": original.id,
            "kind": "statement",
            "organisation": original.organisation,
            "lrs_id": original.lrs_id,
            "statement": statement,
        }


_PLAIN = frozenset({"_id", "kind", "organisation", "lrs_id", "statement"})
"""What needs no work."""
