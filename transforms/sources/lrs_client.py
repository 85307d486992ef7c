"""GET requests to one LRS, and their answers as files: whole, or not at all.

An answer goes into a file of its own first. So a connection that breaks costs a repetition and nothing else, and memory
does not depend on what the LRS sends.
"""

import base64
import http.client
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Self
from urllib.parse import SplitResult, urlsplit

from transforms.forwarders.scrubber import Scrubber
from transforms.reading.blocks import CHUNK
from transforms.sinks.addresses import AddressGuard, AddressRefusedError
from transforms.sinks.http import RETRIED, http_date, retry_after
from transforms.sinks.http_errors import why
from transforms.sinks.lacks import lack_in, no_descriptor
from transforms.sinks.user_agent import USER_AGENT
from transforms.sources.base import Access, Patience, SourceError, StoppedError, Stopping
from transforms.sources.credentials import Login
from transforms.sources.lrs_url import KEY, SECRET
from transforms.storage import temporary_place, writing

PAGE_LIMIT = 1024 * 1024 * 1024
"""Bytes of one answer: an LRS that sends more is given up."""

_IN_MEMORY = 4 * 1024 * 1024
_TIMEOUT = 60.0
"""Seconds to wait for the LRS: for a connection, and for the next bytes of an answer."""

_END_KEPT = 64
_ERROR_READ = 4096
_ERROR_SHOWN = 200

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """A whole answer. Closing it removes its file.

    Attributes:
        headers: of the answer.
        content: the body, at its beginning.
        size: of the body, in bytes.
    """

    headers: http.client.HTTPMessage
    content: IO[bytes]
    size: int

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.content.read(CHUNK):
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.content.close()


class _TemporaryError(Exception):
    """An attempt failed, and another may succeed."""

    def __init__(self, reason: str, after: float | None = None, lack: str | None = None) -> None:
        super().__init__(reason)
        self.after = after
        self.lack = lack


