"""A statement and the data of its attachments as one body: multipart/mixed (RFC 2046 section 5.1, xAPI 1.0.3,
Communication 1.5.2)."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple

from transforms.statements.attachment_files import Opener, sha2_of
from transforms.statements.attachments import Attachment
from transforms.storage import remedy, temporary_place

MOST_BYTES = 256 * 1024 * 1024
"""Bytes that a body may have. It is put together on the worker's disk (`TMPDIR`)."""

IN_MEMORY = 1024 * 1024
"""Bytes of a body that are kept in memory. A longer one is on the disk."""

CHUNK = 64 * 1024

_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")


class CorruptError(ValueError):
    """The data of an attachment does not have the hash that it is named by."""


class TooLargeError(ValueError):
    """The body would have more than MOST_BYTES."""


class NoPlaceError(Exception):
    """This machine cannot keep the body: its disk is full, say. The text says where, and what to do."""


class Part(NamedTuple):
    """An attachment, and what opens its data."""

    attachment: Attachment
    open: Opener


class Multipart:
    """A body in a temporary file, which is gone when it is closed.

    Attributes:
        content_type: the header that goes with it.
        size: bytes.
    """

    def __init__(self, file: IO[bytes], content_type: str, size: int) -> None:
        self._file = file
        self.content_type = content_type
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """The body from its beginning. It can be had again, but not twice at a time."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            yield chunk

    def close(self) -> None:
        """Remove the file. May be called again."""
        self._file.close()


def multipart(statement: bytes, parts: Sequence[Part], new_boundary: Callable[[], str] | None = None) -> Multipart:
    """Put a body together: the statement, then the data of each attachment, which is checked against its hash.

    Args:
        statement: the first part.
        parts: the others. Each hash must occur once.
        new_boundary: gives another boundary each time; None: random ones. One that occurs in a part is not used.

    Raises:
        CorruptError: data does not match its hash.
        TooLargeError: there is too much of it.
        NoPlaceError: the body cannot be written to a temporary file.
        OSError: data cannot be read.
        Exception: whatever else the client of a file system raises.
    """
    while True:
        boundary = (new_boundary or _random_boundary)()
        body = _Body(boundary)
        try:
            if body.write(statement, parts):
                return body.finished()
        except BaseException:
            # What could not be written is tried once more, in vain.
            with suppress(OSError):
                body.file.close()
            raise
        body.file.close()


def _random_boundary() -> str:
    return f"session-forwarder-{secrets.token_hex(16)}"


class _Body:
    def __init__(self, boundary: str) -> None:
        # Whoever reads it knows when to close it.
        self.file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._boundary = boundary
        self._needle = boundary.encode()
        self._size = 0

    def write(self, statement: bytes, parts: Sequence[Part]) -> bool:
        """Write all parts; false if the boundary turned out to occur in one of them."""
        self._delimit({"Content-Type": "application/json"})
        if self._needle in statement:
            return False
        self._add(statement)
        return all(self._write_part(part) for part in parts)

    def _write_part(self, part: Part) -> bool:
        digest = part.attachment.sha2 or ""
        headers = {"Content-Transfer-Encoding": "binary", "X-Experience-API-Hash": digest}
        content_type = part.attachment.content_type
        # A header cannot hold any other text. Where there is one, it has to be the attachment's own.
        if content_type is not None and _HEADER_VALUE.fullmatch(content_type):
            headers = {"Content-Type": content_type, **headers}
        self._delimit(headers)
        found = sha2_of(digest)
        if found is None:
            raise CorruptError(digest)
        before = b""
        with part.open() as data:
            while chunk := data.read(CHUNK):
                found.update(chunk)
                window = before + chunk
                if self._needle in window:
                    return False
                before = window[-len(self._needle) + 1 :]
                self._add(chunk)
        if found.hexdigest() != digest.lower():
            raise CorruptError(digest)
        return True

    def finished(self) -> Multipart:
        """The body, with the line that ends it."""
        self._add(b"\r\n--%b--\r\n" % self._needle)
        with _writing():
            self.file.flush()
        return Multipart(self.file, f"multipart/mixed; boundary={self._boundary}", self._size)

    def _delimit(self, headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._add(b"%b--%b\r\n%b\r\n" % (b"\r\n" if self._size else b"", self._needle, lines.encode()))

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise TooLargeError
        with _writing():
            self.file.write(data)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoPlaceError(f"{temporary_place()}: {error.strerror or error}: {remedy(error)}") from error
