"""Opens the store that a url names."""

from collections.abc import Mapping

from registry.stores.base import Store, StoreError


def open_store(url: str, environment: Mapping[str, str] | None = None) -> Store:
    """The store at `sqlite:///relative/path`, `sqlite:////absolute/path` or `mongodb://host/database[.collection]`.

    Makes a SQLite file that is not there, and brings an older one to the present form. Raises StoreError.
    """
    if url.startswith("sqlite:///"):
        from registry.stores.sqlite import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"))
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from registry.stores.mongo import mongo_store

        return mongo_store(url, environment)
    raise StoreError(
        "the store is none of sqlite:///relative/path, sqlite:////absolute/path, mongodb://host/database[.collection]"
    )
