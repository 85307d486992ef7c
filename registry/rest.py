"""The REST interface: `/api/v2/statementforwarding` (forwarders.md section 5)."""

from typing import Annotated, Any, Final, cast
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request, Response

from registry import sample_delivery as trial
from registry.deliveries import KEPT
from registry.documents import read_object
from registry.filters import MOST, USUAL, listed, read_selection
from registry.sample_delivery import RecordError
from registry.service import ForbiddenError
from registry.stores.base import StoredDocument
from registry.web import (
    VERSION_HEADER,
    Answer,
    Asked,
    Body,
    Known,
    Secrets,
    check_secrecy,
    document,
    etag,
    seen_by,
)
from schemas.record import KINDS, Kind

JsonObject = dict[str, Any]

PATH: Final = "/api/v2/statementforwarding"

router = APIRouter(prefix=PATH, tags=["REST"])

Filter = Annotated[str | None, Query(description='A MongoDB query as JSON, such as `{"active": true}`')]
Sort = Annotated[str | None, Query(description='`{"updatedAt": -1}` or `-updatedAt,_id`')]
Select = Annotated[str | None, Query(description='`{"description": 1}` or `description,-_id`')]
Skip = Annotated[int, Query(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=MOST)]


def _takes(properties: JsonObject) -> JsonObject:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_TEXT: Final = {"type": "string"}
_FORWARDER: Final = _takes(
    {
        "_id": _TEXT,
        "description": _TEXT,
        "active": {"type": "boolean"},
        "isPublic": {"type": "boolean"},
        "lrs_id": _TEXT,
        "query": _TEXT,
        "fullDocument": {"type": "boolean"},
        "payload": {"enum": ["statement", "record", "document"]},
        "configuration": {
            "type": "object",
            "properties": {
                "protocol": {"enum": ["http", "https", "Kinesis"]},
                "url": _TEXT,
                "authType": {"enum": ["no auth", "token", "basic auth"]},
                "secret": _TEXT,
                "basicUsername": _TEXT,
                "basicPassword": _TEXT,
                "maxRetries": {"type": "integer", "minimum": 0, "maximum": 10},
                "headers": _TEXT,
            },
        },
        "kinesisOptions": {
            "type": "object",
            "properties": {
                "service": {"enum": ["firehose", "streams"]},
                "streamName": _TEXT,
                "awsClientKey": _TEXT,
                "awsClientSecret": _TEXT,
                "awsRegion": _TEXT,
            },
        },
    }
)


@router.get("", summary="List")
def list_forwarders(
    request: Request,
    registry: Asked,
    client: Known,
    query: Filter = None,
    sort: Sort = None,
    skip: Skip = 0,
    limit: Limit = USUAL,
    select: Select = None,
    secrets: Secrets = None,
) -> Answer:
    selection = read_selection(select)
    snapshot = registry.service.visible(client)
    found, _ = listed(snapshot, query, sort)
    shown = found[skip : skip + limit]
    contents = [selection(_content(request, registry, client, stored, secrets)) for stored in shown]
    return Answer(contents, headers={VERSION_HEADER: snapshot.version})


@router.get("/count", summary="How many there are")
def count_forwarders(registry: Asked, client: Known, query: Filter = None) -> Answer:
    snapshot = registry.service.visible(client)
    found, _ = listed(snapshot, query, None)
    return Answer({"count": len(found)}, headers={VERSION_HEADER: snapshot.version})


@router.get("/deliveries", summary="The last delivery of each forwarder")
def last_deliveries(registry: Asked, client: Known) -> Answer:
    visible = registry.service.visible(client).documents
    last = {} if registry.deliveries is None else registry.deliveries.last_of()
    return Answer({stored.id: last[stored.id] for stored in visible if stored.id in last})


