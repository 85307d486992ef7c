"""What the tests of the HTTP sink share: forwarders that point at a local server, items, and a sink's life."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import uvloop

from schemas import Record
from tests.support.laboratory.http_fault_server import FaultServer, Script
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, Rules, load_forwarders, read_documents, resolve
from transforms.forwarders.secrets import References
from transforms.sinks.base import AttemptResult, Item, Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import PostSink
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.resolver import KEPT_FOR, GetAddrInfo

LOCAL = ["127.0.0.0/8"]


def loaded_forwarder(configuration: dict[str, Any], **fields: Any) -> Forwarder:
    """The one forwarder of a document with this `configuration`, its references resolved."""
    document = {"_id": "f1", "active": True, "organisation": "o", "configuration": configuration} | fields
    loaded = load_forwarders(read_documents({"f.json": json.dumps(document).encode()}), Rules(lambda query: query))
    assert not loaded.faults, [str(fault) for fault in loaded.faults]
    resolved = resolve(loaded.forwarders, References())
    assert not resolved.faults, [str(fault) for fault in resolved.faults]
    return resolved.forwarders[0]


def http_item(key: str = "id-1", *, payload: bytes = b'{"user_id":"ann"}', kind: str = "record", hops: int = 0) -> Item:
    record = Record(key, "event", "o", None, "ann", 0, "r", 0, {"user_id": "ann"}, payload, {})
    return Item("f1", record, payload, kind, hops=hops)  # type: ignore[arg-type]


def statement_item(text: bytes, *, key: str = "3f2a1c9e-0000-4000-8000-000000000001", hops: int = 0) -> Item:
    """A statement that is forwarded as it is."""
    record = Record(key, "statement", "o", None, "ann", 0, key, 0, {}, text, {})
    return Item("f1", record, text, "statement", hops=hops)


@contextlib.asynccontextmanager
async def opened(
    forwarder: Forwarder,
    *,
    allow_networks: Sequence[str] = LOCAL,
    getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    names_kept_for: float = KEPT_FOR,
    **options: Any,
) -> AsyncIterator[PostSink]:
    sink = PostSink(forwarder, HttpClient(allow_networks, getaddrinfo, names_kept_for=names_kept_for), **options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def with_fault_server(
    talk: Callable[[PostSink, FaultServer], Awaitable[Any]],
    script: Script | None = None,
    configuration: dict[str, Any] | None = None,
    **options: Any,
) -> FaultServer:
    """Lets `talk` send to a fault server with a script; what that logged."""

    async def main() -> FaultServer:
        async with FaultServer(script) as server:
            forwarder = loaded_forwarder(
                {"protocol": "http", "url": f"127.0.0.1:{server.port}/in"} | (configuration or {})
            )
            async with opened(forwarder, **options) as sink:
                await talk(sink, server)
        return server

    return uvloop.run(asyncio.wait_for(main(), 20))


def outcomes(
    script: Script, *items: Item, configuration: dict[str, Any] | None = None, **options: Any
) -> tuple[list[AttemptResult], FaultServer]:
    """What becomes of `items` (one by default), sent one after the other."""
    found: list[AttemptResult] = []

    async def talk(sink: PostSink, server: FaultServer) -> None:
        for item in items or (http_item(),):
            found.append(await sink.send(item))

    server = with_fault_server(talk, script, configuration, **options)
    return found, server


def delivered(
    forwarder: Forwarder, due: Sequence[Item], settings: DeliverySettings, allow_networks: Sequence[str] = LOCAL
) -> tuple[list[Settlement], LaneCounts]:
    """Deliver all of them to the end by an engine of its own: how each was settled, and the counts."""
    settled: list[Settlement] = []
    engine = DeliveryEngine(
        [forwarder],
        settled.extend,
        settings,
        http_sink=partial(post_sink, client=HttpClient(allow_networks)),
        batch_sink=batch_sinks(),
    )
    try:
        engine.submit(due)
        engine.drain()
        return settled, engine.counts()[forwarder.id]
    finally:
        engine.close()
