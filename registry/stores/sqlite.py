"""A store in one SQLite file, for any number of threads and processes of one machine.

Every change of a document is also a row of the table `change`, written in the same transaction: who changed what, and
when, and what the document was from then on, with redactions in the places of its secrets. The row's number is the
document's revision. The number of the latest row is the version of all documents, and
tells a reader which documents to read again to bring its copy in memory up to date.
"""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.access import Client
from registry.credentials import StoredClient
from registry.documents import as_json, check_keepable
from registry.stores.base import (
    EDITS_KEPT,
    Change,
    Draft,
    Edit,
    IdTakenError,
    NoSuchDocumentError,
    Snapshot,
    StoredDocument,
    StoredSession,
    StoreError,
    StoreFullError,
    edited_content,
    invalid_document,
    stored_document,
)
from schemas.times import now_ms, rfc3339

# One entry for each version of the file. `PRAGMA user_version` counts those that were applied, so an entry that was
# released must not be changed.
_MIGRATIONS = (
    """
    CREATE TABLE change (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        organisation TEXT,
        action TEXT NOT NULL,
        by TEXT NOT NULL,
        at TEXT NOT NULL
    );
    CREATE INDEX change_of_document ON change (id, number);
    CREATE TABLE forwarder (
        id TEXT PRIMARY KEY,
        organisation TEXT,
        content TEXT NOT NULL,
        sealed TEXT,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE client (
        key TEXT PRIMARY KEY,
        secret_hash TEXT NOT NULL,
        organisation TEXT NOT NULL,
        user TEXT,
        scopes TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE client ADD COLUMN name TEXT NOT NULL DEFAULT '';
    CREATE TABLE organisation (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE session (
        token_hash TEXT PRIMARY KEY,
        client TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX session_of_client ON session (client);
    """,
    "ALTER TABLE change ADD COLUMN content TEXT;",
)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite says when there is no room: a disk or a quota that is used up, or none for the file beside the store."""

_NO_ROOM = "there is no room left where the SQLite store is: nothing can be changed until somebody makes some"

_ROOM = 4 * 1024 * 1024
"""Bytes that are enough for the largest document: in the file, and in the log of changes beside it."""

_LEAST_ROOM = 64 * 1024
"""Bytes without which next to nothing can be changed."""

_BUSY_SECONDS = 60.0
"""How long a writer waits for another process's."""


@dataclass
class _Copy:
    """The documents in memory.

    Attributes:
        number: of the change that the copy is as of.
        documents: by id.
        ids: all ids in their order; None until somebody asks for a list.
        snapshots: those that were asked for, by organisation; None stands for all organisations.
    """

    number: int = 0
    documents: dict[str, StoredDocument] = field(default_factory=dict)
    ids: list[str] | None = None
    snapshots: dict[str | None, Snapshot] = field(default_factory=dict)


