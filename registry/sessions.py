"""Who has signed in on the page: sessions, which a browser holds as a cookie and the store keeps as a hash."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from registry.access import DELIVER, Client
from registry.credentials import new_secret
from registry.stores.base import Store, StoredSession, StoreFullError
from schemas.times import millis_of

USUAL_IDLE = timedelta(hours=2)
"""How long a session lasts without a request, unless the service is told otherwise."""

LONGEST = timedelta(hours=24)
"""How long a session lasts, however much it is used."""

_NOTED = timedelta(minutes=1)
"""How exactly it is noted when a session was last used: a write for each request would cost more than the request."""


class Sessions:
    """The sessions in a store.

    Args:
        store: keeps them; instances of the service that share it share them.
        idle: how long a session lasts without a request.
        now: gives the present time.
    """

    def __init__(self, store: Store, idle: timedelta, now: Callable[[], datetime]) -> None:
        self._store = store
        self._idle = idle
        self._now = now

    def begin(self, client: Client) -> str:
        """Begin a session of a client that has logged in.

        Returns:
            Its token: 256 random bits, which only the client's browser is to have.
        """
        now, token = self._now(), new_secret()
        self._store.remove_sessions(millis_of(now - LONGEST), millis_of(now - self._idle))
        self._store.add_session(StoredSession(_hash(token), client.key, millis_of(now), millis_of(now)))
        return token

    def client(self, token: str) -> Client | None:
        """The client whose session this is; None if it has ended, or the client was removed.

        What a browser shows may be seen by others, so a session never has the scope that reads secrets.
        """
        token_hash, now = _hash(token), self._now()
        session = self._store.session(token_hash)
        if session is None or session.created_at < millis_of(now - LONGEST):
            return None
        if session.seen_at < millis_of(now - self._idle):
            return None
        stored = self._store.client(session.client)
        if stored is None:
            return None
        if session.seen_at < millis_of(now - _NOTED):
            # Where there is no room, what is there can still be looked at.
            with suppress(StoreFullError):
                self._store.touch_session(token_hash, millis_of(now))
        return replace(stored.client, scopes=stored.client.scopes - {DELIVER})

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        self._store.remove_session(_hash(token))


def _hash(token: str) -> str:
    """What is kept of a token. A fast hash will do, as for secrets (`registry.credentials.hash_secret`)."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
