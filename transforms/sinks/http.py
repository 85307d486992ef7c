"""Delivery over HTTP: one POST a record (forwarders.md section 2).

`AiohttpSink` makes one attempt and says what became of it; order, retries and the breaker are the engine's. Texts that
leave this module (log lines, outcomes, errors) hold no url, header or credential: aiohttp's own errors hold them, so
those are judged by type and never printed.
"""

import base64
import errno
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_plus

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.secrets import Scrubber
from transforms.sinks.addresses import AddressGuard, AddressInfo, AddressRefusedError
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.http_connections import CheckedConnector, CheckedResolver, Exchange, GetAddrInfo, current_exchange
from transforms.sinks.signatures import Signer
from transforms.sinks.user_agent import USER_AGENT

logger = logging.getLogger(__name__)

MOST_HOPS = 5
"""A record that arrives with so many hops is not forwarded: forwarders that feed each other would never stop."""

RESPONSE_KEPT = 4 * 1024
RESPONSE_READ = 64 * 1024
"""Bytes of a response body that a dead letter keeps, and that are read so that the connection can be used again."""

XAPI_VERSION = "1.0.3"

_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
# A gateway's word that it has no answer: what is behind it may have worked on the record all the same.
_AMBIGUOUS = frozenset((502, 504))
# The shortest header value, or parameter of the url's query, that is looked for in response bodies. `1` or `en` may be
# a header's value, and hiding it would leave nothing of the body; nobody's secret is that short.
_SHORTEST_SCRUBBED = 4


_DELIVERED = {status: AttemptResult(Verdict.DELIVERED, status=status) for status in range(200, 300)}
_ADDRESS_REFUSED = AttemptResult(Verdict.GIVE_UP, "address_refused")
_TOO_MANY_HOPS = AttemptResult(Verdict.GIVE_UP, "too_many_hops", spends_attempt=False)


class SinkError(Exception):
    """A forwarder whose sink cannot be made: a TLS file that does not load, a host that has no valid form."""


