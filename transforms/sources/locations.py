"""Which source a location names (`--input`)."""

import os

from transforms.reading.input_formats import InputFormatName
from transforms.sources import lrs_url, mongo_collection
from transforms.sources.base import Access, SourceError, StatementSource
from transforms.sources.credentials import login
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


def login_problem(location: str, auth: str | None) -> str | None:
    """Why the login of a live source is not to be had in this process; None if it is, or none is given.

    Args:
        location: that `source_problem` has nothing against.
        auth: the reference (`Access.auth`); None: the variables count.
    """
    is_collection = location.startswith(mongo_collection.SCHEMES)
    of_collection = (mongo_collection.USERNAME, mongo_collection.PASSWORD)
    variables = of_collection if is_collection else (lrs_url.KEY, lrs_url.SECRET)
    try:
        login("--input", auth, variables, os.environ)
    except SourceError as error:
        return str(error)
    return None


def source_at(location: str, access: Access) -> StatementSource:
    """The source at a location that `source_problem` has nothing against."""
    if location.startswith(mongo_collection.SCHEMES):
        return MongoSource(MongoCollection(location, access))
    # Late, because it brings an HTTP client, which a run without an LRS need not load.
    from transforms.sources.lrs import LrsSource

    return LrsSource(location, access)
