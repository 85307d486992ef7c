"""A service on a store of its own, and clients of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, EDIT_ALL, Client
from registry.app import build
from registry.credentials import StoredClient, hash_secret, new_secret
from registry.deliveries import RecentDeliveries
from registry.keyring import Keyring
from registry.rest import PATH
from registry.sample_delivery import Matcher, Trials
from registry.service import Service
from registry.stores.base import Store
from registry.stores.sqlite import SqliteStore
from registry.web import Registry
from tests.registry.stores import is_atomic, mongo_server, mongo_stores
from transforms.forwarders import Rules
from transforms.query import compile_query

KEY = b"k" * 32
ORGANISATION = "59c209c4ad95fd50960c0362"

__all__ = ["is_atomic", "mongo_server", "mongo_stores"]


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
        return TestClient(app, base_url=base_url, client=(address, 50000), raise_server_exceptions=False)


def house_on(store: Store, deliveries: Path | None = None, *, trusted: bool = False) -> House:
    rules = Rules(compile_query, trusted=trusted, require_organisation=True)
    service = Service(store, Keyring([KEY]), rules, Clock())
    recent = RecentDeliveries(str(deliveries)) if deliveries else None
    return House(store, service, Registry(service, Trials(rules, ("127.0.0.0/8",)), Matcher(rules), recent))


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "forwarders.db"


@pytest.fixture
def house(sqlite_path: Path, tmp_path: Path) -> Iterator[House]:
    store = SqliteStore(str(sqlite_path))
    yield house_on(store, tmp_path / "out")
    store.close()


@pytest.fixture
def editor(house: House) -> TestClient:
    """Sees and changes its whole organisation."""
    return house.client(EDIT_ALL, user="ann")


@pytest.fixture
def deliverer(house: House) -> TestClient:
    """Sees its whole organisation and may read secrets: what the job uses, and more."""
    return house.client(ALL, DELIVER)


Create = Callable[..., dict[str, Any]]


def forwarder(**given: Any) -> dict[str, Any]:
    """A forwarder that the job takes."""
    configuration = {"protocol": "https", "url": "receiver.example/records", **given.pop("configuration", {})}
    return {"active": True, "query": "{}", "configuration": configuration, **given}


def create(client: TestClient, **given: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=forwarder(**given))
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document
