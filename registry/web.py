"""What the interfaces share: who asks, what was sent, how it is answered."""

import ipaddress
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, HTTPException, Query, Request, Response

from registry.access import Client
from registry.credentials import LoginLimit, authenticate
from registry.deliveries import RecentDeliveries
from registry.sample_delivery import Matcher, Trials
from registry.service import ForbiddenError, Service
from registry.stores.base import StoredDocument
from transforms.forwarders import Fault

JsonObject = dict[str, Any]

BODY_LIMIT: Final = 1024 * 1024
VERSION_HEADER: Final = "Forwarders-Version"
"""On every list: the same on all of its pages only if nothing was changed between them."""
WARNINGS_HEADER: Final = "Forwarder-Warnings"
_MOST_WARNINGS: Final = 20
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True)
class Registry:
    """Everything the interfaces need. `deliveries` is None where no output of a job was named."""

    service: Service
    trials: Trials
    matcher: Matcher
    deliveries: RecentDeliveries | None = None
    logins: LoginLimit = field(default_factory=LoginLimit)


class Answer(Response):
    """JSON, however large the numbers in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


async def registry_of(request: Request) -> Registry:
    # Not for a thread of the pool, as all that is not async is: that would cost more than everything else here.
    registry: Registry = request.app.state.registry
    return registry


def client_of(request: Request, registry: Annotated[Registry, Depends(registry_of)]) -> Client:
    """The client whose key and secret came as basic auth. 401 if there is none, 429 after too many failures."""
    address = request.client.host if request.client else ""
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
    """The body. 415 if it is not said to be JSON, which also keeps other sites' forms out; 413 if it is too large."""
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


Asked = Annotated[Registry, Depends(registry_of)]
Known = Annotated[Client, Depends(client_of)]
Body = Annotated[bytes, Depends(json_body)]
Secrets = Annotated[
    Literal["full"] | None,
    Query(description="Secrets as they are: needs the scope statementForwarding/deliver, and TLS or loopback"),
]


def check_secrecy(request: Request) -> None:
    """Raises ForbiddenError where secrets would travel readable for others (forwarders.md section 5)."""
    if request.url.scheme != "https" and not _is_loopback(request):
        raise ForbiddenError("secrets=full is answered over TLS or loopback only")


def _is_loopback(request: Request) -> bool:
    # Behind a proxy that is not known (--trusted_proxy) everybody seems to come from where the proxy is.
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def etag(stored: StoredDocument) -> str:
    return f'"{stored.revision}"'


def seen_by(request: Request) -> Callable[[str], bool]:
    """Whether a revision is one that If-Match names; any is without that header."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return lambda revision: True
    tags = {tag.strip() for tag in wanted.split(",")}
    return lambda revision: f'"{revision}"' in tags


def faults_of(faults: Iterable[Fault]) -> list[JsonObject]:
    return [{"field": fault.field, "message": fault.message} for fault in faults]


def document(stored: StoredDocument, warnings: Iterable[Fault] = (), status: int = 200) -> Answer:
    """One document as the answer to a change or a read, its warnings in a header: the body is the document alone."""
    headers = {"ETag": etag(stored)}
    told = faults_of(warnings)[:_MOST_WARNINGS]
    if told:
        headers[WARNINGS_HEADER] = json.dumps(told)
    return Answer(stored.content, status, headers)
