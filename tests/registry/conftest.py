"""Fixtures of the tests of the registry's service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, EDIT_ALL
from registry.stores.sqlite import SqliteStore
from tests.support.browser import MISSING, Visit, chromium
from tests.support.registry_house import House, house_on, served


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Of a module, not of the session: as long as its driver is there, nothing else can run an event loop."""
    if MISSING:
        pytest.skip(MISSING)
    from playwright.sync_api import expect

    # A busy machine is no fault of the page.
    expect.set_options(timeout=20_000)
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, house: House) -> Iterator[Visit]:
    """The page of the house's service, before anybody has signed in."""
    with served(house.registry) as address:
        context = browser.new_context(viewport={"width": 1100, "height": 800})
        visit = Visit(context.new_page(), address)
        visit.go("/")
        yield visit
        context.close()
    assert visit.wrong == []
