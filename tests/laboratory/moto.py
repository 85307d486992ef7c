"""A moto server on a free port, for as long as it is needed: what LocalStack was used for."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def moto_server() -> Iterator[str]:
    """Start one; gives its address. It says itself when it is ready, so that nothing is polled."""
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)  # noqa: S603
    assert process.stderr is not None
    try:
        # " * Running on http://127.0.0.1:41233"
        address = next(line.split()[-1] for line in process.stderr if "Running on" in line)
        # It logs every request there, and would stand still once the pipe is full.
        draining = threading.Thread(target=process.stderr.read, daemon=True)
        draining.start()
        yield address
    finally:
        process.terminate()
        process.wait()
