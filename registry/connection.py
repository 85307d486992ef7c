"""The connection interface, `/api/connection/statementforwarding` (docs/spec/forwarders.md section 5)."""

from typing import Annotated

from fastapi import APIRouter, Query

from registry.filters import MOST, listed, read_selection
from registry.openapi import answered, ref
from registry.paging import page
from registry.rest import Filter, Select, Sort
from registry.web import VERSION_HEADER, Answer, ClientDep, RegistryDep

PATH = "/api/connection/statementforwarding"

router = APIRouter(tags=["connection"])

PageSize = Annotated[int | None, Query(ge=0, le=MOST)]
Cursor = Annotated[str | None, Query(description="A cursor that this service gave for the same sort")]


@router.get(PATH, summary="List by cursor", responses=answered(ref("ForwarderConnection"), "A page"))
def connection(
    registry: RegistryDep,
    client: ClientDep,
    filter: Filter = None,
    sort: Sort = None,
    project: Select = None,
    first: PageSize = None,
    last: PageSize = None,
    after: Cursor = None,
    before: Cursor = None,
) -> Answer:
    selection = read_selection(project, "project")
    snapshot = registry.service.visible(client)
    matches, order = listed(snapshot, filter, sort, "filter")
    shown = page(matches, order, first=first, last=last, after=after, before=before)
    edges = [{"cursor": cursor, "node": selection(stored.content)} for cursor, stored in shown.edges]
    info = {
        "hasNextPage": shown.has_next,
        "hasPreviousPage": shown.has_previous,
        "startCursor": edges[0]["cursor"] if edges else None,
        "endCursor": edges[-1]["cursor"] if edges else None,
    }
    return Answer({"edges": edges, "pageInfo": info}, headers={VERSION_HEADER: snapshot.version})
