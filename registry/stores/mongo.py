"""A store in a MongoDB collection, which may be Learning Locker's own `statementForwarding`.

Documents look as Learning Locker's do: ids that have the form of an ObjectId are one, and times are dates. One field,
`_registry`, is this service's own. It holds a revision, and the sealed secrets, in whose places the document has
redactions. A document that Learning Locker has written holds its secrets in the clear. They are taken out of it when it
is read, and sealed when it is next changed here, or by `python -m registry rotate`.
"""

import hashlib
import logging
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, InvalidURI, PyMongoError, WriteError
from pymongo.uri_parser import parse_uri

from registry.access import Client
from registry.credentials import StoredClient
from registry.documents import FaultyDocumentError, as_json, check_keepable
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
    stored_document,
)
from schemas.json_values import JsonObject
from schemas.times import millis_of, now_ms, rfc3339
from transforms.forwarders import Fault
from transforms.forwarders.secrets import trimmed
from transforms.query.extended_json import parse_date

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A document that another program has stored may hold texts that are not UTF-8, or dates beyond the year 9999. It is
# found out when it is looked at, by itself. Read strictly, it would end the reading of all.
_LENIENT: CodecOptions[JsonObject] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="surrogateescape",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

USERNAME = "REGISTRY_MONGODB_USERNAME"
PASSWORD = "REGISTRY_MONGODB_PASSWORD"  # noqa: S105 - a variable's name
COLLECTION = "statementForwarding"

_OURS = "_registry"
_IDS = ("_id", "organisation", "owner", "lrs_id")
_DATES = ("createdAt", "updatedAt")
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_LATEST_FIRST = [("at", -1), ("_id", -1)]
_TRIES = 200
_TIMEOUTS = {"serverSelectionTimeoutMS": 10_000, "socketTimeoutMS": 30_000}
"""How long the server is waited for, in milliseconds, unless the url says otherwise. pymongo itself would for ever."""

_OUT_OF_DISK_SPACE = 14031
"""The code of MongoDB's error of that name."""


def mongo_store(url: str, environment: Mapping[str, str] | None = None) -> "MongoStore":
    """Open a store. It need not answer yet.

    Args:
        url: `mongodb://host/database[.collection]`, with any options that pymongo knows.
        environment: holds user name and password; None: the environment of this process.

    Raises:
        StoreError: the url names no store, or holds a user.
    """
    environment = os.environ if environment is None else environment
    try:
        parsed = parse_uri(url, validate=True)
    except (InvalidURI, ValueError, PyMongoError):
        # pymongo's own message may hold the whole url.
        raise StoreError(
            "the store's url cannot be read: mongodb://host:port/database[.collection][?options]"
        ) from None
    if parsed["username"] is not None or parsed["password"] is not None:
        raise StoreError(f"the store's url holds a user: leave it out, and set {USERNAME} and {PASSWORD}")
    if not parsed["database"]:
        raise StoreError("the store's url names no database: mongodb://host:port/database[.collection]")
    name = parsed["collection"] or COLLECTION
    login: dict[str, Any] = {
        "username": trimmed(environment.get(USERNAME, "")),
        "password": trimmed(environment.get(PASSWORD, "")),
    }
    # Without the collection: pymongo would take its name for a part of the database's.
    bare = url.replace(f"/{parsed['database']}.{parsed['collection']}", f"/{parsed['database']}", 1)
    given = {name: value for name, value in login.items() if value}
    given |= {name: value for name, value in _TIMEOUTS.items() if name not in parsed["options"]}
    try:
        client: MongoClient[JsonObject] = MongoClient(bare, tz_aware=True, **given)
    except PyMongoError as error:
        raise StoreError(f"the store cannot be opened: {type(error).__name__}") from None
    return MongoStore(client[parsed["database"]][name])


