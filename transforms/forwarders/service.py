"""Reads forwarder documents that a service or a database holds, as of one moment (docs/spec/forwarders.md section 5).

A location of `http(s)://host/api/v2/statementforwarding` is the REST interface of `python -m registry`, or of a
Learning Locker. `sqlite:///...` and `mongodb://...` are stores of the registry, which announces a reader of them
(`READERS`). A location travels in the job graph and holds no credentials. These come from the environment of whoever
reads: the launcher and each worker.
"""

import base64
import http.client
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from schemas.json_values import JsonObject
from transforms.forwarders import Documents, documents_from
from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.secrets import trimmed

CLIENT_KEY = "REGISTRY_CLIENT_KEY"
CLIENT_SECRET = "REGISTRY_CLIENT_SECRET"  # noqa: S105 - a variable's name
"""The environment variables that hold the basic auth of the service.

Their names do not begin with `FORWARDER_`, so no document can refer to them and have them sent somewhere.
"""

_SCHEMES = ("http://", "https://", "sqlite://", "mongodb://", "mongodb+srv://")
_PAGE = 100
"""Documents that are asked for at a time."""

_PAGE_BYTES = 128 * 1024 * 1024
"""Bytes of an answer: a service that sends more is given up."""

_TIMEOUT = 30.0
"""Seconds to wait for the service."""

TRIES = 5
"""How often documents are read again that have changed while they were read."""

READERS = "session_forwarder.forwarder_readers"
"""The group of the entry points that read databases, each by the scheme of its locations.

An entry point is a function of a location and an environment. It returns documents, or raises ServiceError.
"""


class ServiceError(Exception):
    """A service or a database did not give the documents. The text says why, and holds no credential."""


def is_remote(location: str) -> bool:
    """Whether a service or a database holds the documents. They are trusted less than a file of the operator's."""
    return location.startswith(_SCHEMES)


def location_problem(location: str) -> str | None:
    """What is wrong with a remote location; None if nothing is. The text repeats no credential that may be in it."""
    if re.match(r"[a-z0-9+.-]+://[^/?#]*@", location, re.IGNORECASE):
        return (
            f"holds a user: leave it out, and set {CLIENT_KEY} and {CLIENT_SECRET}, or for mongodb:// "
            "REGISTRY_MONGODB_USERNAME and REGISTRY_MONGODB_PASSWORD, where the job is launched and on each worker"
        )
    if location.startswith("mongodb") and "password" in location.lower():
        return "holds an option that is a password: the location travels with the job"
    if location.startswith("sqlite://") and not location.removeprefix("sqlite://").strip("/"):
        return "names no file: sqlite:///relative/path or sqlite:////absolute/path"
    if location.startswith(("http://", "https://")):
        try:
            parts = urlsplit(location)
            if not parts.hostname or parts.port == 0:
                return "names no host: https://host/api/v2/statementforwarding"
        except ValueError:
            return "is not a url: https://host/api/v2/statementforwarding"
        if parts.query or parts.fragment:
            return "has a query or a fragment: give the address of the interface alone"
    return None


def location_warning(location: str) -> str | None:
    """What the operator should know about how documents travel from a location; None if it is safe."""
    if not location.startswith("http://"):
        return None
    host = urlsplit(location).hostname or ""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if is_loopback:
        return None
    return f"--forwarders {location}: credentials and secrets travel unencrypted, and python -m registry refuses that"


def read_remote(location: str, environment: Mapping[str, str] = os.environ) -> Documents:
    """Every document at a remote location, with its secrets, as of one moment.

    Args:
        location: for which `is_remote` is true.
        environment: holds the credentials.

    Raises:
        ServiceError: the documents cannot be read, or change too fast.
    """
    if location.startswith(("http://", "https://")):
        return documents_from(_Interface(location.rstrip("/"), _login(environment)).read(), location)
    return documents_from(_read_database(location, environment), location)


def _login(environment: Mapping[str, str]) -> str:
    key, secret = (trimmed(environment.get(name, "")) for name in (CLIENT_KEY, CLIENT_SECRET))
    if not key or not secret:
        raise ServiceError(
            f"needs {CLIENT_KEY} and {CLIENT_SECRET} in the environment, of the launcher and each worker"
        )
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()


