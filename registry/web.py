"""What the interfaces share: what is asked of every request, and how it is answered."""

import ipaddress
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from fastapi import Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from registry.access import Client
from registry.credentials import LoginLimit, basic_credentials, client_with
from registry.deliveries import RecentDeliveries
from registry.directory import Directory
from registry.matching import MatchPreview
from registry.metrics import Metrics
from registry.proxies import neighbourhood
from registry.query_tests import QueryTests
from registry.recent_records import RecentRecords
from registry.sample_delivery import SampleDelivery
from registry.service import ForbiddenError, Service
from registry.sessions import USUAL_IDLE, Sessions
from registry.stores.base import StoredDocument
from schemas.json_values import JsonObject
from transforms.forwarders import Fault

BODY_LIMIT = 1024 * 1024
"""Bytes that a request's body may have."""

VERSION_HEADER = "Forwarders-Version"
"""A header of every list. It is the same on all pages of a list only if nothing was changed between them."""

WARNINGS_HEADER = "Forwarder-Warnings"
"""A header of the answer to a change: what in the document is probably not meant, as JSON."""

_MOST_WARNINGS = 20
_SAFE = ("GET", "HEAD")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True)
class Registry:
    """Everything that the interfaces need.

    Attributes:
        deliveries: None if the service was not told of a job's output.
        session_idle: after so long without a request somebody who has signed in on the page is signed out.
        records: of the same output, to try queries on.
    """

    service: Service
    sample_delivery: SampleDelivery
    matcher: MatchPreview
    query_tests: QueryTests
    deliveries: RecentDeliveries | None = None
    records: RecentRecords | None = None
    logins: LoginLimit = field(default_factory=LoginLimit)
    session_idle: timedelta = USUAL_IDLE
    metrics: Metrics = field(default_factory=Metrics)

    @cached_property
    def sessions(self) -> Sessions:
        """Who has signed in on the page."""
        return Sessions(self.service.store, self.session_idle, self.service.now)

    @cached_property
    def directory(self) -> Directory:
        """What the page's list shows of forwarders."""
        return Directory()


class Answer(JSONResponse):
    """A response in JSON, as every reader of JSON takes it: without NaN and infinities."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


async def registry_of(request: Request) -> Registry:
    """The registry that the application was built for."""
    # FastAPI runs what is not async in a thread of its pool; that would cost more than everything else in here.
    registry: Registry = request.app.state.registry
    return registry


def client_of(request: Request, registry: Annotated[Registry, Depends(registry_of)]) -> Client:
    """The client whose key and secret came as basic auth, or who has signed in on the page.

    Raises:
        HTTPException: 401 if there is no such client; 429 after too many failed logins.
        ForbiddenError: another site asks, by the cookie of somebody who has signed in.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        key, secret = basic_credentials(header)
        client = log_in(request, registry, key, secret)
    else:
        client = _signed_in(request, registry)
    if client is None:
        # A browser would ask for a password itself, over a page that asks for it already.
        is_page = request.headers.get("X-Requested-With") == "XMLHttpRequest"
        raise HTTPException(
            401,
            "no client of this key and secret: send them as basic auth (`python -m registry client add` makes one)",
            None if is_page else {"WWW-Authenticate": 'Basic realm="forwarders", charset="UTF-8"'},
        )
    return client


def log_in(request: Request, registry: Registry, key: str, secret: str) -> Client | None:
    """The client of this key and secret; None if there is none.

    Raises:
        HTTPException: 429 after too many failed logins.
    """
    address = neighbourhood(request.client.host) if request.client else ""
    client = client_with(key, secret, registry.service.store.client)
    if wait := registry.logins.wait(address, key):
        raise HTTPException(429, "too many failed logins: wait, then try again", {"Retry-After": str(wait)})
    if client is None:
        registry.logins.failed(address, key)
    return client


def _signed_in(request: Request, registry: Registry) -> Client | None:
    token = session_token(request)
    client = registry.sessions.client(token) if token else None
    if client is not None:
        check_same_origin(request)
    return client


def session_token(request: Request) -> str:
    """The token in the cookie of the page; empty if there is none."""
    return request.cookies.get(cookie_name(request), "")


def cookie_name(request: Request) -> str:
    """The name of the cookie that holds a session's token.

    Over TLS it has the prefix with which browsers take it from this host alone, and neither from a neighbour in the
    same domain nor over plain HTTP.
    """
    return "__Host-forwarders" if request.url.scheme == "https" else "forwarders"


def check_same_origin(request: Request) -> None:
    """Refuse what a page of another site makes a browser ask.

    The cookie is `SameSite=Strict`, which leaves pages of neighbours in the same domain, and other ports of this host.

    Raises:
        ForbiddenError: another origin asks, or the request would change something and does not say who asks.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        is_same = site == "same-origin" or (site == "none" and request.method in _SAFE)
    else:
        # Browsers leave that header out over plain HTTP. They send the origin with whatever is no GET.
        origin = request.headers.get("Origin")
        is_same = request.method in _SAFE if origin is None else _host_of(origin) == request.headers.get("Host")
    if not is_same:
        raise ForbiddenError("a session is used from this service's own page only: use basic auth elsewhere")


def _host_of(origin: str) -> str:
    return origin.partition("://")[2]


async def json_body(request: Request) -> bytes:
    """The request's body.

    Raises:
        HTTPException: 415 if its type is not JSON; this also refuses the forms of other sites. 413 if it is too large.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise HTTPException(415, "the body must be JSON: Content-Type: application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes")
    return bytes(body)


RegistryDep = Annotated[Registry, Depends(registry_of)]
ClientDep = Annotated[Client, Depends(client_of)]
BodyDep = Annotated[bytes, Depends(json_body)]
SecretsParameter = Annotated[
    Literal["full"] | None,
    Query(description="Secrets as they are: needs the scope statementForwarding/deliver, and TLS or loopback"),
]


def check_secrecy(request: Request) -> None:
    """Raises ForbiddenError where others could read secrets on their way (docs/spec/forwarders.md section 5)."""
    if request.url.scheme != "https" and not is_loopback(request):
        raise ForbiddenError("secrets=full is answered over TLS or loopback only")


def is_loopback(request: Request) -> bool:
    """Whether a request comes from this machine, and through no proxy."""
    # Behind a proxy that was not named (--trusted_proxy) everybody seems to come from where the proxy is.
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def etag(stored: StoredDocument) -> str:
    """The `ETag` of a document: its revision, quoted."""
    return f'"{stored.revision}"'


def seen_by(request: Request) -> Callable[[str], bool]:
    """Says of a revision whether it is one that the request names in `If-Match`. Without that header, any is."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return lambda revision: True
    tags = {tag.strip() for tag in wanted.split(",")}
    return lambda revision: f'"{revision}"' in tags


def faults_of(faults: Iterable[Fault]) -> list[JsonObject]:
    """Faults, or warnings, as they are answered."""
    return [{"field": fault.field, "message": fault.message} for fault in faults]


def document_answer(stored: StoredDocument, warnings: Iterable[Fault] = (), status: int = 200) -> Answer:
    """The answer to a change: the document alone as the body, and what is probably not meant as a header."""
    headers = {"ETag": etag(stored)}
    warning_texts = faults_of(warnings)[:_MOST_WARNINGS]
    if warning_texts:
        headers[WARNINGS_HEADER] = json.dumps(warning_texts)
    return Answer(stored.content, status, headers)