class MongoStore:
    """The store in a collection, and in five more beside it.

    `..._registry_clients` holds the clients, `..._registry_sessions` who has signed in, `..._registry_organisations`
    what organisations are called, `..._registry_deleted` the ids of deleted documents with their organisations, and
    `..._registry_changes` who changed which document, when, and what it was from then on. A change is written there
    after it was made: one that another program has made is not there.
    """

    def __init__(self, collection: Collection[JsonObject]) -> None:
        self._forwarders = collection.with_options(codec_options=_LENIENT)
        self._clients = collection.database[f"{collection.name}_registry_clients"]
        self._deleted = collection.database[f"{collection.name}_registry_deleted"]
        self._changes = collection.database[f"{collection.name}_registry_changes"]
        self._sessions = collection.database[f"{collection.name}_registry_sessions"]
        self._organisations = collection.database[f"{collection.name}_registry_organisations"]
        self._changes = collection.database[f"{collection.name}_registry_changes"]
        self._writing = threading.Lock()
        self._is_indexed = False

    def get(self, document_id: str) -> StoredDocument | None:
        with _store_errors():
            raw = self._forwarders.find_one({"_id": _either(document_id)})
        return None if raw is None else _stored(raw)

    def snapshot(self, organisation: str | None) -> Snapshot:
        query = {} if organisation is None else {"organisation": _either(organisation)}
        with _store_errors():
            documents = [_stored(raw) for raw in self._forwarders.find(query)]
        documents.sort(key=lambda stored: stored.id)
        digest = hashlib.sha256("\n".join(f"{stored.id} {stored.revision}" for stored in documents).encode())
        return Snapshot(digest.hexdigest()[:16], documents)

    def create(self, draft: Draft, by: str) -> StoredDocument:
        raw = _checked_raw(draft)
        with _store_errors():
            before = self._deleted.find_one({"_id": draft.id})
            # An id that another organisation has used stays theirs, since receipts of its deliveries name it.
            if before is not None and before["organisation"] != draft.organisation:
                raise IdTakenError
            # An id that is a text in one document may be an ObjectId in another.
            if self._forwarders.find_one({"_id": _either(draft.id)}) is not None:
                raise IdTakenError
            try:
                self._forwarders.insert_one(raw)
            except DuplicateKeyError:
                raise IdTakenError from None
            except (WriteError, InvalidDocument, BSONError, OverflowError) as error:
                if _is_full(error):
                    raise
                raise _unstorable(draft, type(error).__name__) from None
        stored = _stored(raw)
        self._note(stored, "create", by)
        return stored

    def update(self, document_id: str, change: Change, by: str) -> StoredDocument:
        def put(raw: JsonObject) -> StoredDocument | None:
            draft = change(_stored(raw))
            new = {**_checked_raw(draft), "_id": raw["_id"]}
            try:
                done = self._forwarders.replace_one(_unchanged(raw), new).matched_count
            except (WriteError, InvalidDocument, BSONError, OverflowError) as error:
                if _is_full(error):
                    raise
                raise _unstorable(draft, type(error).__name__) from None
            return _stored(new) if done else None

        stored = self._with_latest(document_id, put)
        self._note(stored, "update", by)
        return stored

    def delete(self, document_id: str, check: Callable[[StoredDocument], None], by: str) -> None:
        def remove(raw: JsonObject) -> StoredDocument | None:
            stored = _stored(raw)
            check(stored)
            self._deleted.replace_one(
                {"_id": stored.id}, {"_id": stored.id, "organisation": stored.organisation}, upsert=True
            )
            return stored if self._forwarders.delete_one(_unchanged(raw)).deleted_count else None

        self._note(self._with_latest(document_id, remove), "delete", by)

    def edits(self, document_id: str, limit: int = EDITS_KEPT) -> Sequence[Edit]:
        with _store_errors():
            found = list(self._changes.find({"id": document_id}).sort(_LATEST_FIRST).limit(limit))
        return [
            Edit(str(raw["_id"]), raw["action"], raw["by"], raw["at"], edited_content(raw.get("content")))
            for raw in found
        ]

    def _note(self, stored: StoredDocument, action: str, by: str) -> None:
        """Write down a change that was made. That it cannot be written is logged: the change itself is not undone."""
        note: JsonObject = {"id": stored.id, "organisation": stored.organisation, "action": action, "by": by}
        if action != "delete":
            # As a text: the names in it are not MongoDB's to read.
            note["content"] = as_json(stored.content)
        try:
            if not self._is_indexed:
                self._changes.create_index([("id", 1), *_LATEST_FIRST])
                self._is_indexed = True
            self._changes.insert_one({**note, "at": rfc3339(now_ms())})
            kept = {"id": stored.id, "content": {"$exists": True}}
            older = self._changes.find(kept, {"_id": 1}).sort(_LATEST_FIRST).skip(EDITS_KEPT)
            if ids := [raw["_id"] for raw in older]:
                self._changes.update_many({"_id": {"$in": ids}}, {"$unset": {"content": ""}})
        except PyMongoError as error:
            logger.error("the %s of forwarder %s is not in its history: %s", action, stored.id, type(error).__name__)

    def _with_latest(self, document_id: str, attempt: Callable[[JsonObject], T | None]) -> T:
        """Call `attempt` with the document as it is, and again each time that it returns None.

        None says that the document was changed between being read and being written.
        """
        # The threads of this process take turns, so only another process can have changed it.
        with self._writing, _store_errors():
            for _ in range(_TRIES):
                raw = self._forwarders.find_one({"_id": _either(document_id)})
                if raw is None:
                    raise NoSuchDocumentError
                done = attempt(raw)
                if done is not None:
                    return done
                time.sleep(random.random() * 0.02)  # noqa: S311 - no secret: to get out of step with other processes
        raise StoreError(f"{document_id} is changed by others all the time: try again")

    def client(self, key: str) -> StoredClient | None:
        with _store_errors():
            raw = self._clients.find_one({"_id": key})
        return None if raw is None else _client(raw)

    def clients(self) -> Sequence[StoredClient]:
        with _store_errors():
            clients = [_client(raw) for raw in self._clients.find({})]
        return sorted(clients, key=lambda stored: (stored.client.organisation, stored.created_at, stored.client.key))

    def add_client(self, client: StoredClient) -> None:
        row = {
            "_id": client.client.key,
            "secret_hash": client.secret_hash,
            "organisation": client.client.organisation,
            "user": client.client.user,
            "scopes": sorted(client.client.scopes),
            "created_at": rfc3339(now_ms()),
            "name": client.name,
        }
        with _store_errors():
            self._clients.insert_one(row)

    def remove_client(self, key: str) -> bool:
        with _store_errors():
            self._sessions.delete_many({"client": key})
            return self._clients.delete_one({"_id": key}).deleted_count > 0

    def organisation_name(self, organisation: str) -> str | None:
        with _store_errors():
            raw = self._organisations.find_one({"_id": organisation})
        return None if raw is None else str(raw["name"])

    def name_organisation(self, organisation: str, name: str) -> None:
        with _store_errors():
            self._organisations.replace_one({"_id": organisation}, {"_id": organisation, "name": name}, upsert=True)

    def session(self, token_hash: str) -> StoredSession | None:
        with _store_errors():
            raw = self._sessions.find_one({"_id": token_hash})
        return None if raw is None else StoredSession(token_hash, raw["client"], raw["created_at"], raw["seen_at"])

    def add_session(self, session: StoredSession) -> None:
        row = {
            "_id": session.token_hash,
            "client": session.client,
            "created_at": session.created_at,
            "seen_at": session.seen_at,
        }
        with _store_errors():
            self._sessions.insert_one(row)

    def touch_session(self, token_hash: str, seen_at: int) -> None:
        with _store_errors():
            self._sessions.update_one({"_id": token_hash}, {"$set": {"seen_at": seen_at}})

    def remove_session(self, token_hash: str) -> None:
        with _store_errors():
            self._sessions.delete_one({"_id": token_hash})

    def remove_sessions(self, created_before: int, seen_before: int) -> None:
        old = [{"created_at": {"$lt": created_before}}, {"seen_at": {"$lt": seen_before}}]
        with _store_errors():
            self._sessions.delete_many({"$or": old})

    def check(self) -> None:
        with _store_errors():
            self._forwarders.find_one({}, {"_id": 1})

    def close(self) -> None:
        self._forwarders.database.client.close()


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        if _is_full(error):
            raise StoreFullError("there is no room left where the MongoDB store is: nothing can be changed") from error
        # The driver's messages name hosts and options. The type of the error says enough for an answer.
        raise StoreError(f"the MongoDB store does not answer: {type(error).__name__}") from error


