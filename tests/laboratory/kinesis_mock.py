"""Kinesis Mock, a stand-in for Kinesis that answers Java's client in CBOR, as the service does, on a free port."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.laboratory.npm import installed, running
from tests.ports import free_port

VERSION = "0.6.2"


@contextmanager
def kinesis_mock_server() -> Iterator[str]:
    """Gives its address."""
    package, port = installed("kinesis-local", VERSION), free_port()
    settings = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    # It looks for its certificate in the directory it is started in.
    with running(["node", "main.js"], port, package, {**os.environ, **settings}) as address:
        yield address
