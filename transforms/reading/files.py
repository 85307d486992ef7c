"""Files, cut into blocks of lines, elements or rows.

Memory is bounded, whatever a file holds. A part that cannot be read becomes a `Broken`, and never an exception.
Positions are those of `schemas/reject.avsc`.
"""

from collections.abc import Iterator
from itertools import chain

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import (
    BLANK,
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
    """The format of a file is not known, or is not read with its compression. The text says what to do."""


def format_of(path: str, file_format: str | None = None) -> tuple[FileFormat, Compression | None]:
    """The format and the compression of a file, by its extensions.

    Args:
        path: of the file. Its letters may be of either case.
        file_format: the format, whatever the extension says (`--file_format`).

    Raises:
        FormatError: the extension or `file_format` is not known, or Parquet is compressed from outside.
    """
    name = path.rsplit("/", 1)[-1].lower()
    stem, _, last = name.rpartition(".")
    compression = _COMPRESSIONS.get(last)
    if compression:
        last = stem.rpartition(".")[2]
    format_ = _EXTENSIONS.get(last)
    if file_format is not None:
        format_ = next((name for name in FILE_FORMATS if name == file_format), None)
        if format_ is None:
            raise FormatError(f"file_format {file_format!r} is not known; allowed: {', '.join(FILE_FORMATS)}")
    if format_ is None:
        raise FormatError(
            f"{path}: its extension does not tell the format; rename it to one of "
            f"{', '.join('.' + extension for extension in _EXTENSIONS)}, or give --file_format"
        )
    if format_ == "parquet" and compression:
        raise FormatError(f"{path}: Parquet is compressed inside, and cannot be read through .{compression}")
    return format_, compression


def blocks(
    file: File,
    file_format: FileFormat,
    compression: Compression | None = None,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Block | Broken]:
    """The blocks of an open file, each of about a quarter of a megabyte, and what cannot be read.

    Args:
        file: open at its beginning, and not decompressed. It has to be seekable if `start` is not 0, and for Parquet.
        file_format: of what is in it.
        compression: around that; None for none.
        start: only lines that start at this byte or after it; only for JSON Lines that are not compressed.
        end: only lines that start before this byte; None for all to the end of the file.
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
    """The blocks of a `.json` file. It is an array if its first byte that is not blank is `[`, else lines."""
    head = b""
    try:
        for chunk in chunks:
            head += chunk
            if BOM.startswith(head):
                continue
            first = head.removeprefix(BOM).lstrip(BLANK)[:1]
            if first == b"[":
                yield from array_elements(chain([head.removeprefix(BOM)], chunks))
                return
            if first or len(head) > CHUNK:
                yield from json_lines(chain([head], chunks))
                return
    except CutShortError as cut:
        yield Broken(0, str(cut), head[:CONTENT_LIMIT], len(head))
        return
    if head.removeprefix(BOM).strip(BLANK):
        yield from json_lines(iter([head]))  # a part of a BOM
