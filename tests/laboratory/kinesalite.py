"""Kinesalite, an older stand-in for Kinesis in JavaScript, on a free port: a second opinion on the service."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "3.3.3"
HOME = Path(__file__).resolve().parents[2] / ".kinesalite"
INSTALL_SECONDS = 300


def why_not() -> str | None:
    """Why it cannot run here; None if it can."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"kinesalite needs {' and '.join(absent)}" if absent else None


@contextmanager
def kinesalite_server() -> Iterator[str]:
    """Install it from npm on first use and start one; gives its address."""
    script = HOME / "node_modules" / "kinesalite" / "cli.js"
    if not script.exists():
        install = ["npm", "install", "--no-audit", "--no-fund", f"--prefix={HOME}", f"kinesalite@{VERSION}"]
        subprocess.run(install, check=True, capture_output=True, timeout=INSTALL_SECONDS)  # noqa: S603
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    command = ["node", str(script), f"--port={port}", "--createStreamMs=0", "--updateStreamMs=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
    assert process.stdout is not None
    try:
        # "Listening at http://:::41233"
        said = process.stdout.readline()
        assert "Listening" in said, said + process.stdout.read()
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
