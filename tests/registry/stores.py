"""The stores that the store tests run on. MongoDB's needs a server: see `mongo_stores`."""

from collections.abc import Callable, Iterator

import pytest

from registry.store import Store


@pytest.fixture(scope="session")
def mongo_stores() -> Iterator[Callable[[], Store]]:
    pytest.skip("no server that speaks MongoDB's protocol")
    yield
