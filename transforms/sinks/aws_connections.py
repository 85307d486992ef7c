"""Connections to the endpoints of AWS: kept open from call to call, and shared by all sinks of a worker.

urllib3 opens them, as it does for boto3: names, addresses, TLS. httptools reads what is answered. What fails is raised
as the error of botocore that boto3 would raise for it.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import httptools
import urllib3.connection
import urllib3.exceptions
import urllib3.util
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError

from transforms.sinks import aws_clients

KEPT_IDLE = 15.0
"""Seconds that a connection is kept without a call. It is less than what load balancers allow, so we close first."""

MOST_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers."""

MOST_BODY = 32 * 1024 * 1024
"""Bytes of an answer's body. One to 500 records has some 100 KB."""

_TOGETHER = 32 * 1024
"""Bytes of a body up to which it is copied to the head, so that both leave in one packet."""

_READ = 128 * 1024


class Origin(NamedTuple):
    """Where connections go. `verify` is botocore's: True for its usual authorities, or a file or folder of others."""

    scheme: str
    host: str
    port: int
    verify: bool | str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Answer(NamedTuple):
    """An answer of HTTP, whole. Names of `headers` are in lower case; of several with one name it has the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class NotSentError(Exception):
    """The connection broke before all of the request was handed over, so no server can have acted on it."""


class NoAnswerError(Exception):
    """The connection broke when all of the request had been sent, and no byte of an answer had come."""


class _Parsed:
    """What httptools finds in the bytes of one answer."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.complete = False
        self.is_kept = False
        self.size = 0
        self._begin()

    def _begin(self) -> None:
        self.in_body = False
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    # Called by the parser.

    def on_message_begin(self) -> None:
        # What follows a whole answer is nobody's answer. It only keeps the connection from being used again.
        if self.complete:
            self.is_kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, data: bytes) -> None:
        self.size += len(data)
        self.body.append(data)

    def on_message_complete(self) -> None:
        if self.complete:
            return
        if 100 <= self.parser.get_status_code() < 200:
            self._begin()  # An interim answer, such as 100 (Continue): the answer itself follows.
            return
        self.complete = True
        self.is_kept = self.parser.should_keep_alive()

    def answer(self) -> Answer:
        return Answer(self.parser.get_status_code(), self.headers, b"".join(self.body))


