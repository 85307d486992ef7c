"""A real server that speaks MongoDB's protocol, for the tests that every store has to pass."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from registry.stores.base import Store
from registry.stores.mongo import mongo_store
from tests.support.ports import free_port

FERRETDB = Path(os.environ.get("FERRETDB", Path(__file__).resolve().parents[2] / ".ferretdb" / "ferretdb"))
START_SECONDS = 20


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, mongodb://host:port: FerretDB on a directory of its own, or what MONGODB_URL names."""
    named = os.environ.get("MONGODB_URL")
    if named is not None:
        yield named
        return
    if not FERRETDB.is_file():
        pytest.skip(f"{FERRETDB} is absent: tests/registry/build_ferretdb.sh makes it; or set MONGODB_URL")
    directory = tmp_path_factory.mktemp("ferretdb")
    port = free_port()
    server = subprocess.Popen(  # noqa: S603 - what the script beside this file built
        [
            str(FERRETDB),
            "--handler=sqlite",
            f"--sqlite-url=file:{directory}/",
            f"--listen-addr=127.0.0.1:{port}",
            "--debug-addr=-",
            f"--state-dir={directory}",
            "--telemetry=disable",
            "--log-level=error",
        ]
    )
    try:
        wait_for(f"mongodb://127.0.0.1:{port}")
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


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


def wait_for(url: str) -> None:
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            pytest.fail(f"FerretDB does not answer at {url}: {error}")
