"""Servers in JavaScript that tests use, installed from npm when they are first asked for."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".npm"
INSTALL_SECONDS = 300
START_SECONDS = 30


def why_not() -> str | None:
    """Why none can run here; None if they can."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"servers from npm need {' and '.join(absent)}" if absent else None


def installed(name: str, version: str) -> Path:
    """The directory of that package."""
    place = HOME / name
    package = place / "node_modules" / name
    if not package.exists():
        install = ["npm", "install", "--no-audit", "--no-fund", f"--prefix={place}", f"{name}@{version}"]
        subprocess.run(install, check=True, capture_output=True, timeout=INSTALL_SECONDS)  # noqa: S603
    return package


@contextmanager
def running(
    command: Sequence[str], port: int, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server, from when it listens at the port to the end of the block; gives its address."""
    process = subprocess.Popen(  # noqa: S603
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, f"{' '.join(command)} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{' '.join(command)} does not listen at {port}"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