@router.post("/match", summary="Which forwarders a record would reach, and why", openapi_extra=_takes({}))
def match_record(registry: Asked, client: Known, body: Body) -> Answer:
    """The record: a line of `--write_records jsonl`, or the documented message alone."""
    content, _ = read_object(body)
    visible = registry.service.visible(client).documents
    try:
        record = trial.read_record(content, client.organisation)
    except RecordError as error:
        raise HTTPException(422, f"the body {error}") from None
    answers = registry.matcher.matching(record, (stored.content for stored in visible))
    return Answer({"id": record.id, "kind": record.kind, "forwarders": answers})


@router.post("", summary="Create", status_code=201, openapi_extra=_FORWARDER)
def create_forwarder(registry: Asked, client: Known, body: Body) -> Answer:
    written = registry.service.create(client, *read_object(body))
    answer = document(written.stored, written.warnings, 201)
    answer.headers["Location"] = f"{PATH}/{quote(written.stored.id, safe='')}"
    return answer


@router.delete("", summary="Refused: forwarders are deleted one by one", status_code=405)
def delete_forwarders(client: Known) -> Answer:
    raise HTTPException(405, "forwarders are deleted one by one: DELETE :id", {"Allow": "GET, POST"})


@router.get("/{id}", summary="Read one")
def get_forwarder(
    request: Request, registry: Asked, client: Known, id: str, select: Select = None, secrets: Secrets = None
) -> Response:
    selection = read_selection(select)
    stored = registry.service.get(client, id)
    content = selection(_content(request, registry, client, stored, secrets))
    if request.headers.get("If-None-Match") == etag(stored):
        return Response(status_code=304, headers={"ETag": etag(stored)})
    return Answer(content, headers={"ETag": etag(stored)})


def _update(request: Request, registry: Asked, client: Known, id: str, body: Body) -> Answer:
    """What is given is merged in; null takes a field away; a secret that is written as `[redacted]` stays."""
    written = registry.service.update(client, id, *read_object(body), seen_by(request))
    return document(written.stored, written.warnings)


for _method in ("PUT", "POST", "PATCH"):
    router.add_api_route(
        "/{id}",
        _update,
        methods=[_method],
        summary=f"Change one ({_method})",
        operation_id=f"change_forwarder_by_{_method.lower()}",
        openapi_extra=_FORWARDER,
    )


@router.delete("/{id}", summary="Delete one", status_code=204)
def delete_forwarder(request: Request, registry: Asked, client: Known, id: str) -> Response:
    registry.service.delete(client, id, seen_by(request))
    return Response(status_code=204)


@router.post("/{id}/test", summary="Send one sample record", openapi_extra=_takes({"kind": {"enum": list(KINDS)}}))
def test_forwarder(registry: Asked, client: Known, id: str, body: Body) -> Answer:
    """One sample record goes through the job's own delivery, in one attempt. `kind`: event, status or score."""
    content, _ = read_object(body)
    kind = content.get("kind")
    if kind is not None and kind not in KINDS:
        raise HTTPException(422, f"kind must be one of {', '.join(KINDS)}")
    stored = registry.service.to_edit(client, id)
    return Answer(registry.trials.send(registry.service.whole(stored), cast(Kind | None, kind)))


@router.get("/{id}/deliveries", summary="Receipts and dead letters of recent runs")
def list_deliveries(
    registry: Asked, client: Known, id: str, limit: Annotated[int, Query(ge=1, le=KEPT)] = KEPT
) -> Answer:
    registry.service.get(client, id)
    if registry.deliveries is None:
        raise HTTPException(404, "the service was not told of a job's output: start it with --deliveries OUTPUT")
    return Answer(registry.deliveries.of(id, limit))


def _content(
    request: Request, registry: Asked, client: Known, stored: StoredDocument, secrets: str | None
) -> JsonObject:
    if secrets is None:
        return stored.content
    if not client.delivers:
        raise ForbiddenError("secrets=full needs the scope statementForwarding/deliver")
    check_secrecy(request)
    return registry.service.secrets(client, stored)
