"""A store in one SQLite file: write-ahead log, migrations, many readers and writers in any number of processes.

Every change is one row of the table `change` in the same transaction. Its number is the document's revision, the
latest of an organisation the version of its documents, and what a reader has to look at to keep its copy in memory up
to date; it also says who changed what, and when.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from registry.access import Client
from registry.credentials import StoredClient
from registry.stores.base import Change, Draft, IdTakenError, NoSuchDocumentError, Snapshot, StoredDocument, StoreError

# One entry for each version of the file; never change one that was released. `PRAGMA user_version` is how many ran.
_MIGRATIONS: Final = (
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
)
_BUSY_SECONDS: Final = 60.0


@dataclass
class _Copy:
    """The documents in memory, as of the change `number`. Lists are made when they are asked for."""

    number: int = 0
    documents: dict[str, StoredDocument] = field(default_factory=dict)
    ids: list[str] | None = None
    snapshots: dict[str | None, Snapshot] = field(default_factory=dict)


class SqliteStore:
    """The store in the file `path`, made if it is not there. Raises StoreError.

    Writers take turns (`BEGIN IMMEDIATE`); a commit is on the disk before it is answered (`synchronous=FULL`).
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise StoreError("sqlite:/// names no file: sqlite:///relative/path or sqlite:////absolute/path")
        self._path = path
        self._reading, self._writing = threading.Lock(), threading.Lock()
        try:
            # For its owner alone from the start; SQLite gives the files beside it the same mode.
            Path(path).touch(mode=0o600)
            self._writer = self._connect()
            self._migrate()
            self._reader = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from None
        self._copy = _Copy()

    def get(self, document_id: str) -> StoredDocument | None:
        with self._reading:
            return self._latest().documents.get(document_id)

    def snapshot(self, organisation: str | None) -> Snapshot:
        with self._reading:
            copy = self._latest()
            found = copy.snapshots.get(organisation)
            if found is None:
                found = copy.snapshots[organisation] = _snapshot_of(copy, organisation)
            return found

    def create(self, draft: Draft, by: str) -> StoredDocument:
        with self._transaction() as connection:
            before = connection.execute(
                "SELECT organisation, action FROM change WHERE id = ? ORDER BY number DESC LIMIT 1", (draft.id,)
            ).fetchone()
            # An id that another organisation used stays theirs: receipts of its deliveries go by it.
            if before is not None and (before[1] != "delete" or before[0] != draft.organisation):
                raise IdTakenError
            return self._put(connection, draft, "create", by)

    def update(self, document_id: str, change: Change, by: str) -> StoredDocument:
        with self._transaction() as connection:
            return self._put(connection, change(_find(connection, document_id)), "update", by)

    def delete(self, document_id: str, check: Callable[[StoredDocument], None], by: str) -> None:
        with self._transaction() as connection:
            stored = _find(connection, document_id)
            check(stored)
            _note(connection, stored, "delete", by)
            connection.execute("DELETE FROM forwarder WHERE id = ?", (document_id,))

    def client(self, key: str) -> StoredClient | None:
        found = self._clients("WHERE key = ?", key)
        return found[0] if found else None

    def clients(self) -> Sequence[StoredClient]:
        return self._clients("ORDER BY organisation, created_at, key")

    def add_client(self, client: StoredClient) -> None:
        one = client.client
        row = (one.key, client.secret_hash, one.organisation, one.user, json.dumps(sorted(one.scopes)), _now())
        with self._transaction() as connection:
            connection.execute("INSERT INTO client VALUES (?, ?, ?, ?, ?, ?)", row)

    def remove_client(self, key: str) -> bool:
        with self._transaction() as connection:
            return connection.execute("DELETE FROM client WHERE key = ?", (key,)).rowcount > 0

    def check(self) -> None:
        try:
            with self._reading:
                self._latest()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self._path} does not answer: {error}") from None

    def close(self) -> None:
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        # Used by one thread at a time, which the locks see to.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _migrate(self) -> None:
        with self._transaction() as connection:
            # Looked up in the transaction: of several that open a new file, one migrates it.
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
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _put(self, connection: sqlite3.Connection, draft: Draft, action: str, by: str) -> StoredDocument:
        revision = _note(connection, draft, action, by)
        text = json.dumps(draft.content, ensure_ascii=False, separators=(",", ":"))
        connection.execute(
            "INSERT INTO forwarder VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "organisation = excluded.organisation, content = excluded.content, sealed = excluded.sealed, "
            "revision = excluded.revision",
            (draft.id, draft.organisation, text, draft.sealed, revision),
        )
        return StoredDocument(draft.content, draft.sealed, str(revision))

    def _clients(self, clause: str, *values: str) -> list[StoredClient]:
        columns = "key, organisation, user, scopes, secret_hash, created_at"
        with self._reading:
            rows = self._reader.execute(f"SELECT {columns} FROM client {clause}", values).fetchall()  # noqa: S608
        return [
            StoredClient(Client(key, organisation, user, frozenset(json.loads(scopes))), secret_hash, created_at)
            for key, organisation, user, scopes, secret_hash, created_at in rows
        ]

    def _latest(self) -> _Copy:
        """The copy, with what was changed since it was last looked at. To be called holding `_reading`."""
        copy = self._copy
        (number,) = self._reader.execute("SELECT max(number) FROM change").fetchone()
        if number is None or number == copy.number:
            return copy
        # One statement sees one state, so that no change between two of them can be missed or mixed in.
        rows = self._reader.execute(
            "SELECT c.last, c.id, f.content, f.sealed, f.revision FROM "
            "(SELECT id, max(number) AS last FROM change WHERE number > ? GROUP BY id) c "
            "LEFT JOIN forwarder f ON f.id = c.id",
            (copy.number,),
        ).fetchall()
        documents = dict(copy.documents)
        for last, document_id, content, sealed, revision in rows:
            number = max(number, last)
            if content is None:
                documents.pop(document_id, None)
            else:
                documents[document_id] = StoredDocument(json.loads(content), sealed, str(revision))
        is_same = documents.keys() == copy.documents.keys()
        self._copy = _Copy(number, documents, copy.ids if is_same else None)
        return self._copy


def _snapshot_of(copy: _Copy, organisation: str | None) -> Snapshot:
    ids = copy.ids
    if ids is None:
        ids = copy.ids = sorted(copy.documents)
    documents = [copy.documents[document_id] for document_id in ids]
    if organisation is not None:
        documents = [stored for stored in documents if stored.content.get("organisation") == organisation]
    return Snapshot(str(copy.number), documents)


def _find(connection: sqlite3.Connection, document_id: str) -> StoredDocument:
    row = connection.execute("SELECT content, sealed, revision FROM forwarder WHERE id = ?", (document_id,)).fetchone()
    if row is None:
        raise NoSuchDocumentError
    content, sealed, revision = row
    return StoredDocument(json.loads(content), sealed, str(revision))


def _note(connection: sqlite3.Connection, draft: Draft, action: str, by: str) -> Any:
    return connection.execute(
        "INSERT INTO change (id, organisation, action, by, at) VALUES (?, ?, ?, ?, ?)",
        (draft.id, draft.organisation, action, by, _now()),
    ).lastrowid


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
