"""Tokens by the client credentials of OAuth 2.0 (RFC 6749 section 4.4; docs/spec/forwarders.md section 2, *OAuth2*).

A forwarder has one token on a worker. Whoever needs one waits for the one task that asks for it.
"""

import asyncio
import base64
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote, unquote, unquote_plus, urlencode

import msgspec

from transforms.forwarders import HttpTarget
from transforms.forwarders.model import OAuth2
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer, Carrier, NoAnswer, Request
from transforms.sinks.http_origin import request_url
from transforms.sinks.user_agent import USER_AGENT

logger = logging.getLogger(__name__)

USUAL_LIFE = 300.0
"""Seconds that a token counts as good if the endpoint does not say how long it is."""

RENEWED_BEFORE = 30.0
"""Seconds before its end in which a token is renewed; a tenth of its life if that is less."""

_TOKENS_KEPT = 4
"""Tokens that are taken out of answers: the one in use, and those before it, which a receiver may still quote."""

_REFUSALS = frozenset((400, 401, 403))
_WORD = re.compile(r"[a-z0-9_]{1,40}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Granted(msgspec.Struct, gc=False):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - RFC 6750, and no secret
    expires_in: float | str | None = None


class _Refused(msgspec.Struct, gc=False):
    error: str


_decode_granted = msgspec.json.Decoder(_Granted).decode
_decode_refused = msgspec.json.Decoder(_Refused).decode


class Tokens:
    """The tokens of one forwarder. It lives on one asyncio loop.

    Args:
        forwarder_id: for the log.
        target: of the forwarder, with `oauth2`. Its TLS files and its time-out are those of the token endpoint, too.
        client: carries requests.
        keep_secret: told of all tokens that are to be taken out of what is stored, each time there is a new one.
        clock: monotonic seconds.

    Raises:
        SinkError: the token endpoint's host has no valid form.
    """

    def __init__(
        self,
        forwarder_id: str,
        target: HttpTarget,
        client: HttpClient,
        keep_secret: Callable[[Sequence[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if target.oauth2 is None:
            raise ValueError(f"forwarder {forwarder_id} has no oauth2")
        self._forwarder_id = forwarder_id
        self._oauth2 = target.oauth2
        endpoint = token_endpoint(target, target.oauth2)
        self._url = request_url(endpoint)
        self._carrier = client.carrier(endpoint, token_guard(endpoint, client))
        self._keep_secret = keep_secret
        self._clock = clock
        self._token: str | None = None
        # One that was asked for after a 401, and was answered with 401, too.
        self._doubtful: str | None = None
        self._known: list[str] = []
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._fetching: asyncio.Task[AttemptResult | None] | None = None
        self._told: str | None = None

    async def open(self) -> None:
        """Make ready, without connecting to anybody."""
        await self._carrier.open()

    async def close(self) -> None:
        """Close the connection to the token endpoint."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._carrier.close()

    async def exchange(self, carrier: Carrier, request: Request) -> Answer | NoAnswer | AttemptResult:
        """Make a request with the token; with a new one if the first is answered with 401.

        Returns:
            What came of it; an AttemptResult if there is no token.
        """
        token = await self._usable()
        if isinstance(token, AttemptResult):
            return token
        answer = await carrier.exchange(_with_token(request, token))
        if not isinstance(answer, Answer) or answer.status != 401:
            if token == self._doubtful:
                self._doubtful = None
            return answer
        if token == self._doubtful:
            return answer  # It was renewed already, and to ask for one token after the other would change nothing.
        if self._token == token:
            self._token = None  # Nobody else is to try it.
        renewed = await self._usable()
        if isinstance(renewed, AttemptResult):
            return renewed
        again = await carrier.exchange(_with_token(request, renewed))
        if isinstance(again, Answer) and again.status == 401:
            self._doubtful = renewed
        if isinstance(again, Answer) and answer.resent:
            return msgspec.structs.replace(again, resent=True)
        return again

    async def _usable(self) -> str | AttemptResult:
        """The token; or what follows from there being none."""
        now = self._clock()
        if self._token is not None and now < self._renew_at:
            return self._token
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        if self._token is not None and now < self._ends_at:
            return self._token  # It is good for a while yet, and the new one is on its way.
        # A worker that is cancelled must not cancel the fetching that others wait for.
        failure = await asyncio.shield(self._fetching)
        if failure is not None:
            return failure
        return self._token or _outage("oauth2_bad_answer")

    def _fetched(self, _: object) -> None:
        self._fetching = None

    async def _fetch(self) -> AttemptResult | None:
        """Ask the endpoint for a token; what follows from not getting one."""
        asked_at = self._clock()
        answer = await self._carrier.exchange(self._request())
        if isinstance(answer, NoAnswer):
            if answer.outcome.lack:
                return answer.outcome
            return self._without(_outage(f"oauth2_{answer.outcome.reason}"), answer.detail)
        if answer.status in _REFUSALS:
            reason = f"oauth2_{_error_in(answer.body) or f'http_{answer.status}'}"
            return self._without(_refusal(reason, answer.status), f"HTTP status {answer.status}")
        if answer.status != 200:
            return self._without(_outage(f"oauth2_http_{answer.status}"), "")
        granted = _granted(answer)
        if granted is None:
            return self._without(_outage("oauth2_bad_answer"), "the answer holds no bearer token that can be sent")
        token, life = granted
        self._told = None
        self._token = token
        self._ends_at = asked_at + life
        self._renew_at = self._ends_at - min(RENEWED_BEFORE, life / 10)
        if token not in self._known:
            self._known = [*self._known[1 - _TOKENS_KEPT :], token]
            self._keep_secret(self._known)
        return None

    def _request(self) -> Request:
        oauth2 = self._oauth2
        form = {"grant_type": "client_credentials"}
        if oauth2.scope:
            form["scope"] = oauth2.scope
        if oauth2.audience:
            form["audience"] = oauth2.audience
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if oauth2.client_auth == "basic":
            headers["Authorization"] = f"Basic {_basic(oauth2)}"
        else:
            form |= {"client_id": oauth2.client_id, "client_secret": oauth2.client_secret.reveal()}
        return Request(self._url, headers, urlencode(form).encode())

    def _without(self, outcome: AttemptResult, detail: str) -> AttemptResult:
        """Say once of each reason in a row why there is no token."""
        if outcome.reason != self._told:
            self._told = outcome.reason
            more = f" ({detail})" if detail else ""
            logger.warning("forwarder %s: no token from its tokenUrl: %s%s", self._forwarder_id, outcome.reason, more)
        return outcome

    def __repr__(self) -> str:
        return f"Tokens({self._forwarder_id!r})"


def token_endpoint(target: HttpTarget, oauth2: OAuth2) -> HttpTarget:
    """The token endpoint as a target: with the TLS files and the time-out of the forwarder's."""
    # Where the url has no host that can be had, what it has in its place is no secret: the query is behind it.
    host = re.split(r"[/?]", oauth2.token_url.reveal().partition("://")[2], maxsplit=1)[0]
    return replace(target, url=oauth2.token_url, host=host, concurrency=1)


def token_guard(endpoint: HttpTarget, client: HttpClient) -> AddressGuard:
    """What says which addresses of a token endpoint may be dialled.

    Who listens on the way to an `http://` address would have the client's secret: that must be in a named network.
    """
    return client.named_guard if endpoint.url.reveal().startswith("http://") else client.guard


def oauth2_secrets(oauth2: OAuth2) -> list[str]:
    """What must be taken out of answers: the client's secret, what is made of it, and the query of the endpoint."""
    secret = oauth2.client_secret.reveal()
    query = oauth2.token_url.reveal().partition("?")[2]
    values = [value for _, _, value in (pair.partition("=") for pair in query.split("&"))]
    parameters = [query, *values, *map(unquote, values), *map(unquote_plus, values)]
    return [secret, quote(secret, safe=""), _basic(oauth2), *(value for value in parameters if len(value) > 3)]


def _basic(oauth2: OAuth2) -> str:
    """The credential of basic auth. Both parts are encoded as in a form first (RFC 6749 section 2.3.1).

    A blank is `%20` and not `+`, which a form allows as well: some servers do not take the plus for one.
    """
    encoded = ":".join(quote(part, safe="") for part in (oauth2.client_id, oauth2.client_secret.reveal()))
    return base64.b64encode(encoded.encode()).decode()


def _with_token(request: Request, token: str) -> Request:
    headers = {**request.headers, "Authorization": f"Bearer {token}"}
    return msgspec.structs.replace(request, headers=headers)


def _outage(reason: str) -> AttemptResult:
    """The endpoint is down. No record was sent, so none spends an attempt."""
    return AttemptResult(Verdict.RETRY, reason, spends_attempt=False, failure=True)


def _refusal(reason: str, status: int) -> AttemptResult:
    """The endpoint refuses the client. The answer is not the receiver's, so it is no status of the record's."""
    told = f"the token endpoint answered with HTTP status {status}"
    return AttemptResult(Verdict.RETRY, reason, response=told, spends_attempt=False, failure=True, opens_breaker=True)


def _error_in(body: bytes) -> str:
    """The error that a refusal names, such as `invalid_client`; empty if it is no word."""
    try:
        error = _decode_refused(body).error
    except (msgspec.DecodeError, RecursionError):
        return ""
    return error if _WORD.fullmatch(error) else ""


def _granted(answer: Answer) -> tuple[str, float] | None:
    """The token in an answer, and the seconds that it is good for; None if there is none that can be sent."""
    try:
        granted = _decode_granted(answer.body)
        life = USUAL_LIFE if granted.expires_in is None else float(granted.expires_in)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if granted.token_type.lower() != "bearer" or not _TOKEN.fullmatch(granted.access_token) or not life > 0:
        return None
    return granted.access_token, life
