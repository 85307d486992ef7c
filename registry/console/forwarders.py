"""The list of forwarders as the page shows it: `/api/console/forwarders`."""

from collections.abc import Mapping
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Query

from registry.directory import MOST, Card, Known, Order, State, Target, Wanted, Wish, read_sort
from registry.openapi import answered, ref
from registry.web import VERSION_HEADER, Answer, ClientDep, RegistryDep
from schemas.json_values import JsonObject

PATH = "/api/console/forwarders"

router = APIRouter(prefix=PATH, tags=["console"])

_SHOWN_OF_QUERY = 300
"""Characters of a query that the list shows."""

_TEXT = "words that must all occur in name, id, target or query; or a MongoDB query, if it begins with a brace"
_SORT = f"{', '.join(get_args(Order))}; with `-` before it, the last comes first"

_NOTHING_KNOWN: Mapping[str, JsonObject] = {}


async def _last(registry: RegistryDep, client: ClientDep) -> Mapping[str, JsonObject]:
    """The latest receipt of each forwarder, as far as it is known by now."""
    if registry.deliveries is None:
        return _NOTHING_KNOWN
    await registry.deliveries.looked_once()
    return registry.deliveries.last_of()


LastDep = Annotated[Mapping[str, JsonObject], Depends(_last)]


@router.get(
    "",
    summary="The list as the page shows it: found, narrowed down, sorted",
    responses=answered(ref("ForwarderList"), "A page of it"),
)
def forwarders(
    registry: RegistryDep,
    client: ClientDep,
    last: LastDep,
    text: Annotated[str, Query(max_length=2000, description=_TEXT)] = "",
    state: Wanted | None = None,
    target: Target | None = None,
    sort: Annotated[str, Query(description=_SORT)] = "health",
    after: Annotated[str | None, Query(description="`after` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Answer:
    """Of the forwarders that the client may see. `total` and `states` count what was wished for, `all` every one."""
    order, descends = read_sort(sort)
    snapshot = registry.service.visible(client)
    known = Known(last, None if registry.health is None else registry.health.states)
    page = registry.directory.page(snapshot, known, Wish(text, state, target, order, descends), after, limit)
    shown = [
        _item(card, standing, last.get(card.stored.id), client.may_edit(card.stored.content))
        for card, standing in page.cards
    ]
    return Answer(
        {
            "forwarders": shown,
            "total": page.total,
            "all": len(snapshot.documents),
            "states": dict(page.states),
            "after": page.following,
            "knows_deliveries": registry.deliveries is not None,
        },
        headers={VERSION_HEADER: snapshot.version},
    )


def _item(card: Card, state: State, last: JsonObject | None, may_edit: bool) -> JsonObject:
    content = card.stored.content
    return {
        "id": card.stored.id,
        "name": card.name,
        "active": content.get("active") is True,
        "target": card.target,
        "address": card.address,
        "query": card.query[:_SHOWN_OF_QUERY],
        "updated_at": content.get("updatedAt"),
        "may_edit": may_edit,
        "problem": card.stored.problem,
        "health": {"state": state},
        "last": last and {name: last[name] for name in ("outcome", "reason", "settled_at")},
    }
