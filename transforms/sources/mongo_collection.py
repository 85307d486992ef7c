"""Which collection of a MongoDB is read, and which of its documents."""

import re
from dataclasses import dataclass, field

from transforms.reading.positions import Position
from transforms.sources.base import Access

SCHEMES = ("mongodb://", "mongodb+srv://")

USERNAME = "REGISTRY_MONGODB_USERNAME"
PASSWORD = "REGISTRY_MONGODB_PASSWORD"  # noqa: S105 - a variable's name
"""The environment variables that hold the login: those of `--forwarders mongodb://`."""

_FORM = "mongodb://host/database.statements"
_LOCATION = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?)://(?P<hosts>[^/?@]+)/(?P<database>[^/?.@]+)\.(?P<collection>[^/?@]+)"
    r"(?:\?(?P<options>.*))?"
)


def location_problem(location: str) -> str | None:
    """What is wrong with the location of a collection; None if nothing is. The text repeats no credential."""
    if re.match(r"[a-z+]+://[^/?]*@", location):
        return f"holds a user: leave it out, and set {USERNAME} and {PASSWORD}, or give --input_auth"
    if "password" in location.lower():
        return "holds an option that is a password: the location travels with the job"
    if not _LOCATION.fullmatch(location):
        return f"names no collection: {_FORM}"
    return None


@dataclass(frozen=True, slots=True)
class MongoCollection:
    """The documents of a collection. It pickles and holds no secret.

    Attributes:
        location: `mongodb://host/database.collection`, with any options that pymongo knows; `location_problem` has
            nothing against it.
        access: see `Access`.
        position: only what is new since then; None: all of the collection.
    """

    location: str
    access: Access = field(default_factory=Access)
    position: Position | None = None

    @property
    def name(self) -> str:
        """How the collection is shown: without options."""
        return self.location.partition("?")[0]

    @property
    def url(self) -> str:
        """The location without the collection, as pymongo takes it."""
        parts = self._parts()
        options = f"?{parts['options']}" if parts["options"] else ""
        return f"{parts['scheme']}://{parts['hosts']}/{parts['database']}{options}"

    @property
    def database_name(self) -> str:
        return self._parts()["database"]

    @property
    def collection_name(self) -> str:
        return self._parts()["collection"]

    def _parts(self) -> dict[str, str]:
        found = _LOCATION.fullmatch(self.location)
        if found is None:
            raise ValueError("not the location of a collection")
        return found.groupdict()


@dataclass(frozen=True, slots=True)
class Selection:
    """Some documents of a collection, to be read by one worker. It pickles.

    Attributes:
        query: which they are, as BSON.
        by_id: whether every `_id` is of one type. Then they come in its order, and reading can go on from any of them.
        label: what they are, for people.
        latest: epoch ms: the server's clock when the collection was split. No position is later.
    """

    query: bytes
    by_id: bool
    label: str
    latest: int
