"""Delivery over HTTP: one POST for each record (docs/spec/forwarders.md section 2).

`PostSink` makes one attempt and says what became of it. Order, retries and the breaker are `transforms.delivery`; who
dials and reads is behind `http_exchange.py`. What leaves this module (log lines, outcomes, errors) holds no url, header
or credential.
"""

import asyncio
import base64
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from typing import NoReturn
from urllib.parse import unquote, unquote_plus

import msgspec

from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.scrubber import Scrubber
from transforms.sinks import conflicts
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.batches import compressed
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer, NoAnswer, Request
from transforms.sinks.http_origin import request_url
from transforms.sinks.oauth2 import Tokens, oauth2_secrets
from transforms.sinks.signatures import SIGNATURE_HEADERS, Signer, signing_key
from transforms.sinks.statement_requests import VERSION_HEADER, StatementRequest, StatementRequests
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

RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which a request is tried again."""

_AMBIGUOUS = frozenset((502, 504))
"""Statuses by which a gateway says that it got no answer. What is behind it may have taken the record all the same."""

_SHORTEST_SCRUBBED = 4
"""Characters of the shortest header value, or parameter of the url's query, that is hidden in response bodies.

A header's value may be `1` or `en`, and to hide that would leave nothing of a body. Nobody's secret is that short.
"""

_COMPRESSED_AT_ONCE = 64 * 1024
"""Bytes of a body that are compressed on the loop. A longer one would hold up the other forwarders' requests."""

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")
_LONGEST_WAIT = 1e12
_LOCATION_KEPT = 1024
_AUTHORITY = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?[/\\]*)([^/\\]*)")
"""The start of an address up to its authority, and the authority, as lenient clients read them."""

_DELIVERED = {status: AttemptResult(Verdict.DELIVERED, status=status) for status in range(200, 300)}
_IDEMPOTENCY_KEY = "Idempotency-Key"
_HOPS = "X-Forward-Hops"
_OWN_HEADERS = (_IDEMPOTENCY_KEY, _HOPS, VERSION_HEADER, *SIGNATURE_HEADERS)
_DEFAULT_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_NONE: Mapping[str, str] = {}
TOO_MANY_HOPS = AttemptResult(Verdict.GIVE_UP, "too_many_hops", spends_attempt=False)


