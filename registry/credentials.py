"""How clients log in: secrets that are made here and kept as hashes, and a limit on failed logins."""

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
    """A client as a store keeps it.

    Attributes:
        secret_hash: what is kept of its secret.
        created_at: when it was added.
        name: what people call it; empty if nobody said.
    """

    client: Client
    secret_hash: str
    created_at: str = ""
    name: str = ""


def new_secret() -> str:
    """A new secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def new_client_key() -> str:
    """A new key, which nobody else has."""
    return secrets.token_hex(20)


def hash_secret(secret: str) -> str:
    """What is kept of a secret that `new_secret` has made: its salted SHA-256.

    Slow hashes are for secrets that people choose, which can be guessed. These cannot, so a fast hash is as good.
    """
    salt = secrets.token_hex(16)
    return f"sha256${salt}${_digest(salt, secret)}"


def is_secret(secret: str, secret_hash: str) -> bool:
    """Whether a secret is the one that was hashed. The answer takes as long in either case."""
    _, _, rest = secret_hash.partition("$")
    salt, _, digest = rest.partition("$")
    return hmac.compare_digest(_digest(salt, secret), digest)


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}${secret}".encode(errors="surrogatepass")).hexdigest()


_NOBODY = hash_secret(new_secret())


def client_with(key: str, secret: str, find: Callable[[str], StoredClient | None]) -> Client | None:
    """Who logs in: the client of this key, if the secret is right; else None.

    An unknown key takes as long as a wrong secret, so that the time does not tell which keys exist.

    Args:
        find: gives the client of a key.
    """
    stored = find(key) if key else None
    is_right = is_secret(secret, stored.secret_hash if stored is not None else _NOBODY)
    return stored.client if stored is not None and is_right else None


def basic_credentials(header: str) -> tuple[str, str]:
    """Key and secret in a header of basic auth; two empty texts if it is none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    key, _, secret = text.partition(":")
    return key, secret


class LoginLimit:
    """Refuses logins after too many have failed, for the rest of a window of time.

    Failures are counted by address and key. Not by key alone: else anybody could lock out a client whose key they know.
    And not by address alone: else anybody could lock out everybody who comes from the same address, as all do behind a
    proxy. Keys and secrets are made by the service, of 160 and 256 random bits, and are not to be found by trying.
    Right credentials are refused as well meanwhile: else guessing would go on until it is right.

    Args:
        clock: gives seconds; monotonic.
    """

    MOST = 10
    """Failures of one key from one address after which its logins are refused."""

    WINDOW = 60.0
    """Seconds in which failures are counted together."""

    REMEMBERED = 10_000
    """Counts that are kept. The oldest is forgotten when there are more, so that memory is bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def wait(self, address: str, key: str) -> int:
        """Seconds until a login may be tried again; 0 if it may be tried now."""
        with self._lock:
            start, count = self._failures.get((address, _short(key)), (0.0, 0))
            left = start + self.WINDOW - self._clock() if count >= self.MOST else 0.0
        return int(left) + 1 if left > 0 else 0

    def failed(self, address: str, key: str) -> None:
        """Count a failed login."""
        who = address, _short(key)
        with self._lock:
            start, count = self._failures.pop(who, (self._clock(), 0))
            if self._clock() - start >= self.WINDOW:
                start, count = self._clock(), 0
            self._failures[who] = start, count + 1
            while len(self._failures) > self.REMEMBERED:
                self._failures.popitem(last=False)


def _short(key: str) -> str:
    """A digest of a key, so that a count takes the same memory however long a key is sent."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]
