"""Delivery over HTTP: one POST for each record (docs/spec/forwarders.md section 2).

`AiohttpSink` makes one attempt and says what became of it. Order, retries and the breaker are `transforms.delivery`.
What leaves this module (log lines, outcomes, errors) holds no url, header or credential. aiohttp's own errors do hold
them, so those are judged by their type and never printed.
"""

import asyncio
import base64
import logging
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_plus

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.scrubber import Scrubber
from transforms.sinks import conflicts
from transforms.sinks.addresses import AddressGuard, AddressInfo, AddressRefusedError
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.deadline import Deadline
from transforms.sinks.http_connections import CheckedConnector, CheckedResolver, Exchange, GetAddrInfo, current_exchange
from transforms.sinks.http_errors import ADDRESS_REFUSED, classify, timed_out, why
from transforms.sinks.lacks import lack_in, lacking
from transforms.sinks.signatures import Signer, signing_key
from transforms.sinks.statement_requests import VERSION_HEADER, StatementRequest, StatementRequests, stream
from transforms.sinks.user_agent import USER_AGENT
from transforms.statements.attachment_files import NO_FILES, AttachmentFiles
from transforms.statements.versions import FIRST

logger = logging.getLogger(__name__)

MOST_HOPS = 5
"""A record that has been through so many forwarders is not sent: forwarders that feed each other would never stop."""

RESPONSE_KEPT = 4 * 1024
"""Bytes of a response body that a dead letter keeps."""

RESPONSE_SEARCHED = 2 * RESPONSE_KEPT
"""Bytes of a response body in which secrets are searched for before it is cut. A search of many takes milliseconds."""

RESPONSE_READ = 64 * 1024
"""Bytes of a response body that are read, so that its connection can be used again. A longer one is closed."""

RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which a request is tried again."""

_AMBIGUOUS = frozenset((502, 504))
"""Statuses by which a gateway says that it got no answer. What is behind it may have taken the record all the same."""

_SHORTEST_SCRUBBED = 4
"""Characters of the shortest header value, or parameter of the url's query, that is hidden in response bodies.

A header's value may be `1` or `en`, and to hide that would leave nothing of a body. Nobody's secret is that short.
"""

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")
_LONGEST_WAIT = 1e12
_LOCATION_KEPT = 1024
_AUTHORITY = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?[/\\]*)([^/\\]*)")
"""The start of an address up to its authority, and the authority, as lenient clients read them."""

_DELIVERED = {status: AttemptResult(Verdict.DELIVERED, status=status) for status in range(200, 300)}
_TOO_MANY_HOPS = AttemptResult(Verdict.GIVE_UP, "too_many_hops", spends_attempt=False)


class SinkError(Exception):
    """A forwarder's sink cannot be made: a TLS file does not load, or the host has no valid form."""