class Connection:
    """An open connection that makes one exchange at a time.

    Attributes:
        served: whether it has had an exchange.
        usable: whether it may have another.
        idle_since: seconds of the monotonic clock.
    """

    def __init__(self, origin: Origin, opened: urllib3.connection.HTTPConnection) -> None:
        if opened.sock is None:
            raise RuntimeError("urllib3 has opened no socket")
        self._origin = origin
        self._opened = opened
        self._socket: socket.socket = opened.sock
        self.served = False
        self.usable = True
        self.idle_since = 0.0

    def exchange(self, head: bytes, body: bytes) -> Answer:
        """Send a request and read its answer.

        Raises:
            NotSentError: not all of the request could be sent.
            NoAnswerError: it was sent, and not a byte came back.
            botocore's errors: ReadTimeoutError, ConnectionClosedError, SSLError; ResponseParserError for an answer
                that is too large.
        """
        self.usable = False
        try:
            is_whole = self._send(head, body)
            answer = self._read()
        except NoAnswerError:
            if is_whole:
                raise
            raise NotSentError from None
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=str(self._origin), error=error) from None
        self.usable = self.usable and is_whole
        self.served = True
        return answer

    def _send(self, head: bytes, body: bytes) -> bool:
        """Whether all of it was handed over. If not, a server that did not wait for all may have answered even so."""
        self._socket.settimeout(aws_clients.READ_TIMEOUT)
        try:
            if len(body) <= _TOGETHER:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except TimeoutError as error:
            raise ConnectionClosedError(endpoint_url=str(self._origin), error=error) from None
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return False
        return True

    def _read(self) -> Answer:
        parsed = _Parsed()
        due = time.monotonic() + aws_clients.READ_TIMEOUT
        feed, receive, received = parsed.parser.feed_data, self._socket.recv, 0
        while not parsed.complete:
            try:
                data = receive(_READ)
            except TimeoutError as error:
                raise ReadTimeoutError(endpoint_url=str(self._origin), error=error) from None
            except (ConnectionError, ssl.SSLEOFError) as error:
                if received:
                    raise ConnectionClosedError(endpoint_url=str(self._origin), error=error) from None
                raise NoAnswerError from None
            if not data:
                return self._ended(parsed, received)
            received += len(data)
            try:
                feed(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                if not parsed.complete:
                    raise ConnectionClosedError(endpoint_url=str(self._origin), error=_UNREADABLE) from None
                parsed.is_kept = False
            if parsed.size > MOST_BODY:
                raise ResponseParserError(f"an answer of {self._origin} has more than {MOST_BODY} bytes")
            if not parsed.in_body and received > MOST_HEAD:
                raise ConnectionClosedError(endpoint_url=str(self._origin), error=_UNREADABLE)
            if not parsed.complete:
                # At least a moment: what has arrived while this process stood still is read, however late it is.
                self._socket.settimeout(max(0.001, due - time.monotonic()))
        self.usable = parsed.is_kept
        return parsed.answer()

    def _ended(self, parsed: _Parsed, received: int) -> Answer:
        """What it means that the server has ended the connection before the answer was complete."""
        if not received:
            raise NoAnswerError
        if not parsed.in_body or "transfer-encoding" in parsed.headers:
            raise ConnectionClosedError(endpoint_url=str(self._origin), error=_UNREADABLE)
        # Without a length it is the end of the body. With one the body is cut, which whoever decodes it will notice.
        return parsed.answer()

    def is_quiet(self) -> bool:
        """Whether nothing has arrived since the last answer: neither the server's end nor bytes that none asked for."""
        return not self._has_input()

    def _has_input(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it. May be called again."""
        self._opened.close()


_UNREADABLE = "the answer is not one of HTTP, or ended too early"


class Endpoint:
    """The connections to one origin. Several threads may use it.

    Attributes:
        ahead: seconds that the clock of the service is ahead of this machine's, as far as requests are signed by it.
        users: how many `Connections.open` have asked for it.
    """

    def __init__(self, origin: Origin, clock: Callable[[], float]) -> None:
        self.origin = origin
        self.ahead = 0.0
        self.users = 0
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def exchange(self, head: bytes, body: bytes) -> tuple[Answer, bool]:
        """Send a request and read its answer, over a connection that is open or a new one.

        A connection that has served before may have been closed by the server, in the very moment in which it is used
        again. Then the request is sent once more, over a new one.

        Returns:
            The answer, and whether the request may have been taken twice: it was sent again, though all of it had been
            sent before.

        Raises:
            ResentError: what the second sending raised, when the first may have been taken.
            botocore's errors: as boto3 raises them.
        """
        connection = self._take()
        try:
            try:
                return connection.exchange(head, body), False
            finally:
                self._give_back(connection)
        except (NotSentError, NoAnswerError) as error:
            if not connection.served:
                raise ConnectionClosedError(endpoint_url=str(self.origin), error="no answer") from None
            is_in_doubt = isinstance(error, NoAnswerError)
        try:
            connection = self._connect()
            try:
                return connection.exchange(head, body), is_in_doubt
            except (NotSentError, NoAnswerError):
                raise ConnectionClosedError(endpoint_url=str(self.origin), error="no answer") from None
            finally:
                self._give_back(connection)
        except Exception as error:
            if is_in_doubt:
                raise ResentError(error) from None
            raise

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if self._clock() - connection.idle_since < KEPT_IDLE and connection.is_quiet():
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if not connection.usable:
            connection.close()
            return
        connection.idle_since = self._clock()
        with self._lock:
            is_wanted = self.users > 0
            if is_wanted:
                self._idle.append(connection)
        if not is_wanted:
            connection.close()

    def close_idle(self, for_seconds: float = 0.0) -> None:
        """Close the connections that have been without a call for so long."""
        since = self._clock() - for_seconds
        while True:
            with self._lock:
                if not self._idle or self._idle[0].idle_since > since:
                    return
                connection = self._idle.popleft()
            connection.close()

    def _connect(self) -> Connection:
        origin = self.origin
        options: list[tuple[int, int, int | bytes]] = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ]
        timeout = aws_clients.CONNECT_TIMEOUT
        opened: urllib3.connection.HTTPConnection
        try:
            if origin.scheme == "https":
                opened = urllib3.connection.HTTPSConnection(
                    origin.host,
                    origin.port,
                    timeout=timeout,
                    socket_options=options,
                    ssl_context=self._tls(),
                    cert_reqs="CERT_REQUIRED",
                )
            else:
                opened = urllib3.connection.HTTPConnection(
                    origin.host, origin.port, timeout=timeout, socket_options=options
                )
            try:
                opened.connect()
            except BaseException:
                with contextlib.suppress(Exception):
                    opened.close()
                raise
        except urllib3.exceptions.NewConnectionError as error:  # In urllib3 it is a kind of ConnectTimeoutError.
            raise EndpointConnectionError(endpoint_url=str(origin), error=error) from None
        except (urllib3.exceptions.ConnectTimeoutError, TimeoutError) as error:
            raise ConnectTimeoutError(endpoint_url=str(origin), error=error) from None
        except (ssl.SSLError, ssl.CertificateError, urllib3.exceptions.SSLError) as error:
            raise SSLError(endpoint_url=str(origin), error=error) from None
        except (OSError, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise EndpointConnectionError(endpoint_url=str(origin), error=error) from None
        return Connection(origin, opened)

    def _tls(self) -> ssl.SSLContext:
        """The settings of TLS, read once: to load the authorities takes longer than a call."""
        with self._lock:
            if self._context is None:
                context = urllib3.util.create_urllib3_context()
                authorities = str(get_cert_path(True) if self.origin.verify is True else self.origin.verify)
                try:
                    context.load_verify_locations(authorities)
                except OSError as error:
                    raise SSLError(endpoint_url=str(self.origin), error=error) from None
                self._context = context
            return self._context


class ResentError(Exception):
    """A request was sent twice, and neither time it was learned what became of it.

    Attributes:
        error: what the second sending raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Connections:
    """The endpoints that the sinks of a worker send to. Several threads may use it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._endpoints: dict[Origin, Endpoint] = {}
        self._lock = threading.Lock()
        self._looked_at = clock()

    def open(self, origin: Origin) -> Endpoint:
        """The endpoint of an origin, shared by all that ask for it. Give it back with `close`."""
        with self._lock:
            endpoint = self._endpoints.get(origin)
            if endpoint is None:
                endpoint = self._endpoints[origin] = Endpoint(origin, self._clock)
            endpoint.users += 1
            return endpoint

    def close(self, endpoint: Endpoint) -> None:
        """One user less. The last one closes its connections."""
        with self._lock:
            endpoint.users -= 1
            if not endpoint.users:
                self._endpoints.pop(endpoint.origin, None)
        if not endpoint.users:
            endpoint.close_idle()

    def close_idle(self) -> None:
        """Close the connections of all endpoints that have been without a call for KEPT_IDLE seconds.

        It is cheap, since it looks once in a second: call it with every call that is made.
        """
        now = self._clock()
        if now - self._looked_at < 1.0:
            return
        with self._lock:
            self._looked_at = now
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:
            endpoint.close_idle(KEPT_IDLE)
