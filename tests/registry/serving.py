"""The service in a thread, on a port of this machine: for clients that are not in this process's event loop."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from registry.app import build
from registry.web import Registry


@contextmanager
def served(registry: Registry) -> Iterator[str]:
    """Its address, such as http://127.0.0.1:40001, once it takes connections."""
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup()
            started.set()

    server = Server(uvicorn.Config(build(registry), host="127.0.0.1", port=0, log_config=None, proxy_headers=False))
    thread = threading.Thread(target=server.run, name="registry", daemon=True)
    thread.start()
    assert started.wait(20), "the service did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
