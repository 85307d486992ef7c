"""A collection of Learning Locker's statements as a source (docs/spec/statement-sources.md section 1).

The collection is cut into ranges of `_id`, which workers read in parallel. pymongo is an extra of the project, so
`transforms.sources.mongo_reading`, which imports it, is imported late.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from transforms.reading.positions import Position
from transforms.sources.base import PartReader, SourceError, SourcePart, StatementSource, Stopping
from transforms.sources.mongo_collection import MongoCollection, Selection


@dataclass(frozen=True, slots=True)
class MongoSource(StatementSource):
    """A collection as a source. See `StatementSource`."""

    collection: MongoCollection

    @property
    def name(self) -> str:
        return self.collection.name

    @property
    def key(self) -> str:
        return self.collection.name

    def going_on_from(self, position: Position | None) -> "MongoSource":
        return MongoSource(replace(self.collection, position=position))

    def split(self, stopping: Stopping) -> Iterator["MongoPart"]:
        _check_driver(self.name)
        from transforms.sources.mongo_reading import selections_of

        for selection in selections_of(self.collection, stopping):
            yield MongoPart(self.collection, selection)


@dataclass(frozen=True, slots=True)
class MongoPart(SourcePart):
    """Documents of a collection that are read by one worker. See `SourcePart`."""

    collection: MongoCollection
    selection: Selection

    @property
    def key(self) -> str:
        return self.collection.name

    @property
    def label(self) -> str:
        return f"{self.collection.name} ({self.selection.label})"

    def reader(self, stopping: Stopping) -> PartReader:
        _check_driver(self.collection.name)
        from transforms.sources.mongo_reading import MongoReader

        return MongoReader(self.collection, self.selection, stopping)


def _check_driver(name: str) -> None:
    """Raises SourceError where pymongo is not installed. name: of the source."""
    try:
        import pymongo  # noqa: F401
    except ImportError:
        raise SourceError(f"{name}: needs the extra: pip install 'session-forwarder[mongodb]' (pymongo)") from None