class AiohttpSink:
    """Sends records to one HTTP forwarder, one a request. It lives on one asyncio loop: open, send many, close.

    Args:
        forwarder: a resolved one whose target is HTTP.
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).
        clock: seconds since the epoch.
        getaddrinfo: stands in for the system's resolver in tests.
        turns: where there are too few descriptors for a connection of each forwarder: what all of them share, one for
            each connection there may be. No connection is kept then when its request has ended.
        attachments: where the data of attachments is looked for.

    Raises:
        SinkError: the host has no valid form.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        *,
        allow_networks: Sequence[str] = (),
        attachments: AttachmentFiles = NO_FILES,
        clock: Callable[[], float] = time.time,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._forwarder_id = forwarder.id
        self._target = http_target(forwarder)
        self._guard = AddressGuard(allow_networks)
        self._clock = clock
        self._getaddrinfo = getaddrinfo
        self._turns = turns
        self._url = request_url(self._target)
        self._headers = _fixed_headers(self._target)
        self._statement_headers = self._headers.copy()
        self._statement_headers.setdefault(VERSION_HEADER, self._target.xapi_version or FIRST)
        self._statements = StatementRequests(forwarder.id, self._target, attachments)
        self._signer = Signer(self._target.signing_secrets) if self._target.signing_secrets else None
        self._scrubber = scrubber(self._target)
        self._session: aiohttp.ClientSession | None = None
        self._logged: set[str] = set()
        self._look_ups = asyncio.Semaphore(conflicts.LOOK_UPS_AT_ONCE)

    async def open(self) -> None:
        """Make the connection pool, which connects to nobody yet. Raises SinkError if a TLS file does not load."""
        resolver = CheckedResolver(self._getaddrinfo)
        connector = CheckedConnector(
            limit=self._target.concurrency,
            force_close=self._turns is not None,
            resolver=resolver,
            socket_factory=self._socket,
            ssl=tls_context(self._target),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            # The time of an attempt is a Deadline's, which knows when this process stood still.
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy of the environment would go round the guard, and its .netrc would add a credential.
            trust_env=False,
            # Nobody needs the body, and to unpack what a stranger sends takes memory without bound.
            auto_decompress=False,
            read_bufsize=16 * 1024,
            max_line_size=8190,
            max_field_size=8190,
        )
        self._resolver = resolver

    def _socket(self, info: AddressInfo) -> socket.socket:
        """A socket for an address that is to be dialled. The exchange learns whether it was allowed."""
        exchange = current_exchange.get()
        try:
            made = self._guard.socket(info)
        except AddressRefusedError as error:
            exchange.refused = error
            raise
        except OSError as error:
            exchange.lack = lack_in(error)
            raise
        exchange.dialled = True
        return made

    async def close(self) -> None:
        """Close every connection. Requests in flight must have ended, or been cancelled."""
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None

    async def send(self, item: Item) -> AttemptResult:
        """Make one attempt, with one resend if the request went out on a connection that turned out to be closed."""
        if item.hops >= MOST_HOPS:
            return _TOO_MANY_HOPS
        if self._turns is None:
            return await self._send(item)
        async with self._turns:
            return await self._send(item)

    async def _send(self, item: Item) -> AttemptResult:
        if item.record.kind != "statement" or item.payload_kind != "statement":
            return await self._attempt(item)
        request = await self._statements.request(item.payload)
        if isinstance(request, AttemptResult):
            return request
        try:
            return await self._send_statement(item, request)
        finally:
            request.close()

    async def _send_statement(self, item: Item, request: StatementRequest) -> AttemptResult:
        outcome = await self._attempt(item, request)
        if outcome.reason == conflicts.CONFLICT and self._target.on_conflict == "compare":
            ask = partial(self._held, request.headers[VERSION_HEADER])
            async with self._look_ups:
                found = await conflicts.look_up(ask, self._url, request.statement, outcome)
            outcome = msgspec.structs.replace(found, ambiguous=outcome.ambiguous)
        if request.remarks and outcome.verdict is Verdict.DELIVERED:
            return msgspec.structs.replace(outcome, remarks=(*outcome.remarks, *request.remarks))
        return outcome

    async def _attempt(self, item: Item, statement: StatementRequest | None = None) -> AttemptResult:
        exchange = Exchange()
        try:
            return await self._post(item, exchange, statement)
        except Exception as error:
            if not (exchange.is_stale and isinstance(error, aiohttp.ClientConnectionError) and not timed_out(error)):
                return self._failed(item, error, exchange)
        # The receiver had closed the connection, most likely before the request reached it. That is not certain, so the
        # outcome is ambiguous.
        exchange = Exchange(fresh=True)
        try:
            outcome = await self._post(item, exchange, statement)
        except Exception as error:
            outcome = self._failed(item, error, exchange)
        return msgspec.structs.replace(outcome, ambiguous=True)

    async def _post(self, item: Item, exchange: Exchange, statement: StatementRequest | None) -> AttemptResult:
        if self._session is None:
            raise RuntimeError("the sink is not open")
        current_exchange.set(exchange)
        deadline = Deadline(self._target.timeout)
        try:
            return await self._answer(self._session, item, statement, deadline)
        finally:
            deadline.close()

    async def _answer(
        self, session: aiohttp.ClientSession, item: Item, statement: StatementRequest | None, deadline: Deadline
    ) -> AttemptResult:
        with deadline:
            data, headers = await self._request(item, statement)
            response = await session.post(self._url, data=data, headers=headers, allow_redirects=False)
        status = response.status
        if (delivered := _DELIVERED.get(status)) is not None:
            # The body changes nothing. It is read only so that the connection can serve again.
            if not response.content.is_eof():
                await _read(response, deadline)
            return delivered
        body, complete = await _read(response, deadline)
        kept = self._kept(response.headers, body, complete)
        location = response.headers.get("Location")
        if 300 <= status < 400 and location:
            told = f"Location: {shown_location(self._scrubber.scrub(location))}"
            kept = f"{told}\n{kept or ''}".encode()[:RESPONSE_KEPT].decode("utf-8", "ignore").rstrip("\n")
        return self._judged(item, status, response.headers, kept)

    def _judged(self, item: Item, status: int, headers: Any, body: str | None) -> AttemptResult:
        """What an answer that is not 2xx means."""
        if status == 409 and item.payload_kind == "statement":
            if item.record.kind != "statement":
                # The receiver has it: the id of a derived record holds its content.
                return AttemptResult(Verdict.DELIVERED, status=status, response=body)
            if self._target.on_conflict == "accept":
                return AttemptResult(Verdict.DELIVERED, status=status, remarks=(conflicts.ACCEPTED,))
            return AttemptResult(Verdict.GIVE_UP, conflicts.CONFLICT, status=status, response=body)
        if status in RETRIED:
            return msgspec.structs.replace(self._retried(status, headers, body), ambiguous=status in _AMBIGUOUS)
        failure = 500 <= status < 600
        return AttemptResult(Verdict.GIVE_UP, f"http_{status}", status=status, response=body, failure=failure)

    def _retried(self, status: int, headers: Any, body: str | None) -> AttemptResult:
        # A date is by the receiver's clock, and so is that of its answer (RFC 9110, section 6.6.1).
        sent = http_date(headers.get("Date", ""))
        after = retry_after(headers.get("Retry-After"), self._clock() if sent is None else sent)
        failure = 500 <= status < 600
        return AttemptResult(
            Verdict.RETRY, f"http_{status}", status=status, response=body, retry_after=after, failure=failure
        )

    async def _held(self, version: str, url: URL) -> conflicts.Held | AttemptResult:
        """Ask the receiver for a statement. An outage is as one of an attempt to send."""
        if self._session is None:
            raise RuntimeError("the sink is not open")
        exchange = Exchange()
        current_exchange.set(exchange)
        headers = self._statement_headers.copy()
        del headers["Content-Type"]
        headers["Accept"] = "application/json"
        deadline = Deadline(self._target.timeout)
        headers[VERSION_HEADER] = version
        try:
            with deadline:
                response = await self._session.get(url, headers=headers, allow_redirects=False)
            body, complete = await _read(response, deadline, conflicts.STATEMENT_READ)
        except Exception as error:
            return msgspec.structs.replace(self._without_answer(error, exchange), ambiguous=False)
        finally:
            deadline.close()
        status, kept = response.status, self._kept(response.headers, body[:RESPONSE_READ], complete)
        if status in RETRIED:
            return self._retried(status, response.headers, kept)
        if status == 200 and not complete and len(body) < conflicts.STATEMENT_READ:
            return AttemptResult(Verdict.RETRY, "closed", failure=True)
        is_plain = complete and not _encoding(response.headers)
        return conflicts.Held(status, body if is_plain else None, kept)

    async def _request(
        self, item: Item, statement: StatementRequest | None
    ) -> tuple[bytes | AsyncIterator[bytes], CIMultiDict[str]]:
        """The body and the headers of a POST."""
        if statement is None:
            return item.payload, self._request_headers(item, item.payload)
        if statement.body is None:
            headers = self._request_headers(item, statement.statement)
            headers.update(statement.headers)
            return statement.statement, headers
        loop = asyncio.get_running_loop()
        headers = await loop.run_in_executor(None, self._request_headers, item, statement.body.chunks())
        headers.update(statement.headers)
        # Without it the body would be sent in chunks, as one of unknown length.
        headers["Content-Length"] = str(statement.body.size)
        return stream(statement.body), headers

    def _request_headers(self, item: Item, body: bytes | Iterator[bytes]) -> CIMultiDict[str]:
        headers = (self._statement_headers if item.payload_kind == "statement" else self._headers).copy()
        headers["Idempotency-Key"] = item.record.id
        headers["X-Forward-Hops"] = str(item.hops + 1)
        if self._signer is not None:
            headers.update(self._signer.headers(item.record.id, int(self._clock()), body))
        return headers

    def _kept(self, headers: Any, body: bytes, complete: bool) -> str | None:
        """What a dead letter may hold of a response body: a beginning, without the forwarder's secrets."""
        if not body:
            return None
        if _encoding(headers):
            # The request asked for no encoding. Secrets cannot be hidden in a text that cannot be read.
            return "(a body in a content encoding that was not asked for)"
        complete = complete and len(body) <= RESPONSE_SEARCHED
        text = self._scrubber.scrub(body[:RESPONSE_SEARCHED], cut=not complete)
        return text.encode()[:RESPONSE_KEPT].decode("utf-8", "ignore")

    def _failed(self, item: Item, error: Exception, exchange: Exchange) -> AttemptResult:
        """What an attempt that raised an error means."""
        if isinstance(error, aiohttp.ClientResponseError) and exchange.connection is not None:
            status = exchange.connection.status()
            if status is not None:
                return _DELIVERED.get(status) or self._judged(item, status, {}, None)
        return self._without_answer(error, exchange)

    def _without_answer(self, error: Exception, exchange: Exchange) -> AttemptResult:
        """What an attempt that ended without an answer means."""
        if exchange.lack is not None and exchange.connection is None:
            # aiohttp puts what happened at several addresses into one text.
            return lacking(exchange.lack)
        if exchange.refused is not None and not exchange.dialled:
            # If another address of the host was dialled in vain, a later attempt may get through. Here none was.
            outcome, detail = ADDRESS_REFUSED, f"{exchange.refused}; --allow_network permits a network"
        else:
            outcome, detail = classify(error, connected=exchange.connection is not None)
        if outcome.lack:
            return outcome
        if outcome.reason not in self._logged:
            # Each kind of failure is logged once. The receipts have every one of them.
            self._logged.add(outcome.reason)
            logger.warning("forwarder %s: %s%s", self._forwarder_id, outcome.reason, f" ({detail})" if detail else "")
        return outcome

    def __repr__(self) -> str:
        return f"AiohttpSink({self._forwarder_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sink holds secrets and connections and does not pickle: make it on the worker")