# The REST interface


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would take the credentials to where nobody meant them to go."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _opener() -> OpenerDirector:
    return build_opener(ProxyHandler({}), _NoRedirects)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one pass over the pages gave.

    Attributes:
        version: the service's own, as on the last page; None if it has none.
        is_whole: nothing was seen to change during the pass.
    """

    documents: list[JsonObject]
    version: str | None
    is_whole: bool


class _Interface:
    """A REST interface. Its repr shows no credential."""

    def __init__(self, url: str, authorization: str) -> None:
        self._url = url
        self._authorization = authorization
        self._opener = _opener()

    def read(self) -> list[JsonObject]:
        """Every document, as of one moment.

        All pages are of one version. A service that has no versions is read until two passes give the same.
        """
        before: str | None = None
        for _ in range(TRIES):
            reading = self._pages()
            if not reading.is_whole:
                before = None
                continue
            if reading.version is not None:
                return reading.documents
            digest = documents_from(reading.documents, self._url).digest
            if digest == before:
                return reading.documents
            before = digest
        raise ServiceError("is changed faster than it can be read: try again")

    def _pages(self) -> _Reading:
        documents: list[JsonObject] = []
        versions: set[str | None] = set()
        ids: set[str] = set()
        while True:
            page, version = self._page(len(documents))
            versions.add(version)
            if not page:
                return _Reading(documents, version, is_whole=len(versions) == 1)
            page_ids = {str(document.get("_id")) for document in page}
            if page_ids <= ids:
                raise ServiceError("gives the same page again and again: it does not understand skip")
            # A page that overlaps with those before says that a document was added or deleted there.
            if page_ids & ids or len(versions) > 1:
                return _Reading([], None, is_whole=False)
            ids |= page_ids
            documents += page

    def _page(self, skip: int) -> tuple[list[JsonObject], str | None]:
        query = urlencode({"sort": '{"_id":1}', "skip": skip, "limit": _PAGE, "secrets": "full"})
        request = Request(  # noqa: S310 - http and https alone come here
            f"{self._url}?{query}", headers={"Authorization": self._authorization, "Accept": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                body: bytes = response.read(_PAGE_BYTES + 1)
                version = response.headers.get("Forwarders-Version")
        except HTTPError as error:
            with error:
                raise ServiceError(_refusal(error.code)) from None
        except URLError as error:
            raise ServiceError(f"cannot be reached: {_reason(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(f"cannot be reached: {_reason(error)}") from None
        return _documents_in(body), version


def _documents_in(body: bytes) -> list[JsonObject]:
    if len(body) > _PAGE_BYTES:
        raise ServiceError(f"answers with more than {_PAGE_BYTES} bytes for {_PAGE} documents")
    try:
        page, _ = loads_strictly(body.decode())
    except ValueError:
        raise ServiceError("does not answer with JSON: is it the address of the REST interface?") from None
    if not isinstance(page, list) or not all(isinstance(document, dict) for document in page):
        raise ServiceError("does not answer with a list of documents: is it the address of the REST interface?")
    return page


def _refusal(status: int) -> str:
    if status == 401:
        return f"does not know the client: see {CLIENT_KEY} and {CLIENT_SECRET} (HTTP status 401)"
    if status == 403:
        return (
            "refuses the client (HTTP status 403): it needs a scope that views the organisation, and "
            "statementForwarding/deliver over TLS or loopback"
        )
    if status == 429:
        return "refuses the client for now, after failed logins (HTTP status 429): try again in a minute"
    if 300 <= status < 400:
        return f"answers with a redirect (HTTP status {status}), which is not followed: give the address it leads to"
    return f"answers with HTTP status {status}"


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT:g} s"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__


# Databases


def _read_database(location: str, environment: Mapping[str, str]) -> list[JsonObject]:
    """What the reader gives that is installed for the scheme of the location."""
    scheme = location.partition("://")[0]
    for reader in entry_points(group=READERS, name=scheme):
        try:
            read = reader.load()
        except ImportError as error:
            raise ServiceError(f"needs the extra: pip install 'session-forwarder[registry]' ({error.name})") from None
        documents: list[JsonObject] = read(location, environment)
        return documents
    raise ServiceError(
        f"cannot be read: nothing that reads {scheme}:// is installed. Install session-forwarder again, as a package: "
        "its registry announces what it reads there"
    )
