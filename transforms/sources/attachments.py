"""The data of attachments that an LRS sends: kept as files named by their SHA-2, for who sends the statements on."""

from collections.abc import Callable, Iterator

from transforms.statements.attachment_files import sha2_of
from transforms.storage import storage_at

NOT_ITS_HASH = "attachment data that do not match their hash (X-Experience-API-Hash)"
"""Why data is refused that its own headers do not describe."""


class AttachmentStore:
    """Keeps data in files that are named by its hash in lower case. What has the same hash is kept once.

    Empty data is not kept, since a file on S3 cannot be empty. Its hash alone tells what it is.

    Args:
        directory: where the files go, on any file system that Beam knows; None: nothing is kept, only checked.
    """

    def __init__(self, directory: str | None) -> None:
        self._storage = None if directory is None else storage_at(directory)
        self._kept: set[str] = set()

    def keep(self, digest: str, chunks: Callable[[], Iterator[bytes]]) -> bool:
        """Keep the data if it has the hash that it is said to have.

        Args:
            digest: the hash in hexadecimal form, as it was sent.
            chunks: gives the data, each time from its beginning: it is checked before a byte of it is kept.

        Returns:
            Whether it has that hash.
        """
        digest = digest.lower()
        found = sha2_of(digest)
        if found is None:
            return False
        size = 0
        for chunk in chunks():
            found.update(chunk)
            size += len(chunk)
        if found.hexdigest() != digest:
            return False
        if self._storage is not None and size and digest not in self._kept:
            self._storage.write(digest, chunks())
            self._kept.add(digest)
        return True
