"""Client secrets: made here, kept as hashes, compared in constant time; and a limit on failed logins."""

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from registry.access import Client


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client and the hash of its secret, as a store keeps it."""

    client: Client
    secret_hash: str
    created_at: str = ""


def new_secret() -> str:
    """256 random bits. Nobody chooses a secret, so that a fast hash of one is as good as a slow one."""
    return secrets.token_urlsafe(32)


def new_client_key() -> str:
    return secrets.token_hex(20)


def hash_secret(secret: str) -> str:
    """What is kept of a secret that `new_secret` made: salted SHA-256."""
    salt = secrets.token_hex(16)
    return f"sha256${salt}${_digest(salt, secret)}"


def is_secret(secret: str, secret_hash: str) -> bool:
    """Whether `secret` is the one that was hashed. Takes as long whether it is or not."""
    _, _, rest = secret_hash.partition("$")
    salt, _, digest = rest.partition("$")
    return hmac.compare_digest(_digest(salt, secret), digest)


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}${secret}".encode(errors="surrogatepass")).hexdigest()


_NOBODY = hash_secret(new_secret())


def authenticate(header: str | None, find: Callable[[str], StoredClient | None]) -> tuple[str, Client | None]:
    """The key that an Authorization header names (empty without one), and its client if the secret is right.

    An unknown key costs what a wrong secret does: time does not tell which keys exist.
    """
    key, secret = _basic(header)
    found = find(key) if key else None
    right = is_secret(secret, found.secret_hash if found is not None else _NOBODY)
    return key, found.client if found is not None and right else None


def _basic(header: str | None) -> tuple[str, str]:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    key, _, secret = text.partition(":")
    return key, secret


class LoginLimit:
    """Counts failed logins by address, and by address and key; too many close the door for the rest of the window.

    By address too, because keys can be guessed as well; the key is not enough, or anybody could lock out a client
    whose key they know. While closed, right credentials are refused too: otherwise guessing goes on.
    """

    BY_KEY = 10
    BY_ADDRESS = 100
    WINDOW = 60.0
    REMEMBERED = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def wait(self, address: str, key: str) -> int:
        """Seconds until a login may be tried again; 0 when it may be now."""
        with self._lock:
            left = max(
                self._left((address,), self.BY_ADDRESS),
                self._left((address, _short(key)), self.BY_KEY),
            )
        return int(left) + 1 if left > 0 else 0

    def failed(self, address: str, key: str) -> None:
        with self._lock:
            for who in ((address,), (address, _short(key))):
                start, count = self._failures.pop(who, (self._clock(), 0))
                if self._clock() - start >= self.WINDOW:
                    start, count = self._clock(), 0
                self._failures[who] = start, count + 1
            while len(self._failures) > self.REMEMBERED:
                self._failures.popitem(last=False)

    def _left(self, who: tuple[str, ...], most: int) -> float:
        start, count = self._failures.get(who, (0.0, 0))
        return start + self.WINDOW - self._clock() if count >= most else 0.0


def _short(key: str) -> str:
    """A key for the memory of failures: whatever is sent as one, it takes a bounded place there."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]