class PostSink:
    """Sends records to one HTTP forwarder, one a request. It lives on one asyncio loop: open, send many, close.

    Args:
        forwarder: a resolved one whose target is HTTP.
        client: carries its requests, and those of others.
        clock: seconds since the epoch.
        attachments: where the data of attachments is looked for.

    Raises:
        SinkError: the host has no valid form.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        client: HttpClient,
        *,
        attachments: AttachmentFiles = NO_FILES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._forwarder_id = forwarder.id
        self._target = http_target(forwarder)
        self._clock = clock
        self._url = request_url(self._target)
        self._carrier = client.carrier(self._target)
        self._tokens = Tokens(forwarder.id, self._target, client, self._keep_secret) if self._target.oauth2 else None
        self._encoding = {"Content-Encoding": "gzip"} if self._target.compression == "gzip" else _NONE
        self._headers = _fixed_headers(self._target)
        for name in self._encoding:
            self._headers.pop(name, None)
        self._statement_headers = dict(self._headers)
        self._statement_headers.setdefault(VERSION_HEADER, self._target.xapi_version or FIRST)
        self._any_version_headers = {name: value for name, value in self._headers.items() if name != VERSION_HEADER}
        self._statements = StatementRequests(forwarder.id, self._target, attachments)
        self._signer = Signer(self._target.signing_secrets) if self._target.signing_secrets else None
        self._scrubber = scrubber(self._target)
        self._logged: set[str] = set()
        self._look_ups = asyncio.Semaphore(conflicts.LOOK_UPS_AT_ONCE)

    async def open(self) -> None:
        """Connects to nobody yet. Raises SinkError if a TLS file does not load."""
        await self._carrier.open()
        if self._tokens is not None:
            await self._tokens.open()

    async def close(self) -> None:
        """Close every connection. Requests in flight must have ended, or been cancelled."""
        if self._tokens is not None:
            await self._tokens.close()
        await self._carrier.close()

    def _keep_secret(self, tokens: Sequence[str]) -> None:
        """Take these out of what is stored of answers, too."""
        self._scrubber = scrubber(self._target, tokens)

    async def send(self, item: Item) -> AttemptResult:
        """Make one attempt, with one resend if the request went out on a connection that turned out to be closed."""
        if item.hops >= MOST_HOPS:
            return TOO_MANY_HOPS
        if item.record.kind == "statement" and item.payload_kind == "statement":
            return await self._send_statement(item)
        return await self._attempt(item, await self._request(item, item.payload))

    async def _send_statement(self, item: Item) -> AttemptResult:
        """Send a statement as it is: in the receiver's version, with its attachments."""
        made = await self._statements.request(item.payload)
        if isinstance(made, AttemptResult):
            return made
        try:
            outcome = await self._attempt(item, await self._statement_request(item, made))
            outcome = await self._compared(made, outcome)
        finally:
            made.close()
        if made.remarks and outcome.verdict is Verdict.DELIVERED:
            return msgspec.structs.replace(outcome, remarks=(*outcome.remarks, *made.remarks))
        return outcome

    async def _compared(self, made: StatementRequest, outcome: AttemptResult) -> AttemptResult:
        """What an outcome comes to after a look at what the receiver holds, if it is a conflict."""
        if outcome.reason != conflicts.CONFLICT or self._target.on_conflict != "compare":
            return outcome
        ask = partial(self._held, made.headers[VERSION_HEADER])
        async with self._look_ups:
            found = await conflicts.look_up(ask, self._url, made.statement, outcome)
        return msgspec.structs.replace(found, ambiguous=outcome.ambiguous)

    async def _attempt(self, item: Item, request: Request) -> AttemptResult:
        """Make a request, and say what its answer means."""
        answer = await self._exchange(request)
        if isinstance(answer, AttemptResult):
            return answer
        delivered = _DELIVERED.get(answer.status)
        outcome = self._judged(item, answer) if delivered is None else delivered
        return msgspec.structs.replace(outcome, ambiguous=True) if answer.resent else outcome

    async def _exchange(self, request: Request) -> Answer | AttemptResult:
        """Make a request, with a token if the forwarder logs in with one. What becomes of it without an answer."""
        if self._tokens is None:
            answer = await self._carrier.exchange(request)
        else:
            with_token = await self._tokens.exchange(self._carrier, request)
            if isinstance(with_token, AttemptResult):
                return with_token
            answer = with_token
        return self._unanswered(answer) if isinstance(answer, NoAnswer) else answer

    def _judged(self, item: Item, answer: Answer) -> AttemptResult:
        """What an answer that is not 2xx means."""
        status, body = answer.status, self._kept(answer)
        location = answer.headers.get("location")
        if 300 <= status < 400 and location:
            told = f"Location: {shown_location(self._scrubber.scrub(location))}"
            body = f"{told}\n{body or ''}".encode()[:RESPONSE_KEPT].decode("utf-8", "ignore").rstrip("\n")
        if status == 409 and item.payload_kind == "statement":
            if item.record.kind != "statement":
                # The receiver has it: the id of a derived record holds its content.
                return AttemptResult(Verdict.DELIVERED, status=status, response=body)
            if self._target.on_conflict == "accept":
                return AttemptResult(Verdict.DELIVERED, status=status, remarks=(conflicts.ACCEPTED,))
            return AttemptResult(Verdict.GIVE_UP, conflicts.CONFLICT, status=status, response=body)
        if status in RETRIED:
            return msgspec.structs.replace(self._retried(answer, body), ambiguous=status in _AMBIGUOUS)
        failure = 500 <= status < 600
        return AttemptResult(Verdict.GIVE_UP, f"http_{status}", status=status, response=body, failure=failure)

    def _retried(self, answer: Answer, body: str | None) -> AttemptResult:
        status, headers = answer.status, answer.headers
        # A date is by the receiver's clock, and so is that of its answer (RFC 9110, section 6.6.1).
        sent = http_date(headers.get("date", ""))
        after = retry_after(headers.get("retry-after"), self._clock() if sent is None else sent)
        failure = 500 <= status < 600
        return AttemptResult(
            Verdict.RETRY, f"http_{status}", status=status, response=body, retry_after=after, failure=failure
        )

    async def _held(self, version: str, url: str) -> conflicts.Held | AttemptResult:
        """Ask the receiver for a statement. An outage is as one of an attempt to send."""
        headers = {**self._statement_headers, "Accept": "application/json", VERSION_HEADER: version}
        headers.pop("Content-Type", None)
        answer = await self._exchange(Request(url, headers, method="GET", most=conflicts.STATEMENT_READ))
        if isinstance(answer, AttemptResult):
            return msgspec.structs.replace(answer, ambiguous=False)
        kept = self._kept(answer)
        if answer.status in RETRIED:
            return self._retried(answer, kept)
        if answer.status == 200 and not answer.complete and len(answer.body) < conflicts.STATEMENT_READ:
            return AttemptResult(Verdict.RETRY, "closed", failure=True)
        is_plain = answer.complete and not _encoding(answer)
        return conflicts.Held(answer.status, answer.body if is_plain else None, kept)

    async def _statement_request(self, item: Item, made: StatementRequest) -> Request:
        if made.body is None:
            return await self._request(item, made.statement, made.headers)
        # A signature is made of the whole body, which may be on the disk. The data of attachments is not compressed.
        loop = asyncio.get_running_loop()
        key, chunks = item.record.id, made.body.chunks()
        own = await loop.run_in_executor(None, self._own_headers, item, key, chunks)
        return Request(self._url, {**self._headers, **made.headers, **own}, made.body)

    async def _request(self, item: Item, payload: bytes, headers: Mapping[str, str] | None = None) -> Request:
        """The request for one record; `headers` of a statement as it is."""
        body = await self._encoded(payload)
        own = self._own_headers(item, item.record.id, body)
        if headers is not None:
            common: Mapping[str, str] = self._any_version_headers
            own = {**headers, **own}
        else:
            common = self._common_headers(item)
        return Request(self._url, {**own, **self._encoding}, body, common=common)

    def _common_headers(self, item: Item) -> Mapping[str, str]:
        """The headers that are the same in all requests of the item's payload."""
        return self._statement_headers if item.payload_kind == "statement" else self._headers

    async def _encoded(self, body: bytes) -> bytes:
        """A body as it goes over the wire."""
        if not self._encoding:
            return body
        if len(body) <= _COMPRESSED_AT_ONCE:
            return compressed(body)
        return await asyncio.get_running_loop().run_in_executor(None, compressed, body)

    def _own_headers(self, item: Item, key: str, body: bytes | Iterator[bytes]) -> dict[str, str]:
        """The headers of one request alone.

        Args:
            item: that is sent, or the first of those that are sent together.
            key: the id of what is sent.
            body: as it goes over the wire.
        """
        headers = {_IDEMPOTENCY_KEY: key, _HOPS: str(item.hops + 1)}
        if self._signer is not None:
            headers.update(self._signer.headers(key, int(self._clock()), body))
        return headers

    def _kept(self, answer: Answer) -> str | None:
        """What a dead letter may hold of a response body: a beginning, without the forwarder's secrets."""
        body = answer.body
        if not body:
            return None
        if _encoding(answer):
            # The request asked for no encoding. Secrets cannot be hidden in a text that cannot be read.
            return "(a body in a content encoding that was not asked for)"
        complete = answer.complete and len(body) <= RESPONSE_SEARCHED
        text = self._scrubber.scrub(body[:RESPONSE_SEARCHED], cut=not complete)
        return text.encode()[:RESPONSE_KEPT].decode("utf-8", "ignore")

    def _unanswered(self, answer: NoAnswer) -> AttemptResult:
        """What an attempt that ended without an answer means.

        What no retry mends is logged, once of each kind, for its detail is told nowhere else. Whatever else is wrong is
        logged when it lasts (`transforms.accounting.trouble`).
        """
        outcome = answer.outcome
        lasts = outcome.verdict is Verdict.GIVE_UP or outcome.reason == "tls_handshake"
        if lasts and not outcome.lack and outcome.reason not in self._logged:
            self._logged.add(outcome.reason)
            detail = f" ({answer.detail})" if answer.detail else ""
            logger.warning("forwarder %s: %s%s", self._forwarder_id, outcome.reason, detail)
        return outcome

    def __repr__(self) -> str:
        return f"PostSink({self._forwarder_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sink holds secrets and connections and does not pickle: make it on the worker")


