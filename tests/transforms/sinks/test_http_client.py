"""What the HTTP forwarders of a worker share, connections within one bound and a resolver; and odd answers."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from tests.support.http_sink import LOCAL, http_item, loaded_forwarder
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer
from tests.support.limits import no_descriptors
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http import PostSink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer as Answered
from transforms.sinks.http_exchange import Request
from transforms.sinks.resolver import LOOK_UPS_AT_ONCE, Resolver


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), 20)

    uvloop.run(limited())


@contextlib.asynccontextmanager
async def sinks(
    number: int, server: FaultServer, connections: int, **configuration: Any
) -> AsyncIterator[list[PostSink]]:
    """The sinks of so many forwarders that share a client."""
    client = HttpClient(LOCAL, connections=connections)
    made = []
    async with AsyncExitStack() as stack:
        for index in range(number):
            forwarder = loaded_forwarder({"url": f"127.0.0.1:{server.port}/{index}", **configuration})
            sink = PostSink(replace(forwarder, id=str(index)), client)
            await sink.open()
            stack.push_async_callback(sink.close)
            made.append(sink)
        yield made


class TestConnections:
    def test_those_of_all_forwarders_stay_within_one_bound_and_all_take_turns(self) -> None:
        open_at_a_time = []

        def script(_: Arrival) -> Answer:
            open_at_a_time.append(server.open_connections)
            return Answer()

        server = FaultServer(script)

        async def main() -> None:
            async with server, sinks(12, server, connections=5) as made:
                sent = [sink.send(http_item(f"{n}")) for n in range(20) for sink in made]
                outcomes = await asyncio.gather(*sent)
            assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
            assert not any(outcome.ambiguous for outcome in outcomes)

        run(main)
        assert len(server.log) == 240
        # One that is closed for another may still be open at the receiver for a moment.
        assert max(open_at_a_time) <= 2 * 5

    def test_a_busy_forwarder_does_not_keep_the_only_connection_from_another(self) -> None:
        async def main() -> None:
            async with FaultServer() as server, sinks(2, server, connections=1) as (busy, other):
                done = False

                async def goes_on() -> None:
                    while not done:
                        assert (await busy.send(http_item())).verdict is Verdict.DELIVERED

                workers = [asyncio.create_task(goes_on()) for _ in range(3)]
                await server.arrivals(3)
                assert (await other.send(http_item("other"))).verdict is Verdict.DELIVERED
                done = True
                await asyncio.gather(*workers)

        run(main)

    def test_the_one_that_was_not_used_for_the_longest_time_gives_way(self) -> None:
        server = FaultServer()

        async def main() -> None:
            async with server, sinks(3, server, connections=2) as (first, second, third):
                for sink in (first, second, first, third, first, second):
                    assert (await sink.send(http_item())).verdict is Verdict.DELIVERED

        run(main)
        # The third takes the place of the second, not that of the first; and the second then that of the third.
        assert [arrival.connection for arrival in server.log] == [1, 2, 1, 3, 1, 4]

    def test_without_descriptors_a_kept_connection_of_another_forwarder_gives_way(self) -> None:
        async def main() -> None:
            client = HttpClient(LOCAL)
            # The kernel takes the connection of the second, and nobody answers: it needs a descriptor on one side only.
            with socket.create_server(("127.0.0.1", 0)) as silent:
                second = loaded_forwarder({"url": f"127.0.0.1:{silent.getsockname()[1]}", "timeout": 0.2})
                async with FaultServer() as server:
                    first = loaded_forwarder({"url": f"127.0.0.1:{server.port}"})
                    made = [PostSink(forwarder, client) for forwarder in (first, second)]
                    for sink in made:
                        await sink.open()
                    assert (await made[0].send(http_item())).verdict is Verdict.DELIVERED
                    with no_descriptors():
                        outcome = await made[1].send(http_item("id-2"))
                    for sink in made:
                        await sink.close()
            assert outcome == AttemptResult(Verdict.RETRY, "timeout", ambiguous=True, failure=True)

        run(main)

    def test_whoever_gives_up_waiting_for_a_connection_takes_no_turn(self) -> None:
        server = FaultServer(lambda _: Answer(fault="hold"))

        async def main() -> None:
            async with server, sinks(2, server, connections=1) as (first, second):
                held = asyncio.create_task(first.send(http_item("held")))
                await server.arrivals(1)
                gone = [asyncio.create_task(second.send(http_item(f"gone-{n}"))) for n in range(3)]
                waits = asyncio.create_task(second.send(http_item("waits")))
                await asyncio.sleep(0)
                for task in gone:
                    task.cancel()
                await asyncio.gather(*gone, return_exceptions=True)
                server.release()
                assert {(await held).verdict, (await waits).verdict} == {Verdict.DELIVERED}

        run(main)
        assert [arrival.key for arrival in server.log] == ["held", "waits"]


async def answered(answer: bytes, *, times: int = 1, body: bytes = b"{}", read: bool = True) -> tuple[list[Any], int]:
    """What a carrier makes of an answer in bytes, several times on; and how many connections it took."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                if read:
                    await reader.readexactly(len(body))
                writer.write(answer)
                await writer.drain()
                if b"ength" not in answer and b"chunked" not in answer:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    forwarder = loaded_forwarder({"url": f"127.0.0.1:{port}", "timeout": 2})
    carrier = HttpClient(LOCAL).carrier(forwarder.target)  # type: ignore[arg-type]
    await carrier.open()
    found = [await carrier.exchange(Request(f"http://127.0.0.1:{port}/", {}, body)) for _ in range(times)]
    await carrier.close()
    server.close()
    return found, connections


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok", True)),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", (200, b"ok", True)),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, b"", True)),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", (400, b"no", True)),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\nxyz", (400, b"no", False)),
        (b"HTTP/1.1 400 No\r\n\r\nuntil it is closed", (400, b"until it is closed", True)),
        (b"HTTP/1.0 400 No\r\n\r\nuntil it is closed", (400, b"until it is closed", True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", (101, b"", True)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", (503, b"", True)),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", (503, b"", False)),
        (b"HTTP/1.1 503 Busy\r\n: no name\r\nContent-Length: 0\r\n\r\n", (503, b"", False)),
    ],
)
def test_answers_are_read_as_they_are_meant(answer: bytes, expected: tuple[int, bytes, bool]) -> None:
    async def main() -> None:
        (found,), _ = await answered(answer)
        assert isinstance(found, Answered), found
        assert (found.status, found.body, found.complete) == expected

    run(main)


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 3),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 3),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 3),
    ],
)
def test_a_connection_serves_again_if_the_answer_lets_it(answer: bytes, connections: int) -> None:
    async def main() -> None:
        found, made = await answered(answer, times=3)
        assert [each.status for each in found] == [200] * 3
        assert made == connections

    run(main)


