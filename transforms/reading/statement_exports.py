"""xAPI statements as stores export them: inside of an answer, a document of Learning Locker, or a hit of Elasticsearch.

An object without a verb and an actor of its own, whose `statement`, `_source`, `statements` or `hits` is the thing, is
opened, as deep as that goes on.
"""

from typing import Any, NamedTuple

import msgspec
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


class DocumentText(NamedTuple):
    """A statement as text, and what the document around it says of it.

    Attributes:
        statement: cut out of the document: no byte of it is changed.
        document: the members that Learning Locker's document has besides `statement`, as they are spelled there; None
            where something else, or nothing, is around the statement.
    """

    statement: bytes
    document: dict[str, msgspec.Raw] | None


def opened_text(line: bytes) -> DocumentText:
    """As `opened`, of text: the statement is cut out, not encoded again.

    Args:
        line: a JSON object, whose every byte has been checked.
    """
    document: dict[str, msgspec.Raw] | None = None
    while (members := _members(line)) is not None and (name := _opening_text(members)) is not None:
        inner = _text_of(members.pop(name))
        if inner[:1] != b"{":
            break
        if name == "statement":
            document = members if document is None else document | members
        line = inner
    return DocumentText(line, document)


def parts_of(line: bytes) -> list[bytes] | None:
    """What the array or object on `line` holds one after the other, each as text; None if it does not hold several.

    An array may lie in `statements`, as in an LRS's answer, or around it all. Its parts are cut out, not encoded again.

    Raises:
        TooManyValuesError: it holds more pieces than may be on a line.
    """
    while (members := _members(line)) is not None:
        name = _opening_text(members)
        if name is None:
            return None
        line = _text_of(members[name])
    try:
        parts = _decode_array(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    if len(parts) > LIMITS.pieces:
        raise TooManyValuesError(f"it holds {len(parts)} pieces of input, of at most {LIMITS.pieces}")
    return [bytes(part) for part in parts]


def is_bulk_action(value: dict[str, Any]) -> bool:
    """Whether `value` is what Elasticsearch's bulk format has on the line before a document: where it is to be put."""
    return len(value) == 1 and isinstance(next(iter(value.values())), dict) and not _BULK_ACTIONS.isdisjoint(value)


def _opening(value: dict[str, Any]) -> str | None:
    """The name under which the thing is; None where `value` is the thing, or nothing is in it."""
    if "verb" in value or "actor" in value:
        return None
    return next((name for name in _INSIDE if value.get(name) is not None), None)


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_NULL = b"null"


def _members(line: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object, as text; None for anything else."""
    try:
        return _decode_members(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _opening_text(members: dict[str, msgspec.Raw]) -> str | None:
    """As `_opening`, of text."""
    if "verb" in members or "actor" in members:
        return None
    return next((name for name in _INSIDE if bytes(members.get(name, _NULL)) != _NULL), None)


def _text_of(member: msgspec.Raw) -> bytes:
    """A member as text, a column of JSON text as what is in it."""
    text = bytes(member).strip()
    return _decode_text(text).encode().strip() if text[:1] == b'"' else text


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
