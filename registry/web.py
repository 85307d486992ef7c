"""What the interfaces share: what is asked of every request, and how it is answered."""

import ipaddress
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from registry.access import Client
from registry.credentials import LoginLimit, authenticate
from registry.deliveries import RecentDeliveries
from registry.health import Health
from registry.matching import MatchPreview
from registry.metrics import Metrics
from registry.proxies import neighbourhood
from registry.query_tests import QueryTests
from registry.recent_records import RecentRecords
from registry.records import Records
from registry.sample_delivery import SampleDelivery
from registry.service import ForbiddenError, Service
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
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True)
class Registry:
    """Everything that the interfaces need.

    Attributes:
        deliveries: None if the service was not told of a job's output.
        recent: of the same output, to try queries on.
        records: of the same output, to look at.
        health: of the same output.
    """

    service: Service
    sample_delivery: SampleDelivery
    matcher: MatchPreview
    query_tests: QueryTests
    deliveries: RecentDeliveries | None = None
    recent: RecentRecords | None = None
    records: Records | None = None
    health: Health | None = None
    logins: LoginLimit = field(default_factory=LoginLimit)
    metrics: Metrics = field(default_factory=Metrics)


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
    """The client whose key and secret came as basic auth.

    Raises:
        HTTPException: 401 if there is no such client; 429 after too many failed logins.
    """
    address = neighbourhood(request.client.host) if request.client else ""
    key, client = "", None
    header = request.headers.get("Authorization")
    if header is not None:
        key, client = authenticate(header, registry.service.store.client)
        if wait := registry.logins.wait(address, key):
            raise HTTPException(429, "too many failed logins: wait, then try again", {"Retry-After": str(wait)})
        if client is None:
            registry.logins.failed(address, key)
    if client is None:
        raise HTTPException(
            401,
            "no client of this key and secret: send them as basic auth (`python -m registry client add` makes one)",
            {"WWW-Authenticate": 'Basic realm="forwarders", charset="UTF-8"'},
        )
    return client


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
