"""The REST interface, `/api/v2/statementforwarding` (docs/spec/forwarders.md section 5)."""

from typing import Annotated, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from registry.deliveries import KEPT, RecentDeliveries
from registry.documents import read_object
from registry.filters import MOST, USUAL, listed, read_selection
from registry.matching import RecordError
from registry.openapi import FORWARDER, IF_MATCH, answered, list_of, ref, request_body
from registry.service import ForbiddenError
from registry.stores.base import StoredDocument
from registry.web import (
    VERSION_HEADER,
    Answer,
    BodyDep,
    ClientDep,
    RegistryDep,
    SecretsParameter,
    check_secrecy,
    document_answer,
    etag,
    seen_by,
)
from schemas import KINDS, Kind
from schemas.json_values import JsonObject

PATH = "/api/v2/statementforwarding"

router = APIRouter(prefix=PATH, tags=["REST"])

Filter = Annotated[str | None, Query(description='A MongoDB query as JSON, such as `{"active": true}`')]
Sort = Annotated[str | None, Query(description='`{"updatedAt": -1}` or `-updatedAt,_id`')]
Select = Annotated[str | None, Query(description='`{"description": 1}` or `description,-_id`')]
Skip = Annotated[int, Query(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
LimitOfDeliveries = Annotated[int, Query(ge=1, le=KEPT)]

_ONE = answered(ref(FORWARDER), "The forwarder", tagged=True)
_CHANGED = answered(ref(FORWARDER), "The changed forwarder", tagged=True)
_CREATED = answered(ref(FORWARDER), "The forwarder that was created", 201, tagged=True)


@router.get("", summary="List", responses=answered(list_of(FORWARDER), "The forwarders"))
def list_forwarders(
    request: Request,
    registry: RegistryDep,
    client: ClientDep,
    query: Filter = None,
    sort: Sort = None,
    skip: Skip = 0,
    limit: Limit = USUAL,
    select: Select = None,
    secrets: SecretsParameter = None,
) -> Answer:
    selection = read_selection(select)
    snapshot = registry.service.visible(client)
    matches, _ = listed(snapshot, query, sort)
    page = matches[skip : skip + limit]
    contents = [selection(_content(request, registry, client, stored, secrets)) for stored in page]
    return Answer(contents, headers={VERSION_HEADER: snapshot.version})


@router.get("/count", summary="How many there are", responses=answered(ref("ForwarderCount"), "How many"))
def count_forwarders(registry: RegistryDep, client: ClientDep, query: Filter = None) -> Answer:
    snapshot = registry.service.visible(client)
    matches, _ = listed(snapshot, query, None)
    return Answer({"count": len(matches)}, headers={VERSION_HEADER: snapshot.version})


async def _deliveries(registry: RegistryDep, client: ClientDep) -> RecentDeliveries | None:
    """What is known of deliveries, once the output was looked at, for a client that has logged in."""
    if registry.deliveries is not None:
        # No thread of the pool is held while this waits.
        await registry.deliveries.refreshed()
    return registry.deliveries


DeliveriesDep = Annotated[RecentDeliveries | None, Depends(_deliveries)]


@router.get(
    "/deliveries",
    summary="The last delivery of each forwarder",
    responses=answered(ref("LastDeliveries"), "Those that are known"),
)
def last_deliveries(registry: RegistryDep, client: ClientDep, deliveries: DeliveriesDep) -> Answer:
    visible = registry.service.visible(client).documents
    last = {} if deliveries is None else deliveries.last_of()
    return Answer({stored.id: last[stored.id] for stored in visible if stored.id in last})


@router.post(
    "/match",
    summary="Which forwarders a record would reach, and why",
    responses=answered(ref("MatchResult"), "One answer for each forwarder that the client may view"),
    openapi_extra=request_body(ref("RecordToMatch")),
)
def match_record(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """The body is the record: a line of `--write_records jsonl`, the documented message alone, or an xAPI statement."""
    content, _ = read_object(body)
    visible = registry.service.visible(client).documents
    try:
        record = registry.matcher.read_record(content, client.organisation, body)
    except RecordError as error:
        raise HTTPException(422, f"the body {error}") from None
    answers = registry.matcher.matching(record, (stored.content for stored in visible))
    return Answer({"id": record.id, "kind": record.kind, "forwarders": answers})


@router.post("", summary="Create", status_code=201, responses=_CREATED, openapi_extra=request_body(ref(FORWARDER)))
def create_forwarder(registry: RegistryDep, client: ClientDep, body: BodyDep) -> Answer:
    """`organisation` is always the client's. An `_id` and the times are kept when they are sent along."""
    written = registry.service.create(client, *read_object(body))
    answer = document_answer(written.stored, written.warnings, 201)
    answer.headers["Location"] = f"{PATH}/{quote(written.stored.id, safe='')}"
    return answer


@router.delete("", summary="Refused: forwarders are deleted one by one", status_code=405)
def delete_forwarders(client: ClientDep) -> Answer:
    raise HTTPException(405, "forwarders are deleted one by one: DELETE :id", {"Allow": "GET, POST"})


@router.get("/{id}", summary="Read one", responses={**_ONE, 304: {"description": "It is as `If-None-Match` says"}})
def get_forwarder(
    request: Request,
    registry: RegistryDep,
    client: ClientDep,
    id: str,
    select: Select = None,
    secrets: SecretsParameter = None,
) -> Response:
    selection = read_selection(select)
    stored = registry.service.get(client, id)
    content = selection(_content(request, registry, client, stored, secrets))
    if request.headers.get("If-None-Match") == etag(stored):
        return Response(status_code=304, headers={"ETag": etag(stored)})
    return Answer(content, headers={"ETag": etag(stored)})


def _update(request: Request, registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """What is sent is merged in. `null` takes a field away. A secret that is sent as `[redacted]` stays as it is."""
    written = registry.service.update(client, id, *read_object(body), seen_by(request))
    return document_answer(written.stored, written.warnings)


for _method in ("PUT", "POST", "PATCH"):
    router.add_api_route(
        "/{id}",
        _update,
        methods=[_method],
        summary=f"Change one ({_method})",
        operation_id=f"change_forwarder_by_{_method.lower()}",
        responses=_CHANGED,
        openapi_extra=request_body(ref(FORWARDER), IF_MATCH),
    )


@router.delete("/{id}", summary="Delete one", status_code=204, openapi_extra={"parameters": [IF_MATCH]})
def delete_forwarder(request: Request, registry: RegistryDep, client: ClientDep, id: str) -> Response:
    registry.service.delete(client, id, seen_by(request))
    return Response(status_code=204)


@router.post(
    "/{id}/test",
    summary="Send one sample record",
    responses=answered(ref("SampleResult"), "What became of it"),
    openapi_extra=request_body(ref("SampleRequest")),
)
def test_forwarder(registry: RegistryDep, client: ClientDep, id: str, body: BodyDep) -> Answer:
    """One sample record goes through the job's own delivery, in one attempt. `kind`: of the record."""
    content, _ = read_object(body)
    kind = content.get("kind")
    if kind is not None and kind not in KINDS:
        raise HTTPException(422, f"kind must be one of {', '.join(KINDS)}")
    stored = registry.service.to_edit(client, id)
    return Answer(registry.sample_delivery.send(registry.service.whole(stored), cast(Kind | None, kind)))


@router.get(
    "/{id}/deliveries",
    summary="Receipts and dead letters of recent runs",
    responses=answered(list_of("Receipt"), "The latest first"),
)
def list_deliveries(
    registry: RegistryDep, client: ClientDep, deliveries: DeliveriesDep, id: str, limit: LimitOfDeliveries = KEPT
) -> Answer:
    registry.service.get(client, id)
    if deliveries is None:
        raise HTTPException(404, "the service was not told of a job's output: start it with --deliveries OUTPUT")
    return Answer(deliveries.of(id, limit))


def _content(
    request: Request, registry: RegistryDep, client: ClientDep, stored: StoredDocument, secrets: str | None
) -> JsonObject:
    """What the client is shown of a document: it with redactions, or whole if the client may and wants to see it so."""
    if secrets is None:
        return stored.content
    if not client.delivers:
        raise ForbiddenError("secrets=full needs the scope statementForwarding/deliver")
    check_secrecy(request)
    return registry.service.secrets(client, stored)
