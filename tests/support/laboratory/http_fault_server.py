"""An HTTP receiver that misbehaves on purpose, and writes down what reached it.

Raw asyncio streams: a proper server would not send what has to be sent here. Scripts say, by Idempotency-Key or by
user, how each request is answered; the log says what arrived and what of it the receiver kept, for the checkers.

    script = scripted(by_user={"ann": [500, 500, 200], "bob": [Answer(429, headers=(("Retry-After", "1"),)), 200]})
    async with FaultServer(script) as server:
        ...  # post to 127.0.0.1:{server.port}
    assert [arrival.user for arrival in server.log if arrival.stored] == ["ann", "bob"]

`in_thread(server)` serves from a thread with a loop of its own, for code that runs its own loop.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

Fault = Literal[
    "none",
    "reset",  # RST without a byte of an answer
    "close",  # FIN without a byte of an answer
    "half_close",  # FIN of the sending half only; reads on until the client goes
    "cut_headers",  # part of the headers, then FIN
    "reset_headers",  # part of the headers, then RST
    "cut_body",  # Content-Length says more than comes before the FIN
    "reset_body",  # the same with RST
    "hold",  # no byte until release()
    "late",  # the first byte after `interval` seconds
    "hold_body",  # the headers and half of the body, the rest at release()
    "drip",  # the body a byte at a time, `interval` seconds apart
    "endless_body",  # chunks without end
    "informational",  # 100, 102 and 103 before the answer
    "endless_informational",  # 102 without end
    "extra_bytes",  # Content-Length says less than comes: `extra` follows the body
    "late_extra",  # answered well; `extra` follows at release(), while nobody asks
    "huge_header",  # one header line of 1 MiB
    "many_headers",  # 10,000 header lines
    "garbage",  # not HTTP
    "close_after",  # answered well, then FIN, unannounced: a kept-alive connection that goes between requests
    "close_on_next",  # answered well; the next request on the connection is read, and met with FIN
    "reset_on_next",  # the same with RST
    "cut_on_next",  # the next request gets a byte of an answer, then FIN
]


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request is met. `stored`: whether the receiver keeps the record; by default if the status is 2xx."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    fault: Fault = "none"
    stored: bool | None = None
    interval: float = 0.01
    extra: bytes = b""


@dataclass(slots=True)
class Arrival:
    """A request that was read to its end. `attempt` counts those with its key; `time` is monotonic, in seconds."""

    key: str
    user: str
    attempt: int
    connection: int
    time: float
    request_line: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    answer: Answer = field(default_factory=Answer)
    stored: bool = False


Script = Callable[[Arrival], Answer]


def scripted(
    by_key: Mapping[str, Sequence[int | Answer]] | None = None,
    by_user: Mapping[str, Sequence[int | Answer]] | None = None,
    default: Sequence[int | Answer] = (),
) -> Script:
    """Answers a key's (else its user's, else everybody's) requests by a list, one after the other; then with 200.

    A user's list is used up by all of that user's records together, the default list by all that have no other.
    """
    used: Counter[tuple[str, str]] = Counter()

    def script(arrival: Arrival) -> Answer:
        if by_key and arrival.key in by_key:
            name, answers = ("key", arrival.key), by_key[arrival.key]
        elif by_user and arrival.user in by_user:
            name, answers = ("user", arrival.user), by_user[arrival.user]
        else:
            name, answers = ("default", ""), default
        index = used[name]
        used[name] += 1
        answer = answers[index] if index < len(answers) else 200
        return Answer(answer) if isinstance(answer, int) else answer

    return script


class FaultServer:
    """Serves on `host` (`port`) until the context ends. `tls` makes it HTTPS.

    `handshake`: what to do instead at the first byte of a client's TLS handshake: go, or answer in clear. `log` grows
    in the order of arrival.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        handshake: Literal["cut", "clear"] | None = None,
    ) -> None:
        self._host = host
        self.log: list[Arrival] = []
        self.connections = 0
        self._script = script or scripted()
        self._tls = tls
        self._handshake = handshake
        self._attempts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._released = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._server = await asyncio.start_server(
            self._accept, self._host, 0, ssl=None if self._handshake else self._tls, limit=1 << 20
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    def release(self) -> None:
        """Lets every answer go on that is held. From any thread."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def arrivals(self, count: int) -> None:
        """Waits until `count` requests have arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.log) >= count)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.connections += 1
        try:
            if self._handshake:
                await reader.read(1)
                if self._handshake == "clear":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
            else:
                await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()
            if task is not None:
                self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while True:
            arrival = await self._read(reader, connection)
            answer = self._script(arrival)
            await self._note(arrival, answer)
            if not await self._meet(answer, reader, writer):
                return
            if answer.fault in ("close_on_next", "reset_on_next", "cut_on_next"):
                await self._note(await self._read(reader, connection), Answer(fault="close", stored=False))
                if answer.fault == "reset_on_next":
                    _reset(writer)
                elif answer.fault == "cut_on_next":
                    writer.write(b"H")
                    await writer.drain()
                return

    async def _note(self, arrival: Arrival, answer: Answer) -> None:
        arrival.answer = answer
        arrival.stored = 200 <= answer.status < 300 if answer.stored is None else answer.stored
        async with self._arrived:
            self.log.append(arrival)
            self._arrived.notify_all()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Arrival:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        key = headers.get("idempotency-key", "")
        self._attempts[key] += 1
        return Arrival(
            key=key,
            user=user_of(body),
            attempt=self._attempts[key],
            connection=connection,
            time=time.monotonic(),
            request_line=request_line,
            headers=headers,
            body=body,
        )

    async def _meet(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; whether the connection lives on."""
        fault = answer.fault
        body = answer.body or b'{"said":"a body of some length"}'
        length = len(body) * 2 if fault in ("cut_body", "reset_body") else len(body)
        head = f"HTTP/1.1 {answer.status} Scripted\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        full = f"{head}Content-Length: {length}\r\n\r\n".encode()
        if fault == "reset":
            _reset(writer)
            return False
        if fault == "close":
            return False
        if fault == "half_close":
            writer.write_eof()
            await reader.read()
            return False
        if fault in ("cut_headers", "reset_headers"):
            writer.write(head.encode())
            await writer.drain()
            if fault == "reset_headers":
                _reset(writer)
            return False
        if fault == "garbage":
            writer.write(b"220 mail.example.org ESMTP ready\r\n\r\n")
            await writer.drain()
            return False
        if fault == "hold":
            await self._released.wait()
        elif fault == "late":
            await asyncio.sleep(answer.interval)
        elif fault in ("informational", "endless_informational"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            while fault == "endless_informational":
                writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(answer.interval)
        elif fault == "huge_header":
            full = full.replace(b"\r\n", b"\r\nX-Huge: " + b"h" * (1 << 20) + b"\r\n", 1)
        elif fault == "many_headers":
            full = full.replace(b"\r\n", b"\r\n" + b"".join(b"X-%d: h\r\n" % i for i in range(10_000)), 1)
        if fault == "endless_body":
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            while True:
                writer.write(b"4000\r\n" + b"e" * 0x4000 + b"\r\n")
                await writer.drain()
        if fault == "hold_body":
            writer.write(full + body[: len(body) // 2])
            await self._released.wait()
            writer.write(body[len(body) // 2 :])
        elif fault == "drip":
            writer.write(full)
            for byte in body:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(answer.interval)
        else:
            writer.write(full + body + (answer.extra if fault == "extra_bytes" else b""))
        await writer.drain()
        if fault == "late_extra":
            await self._released.wait()
            writer.write(answer.extra)
        elif fault == "reset_body":
            _reset(writer)
        return fault not in ("cut_body", "reset_body", "close_after")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST instead of FIN."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def user_of(body: bytes) -> str:
    """The user that a record, a statement or a query document is about; "" if the body is none of them."""
    try:
        value = json.loads(body)
        return str(value["user_id"] if "user_id" in value else value["actor"]["account"]["name"])
    except (ValueError, KeyError, TypeError):
        return ""


@contextlib.contextmanager
def in_thread(server: FaultServer) -> Iterator[FaultServer]:
    """Serves from a thread of its own until the context ends."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the fault server did not start")
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
