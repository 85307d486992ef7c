"""A real server that speaks MongoDB's protocol, for the tests that every store has to pass."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from pymongo import MongoClient

from local.ferretdb import binary, ferretdb
from registry.stores.base import Store
from registry.stores.mongo import mongo_store


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, mongodb://host:port: FerretDB on a directory of its own, or what MONGODB_URL names."""
    named = os.environ.get("MONGODB_URL")
    if named is not None:
        yield named
        return
    if not binary().is_file():
        pytest.skip(f"{binary()} is absent: python -m local.ferretdb makes it; or set MONGODB_URL")
    with ferretdb(tmp_path_factory.mktemp("ferretdb")) as address:
        yield address


@pytest.fixture(scope="session")
def is_atomic(mongo_server: str) -> bool:
    """Whether a write of the server goes by what its own filter found, as MongoDB's does and FerretDB 1's does not."""
    with MongoClient[dict[str, object]](mongo_server) as client:
        return not any(name.startswith("ferretdb") for name in client.admin.command("buildInfo"))


@pytest.fixture(scope="session")
def mongo_stores(mongo_server: str) -> Callable[[], Callable[[], Store]]:
    """Gives a database of its own each time it is called, as what opens a store in it."""

    def new_database() -> Callable[[], Store]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        return lambda: mongo_store(f"{mongo_server}/{name}.statementForwarding", {})

    return new_database