class SqliteStore:
    """The store in a file, which is made if it is not there.

    Writers take turns (`BEGIN IMMEDIATE`). A change is on the disk before the method that makes it returns
    (`synchronous=FULL`).

    Args:
        path: of the file. SQLite keeps two more beside it, `-wal` and `-shm`.

    Raises:
        StoreError: the file cannot be opened, or was made by a newer version.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise StoreError("sqlite:/// names no file: sqlite:///relative/path or sqlite:////absolute/path")
        self._path = path
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._is_full = False
        try:
            # Only its owner may read the file, from the start. SQLite gives the files beside it the same mode.
            Path(path).touch(mode=0o600)
            self._writer = self._connect()
            self._migrate()
            self._reader = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from None
        self._copy = _Copy()

    def get(self, document_id: str) -> StoredDocument | None:
        with self._reading, _store_errors():
            return self._latest().documents.get(document_id)

    def snapshot(self, organisation: str | None) -> Snapshot:
        with self._reading, _store_errors():
            copy = self._latest()
            snapshot = copy.snapshots.get(organisation)
            if snapshot is None:
                snapshot = copy.snapshots[organisation] = _snapshot_of(copy, organisation)
            return snapshot

    def create(self, draft: Draft, by: str) -> StoredDocument:
        with _store_errors(), self._transaction() as connection:
            before = connection.execute(
                "SELECT organisation, action FROM change WHERE id = ? ORDER BY number DESC LIMIT 1", (draft.id,)
            ).fetchone()
            # An id that another organisation has used stays theirs, since receipts of its deliveries name it.
            if before is not None and (before[1] != "delete" or before[0] != draft.organisation):
                raise IdTakenError
            return self._put(connection, draft, "create", by)

    def update(self, document_id: str, change: Change, by: str) -> StoredDocument:
        with _store_errors(), self._transaction() as connection:
            return self._put(connection, change(_find(connection, document_id)), "update", by)

    def delete(self, document_id: str, check: Callable[[StoredDocument], None], by: str) -> None:
        with _store_errors(), self._transaction() as connection:
            stored = _find(connection, document_id)
            check(stored)
            _note(connection, stored, "delete", by, None)
            connection.execute("DELETE FROM forwarder WHERE id = ?", (document_id,))

    def edits(self, document_id: str, limit: int = EDITS_KEPT) -> Sequence[Edit]:
        with self._reading, _store_errors():
            rows = self._reader.execute(
                "SELECT number, action, by, at, content FROM change WHERE id = ? ORDER BY number DESC LIMIT ?",
                (document_id, limit),
            ).fetchall()
        return [Edit(str(number), action, by, at, edited_content(text)) for number, action, by, at, text in rows]

    def client(self, key: str) -> StoredClient | None:
        clients = self._clients("WHERE key = ?", key)
        return clients[0] if clients else None

    def clients(self) -> Sequence[StoredClient]:
        return self._clients("ORDER BY organisation, created_at, key")

    def add_client(self, client: StoredClient) -> None:
        key, organisation, user = client.client.key, client.client.organisation, client.client.user
        scopes = json.dumps(sorted(client.client.scopes))
        row = (key, client.secret_hash, organisation, user, scopes, rfc3339(now_ms()), client.name)
        with _store_errors(), self._transaction() as connection:
            connection.execute(
                "INSERT INTO client (key, secret_hash, organisation, user, scopes, created_at, name) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def remove_client(self, key: str) -> bool:
        with _store_errors(), self._transaction() as connection:
            connection.execute("DELETE FROM session WHERE client = ?", (key,))
            return connection.execute("DELETE FROM client WHERE key = ?", (key,)).rowcount > 0

    def organisation_name(self, organisation: str) -> str | None:
        row = self._read_one("SELECT name FROM organisation WHERE id = ?", organisation)
        return None if row is None else str(row[0])

    def name_organisation(self, organisation: str, name: str) -> None:
        with _store_errors(), self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO organisation VALUES (?, ?)", (organisation, name))

    def session(self, token_hash: str) -> StoredSession | None:
        columns = "token_hash, client, created_at, seen_at"
        row = self._read_one(f"SELECT {columns} FROM session WHERE token_hash = ?", token_hash)  # noqa: S608
        return None if row is None else StoredSession(*row)

    def add_session(self, session: StoredSession) -> None:
        row = (session.token_hash, session.client, session.created_at, session.seen_at)
        with _store_errors(), self._transaction() as connection:
            connection.execute("INSERT INTO session VALUES (?, ?, ?, ?)", row)

    def touch_session(self, token_hash: str, seen_at: int) -> None:
        with _store_errors(), self._transaction() as connection:
            connection.execute("UPDATE session SET seen_at = ? WHERE token_hash = ?", (seen_at, token_hash))

    def remove_session(self, token_hash: str) -> None:
        with _store_errors(), self._transaction() as connection:
            connection.execute("DELETE FROM session WHERE token_hash = ?", (token_hash,))

    def remove_sessions(self, created_before: int, seen_before: int) -> None:
        with _store_errors(), self._transaction() as connection:
            connection.execute("DELETE FROM session WHERE created_at < ? OR seen_at < ?", (created_before, seen_before))

    def check(self) -> None:
        with _store_errors():
            with self._reading:
                self._latest()
            if _free_bytes(self._path) < (_ROOM if self._is_full else _LEAST_ROOM):
                raise StoreFullError(_NO_ROOM)
            if self._is_full:
                # There is room, as far as the file system says. A quota may say otherwise.
                with self._transaction() as connection:
                    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def close(self) -> None:
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        # The locks see to it that one thread at a time uses a connection.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _migrate(self) -> None:
        with self._transaction() as connection:
            # Looked up inside of the transaction, so that of several that open a new file one brings it up to date.
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise StoreError(f"the store {self._path} was made by a newer version of this service ({version})")
            for script in _MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException as error:
                # After some errors, such as that of a full disk, SQLite has rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                self._is_full = self._is_full or _is_full(error)
                raise
            self._is_full = False

    def _put(self, connection: sqlite3.Connection, draft: Draft, action: str, by: str) -> StoredDocument:
        check_keepable(draft.content)
        text = as_json(draft.content)
        revision = _note(connection, draft, action, by, text)
        connection.execute(
            "INSERT INTO forwarder VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "organisation = excluded.organisation, content = excluded.content, sealed = excluded.sealed, "
            "revision = excluded.revision",
            (draft.id, draft.organisation, text, draft.sealed, revision),
        )
        return StoredDocument(draft.content, draft.sealed, str(revision))

    def _clients(self, clause: str, *values: str) -> list[StoredClient]:
        columns = "key, organisation, user, scopes, secret_hash, created_at, name"
        with self._reading, _store_errors():
            rows = self._reader.execute(f"SELECT {columns} FROM client {clause}", values).fetchall()  # noqa: S608
        return [
            StoredClient(Client(key, organisation, user, frozenset(json.loads(scopes))), secret_hash, created_at, name)
            for key, organisation, user, scopes, secret_hash, created_at, name in rows
        ]

    def _read_one(self, query: str, value: str) -> Any:
        """The row that a query finds by a value; None if there is none."""
        with self._reading, _store_errors():
            return self._reader.execute(query, (value,)).fetchone()

    def _latest(self) -> _Copy:
        """The copy in memory, brought up to date. The caller holds `_reading`."""
        copy = self._copy
        (number,) = self._reader.execute("SELECT max(number) FROM change").fetchone()
        if number is None or number == copy.number:
            return copy
        # One statement sees one state of the file. Between two statements a change could be missed, or seen in part.
        rows = self._reader.execute(
            "SELECT c.last, c.id, f.organisation, f.content, f.sealed, f.revision FROM "
            "(SELECT id, max(number) AS last FROM change WHERE number > ? GROUP BY id) c "
            "LEFT JOIN forwarder f ON f.id = c.id",
            (copy.number,),
        ).fetchall()
        documents = dict(copy.documents)
        for last, document_id, *row in rows:
            number = max(number, last)
            if row[1] is None:
                documents.pop(document_id, None)
            else:
                documents[document_id] = _stored(document_id, *row)
        is_same = documents.keys() == copy.documents.keys()
        self._copy = _Copy(number, documents, copy.ids if is_same else None)
        return self._copy


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if _is_full(error):
            raise StoreFullError(_NO_ROOM) from error
        # What SQLite says may hold a path. The type of the error says enough for an answer.
        raise StoreError(f"the SQLite store does not answer: {type(error).__name__}") from error


def _free_bytes(path: str) -> int:
    """The bytes that may still be written where a file is."""
    return shutil.disk_usage(Path(path).resolve().parent).free


def _is_full(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _FULL


def _snapshot_of(copy: _Copy, organisation: str | None) -> Snapshot:
    ids = copy.ids
    if ids is None:
        ids = copy.ids = sorted(copy.documents)
    documents = [copy.documents[document_id] for document_id in ids]
    if organisation is not None:
        documents = [stored for stored in documents if stored.content.get("organisation") == organisation]
    return Snapshot(str(copy.number), documents)


def _find(connection: sqlite3.Connection, document_id: str) -> StoredDocument:
    columns = "organisation, content, sealed, revision"
    row = connection.execute(f"SELECT {columns} FROM forwarder WHERE id = ?", (document_id,)).fetchone()  # noqa: S608
    if row is None:
        raise NoSuchDocumentError
    return _stored(document_id, *row)


def _stored(document_id: str, organisation: str | None, text: str, sealed: str | None, revision: int) -> StoredDocument:
    """The document in a row of the table `forwarder`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return stored_document(content, sealed, str(revision))
    # It may be one that forwards. A run is to refuse it then, and not to go on as if there were no such forwarder.
    known = {"_id": document_id, "organisation": organisation, "active": True}
    return invalid_document(known, "what the store holds is no JSON object", sealed, str(revision))


def _note(connection: sqlite3.Connection, draft: Draft, action: str, by: str, content: str | None) -> Any:
    """Write down a change, and return its number. What the document was long ago is forgotten."""
    number = connection.execute(
        "INSERT INTO change (id, organisation, action, by, at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (draft.id, draft.organisation, action, by, rfc3339(now_ms()), content),
    ).lastrowid
    connection.execute(
        "UPDATE change SET content = NULL WHERE content IS NOT NULL AND id = ? AND number <= "
        "(SELECT number FROM change WHERE id = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (draft.id, draft.id, EDITS_KEPT),
    )
    return number
