"""Sends alerts, in their order, as https://www.standardwebhooks.com says. Nothing that goes wrong here ends a run.

Imported when `--alert_url` is given, and not before: the client takes longer than a start may.
"""

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from transforms.accounting.words import counted
from transforms.forwarders import HttpTarget
from transforms.forwarders.fields import FIELDS
from transforms.forwarders.secrets import Secret, SecretError, is_redacted, is_reference, resolve_reference_of_flag
from transforms.forwarders.urls import OF_ALERTS, full_url, parse_url
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer, Carrier, NoAnswer, Request
from transforms.sinks.http_origin import SinkError, request_url
from transforms.sinks.preflight import look_up
from transforms.sinks.signatures import SIGNATURE_HEADERS, Signer
from transforms.sinks.user_agent import USER_AGENT

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""Attempts at one alert."""

TIMEOUT = 10.0
"""Seconds that an attempt may take."""

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds from one attempt to the next."""

MOST_WAITING = 1_000
"""Alerts that wait to be sent. Of more, those that come later are left out."""

LAST_SECONDS = 10.0
"""Seconds that the end of a run waits for alerts that are not sent yet."""

_GONE = 410
_NOT_NOW = (408, 425, 429)
_ADDRESS_REFUSED = "address_refused"


class AlertsError(ValueError):
    """`--alert_url` or `--alert_secret` cannot be used. The text holds neither."""


@dataclass(frozen=True)
class Destination:
    """Where alerts go to, with its secrets. It does not pickle."""

    target: HttpTarget
    signer: Signer | None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Destination holds secrets: resolve it where it is used")


def destination(url: str, secret: str | None) -> Destination:
    """Where alerts go to.

    Args:
        url: `https://...` or `http://...`, or a reference to such a text (`--alert_url`).
        secret: a reference to the key that signs alerts (`--alert_secret`); None: they are not signed.

    Raises:
        AlertsError: a reference cannot be resolved, or what it refers to has no valid form.
    """
    address = _resolved("--alert_url", url) if is_reference(url) else url
    scheme, separator, rest = address.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise AlertsError("--alert_url is no address that begins with https:// or http://")
    try:
        parsed = parse_url(rest, OF_ALERTS)
    except ValueError as error:
        raise AlertsError(f"--alert_url {error}") from None
    target = HttpTarget(Secret(full_url(scheme.lower(), parsed)), parsed.host, timeout=TIMEOUT, concurrency=1)
    if secret is None:
        return Destination(target, None)
    key = _resolved("--alert_secret", secret)
    check = FIELDS["configuration.signingSecret"].check
    problem = "is a redaction" if is_redacted(key) else check(key) if check is not None else None
    if problem:
        raise AlertsError(f"--alert_secret refers to a value that {problem}")
    return Destination(target, Signer([Secret(key)]))


def _resolved(flag: str, reference: str) -> str:
    try:
        return resolve_reference_of_flag(reference)
    except SecretError as error:
        raise AlertsError(f"{flag} {error}") from None


def refusal(target: HttpTarget, allow_networks: Sequence[str]) -> str | None:
    """Why no address of the host may be dialled, as of an HTTP forwarder; None if one may, or none is known yet.

    Raises:
        AlertsError: the host has no valid form.
    """
    try:
        host = look_up(target, AddressGuard(allow_networks))
    except SinkError as error:
        raise AlertsError(f"--alert_url: {error}") from None
    if host.refused and len(host.refused) == len(host.addresses):
        return (
            f"--alert_url names a host at {', '.join(host.refused)}: refused unless --allow_network names the network"
        )
    return None


@dataclass(frozen=True)
class Message:
    """One webhook that is to be sent.

    Attributes:
        id: the `webhook-id`, the same in every attempt.
        name: what it is, for the log.
        body: JSON.
    """

    id: str
    name: str
    body: bytes


