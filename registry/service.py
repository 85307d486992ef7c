"""What clients may do with forwarders: access, validation and storage in one place, without HTTP."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from registry import redaction as hidden
from registry.access import Client, Reach
from registry.documents import FaultyDocumentError, created, is_sent_elsewhere, judge, merged
from registry.keyring import Keyring
from registry.stores.base import Draft, NoSuchDocumentError, Snapshot, Store, StoredDocument, seal, whole
from transforms.forwarders import Fault, Rules

JsonObject = dict[str, Any]


class ForbiddenError(Exception):
    """The client may not do this. The text says what it lacks."""


class ChangedError(Exception):
    """The document is not the one the client has seen (If-Match)."""


@dataclass(frozen=True, slots=True)
class Written:
    """A document after a change, and what about it is probably not meant."""

    stored: StoredDocument
    warnings: tuple[Fault, ...]


@dataclass(frozen=True)
class Service:
    """The forwarders of a store, for clients. `rules` are the job's for documents from a service."""

    store: Store
    keyring: Keyring = field(repr=False)
    rules: Rules
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def visible(self, client: Client) -> Snapshot:
        """What the client may view, by `_id`. Raises ForbiddenError."""
        _view(client)
        snapshot = self.store.snapshot(client.organisation)
        if client.view is Reach.ORGANISATION:
            return snapshot
        who = client.view, client.user
        view = snapshot.views.get(who)
        if view is None:
            view = Snapshot(snapshot.version, [one for one in snapshot.documents if client.may_view(one.content)])
            if len(snapshot.views) < _VIEWS:
                snapshot.views[who] = view
        return view

    def get(self, client: Client, document_id: str) -> StoredDocument:
        """Raises NoSuchDocumentError too for a document that the client may not view: it does not learn of it."""
        _view(client)
        stored = self.store.get(document_id)
        if stored is None or not client.may_view(stored.content):
            raise NoSuchDocumentError
        return stored

    def to_edit(self, client: Client, document_id: str) -> StoredDocument:
        """Like `get`, and raises ForbiddenError for a document that the client may view and not edit."""
        stored = self.get(client, document_id)
        _edit(client, stored)
        return stored

    def secrets(self, client: Client, stored: StoredDocument) -> JsonObject:
        """The whole document. Raises ForbiddenError, KeyringError."""
        if not client.delivers:
            raise ForbiddenError("secrets=full needs the scope statementForwarding/deliver")
        return whole(stored, self.keyring)

    def whole(self, stored: StoredDocument) -> JsonObject:
        """The document with its secrets, for use inside the service. Raises KeyringError."""
        return whole(stored, self.keyring)

    def create(self, client: Client, content: JsonObject, duplicates: tuple[str, ...]) -> Written:
        """Raises ForbiddenError, FaultyDocumentError, IdTakenError, KeyringError."""
        _view(client)
        if client.edit is Reach.NOTHING:
            raise ForbiddenError("this client may not create forwarders: it has no edit scope and no user")
        document = created(content, client, self.now())
        if not client.may_edit(document):
            raise ForbiddenError("this client may create public forwarders only: set isPublic to true")
        draft, warnings = self._draft(document, duplicates)
        return Written(self.store.create(draft, client.key), warnings)

    def update(
        self,
        client: Client,
        document_id: str,
        content: JsonObject,
        duplicates: tuple[str, ...],
        is_seen: Callable[[str], bool],
    ) -> Written:
        """Merge `content` into the document. `is_seen` says whether its revision is one the client has seen.

        Raises NoSuchDocumentError, ForbiddenError, ChangedError, FaultyDocumentError, KeyringError.
        """
        warnings: tuple[Fault, ...] = ()

        def change(stored: StoredDocument) -> Draft:
            nonlocal warnings
            self._may_change(client, stored, is_seen)
            before = whole(stored, self.keyring)
            # Merged into what the client is shown: a secret it does not mention stands there as a redaction too.
            shown = merged(stored.content, content, client, self.now())
            document = hidden.restore(shown, before)
            faults = _wanted_anew(shown) if is_sent_elsewhere(before, document) else ()
            draft, warnings = self._draft(document, duplicates, faults)
            return draft

        stored = self.store.update(document_id, change, client.key)
        return Written(stored, warnings)

    def delete(self, client: Client, document_id: str, is_seen: Callable[[str], bool]) -> None:
        """Raises NoSuchDocumentError, ForbiddenError, ChangedError."""
        self.store.delete(document_id, lambda stored: self._may_change(client, stored, is_seen), client.key)

    def _may_change(self, client: Client, stored: StoredDocument, is_seen: Callable[[str], bool]) -> None:
        _view(client)
        if not client.may_view(stored.content):
            raise NoSuchDocumentError
        _edit(client, stored)
        if not is_seen(stored.revision):
            raise ChangedError

    def _draft(
        self, document: JsonObject, duplicates: tuple[str, ...], found: Sequence[Fault] = ()
    ) -> tuple[Draft, tuple[Fault, ...]]:
        """What is to be stored, and warnings. Raises FaultyDocumentError with the faults that were `found` too."""
        try:
            warnings = judge(document, self.rules, duplicates)
        except FaultyDocumentError as error:
            raise FaultyDocumentError([*error.faults, *found], error.warnings) from None
        faults = [*found, *_faults(document, hidden.redactions(document), _NOTHING_KEPT)]
        if faults:
            # Of an inactive document too: what nobody can fill in again must not look like a secret that is there.
            raise FaultyDocumentError(faults, warnings)
        return seal(document, self.keyring), warnings


def _wanted_anew(shown: JsonObject) -> list[Fault]:
    """A fault for each secret that is kept, of a document that is to send to another host.

    Kept, it would be sent there: whoever may edit could read what only the deliver scope may.
    """
    return _faults(shown, [path for path in hidden.redactions(shown) if path[0] == "configuration"], _WANTED_ANEW)


def _faults(document: JsonObject, paths: Iterable[hidden.Path], message: str) -> list[Fault]:
    return [Fault(str(document["_id"]), "the request", ".".join(map(str, path)), message) for path in paths]


_VIEWS: Final = 100
"""Views of one snapshot that are remembered, for users who do not see all of it: lists of its documents, no copies."""

_WANTED_ANEW = "is kept for the protocol and host it was stored with, and those change: write the secret anew"
_NOTHING_KEPT = "is a redaction, and no secret is stored that it could stand for: write the secret"


def _view(client: Client) -> None:
    if client.view is Reach.NOTHING:
        raise ForbiddenError("this client has neither a scope nor a user: it may see and change nothing")


def _edit(client: Client, stored: StoredDocument) -> None:
    if not client.may_edit(stored.content):
        raise ForbiddenError("this client may view this forwarder and not change it")
