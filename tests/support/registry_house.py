"""A service on a store of its own, and clients of it."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from registry.access import Client
from registry.app import build
from registry.credentials import StoredClient, hash_secret, new_secret
from registry.deliveries import RecentDeliveries
from registry.door import Limits, usual_limits
from registry.health import Health
from registry.keyring import Keyring
from registry.matching import MatchPreview
from registry.proxies import TrustedProxies
from registry.query_tests import QueryTests
from registry.recent_records import RecentRecords
from registry.records import Records
from registry.rest import PATH
from registry.sample_delivery import SampleDelivery
from registry.server import configured
from registry.service import Service
from registry.stores.base import Store
from registry.web import Registry
from tests.support.checked_client import CheckedClient
from transforms.forwarders import Rules
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query

KEY = b"k" * 32
ORGANISATION = "59c209c4ad95fd50960c0362"


class Clock:
    """A millisecond later each time it is asked."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


@dataclass
class House:
    """A service, and a way in for a client with any scopes. Requests come from this machine unless told otherwise."""

    store: Store
    service: Service
    registry: Registry

    def add_client(self, *scopes: str, organisation: str = ORGANISATION, user: str | None = None) -> tuple[str, str]:
        """Key and secret of a new client."""
        key, secret = f"client-{len(self.store.clients())}", new_secret()
        self.store.add_client(StoredClient(Client(key, organisation, user, frozenset(scopes)), hash_secret(secret)))
        return key, secret

    def client(
        self,
        *scopes: str,
        organisation: str = ORGANISATION,
        user: str | None = None,
        address: str = "127.0.0.1",
        base_url: str = "http://service",
    ) -> TestClient:
        visitor = self.visitor(address, base_url)
        visitor.auth = self.add_client(*scopes, organisation=organisation, user=user)
        return visitor

    def visitor(self, address: str = "127.0.0.1", base_url: str = "http://service") -> TestClient:
        app = build(self.registry)
        return CheckedClient(app, base_url=base_url, client=(address, 50000), raise_server_exceptions=False)


def house_on(store: Store, deliveries: Path | None = None, *, trusted: bool = False) -> House:
    """A house on that store.

    Args:
        store: empty, or with documents of its own.
        deliveries: the output of a job, whose receipts the service shows.
        trusted: documents may name files and variables of the worker.
    """
    rules = Rules(compile_query, trusted=trusted, require_organisation=True)
    service = Service(store, Keyring([KEY]), rules, Clock())
    statements = StatementBuilder()
    samples = SampleDelivery(rules, statements, ("127.0.0.0/8",))
    matcher = MatchPreview(rules, statements)
    registry = Registry(service, samples, matcher, QueryTests(rules, statements, matcher))
    if deliveries is not None:
        output = str(deliveries)
        registry = replace(
            registry,
            deliveries=RecentDeliveries(output),
            recent=RecentRecords(output),
            records=Records(output),
            health=Health(output),
        )
    return House(store, service, registry)


def forwarder_body(**given: Any) -> dict[str, Any]:
    """A forwarder that the job takes, as a client sends it to the service."""
    configuration = {"protocol": "https", "url": "receiver.example/records", **given.pop("configuration", {})}
    return {"active": True, "query": "{}", "configuration": configuration, **given}


def create(client: TestClient, **given: Any) -> dict[str, Any]:
    """Creates that forwarder through the service; gives the document that it answers with."""
    answer = client.post(PATH, json=forwarder_body(**given))
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


@contextmanager
def served(
    registry: Registry,
    limits: Limits | None = None,
    proxies: tuple[str, ...] = (),
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[str]:
    """The service in a thread, on a port of this machine, for clients outside of this process's event loop.

    Gives its address, such as http://127.0.0.1:40001, once it takes connections.

    Args:
        registry: what is served.
        limits: what clients may hold; None: the usual ones.
        proxies: the networks of trusted proxies.
        tls: None: without TLS.
        port: 0: any that is free.
    """
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup()
            started.set()

    config = configured(registry, limits or usual_limits(), TrustedProxies(proxies), "127.0.0.1", port, tls)
    server = Server(config)
    thread = threading.Thread(target=server.run, name="registry", daemon=True)
    thread.start()
    assert started.wait(20), "the service did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
