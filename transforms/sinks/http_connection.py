"""One connection to an HTTP receiver: a request at a time, and its answer (HTTP/1.1, RFC 9112).

What comes is read by llhttp, the parser of Node, through httptools. What a stranger may make this process hold is
bounded: the head of an answer by MOST_HEAD, its body by what the request says.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Protocol

import httptools

from transforms.sinks.http_exchange import Answer

MOST_HEAD = 64 * 1024
"""Bytes that the headers of an answer may have. Those of a longer head are not read, and its connection is closed."""

_HEAD_KEPT = 4 * 1024
"""Bytes of the beginning of an answer in which its status is found if the rest cannot be read."""

# Any number of 1xx answers with their headers, then the status line of the answer itself.
_ANSWER = re.compile(rb"(?:HTTP/1\.[01] 1(?!01)\d\d\b[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.[01] (\d{3})\b[^\n]*\n")

_SWITCHING_PROTOCOLS = 101
_TOGETHER = 64 * 1024
"""Bytes of a body up to which it is sent in one piece with its head."""


class ClosedError(ConnectionError):
    """The receiver closed the connection before its answer was there."""


class BadResponseError(Exception):
    """What came is no HTTP response."""


class Source(Protocol):
    """A body that is sent in pieces."""

    size: int

    async def chunk(self) -> bytes:
        """The next piece; empty at the end."""
        ...


class Connection(asyncio.Protocol):
    """A connection that is open: `exchange` one request, then the next.

    Args:
        on_lost: called when the connection is closed, by whomever.

    Attributes:
        served: whether it has had an answer before.
        heard: whether a byte of the answer to the present request has come.
        is_open: whether a request may be sent.
        made_at: when it was made, in seconds of the loop's clock.
        idle_since: when it became idle, by the same clock; its pool says so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[["Connection"], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._lost = False
        self.served = False
        self.heard = False
        self.idle_since = 0.0
        self.made_at = loop.time()
        # Of the answer to the present request, see `_begin`.
        self._answer: Answer | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._head = b""
        self._received = self._head_size = self._size = self._most = 0
        self._head_read = self._until_close = self._too_long = self._sending = False
        self._keep = True

    @property
    def is_open(self) -> bool:
        return not self._lost

    # The request.

    def exchange(self, head: bytes, body: bytes | None, most: int) -> "asyncio.Future[Answer]":
        """Send a request and give its answer.

        Args:
            head: the request line and the headers, with the empty line.
            body: empty if there is none; None if `write` sends it.
            most: bytes of the answer's body that are read.

        Returns:
            The answer to be. It fails with ClosedError, BadResponseError, TimeoutError (`expire`), or what the system
            and OpenSSL raise, and only if there is no answer whose status counts.
        """
        if self._transport is None or self._lost:
            raise ClosedError
        self._begin(most)
        self._waiter = self._loop.create_future()
        if body is None:
            self._sending = True
            self._transport.write(head)
        elif len(body) <= _TOGETHER:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return self._waiter

    async def write(self, source: Source) -> None:
        """Send a body in pieces, as fast as the receiver takes them, until the answer has come."""
        left = source.size
        while left and (chunk := await source.chunk()):
            if self._lost or self._waiter is None or self._transport is None:
                return
            self._transport.write(chunk)
            left -= len(chunk)
            if self._paused:
                self._writable = self._loop.create_future()
                await self._writable
        self._sending = False

    def expire(self) -> None:
        """The time of the request is over: the answer is what is there of it."""
        self._end(TimeoutError())

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._lost = True
        if self._transport is not None:
            self._transport.abort()

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of TCP or TLS: both can write
        parser = httptools.HttpResponseParser(self)
        # Whoever answers like that has the record: it is no reason to send it again.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._parser = parser

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._parser is None:
            # Nobody asked for it. It would be taken for the answer to the next request.
            self.abort()
            return
        self.heard = True
        if not self._head_read:
            self._received += len(data)
            if len(self._head) < _HEAD_KEPT:
                self._head += data[: _HEAD_KEPT - len(self._head)]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep = False
        except httptools.HttpParserError:
            self._keep = False
            if self._answer is None:
                self._end(BadResponseError())
                return
        if self._answer is not None:
            self._finish(self._answer)
        elif self._too_long:
            self._end(BadResponseError())
        elif not self._head_read and self._received > MOST_HEAD:
            self._too_long = True
            self._end(BadResponseError())

    def eof_received(self) -> bool:
        return False  # The transport closes itself.

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._keep = False
        if self._waiter is not None:
            if error is None and self._head_read and self._until_close:
                self._finish(self._made(complete=True))
            else:
                self._end(error or ClosedError())
        self.resume_writing()
        # They hold each other.
        self._parser = None
        self._transport = None
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # The parser.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._keep = False  # More came than the answer.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            return
        self._head_size += len(name) + len(value)
        if self._head_size > MOST_HEAD:
            self._too_long = True
            return
        # Of several with one name the first one counts.
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        if self._answer is not None or self._parser is None:
            return
        self._status = self._parser.get_status_code()
        if self._status == _SWITCHING_PROTOCOLS or self._status >= 200:
            self._head_read = not self._too_long
            headers = self._headers
            self._until_close = "content-length" not in headers and "transfer-encoding" not in headers

    def on_body(self, data: bytes) -> None:
        if self._answer is not None or self._too_long:
            return
        self._size += len(data)
        if self._size <= self._most:
            self._chunks.append(data)
        else:
            self._chunks.append(data[: self._most - self._size])
            self._too_long = True

    def on_message_complete(self) -> None:
        if self._answer is not None or self._too_long or self._parser is None:
            return
        if self._head_read:
            self._keep = self._parser.should_keep_alive()
            self._answer = self._made(complete=True)
        else:
            # A 1xx: the answer is still to come.
            self._headers = {}
            self._head_size = self._received = 0

    # The answer.

    def _begin(self, most: int) -> None:
        """Forget the last answer."""
        self._most = most
        self.heard = False
        self._answer = None
        self._status = 0
        self._headers = {}
        self._chunks = []
        self._head = b""
        self._received = self._head_size = self._size = 0
        self._head_read = self._until_close = self._too_long = self._sending = False
        self._keep = True

    def _made(self, *, complete: bool) -> Answer:
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return Answer(self._status, self._headers, body, complete)

    def _end(self, error: Exception) -> None:
        """End the exchange before the answer is complete. A status that was read counts all the same."""
        self._keep = False
        if self._head_read:
            self._finish(self._made(complete=False))
            return
        if isinstance(error, BadResponseError) and (status := _ANSWER.match(self._head)):
            # It cannot be read, but the receiver has answered. To ask again would send a record twice.
            self._finish(Answer(int(status[1]), {}, complete=False))
            return
        self.abort()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _finish(self, answer: Answer) -> None:
        """Give the answer; and the connection back, if it can serve again."""
        waiter, self._waiter = self._waiter, None
        self.served = True
        # An answer may come before its request has gone out.
        if not self._keep or self._sending or (self._transport and self._transport.get_write_buffer_size()):
            self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
