"""Which fields of a query document a forwarder's query asks for."""

import json

_ABOUT_THE_SAME_DOCUMENT = ("$and", "$or", "$nor", "$match")


def query_names(query: str | None) -> frozenset[str]:
    """The first names of the paths in a query.

    Args:
        query: a text that compiles; None for no query.
    """
    if query is None or not query.strip():
        return frozenset()
    names: set[str] = set()
    _collect_names(json.loads(query), names)
    return frozenset(names)


def _collect_names(query: object, names: set[str]) -> None:
    if isinstance(query, list):
        for part in query:
            _collect_names(part, names)
    elif isinstance(query, dict):
        for name, value in query.items():
            if name in _ABOUT_THE_SAME_DOCUMENT:
                _collect_names(value, names)
            elif not name.startswith("$"):
                names.add(name.partition(".")[0])
