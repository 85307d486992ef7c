"""Reads forwarder documents for the job straight from a store of the registry.

The job does not import the registry. The registry announces `read_store` to it as an entry point of the group
`transforms.forwarders.service.READERS`, by the scheme of the locations that it reads.
"""

from collections.abc import Mapping
from pathlib import Path

from registry.keyring import KeyringError, read_keyring
from registry.stores.base import StoreError, whole
from registry.stores.open import open_store
from schemas.json_values import JsonObject
from transforms.forwarders.service import TRIES, ServiceError


def read_store(location: str, environment: Mapping[str, str]) -> list[JsonObject]:
    """Every document of every organisation at `location`, with its secrets, as of one moment.

    Args:
        location: a store's url, as `open_store` takes it. A SQLite file has to be there: none is made.
        environment: holds the keys of the secrets, and the credentials of MongoDB.

    Raises:
        ServiceError: the store cannot be opened or read, a secret does not open, or documents change too fast.
    """
    path = location.removeprefix("sqlite:///")
    if path != location and not Path(path).is_file():
        raise ServiceError(
            "is not there: the path after sqlite:/// is relative to the present directory, or begins with /"
        )
    try:
        store = open_store(location, environment)
        try:
            snapshot = store.snapshot(None)
            # A MongoDB cursor that is read while documents change may give some from before and some from after. When
            # a second look finds the same documents, none has changed in between.
            for _ in range(TRIES):
                again = store.snapshot(None)
                if again.version == snapshot.version:
                    keyring = read_keyring(environment)
                    return [whole(stored, keyring) for stored in again.documents]
                snapshot = again
        finally:
            store.close()
    except (StoreError, KeyringError) as error:
        raise ServiceError(f"cannot be read: {error}") from None
    raise ServiceError("is changed faster than it can be read: try again")