def http_target(forwarder: Forwarder) -> HttpTarget:
    """The forwarder's target. Raises TypeError if that is not HTTP."""
    if not isinstance(forwarder.target, HttpTarget):
        raise TypeError(f"forwarder {forwarder.id} is not sent over HTTP")
    return forwarder.target


def request_url(target: HttpTarget) -> URL:
    """The url as it goes over the wire: the host in its IDNA form, all else as it was written.

    Raises:
        SinkError: the host has no valid form.
    """
    scheme, _, after = target.url.reveal().partition("://")
    authority = re.split(r"[/?]", after, maxsplit=1)[0]
    try:
        # Here yarl puts the host into its IDNA form. Below it leaves the rest alone, because a signature in the query
        # must not be quoted anew.
        origin = URL(f"{scheme}://{authority}/")
        return URL(str(origin.origin()) + after[len(authority) :], encoded=True)
    except ValueError:
        raise SinkError(f"the host {target.host} has no valid form in the DNS") from None


def tls_context(target: HttpTarget) -> ssl.SSLContext | bool:
    """How the receiver's certificate is verified: by the system's authorities (True), or by `caFile` alone.

    Raises:
        SinkError: a TLS file does not load.
    """
    if not (target.ca_file or target.client_certificate):
        return True
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ValueError) as error:
        raise SinkError(f"configuration.caFile {target.ca_file} does not load: {why(error)}") from None
    context.set_alpn_protocols(["http/1.1"])
    if target.client_certificate:
        try:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal, and wait.
            context.load_cert_chain(target.client_certificate, target.client_key, password=lambda: "")
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (target.client_certificate, target.client_key)))
            raise SinkError(f"configuration.clientCertificate {files} does not load: {why(error)}") from None
    return context


