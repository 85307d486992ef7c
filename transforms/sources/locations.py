"""Which source a location names (`--input`)."""

from transforms.reading.input_formats import InputFormatName
from transforms.sources import lrs_url, mongo_collection
from transforms.sources.base import Access, StatementSource
from transforms.sources.mongo import MongoSource
from transforms.sources.mongo_collection import MongoCollection


def is_source(location: str) -> bool:
    """Whether a location is that of a live source, and not of a file."""
    return location.startswith((*lrs_url.SCHEMES, *mongo_collection.SCHEMES))


def source_problem(location: str) -> str | None:
    """What is wrong with the location of a live source; None if nothing is. The text does not repeat the location."""
    if location.startswith(mongo_collection.SCHEMES):
        return mongo_collection.location_problem(location)
    return lrs_url.url_problem(location)


def implied_format(location: str) -> InputFormatName:
    """The format of what the source at a location gives."""
    return "learninglocker" if location.startswith(mongo_collection.SCHEMES) else "xapi"


def source_at(location: str, access: Access) -> StatementSource:
    """The source at a location that `source_problem` has nothing against."""
    if location.startswith(mongo_collection.SCHEMES):
        return MongoSource(MongoCollection(location, access))
    # Late, because it brings an HTTP client, which a run without an LRS need not load.
    from transforms.sources.lrs import LrsSource

    return LrsSource(location, access)
