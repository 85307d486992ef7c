"""moto's AWS on 127.0.0.1 in a process of its own: `python -m local.moto_server PORT`.

Prints the address it answers at, and ends when its standard input does: however its parent ends, it leaves no process
behind. Another free port is taken when PORT is not free, or 0.

moto's own server is not enough: two puts at once may overwrite each other, and each walks through all that a shard has.
The runs and the tests all use this one; `local.endpoint.moto_server` starts it.
"""

import logging
import socket
import sys
from collections.abc import Iterable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from moto.kinesis import models
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from local.endpoint import HOST, SERVER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _RequestHandler(MotoRequestHandler):
    server_version = SERVER

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: one line a request says nothing here."""


def last_number(shard: models.Shard) -> int:
    """The number of the shard's last record, or 0. moto makes a list of all of them for that."""
    return next(reversed(shard.records), 0)


def records_after(
    shard: models.Shard, last_sequence_id: str, limit: int | None
) -> tuple[list[models.Record], int, int]:
    """Up to `limit` records after the one of that number; the last one's number; by how many ms the newest is younger.

    moto walks through all records from the first. Its numbers are 1, 2, 3, ..., so that they can be looked up.
    """
    last = int(last_sequence_id)
    numbers = range(last + 1, last_number(shard) + 1)[:limit]
    if not numbers:
        return [], last, 0
    behind = shard.records[last_number(shard)].created_at - shard.records[numbers[-1]].created_at
    return [shard.records[number] for number in numbers], numbers[-1], int(behind * 1000)


def _one_at_a_time(application: "WSGIApplication") -> "WSGIApplication":
    """moto numbers the records of a shard without a lock: two calls at once may overwrite each other's record.

    findings/moto_loses_records_that_are_put_at_once.sh shows it.
    """
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
    # By setattr, since mypy takes no assignment to a method.
    setattr(models.Shard, "get_max_sequence_number", last_number)  # noqa: B010
    setattr(models.Shard, "get_records", records_after)  # noqa: B010
    listener = _bind(port)
    application = _one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server(HOST, port, application, threaded=True, request_handler=_RequestHandler, fd=listener.fileno())
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{HOST}:{listener.getsockname()[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
