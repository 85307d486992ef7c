"""The data of attachments, in files that are named by their SHA-2, with or without an extension."""

import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

from transforms.storage import Storage, storage_at

FOLDER = "attachments"
"""The folder of a run's output that holds the data which a live source sent."""

LIST_AGAIN = 60.0
"""Seconds after which a directory is listed again, for data that was not there."""

_ALGORITHMS = {56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
"""The hashes of SHA-2 that xAPI allows, by the length of their hexadecimal form."""

Opener = Callable[[], BinaryIO]
"""Opens a file from its beginning, each time anew."""

_HEX = re.compile(r"[0-9a-f]+")
_UNFINISHED = ".tmp"


def sha2_of(digest: str | None) -> Any | None:
    """A new hash, as hashlib makes it, of the kind that a hexadecimal digest is of; None if it is of none of SHA-2."""
    algorithm = _ALGORITHMS.get(len(digest)) if digest and _HEX.fullmatch(digest.lower()) else None
    return None if algorithm is None else hashlib.new(algorithm)


class AttachmentFiles:
    """Finds data by its hash. Safe to use from several threads.

    Args:
        directories: local paths, or urls of file systems that Beam knows; they are searched in this order.
        clock: seconds that only grow.
    """

    def __init__(self, directories: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._listings = [_Listing(storage_at(directory), clock) for directory in directories]

    def find(self, digest: str | None) -> Opener | None:
        """What opens the file with the data of a hash, which nobody has checked; None if there is no such file.

        Args:
            digest: in hexadecimal form, in lower or upper case.

        Raises:
            OSError: a directory cannot be read.
            Exception: whatever else the client of a file system raises.
        """
        empty = sha2_of(digest)
        if digest is None or empty is None:
            return None
        if empty.hexdigest() == digest.lower():
            # S3 has no empty files. The hash alone says what the data is.
            return io.BytesIO
        for listing in self._listings:
            name = listing.find(digest.lower())
            if name is not None:
                return partial(listing.storage.open, name)
        return None


class _Listing:
    """The names of the files in a directory by what stands before their first dot, in lower case."""

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        self.storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._listed: float | None = None

    def find(self, digest: str) -> str | None:
        with self._lock:
            is_old = self._listed is None or self._clock() - self._listed >= LIST_AGAIN
            if digest not in self._names and is_old:
                names = self.storage.list("")
                self._names = {name.partition(".")[0].lower(): name for name in names if not name.endswith(_UNFINISHED)}
                self._listed = self._clock()
            return self._names.get(digest)


NO_FILES = AttachmentFiles(())
"""Finds nothing but empty data."""