class AiohttpSink:
    """Sends records to one HTTP forwarder, one a request. Lives on one asyncio loop: open, send many, close.

    `forwarder` must be resolved and its target HTTP. `allow_networks` are CIDRs that may be dialled though they are in
    a refused range. `clock` gives seconds since the epoch. `getaddrinfo` stands in for the resolver in tests.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        *,
        allow_networks: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        self._forwarder_id = forwarder.id
        self._target = http_target(forwarder)
        self._guard = AddressGuard(allow_networks)
        self._clock = clock
        self._getaddrinfo = getaddrinfo
        self._url = request_url(self._target)
        self._headers = _fixed_headers(self._target)
        self._statement_headers = self._headers.copy()
        self._statement_headers.setdefault("X-Experience-API-Version", XAPI_VERSION)
        self._signer = Signer(self._target.signing_secrets) if self._target.signing_secrets else None
        self._scrubber = scrubber(self._target)
        self._session: aiohttp.ClientSession | None = None
        self._told: set[str] = set()

    async def open(self) -> None:
        """Makes the connection pool; connects to nobody yet. Raises SinkError for TLS files that do not load."""
        resolver = CheckedResolver(self._getaddrinfo)
        connector = CheckedConnector(
            limit=self._target.concurrency,
            resolver=resolver,
            socket_factory=self._socket,
            ssl=tls_context(self._target),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._target.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            # No proxy and no .netrc out of the environment: either would go round the guard or add a credential.
            trust_env=False,
            # Nobody needs the body; unpacking what a stranger sends needs memory without bound.
            auto_decompress=False,
            read_bufsize=16 * 1024,
            max_line_size=8190,
            max_field_size=8190,
        )
        self._resolver = resolver

    def _socket(self, info: AddressInfo) -> socket.socket:
        """A socket for an address about to be dialled; the exchange learns whether any might be."""
        exchange = current_exchange.get()
        try:
            made = self._guard.socket(info)
        except AddressRefusedError as error:
            exchange.refused = error
            raise
        exchange.dialled = True
        return made

    async def close(self) -> None:
        """Closes every connection. Requests in flight are to be over, or cancelled."""
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None

    async def send(self, item: Item) -> AttemptResult:
        """One attempt at `item`, with one resend if it went out on a connection that turned out to be closed."""
        if item.hops >= MOST_HOPS:
            return _TOO_MANY_HOPS
        exchange = Exchange()
        try:
            return await self._post(item, exchange)
        except Exception as error:
            if not (exchange.is_stale and isinstance(error, aiohttp.ClientConnectionError) and not _timed_out(error)):
                return self._failed(item, error, exchange)
        # The receiver had closed the connection, most likely before the request reached it. Likely is not sure.
        exchange = Exchange(fresh=True)
        try:
            outcome = await self._post(item, exchange)
        except Exception as error:
            outcome = self._failed(item, error, exchange)
        return msgspec.structs.replace(outcome, ambiguous=True)

    async def _post(self, item: Item, exchange: Exchange) -> AttemptResult:
        if self._session is None:
            raise RuntimeError("the sink is not open")
        current_exchange.set(exchange)
        response = await self._session.post(
            self._url, data=item.payload, headers=self._request_headers(item), allow_redirects=False
        )
        status = response.status
        if (delivered := _DELIVERED.get(status)) is not None:
            # Whatever the body does: it is read only so that the connection can serve again.
            if not response.content.is_eof():
                await _read(response)
            return delivered
        body, complete = await _read(response)
        return self._judged(item, status, response.headers, self._kept(response.headers, body, complete))

    def _judged(self, item: Item, status: int, headers: Any, body: str | None) -> AttemptResult:
        if status == 409 and item.payload_kind == "statement":
            return AttemptResult(Verdict.DELIVERED, status=status, response=body)
        verdict = Verdict.RETRY if status in _RETRIED else Verdict.GIVE_UP
        after = retry_after(headers.get("Retry-After"), self._clock()) if verdict is Verdict.RETRY else None
        return AttemptResult(
            verdict,
            f"http_{status}",
            status=status,
            response=body,
            retry_after=after,
            ambiguous=status in _AMBIGUOUS,
            failure=500 <= status < 600,
        )

    def _request_headers(self, item: Item) -> CIMultiDict[str]:
        headers = (self._statement_headers if item.payload_kind == "statement" else self._headers).copy()
        headers["Idempotency-Key"] = item.record.id
        headers["X-Forward-Hops"] = str(item.hops + 1)
        if self._signer is not None:
            headers.update(self._signer.headers(item.record.id, int(self._clock()), item.payload))
        return headers

    def _kept(self, headers: Any, body: bytes, complete: bool) -> str | None:
        """What of a response body a dead letter may hold: bounded, and without secrets."""
        if not body:
            return None
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # It was asked not to. Nothing can be hidden in what cannot be read.
            return "(a body in a content encoding that was not asked for)"
        text = self._scrubber.scrub(body.decode("utf-8", "replace"), cut=not complete)
        return text.encode()[:RESPONSE_KEPT].decode("utf-8", "ignore")

    def _failed(self, item: Item, error: Exception, exchange: Exchange) -> AttemptResult:
        if isinstance(error, aiohttp.ClientResponseError) and exchange.connection is not None:
            status = exchange.connection.status()
            if status is not None:
                return _DELIVERED.get(status) or self._judged(item, status, {}, None)
        if exchange.refused is not None and not exchange.dialled:
            # Were one of several addresses dialled, in vain, another attempt may get through.
            outcome, detail = _ADDRESS_REFUSED, f"{exchange.refused}; --allow_network permits a network"
        else:
            outcome, detail = classify(error, connected=exchange.connection is not None)
        if outcome.reason not in self._told:
            # Once per kind of failure: the receipts have every one of them.
            self._told.add(outcome.reason)
            logger.warning("forwarder %s: %s%s", self._forwarder_id, outcome.reason, f" ({detail})" if detail else "")
        return outcome

    def __repr__(self) -> str:
        return f"AiohttpSink({self._forwarder_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sink holds secrets and connections and does not pickle: make it on the worker")


def http_target(forwarder: Forwarder) -> HttpTarget:
    """The forwarder's target, which must be HTTP."""
    if not isinstance(forwarder.target, HttpTarget):
        raise TypeError(f"forwarder {forwarder.id} is not sent over HTTP")
    return forwarder.target


def request_url(target: HttpTarget) -> URL:
    """The url as it goes over the wire: the host in its IDNA form, all else as written. Raises SinkError."""
    scheme, _, after = target.url.reveal().partition("://")
    authority = re.split(r"[/?]", after, maxsplit=1)[0]
    try:
        # yarl puts the host into its IDNA form here, and leaves the rest alone below: a signature in the query must not
        # be quoted anew.
        origin = URL(f"{scheme}://{authority}/")
        return URL(str(origin.origin()) + after[len(authority) :], encoded=True)
    except ValueError:
        raise SinkError(f"the host {target.host} has no valid form in the DNS") from None


