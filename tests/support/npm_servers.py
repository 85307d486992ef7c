"""Stand-ins for Kinesis in JavaScript, installed from npm when they are first asked for.

Kinesalite is an older one, a second opinion on the service. Kinesis Mock answers Java's client in CBOR, as the service
does.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.ports import free_port, listens

KINESALITE_VERSION = "3.3.3"
KINESIS_MOCK_VERSION = "0.6.2"
DEAGGREGATOR_VERSION = "4.2.8"
HOME = ROOT / ".npm"
INSTALL_SECONDS = 300
START_SECONDS = 30


def why_npm_cannot_serve() -> str | None:
    """Why none can run here; None if they can."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"servers from npm need {' and '.join(absent)}" if absent else None


def _installed(name: str, version: str) -> Path:
    """The directory of that package."""
    place = HOME / name
    package = place / "node_modules" / name
    if not package.exists():
        install = ["npm", "install", "--no-audit", "--no-fund", f"--prefix={place}", f"{name}@{version}"]
        subprocess.run(install, check=True, capture_output=True, timeout=INSTALL_SECONDS)  # noqa: S603
    return package


def deaggregator() -> Path:
    """A directory in which Node can require AWS' own reader of aggregated records, aws-kinesis-agg."""
    return _installed("aws-kinesis-agg", DEAGGREGATOR_VERSION)


@contextmanager
def _running(
    command: Sequence[str], port: int, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server, from when it listens at the port to the end of the block; gives its address."""
    process = subprocess.Popen(  # noqa: S603
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(port):
            assert process.poll() is None, f"{' '.join(command)} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{' '.join(command)} does not listen at {port}"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kinesalite_server() -> Iterator[str]:
    """Kinesalite on a free port; gives its address."""
    script, port = _installed("kinesalite", KINESALITE_VERSION) / "cli.js", free_port()
    command = ["node", str(script), f"--port={port}", "--createStreamMs=0", "--updateStreamMs=0"]
    with _running(command, port) as address:
        yield address


@contextmanager
def kinesis_mock_server() -> Iterator[str]:
    """Kinesis Mock on a free port; gives its address."""
    package, port = _installed("kinesis-local", KINESIS_MOCK_VERSION), free_port()
    settings = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    # It looks for its certificate in the directory it is started in.
    with _running(["node", "main.js"], port, package, {**os.environ, **settings}) as address:
        yield address
