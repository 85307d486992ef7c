"""What the console does with forwarders beyond the REST interface: health, records, history, copies, many at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request

from registry.access import Client
from registry.documents import FaultyDocumentError, UnreadableBodyError, read_object
from registry.filters import ParameterError
from registry.health import Health
from registry.keyring import KeyringError
from registry.openapi import FORWARDER, IF_MATCH, answered, list_of, ref, request_body
from registry.records import MOST_ROWS, NoSuchPlaceError, Outcome, RecordFilter, Records
from registry.service import ChangedError, ForbiddenError, NoSuchEditError
from registry.stores.base import Edit, IdTakenError, NoSuchDocumentError
from registry.web import Answer, BodyDep, ClientDep, Registry, RegistryDep, document_answer, faults_of, seen_by
from schemas.json_values import JsonObject
from schemas.times import millis_of
from transforms.query.extended_json import parse_date

PATH = "/api/console"

MOST_AT_ONCE = 1_000
"""Forwarders that one request may change or make."""

_KEY_SHOWN = 12
"""Characters of a client's key that say who did something, where the client has no name."""

K = TypeVar("K", Health, Records)
T = TypeVar("T")

Several = Annotated[list[str] | None, Query(description="Repeatable: any of these")]
Instant = Annotated[str | None, Query(description="RFC 3339")]

router = APIRouter(prefix=PATH, tags=["console"])


@router.get(
    "/forwarders/{id}/history",
    summary="Who changed it, when, and what it was",
    responses=answered(list_of("ForwarderEdit"), "The latest change first"),
)
def history(registry: RegistryDep, client: ClientDep, id: str) -> Answer:
    """The latest change first. `content` is the document from then on; null where it is not kept."""
    names: dict[str, str] = {}
    edits = registry.service.edits(client, id)
    return Answer([_shown_edit(edit, who(registry, edit.by, names)) for edit in edits])


@router.get(
    "/forwarders/{id}/rights",
    summary="How it stands, and what this client may do with it here",
    responses=answered(ref("Rights"), "What it may do"),
)
def rights(registry: RegistryDep, client: ClientDep, id: str) -> Answer:
    """`jobs`: whether the client may plan redrives, and `replays`, and have them carried out.

    `state`: as the list has it; null if the service was not told of a job's output.
    """
    stored = registry.service.get(client, id)
    may_edit = client.may_edit(stored.content)
    active = stored.content.get("active") is True
    state = registry.health.state_of(id, active) if registry.health is not None else None
    jobs = may_edit and registry.jobs is not None
    replays = jobs and registry.jobs is not None and registry.jobs.config.has_input
    return Answer({"may_edit": may_edit, "jobs": jobs, "replays": replays, "state": state})


@router.get(
    "/forwarders/{id}/health",
    summary="What it got of late, and what waits",
    responses=answered(ref("ForwarderHealth"), "How it does"),
)
def health(registry: RegistryDep, client: ClientDep, id: str) -> Answer:
    """Of the last hour, day and week: what was delivered and what was given up, by reason, and both as a plot."""
    stored = registry.service.get(client, id)
    known = _told(registry.health)
    return Answer({"state": known.state_of(id, stored.content.get("active") is True), **known.of(id)})


