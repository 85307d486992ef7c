"""What becomes of a document that a client sends before it is stored: it is merged, and judged by the job's rules."""

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from registry.access import Client, Reach
from schemas.json_values import JsonObject
from schemas.times import millis_of, rfc3339
from transforms.forwarders import Document, Fault, Rules, check_document
from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.findings import Findings
from transforms.forwarders.values import INVALID, value_faults
from transforms.query.extended_json import parse_date

MOST_BYTES = 1024 * 1024
"""Bytes that a document may have, as JSON. No request has a larger body, but many requests can add to one document."""

_LONGEST_ID = 200
"""Characters of an id."""

_OWN_PATHS = frozenset(("count", "deliveries", "match"))
"""Ids that would stand for an address of the service's own."""

_IDS = ("_id", "organisation", "lrs_id", "owner")
_FORCED = ("_id", "organisation", "createdAt", "updatedAt")
"""Fields that a change cannot change."""


class FaultyDocumentError(Exception):
    """A document breaks rules.

    Args:
        faults: all of them, by field. None holds a secret.
        warnings: what else in the document is probably not meant.
    """

    def __init__(self, faults: Iterable[Fault], warnings: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        super().__init__("; ".join(f"{fault.field} {fault.message}".strip() for fault in self.faults))


class UnreadableBodyError(Exception):
    """A body is not the JSON object that it has to be. The text says why."""


def read_object(body: bytes) -> tuple[JsonObject, tuple[str, ...]]:
    """Read a request's body.

    Returns:
        The JSON object in the body, and the paths of the keys that occur twice in it.

    Raises:
        UnreadableBodyError: the body is no JSON object, or is nested too deeply.
    """
    try:
        value, duplicates = loads_strictly(body.decode())
    except UnicodeDecodeError as error:
        raise UnreadableBodyError(f"the body is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise UnreadableBodyError(f"the body cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableBodyError("the body is not a JSON object")
    return value, duplicates


def created(content: JsonObject, client: Client, now: datetime) -> JsonObject:
    """The document that a client creates (docs/spec/forwarders.md section 5).

    Args:
        content: what the client sends. Its `_id` and times are kept, so that a document that is brought from another
            service is the same document here.
        client: its organisation becomes the document's. Its user becomes the owner, unless the client may edit the
            whole organisation and names another owner.
        now: stands for the times that are not sent along.
    """
    document = _plain_ids(content)
    if document.get("_id") is None:
        document = {"_id": new_id(), **document}
    time = rfc3339(millis_of(now))
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
    """The document that a change makes; PUT, POST and PATCH do the same.

    Args:
        before: the document, as the client is shown it.
        content: what the client sends. Objects are merged, and null takes a field away. `_id`, `organisation` and the
            times are not the client's to change.
        client: may change the owner only if it may edit the whole organisation.
        now: the time of the change.
    """
    kept = (*_FORCED, *(() if client.edit is Reach.ORGANISATION else ("owner",)))
    changes = {name: value for name, value in _plain_ids(content).items() if name not in kept}
    document = _merge(before, changes)
    document["organisation"] = client.organisation
    document["updatedAt"] = rfc3339(millis_of(now))
    return document


def restored(earlier: JsonObject, present: JsonObject, client: Client, now: datetime) -> JsonObject:
    """The document that stands again as it was after an earlier change.

    Args:
        earlier: the document as it was then.
        present: the document, as the client is shown it. What no change can change stays as it is here.
        client: as `merged` takes it.
        now: the time of the change.
    """
    kept = (*_FORCED, *(() if client.edit is Reach.ORGANISATION else ("owner",)))
    document = {name: value for name, value in earlier.items() if name not in kept}
    document |= {name: present[name] for name in kept if name in present}
    document["updatedAt"] = rfc3339(millis_of(now))
    return document


_WHOLE = frozenset(("query",))
"""Objects that are one value. A query that was merged into the one before would be neither of the two."""


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
    """Whether a changed document sends a secret over HTTP by another protocol, or to another host or port, than before.

    A client's secret of OAuth 2.0 is sent to the token endpoint.
    """
    if _origin(after) not in (None, _origin(before)):
        return True
    return _token_origin(after) not in (None, _token_origin(before)) and bool(
        _configuration(before).get("clientSecret")
    )


def _configuration(document: JsonObject) -> JsonObject:
    configuration = document.get("configuration")
    return configuration if isinstance(configuration, dict) else {}


def _origin(document: JsonObject) -> tuple[str, str] | None:
    """Protocol, and host and port, that a document sends to over HTTP; None if it does not."""
    configuration = _configuration(document)
    if not isinstance(url := configuration.get("url"), str):
        return None
    protocol = str(configuration.get("protocol") or "http")
    return None if protocol == "Kinesis" else (protocol, _host_and_port(protocol, url))


def _token_origin(document: JsonObject) -> tuple[str, str] | None:
    """Protocol, and host and port, of the token endpoint; None if there is none."""
    url = _configuration(document).get("tokenUrl")
    if not isinstance(url, str):
        return None
    protocol, _, rest = url.lower().partition("://")
    return protocol, _host_and_port(protocol, rest)


def _host_and_port(protocol: str, url: str) -> str:
    host = re.split(r"[/?#]", url, maxsplit=1)[0].lower()
    return host.removesuffix({"http": ":80", "https": ":443"}.get(protocol, ":"))


def judge(document: JsonObject, rules: Rules, duplicates: tuple[str, ...] = ()) -> tuple[Fault, ...]:
    """Judge a document as the job would.

    Args:
        duplicates: the paths of keys that occur twice in it.

    Returns:
        Warnings, about a document that the job takes.

    Raises:
        FaultyDocumentError: the job refuses it, it could not be given back as it is, or its id cannot stand in an
            address of this service.
    """
    # Of a document that is not active the job minds next to nothing. But it has to be kept, and shown.
    check_keepable(document)
    checked = check_document(Document("the request", document, duplicates), rules)
    faults = list(checked.faults)
    if duplicates and not faults:
        faults += [Fault(checked.id, "the request", path, "occurs twice in one object") for path in duplicates]
    if checked.id is not None and (problem := _id_problem(checked.id)):
        faults.append(Fault(checked.id, "the request", "_id", problem))
    if faults:
        raise FaultyDocumentError(faults, checked.warnings)
    return checked.warnings


def check_keepable(document: JsonObject) -> None:
    """Refuse a document that could not be given back as it is. Stores ask for this, too, whatever has come to them.

    Raises:
        FaultyDocumentError: with each place that holds what cannot be kept.
    """
    found = value_faults(document)
    if document.get(INVALID) is not None:
        found.append((INVALID, "is the service's own field: leave it out"))
    if not found and len(as_json(document).encode()) > MOST_BYTES:
        found.append(("", f"the document is larger than {MOST_BYTES} bytes"))
    if found:
        document_id = document.get("_id")
        who = document_id if isinstance(document_id, str) else None
        findings = Findings(who, "the request")
        raise FaultyDocumentError(findings.about(path, message) for path, message in found)


def as_json(content: JsonObject) -> str:
    """A document as it is kept and sent: JSON without blanks. Raises ValueError for what `value_faults` finds."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _id_problem(document_id: str) -> str | None:
    """Why an id that the job takes cannot stand in an address of this service; None if it can."""
    if len(document_id) > _LONGEST_ID:
        return f"is longer than {_LONGEST_ID} characters"
    if "/" in document_id or document_id in (".", ".."):
        return "holds a slash, or is . or .., and could not be addressed"
    if document_id in _OWN_PATHS:
        return f"is one of {', '.join(sorted(_OWN_PATHS))}, which are addresses of the service itself"
    return None


def new_id() -> str:
    """A new id in the form of MongoDB's: 24 hexadecimal digits that begin with the time."""
    return f"{int(datetime.now(UTC).timestamp()):08x}{secrets.token_hex(8)}"


def _plain_ids(content: Mapping[str, Any]) -> JsonObject:
    """A copy in which ids and times are texts, and not what mongoexport writes: `{"$oid": ...}`, `{"$date": ...}`."""
    document = dict(content)
    for name in _IDS:
        value = document.get(name)
        if isinstance(value, dict) and set(value) == {"$oid"} and isinstance(value["$oid"], str):
            document[name] = value["$oid"].lower()
    for name in ("createdAt", "updatedAt"):
        if name in document and (date := _date_of(document[name])) is not None:
            document[name] = rfc3339(millis_of(date))
    return document


def _date_of(value: object) -> datetime | None:
    if isinstance(value, dict) and set(value) == {"$date"}:
        value = value["$date"]
    return parse_date(value) if isinstance(value, str) else None
