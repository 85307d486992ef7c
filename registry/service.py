"""What clients may do with forwarders: access, validation and storage in one place, without HTTP."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from registry import redaction
from registry.access import Client, Reach
from registry.documents import FaultyDocumentError, created, is_sent_elsewhere, judge, merged, restored
from registry.keyring import Keyring
from registry.stores.base import Draft, Edit, NoSuchDocumentError, Snapshot, Store, StoredDocument, seal, whole
from schemas.json_values import JsonObject
from transforms.forwarders import Fault, Rules

_MOST_VIEWS = 100
"""Views that one snapshot remembers, for users who do not see all of it. A view is a list, its documents no copies."""

_WANTED_ANEW = "is kept for the protocol and host it was stored with, and those change: write the secret anew"
_NOTHING_KEPT = "is a redaction, and no secret is stored that it could stand for: write the secret"
_LOST = "the document that is stored cannot be given back, nor changed: delete it, and create it anew"


class ForbiddenError(Exception):
    """The client may not do this. The text says what it lacks."""


class NoSuchEditError(Exception):
    """There is no such change of the document, or what the document was then is not kept."""


class ChangedError(Exception):
    """The document is not the one that the client has seen (`If-Match`)."""


@dataclass(frozen=True, slots=True)
class Written:
    """A document after a change, and what in it is probably not meant."""

    stored: StoredDocument
    warnings: tuple[Fault, ...]


@dataclass(frozen=True)
class Service:
    """The forwarders of a store, for clients.

    Attributes:
        keyring: seals the secrets that are stored, and opens them.
        rules: the job's, for documents from a service.
        now: gives the present time.
    """

    store: Store
    keyring: Keyring = field(repr=False)
    rules: Rules
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def visible(self, client: Client) -> Snapshot:
        """The documents that the client may view.

        Raises:
            ForbiddenError: the client may view nothing at all.
        """
        _check_view(client)
        snapshot = self.store.snapshot(client.organisation)
        if client.view is Reach.ORGANISATION:
            return snapshot
        viewer = client.view, client.user
        view = snapshot.views.get(viewer)
        if view is None:
            documents = [stored for stored in snapshot.documents if client.may_view(stored.content)]
            view = Snapshot(snapshot.version, documents)
            if len(snapshot.views) < _MOST_VIEWS:
                snapshot.views[viewer] = view
        return view

    def get(self, client: Client, document_id: str) -> StoredDocument:
        """One document, its secrets redacted.

        Raises:
            ForbiddenError: the client may view nothing at all.
            NoSuchDocumentError: there is no such document, or the client may not view it and is not to learn of it.
        """
        _check_view(client)
        stored = self.store.get(document_id)
        if stored is None or not client.may_view(stored.content):
            raise NoSuchDocumentError
        return stored

    def to_edit(self, client: Client, document_id: str) -> StoredDocument:
        """One document that the client may change.

        Raises:
            ForbiddenError, NoSuchDocumentError: as `get`; ForbiddenError also if the client may view it only.
        """
        stored = self.get(client, document_id)
        _check_edit(client, stored)
        return stored

    def secrets(self, client: Client, stored: StoredDocument) -> JsonObject:
        """The document with its secrets, for a client.

        Raises:
            ForbiddenError: the client has not the scope that reads secrets.
            KeyringError: the secrets cannot be opened.
        """
        if not client.delivers:
            raise ForbiddenError("secrets=full needs the scope statementForwarding/deliver")
        return whole(stored, self.keyring)

    def whole(self, stored: StoredDocument) -> JsonObject:
        """The document with its secrets, for use inside of the service. Raises KeyringError."""
        return whole(stored, self.keyring)

    def create(
        self, client: Client, content: JsonObject, duplicates: tuple[str, ...], *, untried: bool = False
    ) -> Written:
        """Make a new document of what a client sends.

        Args:
            duplicates: the paths of keys that occur twice in `content`.
            untried: it is to be tried before it is active. It is judged as if it were, and is not.

        Raises:
            ForbiddenError: the client may not create this document.
            FaultyDocumentError: the document breaks rules.
            IdTakenError: its id is, or was, another document's.
            KeyringError: it has secrets, and there is no key to seal them.
        """
        _check_view(client)
        if client.edit is Reach.NOTHING:
            raise ForbiddenError("this client may not create forwarders: it has no edit scope and no user")
        document = created(content, client, self.now())
        if not client.may_edit(document):
            raise ForbiddenError("this client may create public forwarders only: set isPublic to true")
        if untried:
            judge({**document, "active": True}, self.rules, duplicates)
            document["active"] = False
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
        """Merge what a client sends into a document.

        Args:
            content: the changes; null takes a field away.
            duplicates: the paths of keys that occur twice in `content`.
            is_seen: says of a revision whether it is the one that the client has seen.

        Raises:
            NoSuchDocumentError, ForbiddenError: as `to_edit`.
            ChangedError: the document's revision is not one that the client has seen.
            FaultyDocumentError: the document would break rules.
            KeyringError: secrets cannot be opened or sealed.
        """
        warnings: tuple[Fault, ...] = ()

        def change(stored: StoredDocument) -> Draft:
            nonlocal warnings
            self._check_change(client, stored, is_seen)
            if stored.problem is not None:
                # Merged with the little that is known of it, a document would lose the rest.
                raise FaultyDocumentError([Fault(stored.id, "the store", "", f"{_LOST}: {stored.problem}")])
            # Merged into what the client is shown: a secret that it does not mention stands there as a redaction, too.
            shown = merged(stored.content, content, client, self.now())
            draft, warnings = self._changed(stored, shown, duplicates)
            return draft

        stored = self.store.update(document_id, change, client.key)
        return Written(stored, warnings)

    def edits(self, client: Client, document_id: str) -> Sequence[Edit]:
        """The changes that were made to a document, the latest first. Their contents hold no secret.

        What the document was while the client might not have viewed it, such as before it was public, is left out.

        Raises:
            NoSuchDocumentError, ForbiddenError: as `get`.
        """
        self.get(client, document_id)
        return [
            edit if edit.content is None or client.may_view(edit.content) else replace(edit, content=None)
            for edit in self.store.edits(document_id)
        ]

    def restore(self, client: Client, document_id: str, version: str, is_seen: Callable[[str], bool]) -> Written:
        """Make a document again what it was after an earlier change. Its secrets stay those that it has now.

        Args:
            version: of the change.
            is_seen: says of a revision whether it is the one that the client has seen.

        Raises:
            NoSuchEditError: there is no such change, or what the document was then is not kept.
            NoSuchDocumentError, ForbiddenError, ChangedError, KeyringError: as `update`.
            FaultyDocumentError: the document would break rules; or it had a secret that is gone, or was sent to another
                host, and the secret must be written anew.
        """
        warnings: tuple[Fault, ...] = ()
        edits = self.edits(client, document_id)
        earlier = next((edit.content for edit in edits if edit.version == version), None)
        if earlier is None:
            raise NoSuchEditError

        def change(stored: StoredDocument) -> Draft:
            nonlocal warnings
            self._check_change(client, stored, is_seen)
            shown = restored(earlier, stored.content, client, self.now())
            draft, warnings = self._changed(stored, shown, ())
            return draft

        stored = self.store.update(document_id, change, client.key)
        return Written(stored, warnings)

    def duplicate(self, client: Client, document_id: str) -> Written:
        """Make a copy of a document, with its secrets, under a new id. It is not active.

        Raises:
            NoSuchDocumentError, ForbiddenError: as `to_edit`.
            FaultyDocumentError, KeyringError: as `create`.
        """
        stored = self.to_edit(client, document_id)
        if stored.problem is not None:
            raise FaultyDocumentError([Fault(stored.id, "the store", "", f"{_LOST}: {stored.problem}")])
        document = whole(stored, self.keyring)
        copy = {name: value for name, value in document.items() if name not in ("_id", "createdAt", "updatedAt")}
        name = document.get("description")
        copy["description"] = f"Copy of {name if isinstance(name, str) and name else document_id}"
        return self.create(client, {**copy, "active": False}, ())

    def _changed(
        self, stored: StoredDocument, shown: JsonObject, duplicates: tuple[str, ...]
    ) -> tuple[Draft, tuple[Fault, ...]]:
        """What is to be stored in a document's place, and warnings. Raises FaultyDocumentError, KeyringError.

        Args:
            shown: what the document is to be, with redactions for the secrets that stay.
        """
        before = whole(stored, self.keyring)
        document = redaction.restore(shown, before)
        faults = _wanted_anew(shown) if is_sent_elsewhere(before, document) else ()
        return self._draft(document, duplicates, faults)

    def delete(self, client: Client, document_id: str, is_seen: Callable[[str], bool]) -> None:
        """Delete a document.

        Raises:
            NoSuchDocumentError, ForbiddenError, ChangedError: as `update`.
        """
        self.store.delete(document_id, lambda stored: self._check_change(client, stored, is_seen), client.key)

    def _check_change(self, client: Client, stored: StoredDocument, is_seen: Callable[[str], bool]) -> None:
        _check_view(client)
        if not client.may_view(stored.content):
            raise NoSuchDocumentError
        _check_edit(client, stored)
        if not is_seen(stored.revision):
            raise ChangedError

    def _draft(
        self, document: JsonObject, duplicates: tuple[str, ...], more_faults: Sequence[Fault] = ()
    ) -> tuple[Draft, tuple[Fault, ...]]:
        """What is to be stored of a document, and warnings. Raises FaultyDocumentError, with `more_faults` too."""
        try:
            warnings = judge(document, self.rules, duplicates)
        except FaultyDocumentError as error:
            raise FaultyDocumentError([*error.faults, *more_faults], error.warnings) from None
        faults = [*more_faults, *_faults_at(document, redaction.redactions(document), _NOTHING_KEPT)]
        if faults:
            # Of an inactive document, too: a redaction must not look like a secret that is stored when there is none.
            raise FaultyDocumentError(faults, warnings)
        return seal(document, self.keyring), warnings


def _wanted_anew(shown: JsonObject) -> list[Fault]:
    """A fault for each secret that is kept in a document that is to send to another host.

    If it were kept it would be sent there, and whoever may edit could read what only the deliver scope may.
    """
    paths = [path for path in redaction.redactions(shown) if path[0] == "configuration"]
    return _faults_at(shown, paths, _WANTED_ANEW)


def _faults_at(document: JsonObject, paths: Iterable[redaction.Path], message: str) -> list[Fault]:
    return [Fault(str(document["_id"]), "the request", ".".join(map(str, path)), message) for path in paths]


def _check_view(client: Client) -> None:
    if client.view is Reach.NOTHING:
        raise ForbiddenError("this client has neither a scope nor a user: it may see and change nothing")


def _check_edit(client: Client, stored: StoredDocument) -> None:
    if not client.may_edit(stored.content):
        raise ForbiddenError("this client may view this forwarder and not change it")
