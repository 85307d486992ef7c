"""What the service needs of a store. `registry.stores.open` opens the store that a url names."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from registry import redaction
from registry.credentials import StoredClient
from registry.keyring import Keyring
from schemas.json_values import JsonObject
from transforms.forwarders.values import INVALID, value_faults

logger = logging.getLogger(__name__)


class StoreError(Exception):
    """The store cannot be opened or used. The text says which and what to do; it holds no credential."""


class StoreFullError(StoreError):
    """There is no room left where the store is. What it holds can still be read."""


class IdTakenError(Exception):
    """There is a document of this id, or there was one of another organisation."""


class NoSuchDocumentError(Exception):
    """There is no document of this id."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that is to be stored.

    Attributes:
        content: the document, with redactions in the places of its secrets.
        sealed: the secrets, sealed; None if there are none.
    """

    content: JsonObject
    sealed: str | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The document's `_id`."""
        return str(self.content["_id"])

    @property
    def organisation(self) -> str | None:
        """The organisation that the document belongs to; None if it names none."""
        organisation = self.content.get("organisation")
        return organisation if isinstance(organisation, str) else None


@dataclass(frozen=True, slots=True)
class StoredDocument(Draft):
    """A document as the store has it. Readers share it, so its content must not be changed.

    Attributes:
        revision: another one after every change.
        unsealed: secrets that the store holds in the clear, because another program has written them, as Learning
            Locker does, or an earlier version of this one.
        problem: why the document that is stored cannot be given back; None if it can. `content` has what is known of
            it, and this reason.
    """

    revision: str = ""
    unsealed: tuple[tuple[redaction.Path, Any], ...] = field(default=(), repr=False)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents as of one moment. It does not change, and readers share it with what they computed from it.

    Attributes:
        version: another one once any of the documents has changed.
        documents: in the order of their ids.
        answers: a cache of lists: the documents that a query matches, in an order, by `(query, order)`
            (`registry.filters.listed`).
        views: a cache of snapshots: the documents that a user may see, by `(reach, user)`
            (`registry.service.Service.visible`).
        orders: a cache of the page's sorted lists, by what they are sorted by (`registry.directory`).
    """

    version: str
    documents: Sequence[StoredDocument]
    answers: dict[Any, list[StoredDocument]] = field(default_factory=dict, repr=False, compare=False)
    views: dict[Any, "Snapshot"] = field(default_factory=dict, repr=False, compare=False)
    orders: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """Somebody who has signed in on the page.

    Attributes:
        token_hash: what is kept of the token that the browser holds.
        client: the key of the client.
        created_at: when it began, in epoch milliseconds.
        seen_at: when it was last used, in epoch milliseconds; no more exact than a minute.
    """

    token_hash: str
    client: str
    created_at: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class Edit:
    """A change that was made to a document.

    Attributes:
        version: names it among those of the document.
        action: `create`, `update` or `delete`.
        by: the key of the client who did it, or the command.
        at: RFC 3339.
        content: the document as it was from then on, with redactions in the places of its secrets; None of a deletion,
            and where it is not kept: of all but the latest EDITS_KEPT, and of what an earlier version of the store has
            written.
    """

    version: str
    action: str
    by: str
    at: str
    content: JsonObject | None = None


EDITS_KEPT = 100
"""Changes of one document of which a store keeps what the document was. Of all others it keeps who made them, and when.
"""


Change = Callable[[StoredDocument], Draft]
"""Takes a document as it is and returns what it is to become. If it raises, the document stays as it is."""


_KNOWN_OF_INVALID = ("_id", "organisation", "owner", "isPublic", "active", "createdAt", "updatedAt")
"""Fields that are shown of a document that cannot be shown: who may see it, and whether it is to forward."""


def stored_document(content: JsonObject, sealed: str | None, revision: str) -> StoredDocument:
    """A document as it was read from a store.

    What an earlier version, or another program, has stored may be nothing that can be given back. Then `content` holds
    what is known of the document, and `_invalid` says why, so that lists and runs go on without it.
    """
    found = [f"{path} {message}" for path, message in value_faults(content)]
    if not found and content.get(INVALID) is not None:
        found = [f"{INVALID} is the service's own field"]
    if found:
        return invalid_document(content, "; ".join(found), sealed, revision)
    shown, unsealed = redaction.split(content)
    return StoredDocument(shown, sealed, revision, tuple(unsealed))


def edited_content(text: str | None) -> JsonObject | None:
    """The content of an edit, as a store has kept it; None if there is none that can be given back.

    What is known as a secret by now and was not when it was written is hidden, too.
    """
    try:
        content = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    stored = stored_document(content, None, "") if isinstance(content, dict) else None
    return None if stored is None or stored.problem is not None else stored.content


def invalid_document(known: JsonObject, problem: str, sealed: str | None, revision: str) -> StoredDocument:
    """A stored document that cannot be given back.

    Args:
        known: as much of it as could be read.
        problem: why it cannot be given back.
    """
    content = {name: known[name] for name in _KNOWN_OF_INVALID if name in known}
    shown = {name: value for name, value in content.items() if not value_faults({name: value})}
    return StoredDocument({**shown, INVALID: problem}, sealed, revision, problem=problem)


class Store(Protocol):
    """Documents, clients and their sessions.

    Safe to use from several threads, and while other processes use the same store. Every method raises
    StoreError when the store does not answer, and StoreFullError when it has no room.
    """

    def get(self, document_id: str) -> StoredDocument | None:
        """The document of this id; None if there is none."""
        ...

    def snapshot(self, organisation: str | None) -> Snapshot:
        """The documents of one organisation as they are now; with None, of all organisations."""
        ...

    def create(self, draft: Draft, by: str) -> StoredDocument:
        """Store a new document.

        Args:
            by: the key of the client who does it.

        Raises:
            IdTakenError: the id is another document's, or was one of another organisation.
            FaultyDocumentError: the store could not give the document back as it is.
        """
        ...

    def update(self, document_id: str, change: Change, by: str) -> StoredDocument:
        """Store what `change` makes of a document.

        Args:
            change: is given the latest state, and no other change comes between. It may be called more than once.
            by: the key of the client who does it.

        Raises:
            NoSuchDocumentError: there is no such document.
            FaultyDocumentError: the store could not give the document back as it is.
            Exception: whatever `change` raises.
        """
        ...

    def delete(self, document_id: str, check: Callable[[StoredDocument], None], by: str) -> None:
        """Delete a document, unless `check` raises.

        Args:
            check: is given the latest state, as `change` of `update` is.
            by: the key of the client who does it.

        Raises:
            NoSuchDocumentError: there is no such document.
            Exception: whatever `check` raises.
        """
        ...

    def edits(self, document_id: str, limit: int = EDITS_KEPT) -> Sequence[Edit]:
        """The changes that were made to a document, the latest first, at most `limit`. There may be none."""
        ...

    def client(self, key: str) -> StoredClient | None:
        """The client of this key; None if there is none."""
        ...

    def clients(self) -> Sequence[StoredClient]:
        """All clients, by organisation and age."""
        ...

    def add_client(self, client: StoredClient) -> None:
        """Store a new client, with the present time."""
        ...

    def remove_client(self, key: str) -> bool:
        """Delete a client, and end its sessions. Returns whether there was one."""
        ...

    def organisation_name(self, organisation: str) -> str | None:
        """What people call an organisation; None if nobody said."""
        ...

    def name_organisation(self, organisation: str, name: str) -> None:
        """Say what people call an organisation."""
        ...

    def session(self, token_hash: str) -> StoredSession | None:
        """The session of this token; None if there is none."""
        ...

    def add_session(self, session: StoredSession) -> None:
        """Store a new session."""
        ...

    def touch_session(self, token_hash: str, seen_at: int) -> None:
        """Say when a session was last used. One that has ended stays so."""
        ...

    def remove_session(self, token_hash: str) -> None:
        """Delete a session, if there is one."""
        ...

    def remove_sessions(self, created_before: int, seen_before: int) -> None:
        """Delete the sessions that began, or were last used, before a time in epoch milliseconds."""
        ...

    def check(self) -> None:
        """Ask the store for an answer, and whether it has room for changes."""
        ...

    def close(self) -> None:
        """Let go of the store. No other method may be called afterwards."""
        ...


def seal(document: JsonObject, keyring: Keyring) -> Draft:
    """Make a whole document ready to be stored. Raises KeyringError if it has secrets and there is no key."""
    shown, secrets = redaction.split(document)
    if not secrets:
        return Draft(shown)
    text = json.dumps([[list(path), value] for path, value in secrets], allow_nan=False, separators=(",", ":"))
    return Draft(shown, keyring.seal(text, str(document["_id"])))


def whole(stored: StoredDocument, keyring: Keyring) -> JsonObject:
    """The document with its secrets; one that cannot be given back has none. Raises KeyringError."""
    if stored.problem is not None:
        return stored.content
    secrets = list(stored.unsealed)
    if stored.sealed is not None:
        opened = json.loads(keyring.open(stored.sealed, stored.id))
        secrets += [(tuple(path), value) for path, value in opened]
    return redaction.join(stored.content, secrets) if secrets else stored.content


def reseal(store: Store, keyring: Keyring, by: str) -> int:
    """Seal every secret with the current key that is sealed with another one, or not at all.

    Args:
        by: what the store notes as the author of the changes.

    Returns:
        How many documents were changed.

    Raises:
        KeyringError: the secrets of a document do not open. Documents that came before it stay changed.
    """
    changed = 0
    for stored in store.snapshot(None).documents:
        if not _is_stale(stored, keyring):
            continue
        if stored.problem is not None:
            logger.warning("forwarder %s cannot be sealed anew: %s", stored.id, stored.problem)
            continue

        def sealed_anew(latest: StoredDocument) -> Draft:
            return seal(whole(latest, keyring), keyring)

        try:
            store.update(stored.id, sealed_anew, by)
            changed += 1
        except NoSuchDocumentError:
            pass  # It was deleted since it was listed.
    return changed


def _is_stale(stored: StoredDocument, keyring: Keyring) -> bool:
    return bool(stored.unsealed) or (stored.sealed is not None and not keyring.is_current(stored.sealed))
