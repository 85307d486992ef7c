"""Kinesalite, an older stand-in for Kinesis in JavaScript, on a free port: a second opinion on the service."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.laboratory.npm import installed, running
from tests.ports import free_port

VERSION = "3.3.3"


@contextmanager
def kinesalite_server() -> Iterator[str]:
    """Gives its address."""
    script, port = installed("kinesalite", VERSION) / "cli.js", free_port()
    command = ["node", str(script), f"--port={port}", "--createStreamMs=0", "--updateStreamMs=0"]
    with running(command, port) as address:
        yield address
