"""What becomes of a document that a client sends: read, merged, forced, judged by the job's own rules, made ready."""

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from registry.access import Client, Reach
from transforms.forwarders import Document, Fault, Rules, check_document
from transforms.forwarders.documents import loads_strictly
from transforms.query.extended_json import parse_date

JsonObject = dict[str, Any]

_DEEPEST: Final = 40
_LONGEST_ID: Final = 200
_OWN_PATHS: Final = frozenset(("count", "deliveries", "match"))
_IDS: Final = ("_id", "organisation", "lrs_id", "owner")
_FORCED: Final = ("_id", "organisation", "createdAt", "updatedAt")


class FaultyDocumentError(Exception):
    """A document that breaks rules: every fault, by field; none holds a secret."""

    def __init__(self, faults: Iterable[Fault], warnings: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        super().__init__("; ".join(f"{fault.field} {fault.message}".strip() for fault in self.faults))


class UnreadableBodyError(Exception):
    """A body that is not the JSON object it has to be. The text says why."""


def read_object(body: bytes) -> tuple[JsonObject, tuple[str, ...]]:
    """The JSON object in a request's body, and the paths of keys that occur twice. Raises UnreadableBodyError."""
    try:
        value, duplicates = loads_strictly(body.decode())
        too_deep = _is_deeper(value, _DEEPEST)
    except UnicodeDecodeError as error:
        raise UnreadableBodyError(f"the body is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise UnreadableBodyError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableBodyError("the body is not a JSON object")
    if too_deep:
        raise UnreadableBodyError(f"the body is nested more than {_DEEPEST} deep")
    return value, duplicates


def _is_deeper(value: object, room: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    members = value.values() if isinstance(value, dict) else value
    return room == 0 or any(_is_deeper(member, room - 1) for member in members)


def created(content: JsonObject, client: Client, now: datetime) -> JsonObject:
    """The document that `content` is to be when `client` creates it (forwarders.md section 5).

    `organisation` is the client's. `owner` is the client's user, unless it may edit the whole organisation: then it may
    bring documents of others along. `_id` and the times are kept when they come along, so that a document of another
    service is itself here too.
    """
    document = _plain_ids(content)
    if document.get("_id") is None:
        document = {"_id": new_id(), **document}
    time = rfc3339(now)
    document["organisation"] = client.organisation
    if client.edit is not Reach.ORGANISATION or document.get("owner") is None:
        document["owner"] = client.user
    for name in ("createdAt", "updatedAt"):
        if _date_of(document.get(name)) is None:
            document[name] = time
    document.setdefault("isPublic", False)
    document.setdefault("__v", 0)
    return {name: value for name, value in document.items() if value is not None}


def merged(before: JsonObject, content: JsonObject, client: Client, now: datetime) -> JsonObject:
    """`before` with what `content` says (PUT, POST and PATCH alike): objects are merged, null takes a field away.

    `_id`, `organisation` and the times are not the client's to change; `owner` only with the whole organisation.
    """
    kept = (*_FORCED, *(() if client.edit is Reach.ORGANISATION else ("owner",)))
    changes = {name: value for name, value in _plain_ids(content).items() if name not in kept}
    document = _merge(before, changes)
    document["organisation"] = client.organisation
    document["updatedAt"] = rfc3339(now)
    return document


# A query given as an object is one value: merged into the old one it would be neither.
_WHOLE: Final = frozenset(("query",))


def _merge(before: JsonObject, changes: JsonObject) -> JsonObject:
    document = dict(before)
    for name, value in changes.items():
        if value is None:
            document.pop(name, None)
        elif isinstance(value, dict) and name not in _WHOLE:
            old = document.get(name)
            document[name] = _merge(old if isinstance(old, dict) else {}, value)
        else:
            document[name] = value
    return document


def is_sent_elsewhere(before: JsonObject, after: JsonObject) -> bool:
    """Whether `after` sends over HTTP to another protocol, host or port than `before`: what it sends, others get."""
    return _origin(after) not in (None, _origin(before))


def _origin(document: JsonObject) -> tuple[str, str] | None:
    configuration = document.get("configuration")
    if not isinstance(configuration, dict) or not isinstance(url := configuration.get("url"), str):
        return None
    protocol = str(configuration.get("protocol") or "http")
    if protocol == "Kinesis":
        return None
    host = re.split(r"[/?#]", url, maxsplit=1)[0].lower()
    return protocol, host.removesuffix({"http": ":80", "https": ":443"}.get(protocol, ":"))


def judge(document: JsonObject, rules: Rules, duplicates: tuple[str, ...] = ()) -> tuple[Fault, ...]:
    """The warnings about a document that the job takes. Raises FaultyDocumentError with all of its faults."""
    checked = check_document(Document("the request", document, duplicates), rules)
    faults = list(checked.faults)
    if duplicates and not faults:
        faults += [Fault(checked.id, "the request", path, "occurs twice in one object") for path in duplicates]
    if checked.id is not None and (problem := _id_problem(checked.id)):
        faults.append(Fault(checked.id, "the request", "_id", problem))
    if faults:
        raise FaultyDocumentError(faults, checked.warnings)
    return checked.warnings


def _id_problem(document_id: str) -> str | None:
    """What of an id that the job would take cannot stand in an address of this service."""
    if len(document_id) > _LONGEST_ID:
        return f"is longer than {_LONGEST_ID} characters"
    if "/" in document_id or document_id in (".", ".."):
        return "holds a slash, or is . or .., and could not be addressed"
    if document_id in _OWN_PATHS:
        return f"is one of {', '.join(sorted(_OWN_PATHS))}, which are addresses of the service itself"
    return None


def new_id() -> str:
    """24 hexadecimal digits that begin with the time, as MongoDB's ids are."""
    return f"{int(datetime.now(UTC).timestamp()):08x}{secrets.token_hex(8)}"


def _plain_ids(content: Mapping[str, Any]) -> JsonObject:
    """mongoexport's `{"$oid": ...}` as the plain string that ids are here."""
    document = dict(content)
    for name in _IDS:
        value = document.get(name)
        if isinstance(value, dict) and set(value) == {"$oid"} and isinstance(value["$oid"], str):
            document[name] = value["$oid"].lower()
    for name in ("createdAt", "updatedAt"):
        if name in document and (date := _date_of(document[name])) is not None:
            document[name] = rfc3339(date)
    return document


def _date_of(value: object) -> datetime | None:
    if isinstance(value, dict) and set(value) == {"$date"}:
        value = value["$date"]
    return parse_date(value) if isinstance(value, str) else None


def rfc3339(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
