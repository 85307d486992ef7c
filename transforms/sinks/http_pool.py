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

    Attributes:
        idle: its kept connections, the one that was used last at the end.
        waiting: its requests that wait for a place or for a connection, in turn.
    """

    __slots__ = ("idle", "waiting")

    def __init__(self) -> None:
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
        # Homes that have requests waiting, the one whose turn is next first.
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
        if self._taken < self._places or self.close_oldest():
            self._taken += 1
            return None
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        home.waiting.append(turn)
        self._turns.setdefault(home)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.put_back(home, turn.result())
            raise

    def put_back(self, home: Home, connection: Connection | None) -> None:
        """Keep a connection, if it can serve again; or give its place to whoever waits. None: only the place."""
        if connection is not None and not connection.is_open:
            connection = None
        if self._turns:
            now = self._loop.time()
            own = home if connection is not None and now < connection.made_at + TURN_SECONDS else None
            turn, other = self._next_turn(own)
            if turn is not None:
                if connection is not None and other is not home:
                    connection.abort()
                    connection = None
                turn.set_result(connection)
                return
        if connection is None:
            self._taken -= 1
            return
        connection.idle_since = self._loop.time()
        self._idle[connection] = home
        home.idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_SECONDS, self._close_idle)

    def _next_turn(self, own: Home | None) -> tuple[asyncio.Future[Connection | None] | None, Home | None]:
        """The request that goes next, of `own` if that has one waiting; and whose it is."""
        while self._turns:
            home = own if own in self._turns else next(iter(self._turns))
            while home.waiting:
                turn = home.waiting.popleft()
                if not turn.done():
                    # The next turn is another forwarder's.
                    del self._turns[home]
                    if home.waiting:
                        self._turns[home] = None
                    return turn, home
            del self._turns[home]
        return None, None

    def close_oldest(self) -> bool:
        """Close the kept connection that was not used for the longest time; false if there is none."""
        connection = next(iter(self._idle), None)
        if connection is None:
            return False
        self._remove(connection)
        connection.abort()
        self._taken -= 1
        return True

    def lost(self, connection: Connection) -> None:
        """A connection was closed. If it was kept, its place is free."""
        if connection in self._idle:
            self._remove(connection)
            self._taken -= 1

    def empty(self, home: Home) -> None:
        """Close all kept connections of a home."""
        while (connection := self.kept(home)) is not None:
            connection.abort()
            self._taken -= 1

    def close(self) -> None:
        """Look for idle connections no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _remove(self, connection: Connection) -> None:
        self._idle.pop(connection).idle.remove(connection)

    def _close_idle(self) -> None:
        self._timer = None
        now = self._loop.time()
        while (oldest := next(iter(self._idle), None)) is not None:
            left = oldest.idle_since + IDLE_SECONDS - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._close_idle)
                return
            self.close_oldest()