def _is_full(error: Exception) -> bool:
    return getattr(error, "code", None) == _OUT_OF_DISK_SPACE


def _unstorable(draft: Draft, why: str) -> FaultyDocumentError:
    hint = "; write the query as a text" if isinstance(draft.content.get("query"), dict) else ""
    return FaultyDocumentError([Fault(draft.id, "the store", "", f"cannot be stored in MongoDB: {why}{hint}")])


def _either(text: str) -> Any:
    """A condition of a query that finds an id as a text and as an ObjectId."""
    return {"$in": [ObjectId(text), text]} if _OBJECT_ID.fullmatch(text) else text


def _unchanged(raw: JsonObject) -> JsonObject:
    """A query that finds a document only as long as it is as it was read.

    It goes by this service's revision, and by the time that Learning Locker sets when it changes a document.
    """
    ours = raw.get(_OURS)
    revision = {_OURS: {"$exists": False}} if ours is None else {f"{_OURS}.revision": ours["revision"]}
    seen = {"updatedAt": raw["updatedAt"]} if "updatedAt" in raw else {"updatedAt": {"$exists": False}}
    return {"_id": raw["_id"], **revision, **seen}


def _stored(raw: JsonObject) -> StoredDocument:
    ours = raw.get(_OURS) or {}
    document = {name: _from_bson(value) for name, value in raw.items() if name != _OURS}
    seen = f"{ours.get('revision', '')} {document.get('updatedAt')} {document.get('__v')}"
    revision = hashlib.sha256(seen.encode(errors="surrogatepass")).hexdigest()[:16]
    return stored_document(document, ours.get("sealed"), revision)


