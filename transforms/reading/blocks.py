"""What the readers of files have in common: the formats, and the blocks into which a file is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, get_args

FileFormat = Literal["jsonl", "json", "avro", "parquet"]
Compression = Literal["gz", "bz2", "zst"]

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
        kind: what the items are. Elements are those of a JSON array, rows those of Avro or Parquet.
        line: the number of the first line, from 1, in what was read of the file; None where there are no lines.
    """

    start: int
    items: Sequence[Any]
    kind: Literal["lines", "elements", "rows"]
    line: int | None = None

    def positions(self) -> Sequence[int]:
        """Where each item lies, as a reject says it (see `schemas.Reject`).

        A line ends at a newline and nowhere else, so the lengths of the lines tell their offsets.
        """
        if self.kind != "lines":
            return range(self.start, self.start + len(self.items))
        return list(accumulate((len(line) + 1 for line in self.items), initial=self.start))

    def line_of(self, index: int) -> int | None:
        """The number of the line that an item begins in."""
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
        line: the number of the line that it begins in, as `Block.line`.
    """

    position: int
    reason: str
    content: bytes
    length: int
    rows: int | None = None
    line: int | None = None


class CutShortError(Exception):
    """A compressed stream ended, or was damaged, before its end."""


class File(Protocol):
    """A binary file, as far as it is used here. Parquet's reader uses more of it."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
