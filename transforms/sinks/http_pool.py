"""The connections of all HTTP forwarders of a worker, within one limit."""

import asyncio
from collections import deque

from transforms.sinks.http_connection import Connection

IDLE_SECONDS = 15.0
"""Seconds after which a connection that is not used is closed. Many receivers close theirs a little later."""


TURN_SECONDS = 0.25
"""Seconds that a connection serves its own forwarder before it gives its place to one that waits: to dial is dear."""


class Home:
    """What one forwarder has of the pool.

    Args:
        most: connections that it may have.

    Attributes:
        open: connections that it has, in use or kept, or that are being dialled.
        idle: its kept connections, the one that was used last at the end.
        waiting: its requests that wait for a connection or for a place, in turn.
    """

    __slots__ = ("idle", "most", "open", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.idle: list[Connection] = []
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()


class Pool:
    """Says who may open a connection, and keeps those that are not in use. It lives on one asyncio loop.

    Each connection has a place, from before it is dialled until it is closed. If no place is left, the kept connection
    that was not used for the longest time is closed, whosever it is. If all are in use, forwarders wait in turn.

    Args:
        places: connections that there may be at a time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int) -> None:
        self._loop = loop
        self._places = places
        self._taken = 0
        # In the order in which they became idle.
        self._idle: dict[Connection, Home] = {}
        # Homes with requests that wait for a place, the one whose turn is next first.
        self._turns: dict[Home, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def kept(self, home: Home) -> Connection | None:
        """Take a kept connection of this home; None if there is none."""
        if not home.idle:
            return None
        connection = home.idle.pop()
        del self._idle[connection]
        return connection

    async def place(self, home: Home) -> Connection | None:
        """Wait for a place for a new connection. Gives a kept connection of the home if one comes free first."""
        if home.open < home.most and (self._taken < self._places or self.close_oldest()):
            self._take(home)
            return None
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        home.waiting.append(turn)
        if home.open < home.most:
            self._turns.setdefault(home)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.put_back(home, turn.result())
            raise

    def put_back(self, home: Home, connection: Connection | None) -> None:
        """Keep a connection, if it can serve again; or give its place to whoever waits. None: only the place."""
        if connection is None or not connection.is_open:
            self._free(home)
            return
        now = self._loop.time()
        if self._turns and now >= connection.made_at + TURN_SECONDS and next(iter(self._turns)) is not home:
            connection.abort()
            self._free(home)
            return
        if (turn := _next(home)) is not None:
            if home in self._turns:
                # It has had a turn: the others are before it now.
                del self._turns[home]
                if home.waiting:
                    self._turns[home] = None
            turn.set_result(connection)
            return
        if self._turns:
            connection.abort()
            self._free(home)
            return
        connection.idle_since = now
        self._idle[connection] = home
        home.idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_SECONDS, self._close_idle)

    def close_oldest(self) -> bool:
        """Close the kept connection that was not used for the longest time; false if there is none."""
        connection = next(iter(self._idle), None)
        if connection is None:
            return False
        connection.abort()
        self.lost(connection)
        return True

    def lost(self, connection: Connection) -> None:
        """A connection was closed. If it was kept, its place is free."""
        home = self._idle.pop(connection, None)
        if home is not None:
            home.idle.remove(connection)
            self._free(home)

    def empty(self, home: Home) -> None:
        """Close all kept connections of a home."""
        while (connection := self.kept(home)) is not None:
            connection.abort()
            self._free(home)

    def _take(self, home: Home) -> None:
        self._taken += 1
        home.open += 1

    def _free(self, home: Home) -> None:
        """A place is free: give it to the home whose turn it is."""
        self._taken -= 1
        home.open -= 1
        if home.waiting:
            self._turns.setdefault(home)
        while self._turns and self._taken < self._places:
            next_home = next(iter(self._turns))
            del self._turns[next_home]
            if (turn := _next(next_home)) is None:
                continue
            self._take(next_home)
            turn.set_result(None)
            if next_home.waiting and next_home.open < next_home.most:
                self._turns[next_home] = None

    def close(self) -> None:
        """Look for idle connections no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_idle(self) -> None:
        self._timer = None
        now = self._loop.time()
        while (oldest := next(iter(self._idle), None)) is not None:
            left = oldest.idle_since + IDLE_SECONDS - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._close_idle)
                return
            self.close_oldest()


def _next(home: Home) -> "asyncio.Future[Connection | None] | None":
    """The home's request that goes next; None if none waits."""
    while home.waiting:
        turn = home.waiting.popleft()
        if not turn.done():
            return turn
    return None
