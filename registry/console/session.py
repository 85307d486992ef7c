"""Signing in and out on the page: `/api/console/session`."""

from fastapi import APIRouter, HTTPException, Request, Response

from registry.access import Client, Reach
from registry.documents import read_object
from registry.openapi import OPEN, answered, ref, request_body
from registry.web import (
    Answer,
    BodyDep,
    ClientDep,
    Registry,
    RegistryDep,
    check_same_origin,
    cookie_name,
    log_in,
    session_token,
)
from schemas.json_values import JsonObject

PATH = "/api/console/session"

router = APIRouter(prefix=PATH, tags=["session"])


@router.post(
    "",
    summary="Sign in on the page",
    status_code=201,
    responses=answered(ref("Session"), "Who has signed in; the answer sets the cookie", 201),
    openapi_extra=request_body(ref("SignIn")) | OPEN,
)
def sign_in(request: Request, registry: RegistryDep, body: BodyDep) -> Answer:
    """For the page: browsers alone are let in, which say that they ask from there (`Sec-Fetch-Site`, or `Origin`).

    The cookie counts for the page's own requests. Others send key and secret with each request, as basic auth.
    """
    check_same_origin(request)
    content, _ = read_object(body)
    key, secret = content.get("key"), content.get("secret")
    if not isinstance(key, str) or not isinstance(secret, str):
        raise HTTPException(400, "the body names no key and secret: two texts")
    client = log_in(request, registry, key.strip(), secret.strip())
    if client is None:
        raise HTTPException(401, "no client has this key and secret")
    # Whoever signs in anew, as somebody else maybe, does not leave the session before open.
    if earlier := session_token(request):
        registry.sessions.end(earlier)
    answer = Answer(_who(registry, client), 201)
    answer.set_cookie(
        cookie_name(request),
        registry.sessions.begin(client),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.get("", summary="Who has signed in", responses=answered(ref("Session"), "By name, and of which organisation"))
def session(registry: RegistryDep, client: ClientDep) -> Answer:
    """The client of the cookie, or of basic auth."""
    return Answer(_who(registry, client))


@router.delete("", summary="Sign out", status_code=204, openapi_extra=OPEN)
def sign_out(request: Request, registry: RegistryDep) -> Response:
    """End the session, if there is one. There may be none any more, which is no mistake."""
    check_same_origin(request)
    if token := session_token(request):
        registry.sessions.end(token)
    answer = Response(status_code=204)
    answer.delete_cookie(
        cookie_name(request), path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict"
    )
    return answer


def _who(registry: Registry, client: Client) -> JsonObject:
    """Who asks, by the names that people have for them where these are known."""
    store = registry.service.store
    stored = store.client(client.key)
    name = stored.name if stored is not None else ""
    return {
        "client": client.key,
        "user": client.user,
        "name": name or client.user or client.key[:12],
        "organisation": {
            "id": client.organisation,
            "name": store.organisation_name(client.organisation) or client.organisation,
        },
        "may_create": client.edit is not Reach.NOTHING,
    }
