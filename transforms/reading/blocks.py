"""What a file is cut into, and what every reader of a file needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, get_args

FileFormat = Literal["jsonl", "json", "avro", "parquet"]


Compression = Literal["gz", "bz2", "zst"]


FILE_FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)


CHUNK = 256 * 1024
"""Bytes read at a time. Twice as much takes twice the time: it no longer fits the processor's cache."""


_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines or elements (bytes) or rows (dicts).

    `start` is the byte offset of the first line in the decompressed file, or the index of the first element or row.
    """

    start: int
    items: Sequence[Any]
    kind: Literal["lines", "elements", "rows"]

    def positions(self) -> Sequence[int]:
        """Where each item lies, as a reject names it. Lines were split on newlines only, so their lengths tell."""
        if self.kind != "lines":
            return range(self.start, self.start + len(self.items))
        return list(accumulate((len(line) + 1 for line in self.items), initial=self.start))


@dataclass(frozen=True, slots=True)
class Broken:
    """A part of a file that cannot be cut into items: the first 64 KiB of it, and its whole length if that is known."""

    position: int
    reason: str
    content: bytes
    length: int


class CutShortError(Exception):
    """The end of what can be decompressed, where there should be more."""


class File(Protocol):
    """What is needed of a binary file; Parquet asks for more."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...