class LrsClient:
    """Asks one LRS. Follows no redirect, and uses no proxy: either would take the credentials somewhere else.

    Args:
        url: any of the LRS; it tells the origin.
        name: of the source, for errors.
        login: for basic auth; None: no credentials are sent.
        access: see `Access`.
        stopping: is asked while an answer comes in.
    """

    def __init__(self, url: str, name: str, login: Login | None, access: Access, stopping: Stopping) -> None:
        self._origin = urlsplit(url)
        self._name = name
        self._guard = AddressGuard(access.allow_networks)
        self._patience = Patience(name, access, stopping)
        self._stopping = stopping
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        secrets: list[str] = []
        if login is not None:
            pair = f"{login.user}:{login.password}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
            secrets = [login.password, pair]
        self._scrubber = Scrubber(secrets)

    def get(self, target: str, headers: dict[str, str], *, absent: frozenset[int] = frozenset()) -> Answer | None:
        """The answer to a request.

        Args:
            target: path and query.
            headers: besides those of every request.
            absent: statuses that are no error, and mean that there is no answer.

        Raises:
            SourceError: the LRS refuses the request, or has not answered it for too long.
            StorageError: the answer cannot be kept on this machine.
            StoppedError: the run is to stop.
        """
        while True:
            try:
                answer = self._attempt(target, headers, absent)
            except _TemporaryError as failure:
                self.close()
                logger.info("%s: %s, to be tried again", self._name, failure)
                self._patience.wait(str(failure), failure.after, lack=failure.lack)
            else:
                self._patience.succeeded()
                return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, target: str, headers: dict[str, str], absent: frozenset[int]) -> Answer | None:
        try:
            connection = self._connected()
            connection.request("GET", target, headers={**self._headers, **headers})
            response = connection.getresponse()
            if response.status == 200:
                return self._whole(response)
            self._judge(response, absent)
        except AddressRefusedError as error:
            raise SourceError(f"{self._name}: {error}; --allow_network permits a network") from None
        except ssl.SSLCertVerificationError as error:
            raise SourceError(f"{self._name}: its certificate is not valid: {error.verify_message}") from None
        except TimeoutError:
            raise _TemporaryError(f"no answer within {_TIMEOUT:g} s") from None
        except OSError as error:
            raise _TemporaryError(why(error), lack=lack_in(error) or no_descriptor()) from None
        except http.client.HTTPException as error:
            raise _TemporaryError(f"what came is no whole HTTP response ({type(error).__name__})") from None
        self.close()
        return None

    def _connected(self) -> http.client.HTTPConnection:
        # After an answer that said so, the connection has closed itself.
        if self._connection is None or self._connection.sock is None:
            self._connection = _connection(self._origin, self._guard)
        return self._connection

    def _whole(self, response: http.client.HTTPResponse) -> Answer:
        if response.getheader("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise SourceError(f"{self._name}: answers in a content encoding that was not asked for")
        content = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed with the answer, or below
        framed = response.length is not None or response.chunked
        try:
            size, end = 0, b""
            while chunk := response.read(CHUNK):
                size += len(chunk)
                if size > PAGE_LIMIT:
                    raise SourceError(
                        f"{self._name}: answers with more than {PAGE_LIMIT} bytes for a page; add limit=100 to the url"
                    )
                with writing(temporary_place()):
                    content.write(chunk)
                end = (end + chunk)[-_END_KEPT:]
                if self._stopping():
                    raise StoppedError
            # The client of Python's library says nothing when a body ends before its Content-Length, nor when headers
            # break off. Where nothing says how long a body is, it has to end as JSON or multipart does.
            if response.length or not (framed or end.rstrip().endswith((b"}", b"--"))):
                raise _TemporaryError("an answer broke off")
            with writing(temporary_place()):
                content.seek(0)
        except BaseException:
            # What could not be written is tried once more, in vain.
            with suppress(OSError):
                content.close()
            self.close()
            raise
        return Answer(response.headers, content, size)

    def _judge(self, response: http.client.HTTPResponse, absent: frozenset[int]) -> None:
        """Raises what a status other than 200 means."""
        status = response.status
        if status in absent:
            return
        if status in RETRIED or status >= 500:
            sent = http_date(response.getheader("Date"))
            after = retry_after(response.getheader("Retry-After"), time.time() if sent is None else sent)
            raise _TemporaryError(f"HTTP status {status}", after)
        told = f"{self._name}: "
        if 300 <= status < 400:
            told += (
                f"answers with a redirect (HTTP status {status}), which is not followed: give the address it leads to"
            )
        elif status == 401:
            told += f"does not know the client: see {KEY}, {SECRET} and --input_auth (HTTP status 401)"
        elif status == 403:
            told += "refuses the client: it needs to be allowed to read statements (HTTP status 403)"
        elif status == 404:
            told += (
                "is not there: the address ends in /statements, such as https://lrs/xAPI/statements (HTTP status 404)"
            )
        else:
            told += f"answers with HTTP status {status}{self._said(response)}"
        raise SourceError(told)

    def _said(self, response: http.client.HTTPResponse) -> str:
        """The beginning of what an LRS says of a request that it refuses."""
        body = b""
        with suppress(OSError, http.client.HTTPException):
            body = response.read(_ERROR_READ)
        text = self._scrubber.scrub(body, cut=len(body) == _ERROR_READ)
        shown = "".join(letter if letter.isprintable() else " " for letter in text)[:_ERROR_SHOWN].strip()
        return f": {shown}" if shown else ""


def _connection(origin: SplitResult, guard: AddressGuard) -> http.client.HTTPConnection:
    """A connection to an address of the origin that may be dialled. It does not dial by itself.

    Raises:
        AddressRefusedError: no address of the host may be dialled.
        OSError: none of them answers, or the host has none.
    """
    host, secure = origin.hostname or "", origin.scheme == "https"
    port = origin.port or (443 if secure else 80)
    made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = made(host, port, timeout=_TIMEOUT)
    connection.auto_open = 0
    connection.sock = _dialled(host, port, guard)
    if secure:
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
    return connection


def _dialled(host: str, port: int, guard: AddressGuard) -> socket.socket:
    refusal: OSError | None = None
    failure: OSError | None = None
    for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            made = guard.socket(info)
        except AddressRefusedError as error:
            refusal = error
            continue
        made.settimeout(_TIMEOUT)
        try:
            made.connect(info[4])
        except OSError as error:
            made.close()
            failure = error
        else:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
    # If one address of the host was dialled in vain, a later attempt may get through.
    raise failure or refusal or OSError("the host has no address")
