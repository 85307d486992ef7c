"""The keys that seal secrets at rest: AES-256-GCM, several keys at a time so that they can be rotated.

A sealed text is `v1.<key's name>.<nonce and ciphertext>`. It is bound to the document it belongs to: somebody who can
write to the store, but has no key, cannot make another document open it.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS = "REGISTRY_KEYS"
KEY_FILE = "REGISTRY_KEY_FILE"
"""Environment variables: the keys themselves, or the path of a file that holds them. The first seals, all open."""

_BYTES = 32
_NONCE = 12
_HOW = f"set {KEYS}, or {KEY_FILE} to a file that holds it; `python -m registry key` makes one"


class KeyringError(Exception):
    """Secrets cannot be sealed or opened. The text says why and what to do, and holds neither key nor secret."""


class Keyring:
    """Seals with its first key, opens with any. Shows no key in its repr, and does not pickle."""

    __slots__ = ("_ciphers",)

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ciphers = {_name(key): AESGCM(key) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def seal(self, text: str, document_id: str) -> str:
        """`text` sealed for the document. Raises KeyringError when there is no key."""
        if not self._ciphers:
            raise KeyringError(f"there is no key to seal secrets with: {_HOW}")
        name, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(_NONCE)
        sealed = cipher.encrypt(nonce, text.encode(), document_id.encode())
        return f"v1.{name}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, document_id: str) -> str:
        """What `seal` was given. Raises KeyringError: no such key, or a text that was altered or moved."""
        version, _, rest = sealed.partition(".")
        name, _, body = rest.partition(".")
        if version != "v1":
            raise KeyringError(f"the secrets of {document_id} are sealed in a way this version does not know")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise KeyringError(
                f"the secrets of {document_id} are sealed with the key {name}, which is not given: {_HOW}"
            )
        try:
            data = base64.urlsafe_b64decode(body)
            return cipher.decrypt(data[:_NONCE], data[_NONCE:], document_id.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise KeyringError(
                f"the secrets of {document_id} do not open: they were altered, or belong to another document"
            ) from None

    def is_current(self, sealed: str) -> bool:
        """Whether `sealed` was sealed with the first key."""
        return sealed.startswith(f"v1.{next(iter(self._ciphers), '')}.")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring does not pickle: each process reads the keys itself")


def new_key() -> str:
    """A key as KEYS and the key file hold it."""
    return base64.urlsafe_b64encode(os.urandom(_BYTES)).decode()


def read_keyring(environment: Mapping[str, str] = os.environ) -> Keyring:
    """The keys that the environment gives, the current one first; none if it gives none. Raises KeyringError."""
    text, path = environment.get(KEYS), environment.get(KEY_FILE)
    if text and path:
        raise KeyringError(f"both {KEYS} and {KEY_FILE} are set: leave one out")
    if path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyringError(f"{KEY_FILE}: the file cannot be read: {_reason(error)}") from None
    return Keyring([_key(word, path or KEYS) for word in re.split(r"[\s,]+", text or "") if word])


def _key(word: str, where: str) -> bytes:
    try:
        key = base64.b64decode(word.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _BYTES:
        raise KeyringError(
            f"{where} holds a key that is not {_BYTES} bytes in base64; `python -m registry key` makes one"
        )
    return key


def _name(key: bytes) -> str:
    return hashlib.sha256(b"session-forwarder registry key" + key).hexdigest()[:8]


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unknown" if isinstance(error, OSError) else "it is not text"
