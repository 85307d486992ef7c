"""moto's AWS on 127.0.0.1 in a process of its own: `python -m local.moto_server PORT`.

Prints the address it answers at, and ends when its standard input does: however its parent ends, it leaves no process
behind. Another free port is taken when PORT is not free.
"""

import logging
import socket
import sys
from collections.abc import Iterable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SERVER = "session-forwarder-local"
"""How the server calls itself in its answers: another run must not rely on it, for it ends with the run it is of."""

HOST = "127.0.0.1"


class _RequestHandler(MotoRequestHandler):
    server_version = SERVER

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: one line a request says nothing here."""


def _one_at_a_time(application: "WSGIApplication") -> "WSGIApplication":
    """moto numbers the records of a shard without a lock: two calls at once may overwrite each other's record."""
    lock = Lock()

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        with lock:
            return application(environ, start_response)

    return serve


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError:
        listener.bind((HOST, 0))
    listener.listen(128)
    return listener


def main(port: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    listener = _bind(port)
    application = _one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server(HOST, port, application, threaded=True, request_handler=_RequestHandler, fd=listener.fileno())
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{HOST}:{listener.getsockname()[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