def scrubber(target: HttpTarget) -> Scrubber:
    """What hides the target's secrets, and what is made of them, in the answers of its receiver."""
    secrets: list[str | bytes] = []
    for secret in (target.secret, target.basic_password, *target.signing_secrets):
        if secret is not None:
            secrets.append(secret.reveal())
    if target.auth_type == "basic auth":
        secrets.append(_credentials(target))
    for secret in target.signing_secrets:
        secrets += [secret.reveal().removeprefix("whsec_"), signing_key(secret)]
    query = target.url.reveal().partition("?")[2]
    parameters = [value for _, _, value in (pair.partition("=") for pair in query.split("&"))]
    shown = [value.reveal() for _, value in target.headers]
    shown += [query, unquote(query), *parameters, *map(unquote, parameters), *map(unquote_plus, parameters)]
    for name, value in target.headers:
        if name.lower() in ("authorization", "proxy-authorization"):
            # A receiver may quote the credential without the scheme before it, or what that of Basic says.
            scheme, _, credential = value.reveal().partition(" ")
            shown.append(credential)
            if scheme.lower() == "basic":
                user_and_password = _of_base64(credential.strip())
                shown += [user_and_password, user_and_password.partition(":")[2]]
    return Scrubber([*secrets, *(value for value in shown if len(value) >= _SHORTEST_SCRUBBED)])


