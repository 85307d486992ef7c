"""What is behind Beam's clients of S3 is shared: Beam makes a client for each call, and that takes 0.1 s and more.

A client of Beam's knows the download that is under way, so each call keeps its own. The client of boto3 behind it knows
nothing of a call, and may be used by several threads. It reads what the environment says of AWS when it is made.
"""

import copy
import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

KEPT_SECONDS = 60.0
"""For so long a client is used. After that, the credentials in a file may be others."""


class _Made(NamedTuple):
    """A client of Beam's, and what it follows from."""

    options: object
    process: int
    environment: dict[str, str]
    at: float
    client: Any


class SharedClients:
    """Makes clients as Beam's class does, from one that it has made before.

    Args:
        make: Beam's class.
        clock: monotonic seconds.
    """

    def __init__(self, make: Callable[[Any], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def __call__(self, options: object) -> Any:
        """A client for these options of Beam's, which do not change."""
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        with self._lock:
            made, now = self._made, self._clock()
            if (
                made is None
                or made.options is not options
                or (made.process, made.environment) != (os.getpid(), environment)
                or now - made.at > KEPT_SECONDS
            ):
                made = self._made = _Made(options, os.getpid(), environment, now, self._make(options))
        return copy.copy(made.client)


def share_s3_clients() -> None:
    """Let Beam's file system of S3 share what is behind its clients, if that is there."""
    try:
        clients: Any = importlib.import_module("apache_beam.io.aws.clients.s3.boto3_client")
    except ImportError:
        return
    if not isinstance(clients.Client, SharedClients):
        clients.Client = SharedClients(clients.Client)
