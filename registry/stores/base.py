"""What the service asks of a store. `registry.stores.open` makes the one that a url names."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from registry import redaction as hidden
from registry.credentials import StoredClient
from registry.keyring import Keyring

JsonObject = dict[str, Any]


class StoreError(Exception):
    """The store cannot be opened or used. The text says which and what to do; it holds no credential."""


class IdTakenError(Exception):
    """There is a document of this id, or was one of another organisation."""


class NoSuchDocumentError(Exception):
    """There is no document of this id."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to be stored: `content` with its secrets redacted, and those secrets `sealed` (None: it has none)."""

    content: JsonObject
    sealed: str | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return str(self.content["_id"])

    @property
    def organisation(self) -> str | None:
        organisation = self.content.get("organisation")
        return organisation if isinstance(organisation, str) else None


@dataclass(frozen=True, slots=True)
class StoredDocument(Draft):
    """A document as the store has it. `revision` changes with every change. Shared between readers: never change one.

    `unsealed` are secrets that the store holds in the clear, since another program wrote them (Learning Locker's own).
    """

    revision: str = ""
    unsealed: tuple[tuple[hidden.Path, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents of one moment, by id, and a version that is the same only while they are."""

    version: str
    documents: Sequence[StoredDocument]
    answers: dict[Any, list[StoredDocument]] = field(default_factory=dict, repr=False, compare=False)
    """For whoever asks the snapshot: what they found in it, so that they need not look again."""
    views: dict[Any, "Snapshot"] = field(default_factory=dict, repr=False, compare=False)
    """For whoever shows parts of it: what each user may see."""


Change = Callable[[StoredDocument], Draft]
"""Given a document as it is, makes what it is to become; what it raises leaves the document as it is."""


class Store(Protocol):
    """Documents and clients. Safe to use from several threads, and beside other processes on the same store."""

    def get(self, document_id: str) -> StoredDocument | None: ...

    def snapshot(self, organisation: str | None) -> Snapshot:
        """The documents of one organisation; of all with None."""
        ...

    def create(self, draft: Draft, by: str) -> StoredDocument:
        """Raises IdTakenError. `by` is the key of the client who does it."""
        ...

    def update(self, document_id: str, change: Change, by: str) -> StoredDocument:
        """`change` sees the latest, and nothing comes between. Raises NoSuchDocumentError and what `change` raises."""
        ...

    def delete(self, document_id: str, check: Callable[[StoredDocument], None], by: str) -> None:
        """Like `update`; `check` raises where the document must stay."""
        ...

    def client(self, key: str) -> StoredClient | None: ...
    def clients(self) -> Sequence[StoredClient]: ...
    def add_client(self, client: StoredClient) -> None: ...
    def remove_client(self, key: str) -> bool: ...
    def check(self) -> None:
        """Raises StoreError when the store does not answer."""
        ...

    def close(self) -> None: ...


def seal(document: JsonObject, keyring: Keyring) -> Draft:
    """A whole document as it is to be stored. Raises KeyringError when it has secrets and there is no key."""
    shown, secrets = hidden.split(document)
    if not secrets:
        return Draft(shown)
    text = json.dumps([[list(path), value] for path, value in secrets], separators=(",", ":"))
    return Draft(shown, keyring.seal(text, str(document["_id"])))


def whole(stored: StoredDocument, keyring: Keyring) -> JsonObject:
    """The document with its secrets. Raises KeyringError."""
    secrets = list(stored.unsealed)
    if stored.sealed is not None:
        opened = json.loads(keyring.open(stored.sealed, stored.id))
        secrets += [(tuple(path), value) for path, value in opened]
    return hidden.join(stored.content, secrets) if secrets else stored.content


def reseal(store: Store, keyring: Keyring, by: str) -> int:
    """Seal with the current key what is sealed with another one, or not at all; how many documents that were.

    Raises KeyringError when one does not open; what was done before stays done.
    """
    done = 0
    for stored in store.snapshot(None).documents:
        if not _is_stale(stored, keyring):
            continue

        def sealed_anew(latest: StoredDocument) -> Draft:
            return seal(whole(latest, keyring), keyring)

        try:
            store.update(stored.id, sealed_anew, by)
            done += 1
        except NoSuchDocumentError:
            pass  # deleted since it was listed
    return done


def _is_stale(stored: StoredDocument, keyring: Keyring) -> bool:
    return bool(stored.unsealed) or (stored.sealed is not None and not keyring.is_current(stored.sealed))