class AlertSender:
    """Sends messages one after the other, in a thread of its own, with ATTEMPTS attempts at each.

    `put` does not wait. `close` waits for LAST_SECONDS at most.

    Args:
        to: where they go to.
        allow_networks: CIDRs that may be dialled though they are in a refused range (`--allow_network`).
        waits: seconds from one attempt to the next.
    """

    def __init__(self, to: Destination, allow_networks: Sequence[str] = (), waits: Sequence[float] = WAITS) -> None:
        self._to = to
        self._allow_networks = tuple(allow_networks)
        self._waits = waits
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        self._closing = False
        self._gone = False
        self._left_out = 0
        # What came of the last attempt, if it was not taken.
        self._last = ""
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        self._sending = self._loop.create_task(self._send_all())
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Send a message after those that were put before it."""
        with self._lock:
            if len(self._queue) >= MOST_WAITING or self._gone or self._closing:
                self._left_out += 1
                return
            self._queue.append(message)
        self._tell(self._news.set)

    def close(self, within: float | None = None) -> None:
        """Send what is left, for at most so many seconds. What is not sent by then is told in the log.

        Args:
            within: None for LAST_SECONDS.
        """
        within = LAST_SECONDS if within is None else within
        with self._lock:
            self._closing = True
        self._tell(self._news.set)
        self._tell(lambda: self._loop.call_later(within, self._sending.cancel))
        self._thread.join(within + 1.0)
        if left := len(self._queue) + self._left_out:
            gave = f"the last attempt gave {self._last}" if self._last else "it did not answer in time"
            alerts = counted(left, "alert")
            logger.warning("%s not sent to %s: %s; see --alert_url", alerts, self._to.target.host, gave)

    def _tell(self, callback: Callable[[], object]) -> None:
        # After the thread has ended, the loop is closed, and there is nobody to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._sending)
        except Exception:
            # Alerts are beside the run: it goes on without them.
            logger.exception("alerts are not sent any more")
        finally:
            self._loop.close()

    async def _send_all(self) -> None:
        carrier = HttpClient(self._allow_networks).carrier(self._to.target)
        await carrier.open()
        try:
            url = request_url(self._to.target)
            while not self._gone:
                while self._queue and not self._gone:
                    await self._send(carrier, url, self._queue[0])
                    with self._lock:
                        self._queue.popleft()
                if self._closing:
                    return
                self._news.clear()
                if not self._queue and not self._closing:
                    await self._news.wait()
        finally:
            await carrier.close()

    async def _send(self, carrier: Carrier, url: str, message: Message) -> None:
        """Send a message, or give it up."""
        reason = ""
        for attempt in range(1, ATTEMPTS + 1):
            answer = await carrier.exchange(Request(url, self._headers(message), message.body))
            if isinstance(answer, Answer) and 200 <= answer.status < 300:
                self._last = ""
                logger.info("alert sent: %s", message.name)
                return
            self._last = reason = _reason(answer)
            if isinstance(answer, Answer) and answer.status == _GONE:
                # Standard Webhooks: whoever answers so wants no more of them.
                self._gone = True
            if not _may_be_taken_later(answer):
                break
            if attempt < ATTEMPTS:
                await asyncio.sleep(self._waits[min(attempt, len(self._waits)) - 1])
        logger.warning(
            "alert not sent: %s; %s gave %s after %d attempt%s; the run goes on",
            message.name,
            self._to.target.host,
            reason,
            attempt,
            "" if attempt == 1 else "s",
        )

    def _headers(self, message: Message) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        now = int(time.time())
        if self._to.signer is not None:
            return headers | self._to.signer.headers(message.id, now, message.body)
        return headers | dict(zip(SIGNATURE_HEADERS[:2], (message.id, str(now)), strict=True))


def _may_be_taken_later(answer: Answer | NoAnswer) -> bool:
    """Whether the same alert may be taken when it is sent again: not where the address, or a secret, is wrong."""
    if isinstance(answer, NoAnswer):
        return answer.outcome.reason != _ADDRESS_REFUSED
    return answer.status in _NOT_NOW or answer.status >= 500


def _reason(answer: Answer | NoAnswer) -> str:
    """What came of an attempt. Of an address no more than the host is told: its path may be a secret."""
    if isinstance(answer, NoAnswer):
        return answer.outcome.reason
    origin = re.match(r"https?://(?:[^/?#]*@)?([A-Za-z0-9.:_\-\[\]]{1,255})", answer.headers.get("location", ""), re.I)
    if 300 <= answer.status < 400:
        to = f" to {origin[0].partition('://')[0]}://{origin[1]}" if origin else ""
        return f"{answer.status}, a redirect{to}, which is not followed: write where it leads into --alert_url,"
    return str(answer.status)