def _of_base64(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks to wait.

    Args:
        value: the header: seconds or an HTTP date. RFC 9110 has whole seconds alone; some servers send a fraction.
        now: seconds since the epoch, by the receiver's clock if it is known.

    Returns:
        The seconds, 0 for a date that is past; None if there is no header that can be read. The lane bounds it.
    """
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _LONGEST_WAIT)
    until = http_date(value)
    return None if until is None else max(0.0, until - now)


def http_date(value: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date; None if it is none."""
    try:
        when = parsedate_to_datetime(value or "")
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def shown_location(location: str) -> str:
    """A `Location` header without what may be a credential: user information, parameters, query and fragment."""
    address = re.split(r"[?#;]", location[:_LOCATION_KEPT], maxsplit=1)[0]
    printable = "".join(letter if letter.isprintable() else "\ufffd" for letter in address)
    return _AUTHORITY.sub(lambda match: match[1] + match[2].rpartition("@")[2], printable, count=1)


def _encoding(headers: Any) -> str:
    """The content encoding of an answer; empty for none."""
    encoding: str = headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


async def _read(response: aiohttp.ClientResponse, deadline: Deadline, most: int = RESPONSE_READ) -> tuple[bytes, bool]:
    """The body as far as it is read, at most `most` bytes, and whether that is all of it.

    A body that breaks off raises nothing, because the status is known already. Reading ends with the time of the
    attempt at the latest. A body that has not ended by then, or is too long, costs its connection.
    """
    data = bytearray()
    try:
        while len(data) < most:
            with deadline:
                chunk = await response.content.readany()
            if not chunk:
                return bytes(data), True
            data += chunk
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    except BaseException:
        # The task is cancelled. aiohttp would log a response that is left open, with its url.
        response.close()
        raise
    response.close()
    return bytes(data[:most]), False


def _fixed_headers(target: HttpTarget) -> CIMultiDict[str]:
    """The headers that are the same in all requests of a forwarder."""
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
