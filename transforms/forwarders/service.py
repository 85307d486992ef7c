"""Reads forwarder documents that a service or a database holds, as of one moment (docs/spec/forwarders.md section 5).

A location of `http(s)://host/api/v2/statementforwarding` is the REST interface of `python -m registry`, or of a
Learning Locker. `sqlite:///...` and `mongodb://...` are stores of the registry, which announces a reader of them
(`READERS`). A location travels in the job graph and holds no credentials. These come from the environment of whoever
reads: the launcher and each worker.
"""

import base64
import http.client
import ipaddress
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from schemas.json_values import JsonObject
from transforms.forwarders import Documents, documents_from
from transforms.forwarders.documents import loads_leniently
from transforms.forwarders.secrets import trimmed

logger = logging.getLogger(__name__)

CLIENT_KEY = "REGISTRY_CLIENT_KEY"
CLIENT_SECRET = "REGISTRY_CLIENT_SECRET"  # noqa: S105 - a variable's name
"""The environment variables that hold the basic auth of the service.

Their names do not begin with `FORWARDER_`, so no document can refer to them and have them sent somewhere.
"""

_SCHEMES = ("http://", "https://", "sqlite://", "mongodb://", "mongodb+srv://")
_PAGE = 100
"""Documents that are asked for at a time."""

_PAGE_BYTES = 128 * 1024 * 1024
"""Bytes of an answer. Of a service that sends more, fewer documents are asked for at a time."""

_TIMEOUT = 30.0
"""Seconds to wait for the service."""

MOST_WAITED = 180.0
"""Seconds that a service may make the job wait in all, by answering that it should come again later.

The registry's lock-out after failed logins lasts for one minute.
"""

_USUAL_WAIT = 5.0
"""Seconds to wait for a service that does not say how long it wants to be left alone."""

TRIES = 5
"""How often documents are read again that have changed while they were read."""

READERS = "session_forwarder.forwarder_readers"
"""The group of the entry points that read databases, each by the scheme of its locations.

An entry point is a function of a location and an environment. It returns documents, or raises ServiceError.
"""


class ServiceError(Exception):
    """A service or a database did not give the documents. The text says why, and holds no credential."""


class _LaterError(ServiceError):
    """The service cannot answer now, and may later.

    Attributes:
        wait: seconds after which to ask again.
    """

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class _TooLargeError(ServiceError):
    """A page has more bytes than are read of one."""


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


def read_remote(
    location: str, environment: Mapping[str, str] = os.environ, sleep: Callable[[float], None] = time.sleep
) -> Documents:
    """Every document at a remote location, with its secrets, as of one moment.

    A service that asks to come again later (429, 503) is asked again, until it has made the job wait for 3 minutes.

    Args:
        location: for which `is_remote` is true.
        environment: holds the credentials.
        sleep: waits for so many seconds.

    Raises:
        ServiceError: the documents cannot be read, or change too fast.
    """
    if location.startswith(("http://", "https://")):
        return documents_from(_Interface(location.rstrip("/"), _login(environment), sleep).read(), location)
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

    def __init__(self, url: str, authorization: str, sleep: Callable[[float], None]) -> None:
        self._url = url
        self._authorization = authorization
        self._opener = _opener()
        self._sleep = sleep
        self._waited = 0.0
        self._page_size = _PAGE

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
            page, version = self._next_page(len(documents))
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

    def _next_page(self, skip: int) -> tuple[list[JsonObject], str | None]:
        """The documents after the first `skip`, when the service gives them, and its version."""
        while True:
            try:
                return self._page(skip)
            except _TooLargeError:
                if self._page_size == 1:
                    raise
                self._page_size = max(1, self._page_size // 10)
            except _LaterError as later:
                if self._waited + later.wait > MOST_WAITED:
                    raise ServiceError(f"{later}, and has made the job wait for {self._waited:.0f} s") from None
                logger.warning("--forwarders %s %s: asked again in %.0f s", self._url, later, later.wait)
                self._waited += later.wait
                self._sleep(later.wait)

    def _page(self, skip: int) -> tuple[list[JsonObject], str | None]:
        query = urlencode({"sort": '{"_id":1}', "skip": skip, "limit": self._page_size, "secrets": "full"})
        request = Request(  # noqa: S310 - http and https alone come here
            f"{self._url}?{query}", headers={"Authorization": self._authorization, "Accept": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                body: bytes = response.read(_PAGE_BYTES + 1)
                version = response.headers.get("Forwarders-Version")
        except HTTPError as error:
            with error:
                if error.code in _LATER:
                    wait = _asked_wait(error.headers.get("Retry-After"), time.time())
                    raise _LaterError(_LATER[error.code], wait) from None
                raise ServiceError(_refusal(error.code)) from None
        except URLError as error:
            raise _unreached(error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreached(error) from None
        if len(body) > _PAGE_BYTES:
            raise _TooLargeError(f"holds a document of more than {_PAGE_BYTES} bytes")
        return _documents_in(body), version


def _documents_in(body: bytes) -> list[JsonObject]:
    try:
        page = loads_leniently(body.decode())
    except ValueError:
        raise ServiceError("does not answer with JSON: is it the address of the REST interface?") from None
    if not isinstance(page, list) or not all(isinstance(document, dict) for document in page):
        raise ServiceError("does not answer with a list of documents: is it the address of the REST interface?")
    return page


_LATER = {
    429: "asks to come again later, as after failed logins (HTTP status 429)",
    503: "cannot answer at the moment (HTTP status 503)",
}


def _asked_wait(value: str | None, now: float) -> float:
    """Seconds that a `Retry-After` header asks to wait: a number, or an HTTP date; at least one."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return max(1.0, float(text))
    try:
        return max(1.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return _USUAL_WAIT


def _unreached(error: object) -> ServiceError:
    """What it means that there is no answer. A connection that was taken and dropped may be taken the next time."""
    message = f"cannot be reached: {_reason(error)}"
    if isinstance(error, ConnectionResetError | BrokenPipeError | http.client.RemoteDisconnected | ssl.SSLEOFError):
        return _LaterError(message, _USUAL_WAIT)
    return ServiceError(message)


def _refusal(status: int) -> str:
    if status == 401:
        return f"does not know the client: see {CLIENT_KEY} and {CLIENT_SECRET} (HTTP status 401)"
    if status == 403:
        return (
            "refuses the client (HTTP status 403): it needs a scope that views the organisation, and "
            "statementForwarding/deliver over TLS or loopback"
        )
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
