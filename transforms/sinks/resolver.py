"""Looks up the hosts of receivers: a few threads for all forwarders of a worker."""

import asyncio
import functools
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from transforms.sinks.addresses import AddressInfo

GetAddrInfo = Callable[..., list[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""

LOOK_UPS_AT_ONCE = 16
"""Names that are looked up at a time. One whose name server hangs takes one of them until the C library gives up."""

KEPT_FOR = 10.0
"""Seconds that the addresses of a name are good for."""


class Resolver:
    """Asks the system where a host is, and remembers it for a while. It lives on one asyncio loop.

    Args:
        getaddrinfo: stands in for the system's resolver in tests.
        kept_for: seconds that an answer is good for.
    """

    def __init__(self, getaddrinfo: GetAddrInfo = socket.getaddrinfo, kept_for: float = KEPT_FOR) -> None:
        self._getaddrinfo = getaddrinfo
        self._kept_for = kept_for
        self._threads: ThreadPoolExecutor | None = None
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}

    async def look_up(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, at least one. All who ask for one host at a time share one look-up.

        Raises:
            OSError: the name server says that there is none, or nothing.
            UnicodeError: a label of the name is empty or too long.
            RuntimeError: no thread can be started.
        """
        key = (host, port)
        known = self._known.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="resolver")
            ask = functools.partial(self._getaddrinfo, host, port, type=socket.SOCK_STREAM)
            asking = asyncio.get_running_loop().run_in_executor(self._threads, ask)
            self._asking[key] = asking
            asking.add_done_callback(functools.partial(self._note, key))
        # Whoever loses patience does not end it for the others.
        return await asyncio.shield(asking)

    def forget(self, host: str, port: int) -> None:
        """The addresses turned out to be of no use: the next one asks again."""
        self._known.pop((host, port), None)

    def close(self) -> None:
        """End the threads that are idle. One that waits for a name server ends with its look-up."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self._known.clear()

    def _note(self, key: tuple[str, int], asked: "asyncio.Future[list[AddressInfo]]") -> None:
        del self._asking[key]
        # Asking for the error marks it as seen: all who waited may have gone.
        if not asked.cancelled() and asked.exception() is None:
            self._known[key] = (time.monotonic() + self._kept_for, asked.result())
