"""Opens the store that a url names."""

from collections.abc import Mapping

from registry.stores.base import Store, StoreError


def open_store(url: str, environment: Mapping[str, str] | None = None) -> Store:
    """Open a store. A SQLite file that is not there is made, and an older one is brought to the present form.

    Args:
        url: `sqlite:///relative/path`, `sqlite:////absolute/path` or `mongodb://host/database[.collection]`.
        environment: holds MongoDB's user name and password; None: the environment of this process.

    Raises:
        StoreError: the url names no store, or the store cannot be opened.
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
