"""xAPI statements as stores export them: inside of an answer, a document of Learning Locker, or a hit of Elasticsearch.

An object without a verb and an actor of its own, whose `statement`, `_source`, `statements` or `hits` is the thing, is
opened, as deep as that goes on.
"""

from typing import Any, NamedTuple

import orjson

from transforms.reading.activity import TooManyValuesError
from transforms.reading.limits import LIMITS

_INSIDE = ("statement", "_source", "statements", "hits")
_BULK_ACTIONS = frozenset({"index", "create"})


class Document(NamedTuple):
    """A statement, and what the document around it says of it.

    Attributes:
        statement: as JSON was parsed.
        organisation: that the document names.
        lrs_id: the store that the document names.
        voided: whether it says that the statement was voided.
    """

    statement: dict[str, Any]
    organisation: str | None = None
    lrs_id: str | None = None
    voided: bool = False


def opened(value: dict[str, Any]) -> Document:
    """The one statement in `value`, as deep as it lies; `value` itself where nothing is around it.

    Names inside a document of Learning Locker have `&46;` for a dot, as MongoDB stores them: they get it back.
    """
    organisation = lrs_id = None
    voided = False
    while (name := _opening(value)) is not None:
        inner = _parsed(value[name])
        if not isinstance(inner, dict):
            break
        if name == "statement":
            organisation = _text(value.get("organisation")) or organisation
            lrs_id = _text(value.get("lrs_id")) or lrs_id
            voided = voided or value.get("voided") is True
            inner = _with_dots(inner)
        value = inner
    return Document(value, organisation, lrs_id, voided)


def parts_of(line: bytes) -> list[bytes] | None:
    """What the array or object on `line` holds one after the other, each as JSON; None if it does not hold several.

    An array may lie in `statements`, as in an LRS's answer, or around it all. Raises TooManyValuesError for one of more
    pieces than may be on a line.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    while isinstance(value, dict):
        name = _opening(value)
        if name is None:
            return None
        value = _parsed(value[name])
    if not isinstance(value, list):
        return None
    if len(value) > LIMITS.pieces:
        raise TooManyValuesError(f"it holds {len(value)} pieces of input, of at most {LIMITS.pieces}")
    try:
        return [orjson.dumps(part) for part in value]
    except orjson.JSONEncodeError:  # orjson reads deeper than it writes
        return None


def is_bulk_action(value: dict[str, Any]) -> bool:
    """Whether `value` is what Elasticsearch's bulk format has on the line before a document: where it is to be put."""
    return len(value) == 1 and isinstance(next(iter(value.values())), dict) and not _BULK_ACTIONS.isdisjoint(value)


def _opening(value: dict[str, Any]) -> str | None:
    """The name under which the thing is; None where `value` is the thing, or nothing is in it."""
    if "verb" in value or "actor" in value:
        return None
    return next((name for name in _INSIDE if value.get(name) is not None), None)


def _parsed(value: Any) -> Any:
    """A column of JSON text as what is in it."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _with_dots(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.replace("&46;", "."): _with_dots(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_dots(entry) for entry in value]
    return value
