"""The keys that seal secrets at rest, with AES-256-GCM. Several keys are held at a time, so that they can be rotated.

A sealed text is `v1.<key's name>.<nonce and ciphertext>`. It opens for the document that it was sealed for alone:
somebody who can write to the store, but has no key, cannot move it into a document of their own to have it sent there.
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
"""The environment variable that holds the keys. The first key seals, and every key opens."""

KEY_FILE = "REGISTRY_KEY_FILE"
"""The environment variable that holds the path of a file with the keys instead."""

_BYTES = 32
_NONCE = 12
"""Bytes of a key and of a nonce."""

_HOW = f"set {KEYS}, or {KEY_FILE} to a file that holds it; `python -m registry key` makes one"


class KeyringError(Exception):
    """Secrets cannot be sealed or opened. The text says why and what to do, and holds neither key nor secret."""


class Keyring:
    """Seals with its first key, and opens with any. Its repr shows no key, and it does not pickle.

    Args:
        keys: of 32 bytes each. With none, nothing can be sealed or opened.
    """

    __slots__ = ("_ciphers",)

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ciphers = {_name(key): AESGCM(key) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def seal(self, text: str, document_id: str) -> str:
        """Seal a text for a document. Raises KeyringError if there is no key."""
        if not self._ciphers:
            raise KeyringError(f"there is no key to seal secrets with: {_HOW}")
        name, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(_NONCE)
        sealed = cipher.encrypt(nonce, text.encode(), document_id.encode())
        return f"v1.{name}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, document_id: str) -> str:
        """The text that `seal` was given.

        Raises:
            KeyringError: its key is not among these, it was altered, or it was sealed for another document.
        """
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
        """Whether a text was sealed with the first key."""
        return sealed.startswith(f"v1.{next(iter(self._ciphers), '')}.")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring does not pickle: each process reads the keys itself")


def new_key() -> str:
    """A new key, as `KEYS` and the key file hold it: 32 random bytes in base64."""
    return base64.urlsafe_b64encode(os.urandom(_BYTES)).decode()


def read_keyring(environment: Mapping[str, str] = os.environ) -> Keyring:
    """The keys that the environment gives.

    Args:
        environment: holds `KEYS`, or `KEY_FILE`, or neither.

    Raises:
        KeyringError: both are given, the file cannot be read, or what is there is no key.
    """
    text, path = environment.get(KEYS), environment.get(KEY_FILE)
    if text and path:
        raise KeyringError(f"both {KEYS} and {KEY_FILE} are set: leave one out")
    if path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyringError(f"{KEY_FILE}: the file cannot be read: {_reason(error)}") from None
    return Keyring([_key(word, path or KEYS) for word in re.split(r"[\s,\ufeff]+", text or "") if word])


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