def test_a_connection_whose_request_was_not_read_to_its_end_serves_nobody_else() -> None:
    async def main() -> None:
        refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        found, connections = await answered(refusal, times=2, body=b"x" * 20_000_000, read=False)
        assert [each.status for each in found] == [413, 413]
        assert connections == 2

    run(main)


def test_a_header_with_a_line_break_is_never_sent() -> None:
    async def main() -> None:
        async with FaultServer() as server:
            carrier = HttpClient(LOCAL).carrier(loaded_forwarder({"url": f"127.0.0.1:{server.port}"}).target)  # type: ignore[arg-type]
            await carrier.open()
            for value in ("a\r\nX-Smuggled: b", "a\nb", "a\rb", "a\0b"):
                found: Any = await carrier.exchange(Request("http://127.0.0.1/", {"X-A": value}, b"{}"))
                assert found.outcome.reason == "internal_error"
            await carrier.close()
            assert server.connections == 0

    run(main)


class TestResolver:
    def test_many_hosts_take_few_threads(self) -> None:
        asked = []

        def getaddrinfo(host: str, *_: Any, **__: Any) -> Any:
            asked.append(threading.current_thread())
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

        async def main() -> None:
            resolver = Resolver(getaddrinfo)
            await asyncio.gather(*(resolver.look_up(f"{n}.example", 80) for n in range(500)))
            resolver.close()

        run(main)
        assert len(asked) == 500
        assert len(set(asked)) <= LOOK_UPS_AT_ONCE

    def test_who_asks_for_one_host_shares_the_look_up_even_if_the_first_one_goes(self) -> None:
        asked = []
        go_on = threading.Event()

        def getaddrinfo(host: str, *_: Any, **__: Any) -> Any:
            asked.append(host)
            go_on.wait(10)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

        async def main() -> None:
            resolver = Resolver(getaddrinfo)
            tasks = [asyncio.create_task(resolver.look_up("one.example", 80)) for _ in range(5)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            go_on.set()
            assert [len(await task) for task in tasks[1:]] == [1] * 4
            assert len(await resolver.look_up("one.example", 80)) == 1
            assert asked == ["one.example"]
            resolver.forget("one.example", 80)
            await resolver.look_up("one.example", 80)
            assert asked == ["one.example"] * 2
            resolver.close()

        run(main)
