"""How much a file may cost, whatever it says of itself.

A few bytes can stand for gigabytes: a stream of one repeated byte, a list of a billion nulls, a column of one long
text, a schema whose types double each other. What would go beyond a limit is refused before it is made. No limit is
near to what writers of activity make.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line, element or row that is accepted, without the newline."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """The limits of reading. Tests set them low, and then harmless input is beyond them.

    Attributes:
        item: bytes of a line, an element or a row.
        values: JSON values in a line, an element or a row, and in what is converted of Parquet at a time.
        empty_values: values of a row, or of an item of a list, that take no bytes in Avro, such as null.
        depth: levels of types in types in Avro and Parquet. For JSON see `transforms.reading.activity.MAX_DEPTH`.
        schema: bytes of an Avro schema, and of what else stands at the beginning of the file.
        name: characters of a name in a schema: a row in JSON repeats it.
        block: bytes of a block of an Avro file, as it is and decompressed.
        ratio: bytes that may come of each byte of a file.
        ratio_from: bytes that may come of a file in any case: only above them the ratio counts.
        window: bytes that xz and zstd may keep to refer back to.
        footer: bytes of the footer of a Parquet file.
        footer_parts: structs in it.
        columns: columns in its schema, and groups of them.
        chunks: columns of row groups in it, and pages of a column.
        pages: bytes of the largest pages of the columns that are read, one of each, as they are and decompressed.
        batch: bytes of the rows of Parquet that are converted at a time.
        page_header: bytes of the header of a page.
        rows: rows of Avro or Parquet that are converted at a time.
        items: lines or elements that are checked at a time.
        pieces: pieces of input in one line or element that is a wrapping of input, such as an LRS's answer.
    """

    item: int = MAX_LINE
    values: int = 1_000_000
    empty_values: int = 100
    depth: int = 64
    schema: int = MIB
    name: int = 1024
    block: int = 64 * MIB
    ratio: int = 250
    ratio_from: int = 64 * MIB
    window: int = 128 * MIB
    footer: int = 16 * MIB
    footer_parts: int = 1_000_000
    columns: int = 10_000
    chunks: int = 100_000
    pages: int = 192 * MIB
    batch: int = 64 * MIB
    page_header: int = MIB
    rows: int = 2048
    items: int = 8192
    pieces: int = 131_072


LIMITS = ReadLimits()
"""Those of the job."""


class TooLargeError(ValueError):
    """What would go beyond a limit. The text says which, and how large it is, as far as that is known."""


class Allowance:
    """How much may come of a file, by the bytes that were read of it.

    Attributes:
        limits: those that it goes by.
        read: bytes that were read so far.
    """

    def __init__(self, limits: ReadLimits = LIMITS) -> None:
        self.limits = limits
        self.read = 0

    def counting(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """`chunks`, which are counted as they are read."""
        for chunk in chunks:
            self.read += len(chunk)
            yield chunk

    def most(self) -> int:
        """Bytes that may have come of what was read."""
        return self.limits.ratio_from + self.limits.ratio * self.read

    def check(self, made: int, what: str) -> None:
        """Raises TooLargeError if `made`, in bytes, is more than may come of what was read."""
        if made > self.most():
            raise TooLargeError(
                f"{what} unpacks to more than {self.most()} bytes, and {self.read} were read: above "
                f"{self.limits.ratio_from} bytes at most {self.limits.ratio} may come of each"
            )