@router.get(
    "/forwarders/{id}/records",
    summary="What it got, and what was given up",
    responses=answered(ref("SettledRecords"), "The latest first"),
)
def records(
    registry: RegistryDep,
    client: ClientDep,
    id: str,
    outcome: Outcome | None = None,
    reason: Several = None,
    status: Annotated[list[int] | None, Query()] = None,
    kind: Several = None,
    record: Several = None,
    user: Several = None,
    since: Instant = None,
    until: Instant = None,
    after: Annotated[str | None, Query(description="`next` of the answer before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
) -> Answer:
    """The latest first. A look takes a bounded time: while `next` is not null there may be more, before what it found.

    `place` of a record names it for `GET .../record`.
    """
    registry.service.get(client, id)
    wanted = RecordFilter(
        outcome=outcome,
        reasons=frozenset(reason or ()),
        statuses=frozenset(status or ()),
        kinds=frozenset(kind or ()),
        ids=frozenset(each.lower() for each in record or ()),
        users=frozenset(user or ()),
        since=instant("since", since),
        until=instant("until", until),
    )
    try:
        found = _told(registry.records).look(id, wanted, limit, after)
    except NoSuchPlaceError:
        raise ParameterError("after", "is not what an answer had as its next") from None
    return Answer({"records": found.rows, "next": found.next})


@router.get(
    "/forwarders/{id}/record", summary="One of them, with what was sent", responses=answered(ref("WholeRecord"), "It")
)
def record(registry: RegistryDep, client: ClientDep, id: str, place: str) -> Answer:
    """What was sent is learners' data: it is for those who may change the forwarder. A receipt does not hold it."""
    stored = registry.service.get(client, id)
    may_see = client.may_edit(stored.content)
    try:
        row = _told(registry.records).row(id, place, payload=may_see)
    except NoSuchPlaceError:
        raise HTTPException(404, "there is no such record here any more: look for it anew, by its id") from None
    return Answer({**row, "payload_hidden": not may_see})


class _Restore(msgspec.Struct):
    version: str


@router.post(
    "/forwarders/{id}/restore",
    summary="Make it again what it was",
    responses=answered(ref(FORWARDER), "The changed forwarder", tagged=True),
    openapi_extra=request_body(ref("RestoreRequest"), IF_MATCH),
)
def restore(request: Request, registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """`version`: of the history. Secrets stay those that the forwarder has now. `If-Match` as for a change."""
    version = read_body(body, _Restore).version
    try:
        written = registry.service.restore(client, id, version, seen_by(request))
    except NoSuchEditError:
        raise HTTPException(404, "what the forwarder was then is not kept: choose a later version") from None
    return document_answer(written.stored, written.warnings)


@router.post(
    "/forwarders",
    summary="Create one that is not active",
    status_code=201,
    responses=answered(ref(FORWARDER), "The new forwarder", 201, tagged=True),
    openapi_extra=request_body(ref(FORWARDER)),
)
def create(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """It is not active, whatever the body says, but is judged as if it were: it is to be tried first."""
    written = registry.service.create(client, *read_object(body), untried=True)
    return document_answer(written.stored, written.warnings, 201)


@router.post(
    "/forwarders/{id}/duplicate",
    summary="Make a copy that is not active",
    status_code=201,
    responses=answered(ref(FORWARDER), "The copy", 201, tagged=True),
    openapi_extra=request_body(ref("Nothing")),
)
def duplicate(registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """The copy has the secrets, too. It sends nothing before it is made active. The body is `{}`."""
    read_object(body)
    written = registry.service.duplicate(client, id)
    return document_answer(written.stored, written.warnings, 201)


class _Bulk(msgspec.Struct):
    action: Literal["enable", "disable", "delete"]
    ids: list[str]


@router.post(
    "/forwarders/bulk",
    summary="Enable, disable or delete many",
    responses=answered(ref("BulkResult"), "What came of each"),
    openapi_extra=request_body(ref("BulkRequest")),
)
def bulk(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """Each by itself: what cannot be done of one holds up no other. `results` says of each what came of it."""
    asked = read_body(body, _Bulk)
    _check_count(len(asked.ids))

    def change(document_id: str) -> None:
        if asked.action == "delete":
            registry.service.delete(client, document_id, _whatever)
        else:
            registry.service.update(client, document_id, {"active": asked.action == "enable"}, (), _whatever)

    return _results({"_id": id_, **_outcome(partial(change, id_))} for id_ in dict.fromkeys(asked.ids))


@router.post(
    "/forwarders/import",
    summary="Create many",
    responses=answered(ref("BulkResult"), "What came of each"),
    openapi_extra=request_body(ref("ImportRequest")),
)
def import_forwarders(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """Each is created by itself, and is not active: it sends nothing before somebody has tried it and made it so."""
    content, duplicates = read_object(body)
    documents, new_ids = content.get("forwarders"), content.get("new_ids", False)
    if not isinstance(documents, list) or not isinstance(new_ids, bool):
        raise UnreadableBodyError("the body must have forwarders, an array of documents")
    if duplicates:
        raise UnreadableBodyError(f"{duplicates[0]} occurs twice in one object")
    _check_count(len(documents))
    return _results(_imported(registry, client, document, new_ids) for document in documents)


def _imported(registry: Registry, client: Client, document: Any, new_ids: bool) -> JsonObject:
    if not isinstance(document, dict):
        return {"_id": None, "status": 422, "message": "is no JSON object"}
    content = {name: value for name, value in document.items() if name != "_id" or not new_ids}
    made: list[str] = []

    def make() -> None:
        made.append(registry.service.create(client, {**content, "active": False}, ()).stored.id)

    outcome = _outcome(make, 201)
    given = content.get("_id")
    return {"_id": made[0] if made else given if isinstance(given, str) else None, **outcome}


def _told(known: K | None) -> K:
    """What is known of the job's output. Raises HTTPException if the service was not told of one."""
    if known is None:
        raise HTTPException(404, "the service was not told of a job's output: start it with --deliveries OUTPUT")
    return known


def instant(name: str, text: str | None) -> int | None:
    """A time as epoch milliseconds. Raises ParameterError."""
    if text is None:
        return None
    date = parse_date(text)
    if date is None:
        raise ParameterError(name, "is not a time such as 2026-03-01T10:00:00Z")
    return millis_of(date)


def _check_count(count: int) -> None:
    if count > MOST_AT_ONCE:
        raise HTTPException(
            400, f"{count} forwarders are more than the {MOST_AT_ONCE} of one request: send them in parts"
        )


def _whatever(revision: str) -> bool:
    return True


def _outcome(act: Callable[[], None], status: int = 200) -> JsonObject:
    """What comes of one of many, as a status and, where it is refused, a message and the faults."""
    try:
        act()
    except NoSuchDocumentError:
        return {"status": 404, "message": "there is no such forwarder, or none that this client may view"}
    except ForbiddenError as error:
        return {"status": 403, "message": str(error)}
    except ChangedError:
        return {"status": 412, "message": "the forwarder was changed since it was read: read it again"}
    except IdTakenError:
        return {"status": 409, "message": "there is, or was, another forwarder of this _id"}
    except KeyringError as error:
        return {"status": 503, "message": str(error)}
    except FaultyDocumentError as error:
        return {"status": 422, "message": "the document breaks rules", "faults": faults_of(error.faults)}
    return {"status": status}


def _results(results: Iterator[JsonObject]) -> Answer:
    listed = list(results)
    done = sum(result["status"] < 300 for result in listed)
    return Answer({"done": done, "refused": len(listed) - done, "results": listed})


def who(registry: Registry, by: str, names: dict[str, str]) -> str:
    """Who is meant by a client's key, or by the name of a command, by the name that people have for them."""
    name = names.get(by)
    if name is None:
        stored = registry.service.store.client(by)
        called = "" if stored is None else stored.name or stored.client.user
        name = names[by] = called or (by if " " in by else by[:_KEY_SHOWN])
    return name


def _shown_edit(edit: Edit, who: str) -> JsonObject:
    return {"version": edit.version, "action": edit.action, "by": who, "at": edit.at, "content": edit.content}


def read_body(body: bytes, type_: type[T]) -> T:
    """A request's body as what it has to be. Raises UnreadableBodyError."""
    content, _ = read_object(body)
    try:
        return msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        raise UnreadableBodyError(f"the body is not as it has to be: {error}") from None
