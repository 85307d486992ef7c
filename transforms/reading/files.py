"""Files, cut into blocks of lines, elements or rows.

Memory is bounded, whatever a file holds. A part that cannot be read becomes a `Broken`, and never an exception.
Positions are those of `schemas/reject.avsc`.
"""

from collections.abc import Iterable, Iterator

from transforms.reading.activity import BOM
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import (
    BLANK,
    CHUNK,
    FILE_FORMATS,
    Block,
    Broken,
    File,
    FileFormat,
    beginning_and_length,
)
from transforms.reading.compression import compression_of, decompressed, peeked
from transforms.reading.json_ranges import begin_of, owned_part
from transforms.reading.json_text import JsonText
from transforms.reading.limits import LIMITS, Allowance, ReadLimits
from transforms.reading.parquet_file import parquet_rows
from transforms.reading.signatures import HEAD, problem

_EXTENSIONS: dict[str, FileFormat] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "avro": "avro",
    "parquet": "parquet",
}
_COMPRESSIONS = frozenset({"gz", "gzip", "bz2", "zst", "zstd", "xz"})


class FormatError(ValueError):
    """The format of a file is not known, or is not read with its compression. The text says what to do."""


def format_of(path: str, file_format: str | None = None) -> tuple[FileFormat, bool]:
    """The format of a file by its extensions, and whether they say that it is compressed.

    What a file is really compressed with is told by its first bytes, when it is read.

    Args:
        path: of the file. Its letters may be of either case.
        file_format: the format, whatever the extension says (`--file_format`).

    Raises:
        FormatError: the extension or `file_format` is not known, or Parquet is compressed from outside.
    """
    name = path.rsplit("/", 1)[-1].lower()
    stem, _, last = name.rpartition(".")
    compressed = last in _COMPRESSIONS
    if compressed:
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
    if format_ == "parquet" and compressed:
        raise FormatError(
            f"{path}: Parquet is compressed inside, and cannot be read through .{name.rpartition('.')[2]}"
        )
    return format_, compressed


def blocks(
    file: File, file_format: FileFormat, start: int = 0, end: int | None = None, limits: ReadLimits = LIMITS
) -> JsonText | Iterable[Block | Broken]:
    """The blocks of an open file, each of about a quarter of a megabyte, and what could not be read.

    Only JSON that is not compressed, and begins with a line, is read by the range (see `owned_part`). Of any other file
    the first range is all of it, and the others are empty.

    Args:
        file: open at its beginning, and not decompressed. It has to be seekable if `start` is not 0, and for Parquet.
        file_format: of what is in it.
        start: where the range begins, a byte offset.
        end: where it ends; None for all of the file.
        limits: what goes beyond them is refused.
    """
    if file_format == "parquet":
        try:
            file.seek(0)
        except OSError:
            return parquet_rows(file, limits)  # a pipe, as it will say
        why = problem(file.read(HEAD), file_format)
        file.seek(0)
        return [_refused(why, file_chunks(file))] if why else parquet_rows(file, limits)
    if start:
        if not _has_ranges(file.read(HEAD)) or end is None:
            return []
        file.seek(begin_of(start))
        start, chunks = owned_part(file_chunks(file), begin_of(start), start, end)
        return JsonText(chunks, start, limits=limits)
    allowance = Allowance(limits)
    head, raw = peeked(allowance.counting(file_chunks(file)), HEAD)
    if end is not None and _has_ranges(head):
        return JsonText(owned_part(raw, 0, 0, end)[1], limits=limits)
    head, chunks = peeked(decompressed(raw, allowance), HEAD)
    why = problem(head, file_format)
    if why:
        return [_refused(why, chunks)]
    return avro_rows(chunks, allowance) if file_format == "avro" else JsonText(chunks, limits=limits)


def file_chunks(file: File) -> Iterator[bytes]:
    """The bytes of `file` from where it is, CHUNK at a time."""
    while chunk := file.read(CHUNK):
        yield chunk


def _has_ranges(head: bytes) -> bool:
    """Whether a file that begins with `head` is JSON text in which ranges can be told apart, and placed by bytes."""
    mark = head.removeprefix(BOM).lstrip(BLANK)[:1]
    return mark not in (b"", b"[") and compression_of(head) is None and problem(head, "jsonl") is None


def _refused(reason: str, chunks: Iterator[bytes]) -> Broken:
    """A whole file of which nothing is read."""
    return Broken(0, reason, *beginning_and_length(b"", chunks), unread=True)
