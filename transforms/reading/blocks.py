"""What the readers of files have in common: the formats, and the blocks into which a file is cut."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, get_args

from schemas.reject import CONTENT_LIMIT

FileFormat = Literal["jsonl", "json", "avro", "parquet"]

FILE_FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)

CHUNK = 256 * 1024
"""Bytes that are read at a time. Twice as many leave the processor's cache, and a byte takes twice as long."""

BLANK = b" \t\r\n"
"""The white space of JSON."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines, elements or rows that follow each other in a file.

    Attributes:
        start: of lines, the byte offset of the first one in the decompressed file; else the index of the first one.
        items: bytes, or dicts where `kind` is rows.
        kind: what the items are. Elements are single JSON values, rows those of Avro or Parquet.
        size: bytes of the decompressed file that were cut into the items; 0 where that is not known.
        line: the number of the first line, from 1, in what was read of the file; None where there are no lines.
        places: for each element its position and the number of its line; None where `start` and `line` tell.
        blank: blank lines that are not among the items.
        recut: of lines: to be called with the index of one that holds no whole object, before the next block is asked
            for. That line and all after it then come again, as elements.
    """

    start: int
    items: Sequence[Any]
    kind: Literal["lines", "elements", "rows"]
    size: int = 0
    line: int | None = None
    places: Sequence[tuple[int, int]] | None = None
    blank: int = 0
    recut: Callable[[int], None] | None = None

    def positions(self) -> Sequence[int]:
        """Where each item lies, as a reject says it (see `schemas.Reject`).

        A line ends at a newline and nowhere else, so the lengths of the lines tell their offsets.
        """
        if self.places is not None:
            return [position for position, _ in self.places]
        if self.kind != "lines":
            return range(self.start, self.start + len(self.items))
        return list(accumulate((len(line) + 1 for line in self.items), initial=self.start))

    def line_of(self, index: int) -> int | None:
        """The number of the line that an item begins in."""
        if self.places is not None:
            return self.places[index][1]
        return None if self.line is None else self.line + index


@dataclass(frozen=True, slots=True)
class Broken:
    """A part of a file that cannot be cut into items, or a row with a value that cannot be converted.

    Attributes:
        position: where it begins, as `Block.start`.
        reason: why, in words for the user.
        content: its first 64 KiB.
        length: all its bytes; 0 where that is not known.
        rows: how many rows it holds; None where that is not known.
        unread: whether the file was not read to its end because of it.
        line: the number of the line that it begins in, as `Block.line`.
    """

    position: int
    reason: str
    content: bytes
    length: int
    rows: int | None = None
    unread: bool = False
    line: int | None = None


class CutShortError(Exception):
    """A compressed stream ended, or was damaged, before its end.

    Attributes:
        content: the first 64 KiB of what is there and cannot be decompressed.
        length: all the bytes of that.
    """

    def __init__(self, reason: str, content: bytes = b"", length: int = 0) -> None:
        super().__init__(reason)
        self.content = content
        self.length = length


class File(Protocol):
    """A binary file, as far as it is used here. Parquet's reader uses more of it."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


def beginning_and_length(content: bytes, pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """What is kept of content that is refused.

    Args:
        content: its beginning.
        pieces: the rest, which is read to its end.

    Returns:
        The first bytes, as many as a reject holds, and how many there were in all.
    """
    length = len(content)
    try:
        for piece in pieces:
            length += len(piece)
            if len(content) < CONTENT_LIMIT:
                content += piece
    except CutShortError as cut:
        length += cut.length
    return content[:CONTENT_LIMIT], length