def _checked_raw(draft: Draft) -> JsonObject:
    """What is to be stored of a draft.

    Raises:
        FaultyDocumentError: it would not come back as it is: it has a name that MongoDB or its drivers read otherwise.
    """
    check_keepable(draft.content)
    faults = [
        Fault(draft.id, "the store", path, "is a name that MongoDB may not hold: no $ at its beginning, and no dot")
        for name, value in draft.content.items()
        # The names in a query are operators and paths, of which a server says itself whether it takes them.
        for path in _odd_names({name: value} if name != "query" else {}, "")
    ]
    if faults:
        raise FaultyDocumentError(faults)
    raw = _raw(draft)
    try:
        kept = _stored(bson.decode(bson.encode(raw), _LENIENT)).content
    except (BSONError, OverflowError) as error:
        raise _unstorable(draft, type(error).__name__) from None
    if kept != draft.content:
        raise _unstorable(draft, "it would not be given back as it is")
    return raw


def _odd_names(value: object, path: str) -> Iterator[str]:
    """The places of the names that a MongoDB before version 5 refuses."""
    if isinstance(value, dict):
        for name, member in value.items():
            place = f"{path}.{name}" if path else name
            if name.startswith("$") or "." in name:
                yield place
            else:
                yield from _odd_names(member, place)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _odd_names(member, f"{path}[{index}]")


def _raw(draft: Draft) -> JsonObject:
    raw: JsonObject = dict(draft.content)
    for name in _IDS:
        if isinstance(raw.get(name), str) and _OBJECT_ID.fullmatch(raw[name]):
            raw[name] = ObjectId(raw[name])
    for name in _DATES:
        date = parse_date(raw[name]) if isinstance(raw.get(name), str) else None
        if date is not None:
            raw[name] = date
    return {**raw, _OURS: {"revision": secrets.token_hex(8), "sealed": draft.sealed}}


def _from_bson(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_bson(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_from_bson(member) for member in value]
    if isinstance(value, datetime):
        return rfc3339(millis_of(value))
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    return value if isinstance(value, float) else str(value)


def _client(raw: JsonObject) -> StoredClient:
    client = Client(raw["_id"], raw["organisation"], raw["user"], frozenset(raw["scopes"]))
    return StoredClient(client, raw["secret_hash"], raw["created_at"], raw.get("name", ""))