def tls_context(target: HttpTarget) -> ssl.SSLContext | bool:
    """How the target's certificate is verified: against the system, or `caFile` alone. Raises SinkError."""
    if not (target.ca_file or target.client_certificate):
        return True
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ValueError) as error:
        raise SinkError(f"configuration.caFile {target.ca_file} does not load: {_why(error)}") from None
    context.set_alpn_protocols(["http/1.1"])
    if target.client_certificate:
        try:
            # An encrypted key would make OpenSSL ask for its password at the terminal, and wait.
            context.load_cert_chain(target.client_certificate, target.client_key, password=lambda: "")
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (target.client_certificate, target.client_key)))
            raise SinkError(f"configuration.clientCertificate {files} does not load: {_why(error)}") from None
    return context


def scrubber(target: HttpTarget) -> Scrubber:
    """Hides the target's secrets in what its receiver answers."""
    secrets: list[str] = []
    for secret in (target.secret, target.basic_password, *target.signing_secrets):
        if secret is not None:
            secrets.append(secret.reveal())
    if target.auth_type == "basic auth":
        secrets.append(_credentials(target))
    secrets += [secret.reveal().removeprefix("whsec_") for secret in target.signing_secrets]
    query = target.url.reveal().partition("?")[2]
    parameters = [value for _, _, value in (pair.partition("=") for pair in query.split("&"))]
    shown = [value.reveal() for _, value in target.headers]
    shown += [query, unquote(query), *parameters, *map(unquote, parameters), *map(unquote_plus, parameters)]
    # The credential after the scheme of an Authorization header may be quoted back alone.
    shown += [value.reveal().partition(" ")[2] for name, value in target.headers if name.lower() == "authorization"]
    return Scrubber(secrets + [value for value in shown if len(value) >= _SHORTEST_SCRUBBED])


def classify(error: Exception, *, connected: bool) -> tuple[AttemptResult, str]:
    """What an attempt that ended without an answer is, by section 2's table, and a detail for the log.

    `connected`: a connection stood, so the request may have reached the receiver. The detail is made of numbers and
    names of errors only.
    """
    cause = getattr(error, "os_error", None) or error.__cause__
    if isinstance(error, aiohttp.InvalidURL):
        return _ADDRESS_REFUSED, "the host is a number, but no address in its usual form"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verify_message = getattr(error.certificate_error, "verify_message", "")
        return AttemptResult(Verdict.GIVE_UP, "tls", failure=True, opens_breaker=True), str(verify_message)
    if _timed_out(error):
        reason, detail = "timeout", ""
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        reason, detail = "dns", _why(cause)
    elif isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
        reason, detail = "tls_handshake", _why(cause if isinstance(cause, ssl.SSLError) else error)
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason, detail = _connect_reason(cause), _why(cause)
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        reason, detail = "closed", ""
    elif isinstance(error, ConnectionError | OSError | aiohttp.ClientConnectionError):
        reason, detail = "reset", _why(error)
    elif isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        reason, detail = "bad_response", "what came is not an HTTP response"
    else:
        # Not foreseen: the record still ends in the dead letters at worst. The text may hold the url, the type cannot.
        reason, detail = "internal_error", type(error).__name__
    return AttemptResult(Verdict.RETRY, reason, ambiguous=connected, failure=True), detail


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT


def _connect_reason(cause: object) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(cause, ConnectionError):
        return "reset"
    if getattr(cause, "errno", None) in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return "unreachable"
    return "connection_failed"


def _why(error: object) -> str:
    """What an operating system's or OpenSSL's error is, in the system's own words.

    Never the error's own text: aiohttp puts the url into the `strerror` of some.
    """
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return type(error).__name__


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header, whole seconds or an HTTP date; None if there is none that can be read.

    Not bounded here beyond what a float holds: `--max_backoff` is the engine's. A date that is past gives 0.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body as far as it is read, and whether that is all. Never raises: the status is known already.

    Ends with the attempt's time at the latest; a body that is not over then, or too long, costs its connection.
    """
    data = bytearray()
    try:
        while len(data) < RESPONSE_READ:
            chunk = await response.content.readany()
            if not chunk:
                return bytes(data), True
            data += chunk
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    except BaseException:
        # Cancelled. A response that is left open is logged when it goes, with its url.
        response.close()
        raise
    response.close()
    return bytes(data[:RESPONSE_READ]), False


def _fixed_headers(target: HttpTarget) -> CIMultiDict[str]:
    """The headers that all of a forwarder's requests share."""
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
    )
    if target.auth_type == "token" and target.secret is not None:
        headers["Authorization"] = f"Bearer {target.secret.reveal()}"
    elif target.auth_type == "basic auth":
        headers["Authorization"] = "Basic " + base64.b64encode(_credentials(target).encode()).decode()
    for name, value in target.headers:
        headers[name] = value.reveal()
    return headers


def _credentials(target: HttpTarget) -> str:
    password = target.basic_password.reveal() if target.basic_password is not None else ""
    return f"{target.basic_username}:{password}"
