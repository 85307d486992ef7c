"""multipart/mixed (RFC 2046 section 5.1), as an LRS sends statements with the data of their attachments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from typing import IO

from transforms.reading.blocks import CHUNK

_HEAD_LIMIT = 64 * 1024
"""Bytes that the headers of a part may have."""

_PADDING = 1024
"""Bytes that may follow a boundary on its line."""


class MultipartError(ValueError):
    """What was sent is no multipart/mixed. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a file.

    Attributes:
        headers: by their names in lower case.
        start: the offset of its first byte in the file.
        end: the offset after its last byte.
    """

    headers: Mapping[str, str]
    start: int
    end: int

    def chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        """The bytes of the part. They may be asked for while other parts are read, chunk by chunk in turn."""
        at = self.start
        while at < self.end:
            file.seek(at)
            chunk = file.read(min(CHUNK, self.end - at))
            if not chunk:
                raise MultipartError("breaks off")
            at += len(chunk)
            yield chunk


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type names; None where it is not multipart/mixed.

    Raises:
        MultipartError: it is multipart/mixed without a boundary that RFC 2046 allows.
    """
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() != "multipart/mixed":
        return None
    boundary = message.get_boundary("")
    if not boundary.isascii() or not 1 <= len(boundary) <= 70:
        raise MultipartError("has no boundary")
    return boundary.encode()


def parts(file: IO[bytes], boundary: bytes) -> Iterator[Part]:
    """The parts of a file, in their order. What stands before the first and after the last is passed over.

    Args:
        file: seekable. It may be read elsewhere between two parts.
        boundary: as `boundary_of` gave it.

    Raises:
        MultipartError: the file does not end as it should, or a part has no headers that can be read.
    """
    delimiters = _delimiters(file, b"--" + boundary)
    before = next(delimiters, None)
    if before is None or before.is_last:
        raise MultipartError("has no part")
    while not before.is_last:
        after = next(delimiters, None)
        if after is None:
            raise MultipartError("breaks off")
        yield _part(file, before.end, max(after.start, before.end))
        before = after


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """Where the line between two parts begins, with the line end before it, and where it ends, with its own."""

    start: int
    end: int
    is_last: bool


def _delimiters(file: IO[bytes], mark: bytes) -> Iterator[_Delimiter]:
    needle = b"\r\n" + mark
    # The mark stands at the beginning of a line. The file begins with one, too.
    window, offset, at, ended = b"\r\n", -2, 0, False
    while True:
        found = window.find(needle, at)
        after = found + len(needle)
        if found >= 0 and (ended or len(window) - after >= _PADDING):
            line, line_end, _ = window[after : after + _PADDING].partition(b"\r\n")
            if line.startswith(b"--"):
                yield _Delimiter(offset + found, offset + after, True)
                return
            # Where more than blanks follows, it is another boundary, which begins like this one.
            if line_end and not line.strip(b" \t"):
                yield _Delimiter(offset + found, offset + after + len(line) + len(line_end), False)
            at = after
            continue
        if ended:
            return
        passed = found if found >= 0 else max(len(window) - len(needle) + 1, at)
        window, offset, at = window[passed:], offset + passed, 0
        file.seek(offset + len(window))
        chunk = file.read(CHUNK)
        window, ended = window + chunk, not chunk


def _part(file: IO[bytes], start: int, end: int) -> Part:
    file.seek(start)
    head = file.read(min(_HEAD_LIMIT, end - start))
    if head.startswith(b"\r\n"):
        return Part({}, start + 2, end)
    length = head.find(b"\r\n\r\n")
    if length < 0:
        raise MultipartError("has a part without headers")
    message = BytesParser().parsebytes(head[: length + 4], headersonly=True)
    headers = {name.lower(): str(value).strip() for name, value in message.items()}
    return Part(headers, start + length + 4, end)
