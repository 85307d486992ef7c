"""Files cut into blocks of lines, elements or rows, in bounded memory.

What a file holds that cannot be read becomes `Broken`, and never an exception. Positions are those of `reject.avsc`.
"""

from collections.abc import Iterator
from itertools import chain

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import (
    _BLANK,
    CHUNK,
    FILE_FORMATS,
    Block,
    Broken,
    Compression,
    CutShortError,
    File,
    FileFormat,
)
from transforms.reading.compression import decompressed
from transforms.reading.json_array import array_elements
from transforms.reading.jsonl import json_lines
from transforms.reading.parquet_file import parquet_rows

_EXTENSIONS: dict[str, FileFormat] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "avro": "avro",
    "parquet": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {"gz": "gz", "gzip": "gz", "bz2": "bz2", "zst": "zst", "zstd": "zst"}


class FormatError(ValueError):
    """A file whose format cannot be told, or cannot be read in that combination."""


def format_of(path: str, file_format: str | None = None) -> tuple[FileFormat, Compression | None]:
    """Format and compression of a file by its extensions; `file_format` overrides the format. Raises FormatError."""
    name = path.rsplit("/", 1)[-1].lower()
    stem, _, last = name.rpartition(".")
    compression = _COMPRESSIONS.get(last)
    if compression:
        last = stem.rpartition(".")[2]
    found = _EXTENSIONS.get(last)
    if file_format is not None:
        found = next((known for known in FILE_FORMATS if known == file_format), None)
        if found is None:
            raise FormatError(f"file_format {file_format!r} is not known; allowed: {', '.join(FILE_FORMATS)}")
    if found is None:
        raise FormatError(
            f"{path}: its extension does not tell the format; rename it to one of "
            f"{', '.join('.' + extension for extension in _EXTENSIONS)}, or give --file_format"
        )
    if found == "parquet" and compression:
        raise FormatError(f"{path}: Parquet is compressed inside, and cannot be read through .{compression}")
    return found, compression


def blocks(
    file: File,
    file_format: FileFormat,
    compression: Compression | None = None,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Block | Broken]:
    """The blocks of an open file, each of about a quarter of a megabyte, and what could not be read.

    `start` and `end` cut out a byte range of plain JSON Lines: it owns the lines that start in it. The file must be
    seekable for that, and for Parquet.
    """
    if file_format == "parquet":
        return parquet_rows(file)
    chunks = decompressed(file_chunks(file, max(start - 1, 0)), compression)
    if file_format == "avro":
        return avro_rows(chunks)
    if file_format == "json":
        return lines_or_elements(chunks)
    return json_lines(chunks, start, end)


def file_chunks(file: File, start: int = 0) -> Iterator[bytes]:
    """The bytes of `file` from `start` on, CHUNK at a time."""
    if start:
        file.seek(start)
    while chunk := file.read(CHUNK):
        yield chunk


def lines_or_elements(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """A `.json` file: an array if its first byte that is not blank is `[`, else lines."""
    head = b""
    try:
        for chunk in chunks:
            head += chunk
            if BOM.startswith(head):
                continue
            first = head.removeprefix(BOM).lstrip(_BLANK)[:1]
            if first == b"[":
                yield from array_elements(chain([head.removeprefix(BOM)], chunks))
                return
            if first or len(head) > CHUNK:
                yield from json_lines(chain([head], chunks))
                return
    except CutShortError as cut:
        yield Broken(0, str(cut), head[:CONTENT_LIMIT], len(head))
        return
    if head.removeprefix(BOM).strip(_BLANK):
        yield from json_lines(iter([head]))  # a part of a BOM
