"""Fixtures of the tests of the registry's service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, EDIT_ALL
from registry.stores.sqlite import SqliteStore
from tests.support.registry_house import House, house_on


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