def http_target(forwarder: Forwarder) -> HttpTarget:
    """The forwarder's target. Raises TypeError if that is not HTTP."""
    if not isinstance(forwarder.target, HttpTarget):
        raise TypeError(f"forwarder {forwarder.id} is not sent over HTTP")
    return forwarder.target


def scrubber(target: HttpTarget, tokens: Sequence[str] = ()) -> Scrubber:
    """What hides the target's secrets, and what is made of them, in the answers of its receiver.

    Args:
        target: of the forwarder.
        tokens: that it has been given by its token endpoint.
    """
    secrets: list[str | bytes] = list(tokens)
    if target.oauth2 is not None:
        secrets += oauth2_secrets(target.oauth2)
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


def _encoding(answer: Answer) -> str:
    """The content encoding of an answer; empty for none."""
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


def _fixed_headers(target: HttpTarget) -> dict[str, str]:
    """The headers that are the same in all requests of a forwarder. Those of its document come before ours."""
    headers = dict(_DEFAULT_HEADERS)
    own = _OWN_HEADERS if target.compression == "none" else (*_OWN_HEADERS, "Content-Encoding")
    if target.auth_type == "token" and target.secret is not None:
        headers["Authorization"] = f"Bearer {target.secret.reveal()}"
    elif target.auth_type == "basic auth":
        headers["Authorization"] = "Basic " + base64.b64encode(_credentials(target).encode()).decode()
    # A header is one header in whatever case it is written.
    spelled = {name.lower(): name for name in (*own, *headers)}
    for name, value in target.headers:
        headers[spelled.setdefault(name.lower(), name)] = value.reveal()
    return headers


def _credentials(target: HttpTarget) -> str:
    password = target.basic_password.reveal() if target.basic_password is not None else ""
    return f"{target.basic_username}:{password}"
