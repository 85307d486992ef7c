"""Reads a collection of statements with pymongo: cuts it into parts, and reads a part."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)

from schemas.reject import CONTENT_LIMIT
from schemas.times import millis_of, utc
from transforms.reading.activity import TOO_LONG
from transforms.reading.blocks import CHUNK, Block, Broken
from transforms.reading.limits import MAX_LINE
from transforms.reading.positions import OVERLAP_MS, Position
from transforms.sinks.lacks import lack_in, no_descriptor
from transforms.sources.base import Patience, SourceError, StoppedError, Stopping
from transforms.sources.credentials import login
from transforms.sources.documents import DocumentError, canonical_line, decoded
from transforms.sources.mongo_collection import PASSWORD, USERNAME, MongoCollection, Selection

RANGE_DOCUMENTS = 20_000
"""About how many documents one worker reads at a time."""

_TYPES = ("objectId", "string", "number", "binData")
"""The types of `_id` that are cut into ranges: a range is of one type, since a comparison finds one type only."""

_TIMEOUTS = {"serverSelectionTimeoutMS": 10_000, "connectTimeoutMS": 10_000, "socketTimeoutMS": 60_000}

_TEMPORARY_CODES = frozenset((6, 7, 43, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436))
"""Codes by which a server says that it, or the way to it, is away for now."""

_REFUSED_CODES = frozenset((13, 18, 8000))
"""Codes by which it refuses the login, or what the login may do."""

T = TypeVar("T")
_Documents = Collection[RawBSONDocument]


def selections_of(
    source: MongoCollection, stopping: Stopping, environment: Mapping[str, str] = os.environ
) -> Iterator[Selection]:
    """The parts of a collection, or of what is new in it. Together they hold each document once.

    An end of the last range of each type is open. So a document that is written meanwhile may be read as well.

    Args:
        source: the collection.
        stopping: whether to end early.
        environment: holds the credentials.

    Raises:
        SourceError: the collection cannot be read.
        StoppedError: the run is to stop.
    """
    with _opened(source, environment) as client:
        documents = _collection(client, source)
        patience = Patience(source.name, source.access, stopping)
        latest = millis_of(_tried(lambda: client.admin.command("hello"), patience, source)["localTime"])
        position = source.position
        if position is None or not position.is_known:
            if _tried(lambda: _is_all_object_ids(documents), patience, source):
                yield from _ranges(documents, source, "objectId", {}, patience, latest)
                return
            for type_ in _TYPES:
                yield from _ranges(documents, source, type_, {}, patience, latest)
            rest = {"_id": {"$not": {"$type": list(_TYPES)}}}
            yield Selection(bson.encode(rest), False, "_id of other types", latest)
            return
        first = ObjectId(f"{max(position.created - OVERLAP_MS // 1000, 0):08x}" + 16 * "0")
        yield from _ranges(documents, source, "objectId", {"$gte": first}, patience, latest)
        yield Selection(bson.encode(_late(first, position)), False, "stored later", latest)


def _is_all_object_ids(documents: _Documents) -> bool:
    """Whether every `_id` is an ObjectId, as Learning Locker makes them: the first and the last one are.

    The index of `_id` has one type after the other, so both are found at once. To ask for what has no such `_id` would
    make a server read every document.
    """
    ends = [document for way in (1, -1) for document in documents.find({}, {"_id": 1}).sort("_id", way).limit(1)]
    return bool(ends) and all(isinstance(document["_id"], ObjectId) for document in ends)


def _late(first: ObjectId, position: Position) -> dict[str, Any]:
    """What is new by its `stored`, of what is not new by an `_id` from `first` on."""
    since = utc(max(position.stored - OVERLAP_MS, 0))
    other = {"_id": {"$not": {"$type": "objectId"}}, "stored": {"$not": {"$lt": since}}}
    if not position.stored:
        return other
    return {"$or": [{"_id": {"$lt": first}, "stored": {"$gte": since}}, other]}


def _ranges(
    documents: _Documents, source: MongoCollection, type_: str, bound: dict[str, Any], patience: Patience, latest: int
) -> Iterator[Selection]:
    """Walks through the index of `_id` in steps, so that each range has as many documents as any other."""
    while True:
        condition = {"$type": type_, **bound}

        def next_end(condition: dict[str, Any] = condition) -> list[RawBSONDocument]:
            """The last of the range, and one that follows."""
            found = documents.find({"_id": condition}, {"_id": 1}).sort("_id", 1)
            return list(found.skip(RANGE_DOCUMENTS - 1).limit(2))

        ends = _tried(next_end, patience, source)
        after = next(iter(bound.values()), None)
        label = f"_id {type_}" if after is None else f"_id after {after}"
        if len(ends) < 2:
            yield Selection(bson.encode({"_id": condition}), True, label, latest)
            return
        end = bson.decode(ends[0].raw)["_id"]
        yield Selection(bson.encode({"_id": {**condition, "$lte": end}}), True, label, latest)
        bound = {"$gt": end}


class MongoReader:
    """Reads the documents of a part. See `PartReader`."""

    def __init__(
        self,
        source: MongoCollection,
        selection: Selection,
        stopping: Stopping,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._source = source
        self._selection = selection
        self._stopping = stopping
        self._environment = environment
        self._size = 0
        self._seen: set[bytes] = set()
        """Each `_id` that was read, as BSON, where reading cannot go on from the last one."""
        self._last: Any = None
        self._lines: list[bytes] = []
        """What is read and not given on yet. An error of the connection leaves it as it is."""
        self._lines_size = 0
        self._count = 0
        self._reached = Position()
        self.stopped = False
        self.position: Position | None = None

    def taken(self) -> int:
        size, self._size = self._size, 0
        return size

    def blocks(self) -> Iterator[Block | Broken]:
        source, latest = self._source, self._selection.latest
        patience = Patience(source.name, source.access, self._stopping)
        try:
            with _opened(source, self._environment) as client:
                documents = _collection(client, source)
                while True:
                    try:
                        yield from self._read(documents, patience)
                        break
                    except PyMongoError as error:
                        patience.wait(_temporary(error, source), lack=lack_in(error) or no_descriptor())
        except StoppedError:
            self.stopped = True
            return
        reached = self._reached
        if reached.is_known:
            self.position = Position(min(reached.stored, latest), min(reached.created, latest // 1000))

    def _read(self, documents: _Documents, patience: Patience) -> Iterator[Block | Broken]:
        """The blocks of what is left of the part. When it ends by an error of the driver, it can be called again."""
        for document in self._cursor(documents):
            patience.succeeded()
            self._size += len(document.raw)
            line = self._line(bytes(document.raw))
            if isinstance(line, Broken):
                yield from self._take()
                yield replace(line, position=self._count)
                self._count += 1
            elif line is not None:
                self._lines.append(line)
                self._lines_size += len(line)
                if self._lines_size >= CHUNK:
                    yield from self._take()
        yield from self._take()

    def _take(self) -> Iterator[Block]:
        """What was gathered, as a block."""
        if self._lines:
            block = Block(self._count, self._lines, kind="elements", size=self._lines_size)
            self._count += len(self._lines)
            self._lines, self._lines_size = [], 0
            yield block

    def _cursor(self, documents: _Documents) -> Iterator[RawBSONDocument]:
        query: dict[str, Any] = bson.decode(self._selection.query)
        if not self._selection.by_id:
            return iter(documents.find(query))
        if self._last is not None:
            query["_id"] = {name: value for name, value in query["_id"].items() if name not in ("$gt", "$gte")}
            query["_id"]["$gt"] = self._last
        return iter(documents.find(query).sort("_id", 1))

    def _line(self, raw: bytes) -> bytes | Broken | None:
        """A document as a line; None if it was read before."""
        try:
            document = decoded(raw)
            if self._is_known(document["_id"]):
                return None
            self._reached |= _position_of(document)
            line = canonical_line(document)
        except DocumentError as error:
            if self._is_known(_id_of(raw)):
                return None
            return Broken(0, str(error), raw[:CONTENT_LIMIT], len(raw))
        if len(line) > MAX_LINE:
            return Broken(0, TOO_LONG, line[:CONTENT_LIMIT], len(line))
        return line

    def _is_known(self, id_: Any) -> bool:
        """Whether a document was read already. It is known from now on."""
        if self._selection.by_id:
            self._last = id_
            return False
        known = len(self._seen)
        self._seen.add(bson.encode({"_id": id_}))
        return len(self._seen) == known


def _id_of(raw: bytes) -> Any:
    """The `_id` of a document that cannot be decoded as a whole."""
    try:
        return RawBSONDocument(raw)["_id"]
    except (BSONError, KeyError):
        return raw


def _position_of(document: dict[str, Any]) -> Position:
    stored, id_ = document.get("stored"), document["_id"]
    return Position(
        stored=max(millis_of(stored), 0) if isinstance(stored, datetime) else 0,
        created=millis_of(id_.generation_time) // 1000 if isinstance(id_, ObjectId) else 0,
    )


def _opened(source: MongoCollection, environment: Mapping[str, str]) -> MongoClient[Any]:
    given = login(source.name, source.access.auth, (USERNAME, PASSWORD), environment)
    given_options = source.url.lower()
    options: dict[str, Any] = {
        name: value for name, value in _TIMEOUTS.items() if f"{name.lower()}=" not in given_options
    }
    if given is not None:
        options.update(username=given.user, password=given.password)
    try:
        return MongoClient(source.url, tz_aware=True, **options)
    except (ConfigurationError, InvalidURI, PyMongoError, ValueError) as error:
        # The driver's messages name hosts and options.
        raise SourceError(
            f"{source.name}: is not an address that MongoDB's driver takes ({type(error).__name__})"
        ) from None


def _collection(client: MongoClient[Any], source: MongoCollection) -> _Documents:
    options = CodecOptions(document_class=RawBSONDocument)
    return Collection(client[source.database_name], source.collection_name, codec_options=options)


def _tried(attempt: Callable[[], T], patience: Patience, source: MongoCollection) -> T:
    """What `attempt` returns, tried again as long as patience allows."""
    while True:
        try:
            result = attempt()
        except PyMongoError as error:
            patience.wait(_temporary(error, source), lack=lack_in(error) or no_descriptor())
        else:
            patience.succeeded()
            return result


def _temporary(error: PyMongoError, source: MongoCollection) -> str:
    """The error in a word, if it may pass. Raises SourceError if it will not. The driver's own texts name hosts."""
    code = error.code if isinstance(error, OperationFailure) else None
    if isinstance(error, ConnectionFailure | CursorNotFound) or code in _TEMPORARY_CODES:
        return type(error).__name__
    if code in _REFUSED_CODES:
        raise SourceError(
            f"{source.name}: refuses the login: see {USERNAME}, {PASSWORD} and --input_auth; it needs to be allowed "
            f"to read the collection (code {code})"
        ) from None
    shown = type(error).__name__ if code is None else f"{type(error).__name__}, code {code}"
    raise SourceError(f"{source.name}: cannot be read ({shown})") from None
