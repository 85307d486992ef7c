"""Files cut into blocks of lines, elements or rows, in bounded memory.

What a file holds that cannot be read becomes `Broken`, and never an exception. Positions are those of `reject.avsc`.
"""

import bz2
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import IO, Any, Literal, Protocol, cast, get_args

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from schemas import Activity
from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM, MAX_LINE, TOO_LONG

FileFormat = Literal["jsonl", "json", "avro", "parquet"]
Compression = Literal["gz", "bz2", "zst"]

FILE_FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
CHUNK = 256 * 1024
"""Bytes read at a time. Twice as much takes twice the time: it no longer fits the processor's cache."""

_EXTENSIONS: dict[str, FileFormat] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "avro": "avro",
    "parquet": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {"gz": "gz", "gzip": "gz", "bz2": "bz2", "zst": "zst", "zstd": "zst"}
_BLANK = b" \t\r\n"


class FormatError(ValueError):
    """A file whose format cannot be told, or cannot be read in that combination."""


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


def decompressed(chunks: Iterable[bytes], compression: Compression | None) -> Iterator[bytes]:
    """The content of `chunks`, about CHUNK at a time and never b"".

    Raises CutShortError after the last readable byte of a damaged or incomplete stream.
    """
    if compression is None:
        return iter(chunks)
    return _inflated(chunks, compression)


def json_lines(chunks: Iterator[bytes], start: int = 0, end: int | None = None) -> Iterator[Block | Broken]:
    """Blocks of the lines that start in [`start`, `end`), without their newlines; blank lines are among them.

    `chunks` begin at `start`, or one byte before it if `start` is not 0: that byte tells whether a line starts there.
    """
    offset = start
    rest = b""
    if start:
        offset, rest = _after_newline(chunks, start - 1)
        if end is not None and offset >= end:
            return
    try:
        while True:
            stop = _last_newline(rest, offset, end)
            if stop is not None:
                yield Block(offset, rest[:stop].split(b"\n"), kind="lines")
                offset, rest = offset + stop + 1, rest[stop + 1 :]
                if end is not None and offset >= end:
                    return
            if len(rest) > MAX_LINE:
                length, after = _skip_line(chunks, len(rest))
                yield Broken(offset, TOO_LONG, rest[:CONTENT_LIMIT], length)
                offset, rest = offset + length + 1, after
                if end is not None and offset >= end:
                    return
                continue
            chunk = next(chunks, b"")
            if not chunk:
                break
            rest += chunk
    except CutShortError as cut:
        yield Broken(offset, str(cut), rest[:CONTENT_LIMIT], len(rest))
        return
    if rest:
        yield Block(offset, [rest], kind="lines")


def _last_newline(text: bytes, offset: int, end: int | None) -> int | None:
    """Where the last whole line in `text` ends, of those that start before `end`."""
    if end is not None:
        # The line that holds the range's last byte is the last one it owns.
        stop = text.find(b"\n", max(end - 1 - offset, 0))
        if stop >= 0:
            return stop
    stop = text.rfind(b"\n")
    return stop if stop >= 0 else None


def _after_newline(chunks: Iterator[bytes], offset: int) -> tuple[int, bytes]:
    """What follows the first newline of `chunks`, which begin at `offset`: where it lies, and as much as was read."""
    for chunk in chunks:
        newline = chunk.find(b"\n")
        if newline >= 0:
            return offset + newline + 1, chunk[newline + 1 :]
        offset += len(chunk)
    return offset, b""


def _skip_line(chunks: Iterator[bytes], length: int) -> tuple[int, bytes]:
    """The whole length of a line of which `length` bytes have been read, and what was read after its newline."""
    for chunk in chunks:
        newline = chunk.find(b"\n")
        if newline >= 0:
            return length + newline, chunk[newline + 1 :]
        length += len(chunk)
    return length, b""


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


def array_elements(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """Blocks of the elements of a JSON array, each as it is spelled. What follows a syntax error is one Broken.

    `chunks` begin with the opening bracket, or with white space before it.
    """
    return _ArrayReader(chunks).blocks()


class _ArrayReader:
    """Finds where elements end with the scanner of the json module, on text of one character per byte.

    What an element holds is judged later: so NaN, control characters and invalid UTF-8 spoil one element, not the rest.
    """

    # Numbers are not converted: only where an element ends is asked for.
    _scan = staticmethod(json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode)

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._text = ""
        self._at = 0
        self._index = 0
        self._cut = "the array is not closed"
        self._ended = False
        self._damaged = False

    def blocks(self) -> Iterator[Block | Broken]:
        self._next_mark()
        self._at += 1  # the opening bracket
        first = 0
        items: list[bytes] = []
        size = 0
        mark = self._next_mark()
        while mark not in ("]", ""):
            element = self._element()
            if isinstance(element, bytes):
                items.append(element)
                size += len(element)
            if items and (not isinstance(element, bytes) or size >= CHUNK):
                yield Block(first, items, kind="elements")
                first, items, size = self._index, [], 0
            if isinstance(element, Broken):
                yield element
                first = self._index
                if self._ended:
                    return
            if element is None:
                break
            mark = self._next_mark()
            if mark != ",":
                break
            self._at += 1
            self._next_mark()
        if items:
            yield Block(first, items, kind="elements")
        if mark != "]":
            yield self._rest(self._cut if self._ended else "a syntax error")
            return
        self._at += 1
        if self._next_mark():
            yield self._rest("more follows the array")
        elif self._damaged:
            yield self._rest(self._cut)

    def _more(self) -> bool:
        try:
            chunk = next(self._chunks, b"")
        except CutShortError as cut:
            self._cut = str(cut)
            self._ended = self._damaged = True
            self._chunks = iter(())
            return False
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return bool(chunk)

    def _next_mark(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while self._at < len(self._text):
                mark = self._text[self._at]
                if mark not in " \t\r\n":
                    return mark
                self._at += 1
            if not self._more():
                return ""

    def _element(self) -> bytes | Broken | None:
        """The element that starts here; Broken if it is too long; None, and nothing consumed, if there is none."""
        try:
            end = self._scan(self._text, self._at)[1]
            # A number may go on in the next chunk: "-0" and ".5".
            whole = self._text[end - 1] in '}]"' or self._text[end : end + 1] in (",", "]", " ", "\t", "\r", "\n")
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            found = self._measured()
            if not isinstance(found, int):
                return found
            end = found
        element = self._text[self._at : end].encode("latin-1")
        self._at = end
        self._index += 1
        return element

    def _measured(self) -> int | Broken | None:
        """Where the element that starts here ends, by its brackets; Broken if it is too long; None if it is no JSON."""
        measure = _ElementEnd()
        head = ""
        seen = 0  # characters of the element that were dropped: it is too long to keep
        looked = self._at
        while True:
            end = measure.feed(self._text, looked)
            if end is not None:
                break
            if len(self._text) - self._at > MAX_LINE:
                head = head or self._text[self._at : self._at + CONTENT_LIMIT]
                seen += len(self._text) - self._at
                self._at = len(self._text)
            looked = len(self._text) - self._at
            if not self._more():
                if seen:
                    return Broken(self._index, self._cut, head.encode("latin-1"), seen + len(self._text) - self._at)
                return None
        length = seen + end - self._at
        if length > MAX_LINE:
            head = head or self._text[self._at : self._at + CONTENT_LIMIT]
            self._at = end
            self._index += 1
            return Broken(self._index - 1, TOO_LONG, head.encode("latin-1"), length)
        try:
            scanned: int = self._scan(self._text, self._at)[1]
            return None if self._text[scanned:end].strip(" \t\r\n") else scanned
        except RecursionError:
            return end  # a bracketed whole; that it is too deep is for the decoder to say
        except ValueError:
            return None

    def _rest(self, reason: str) -> Broken:
        """All that follows, consumed."""
        content = self._text[self._at : self._at + CONTENT_LIMIT].encode("latin-1")
        length = len(self._text) - self._at
        self._at = len(self._text)
        while self._more():
            if len(content) < CONTENT_LIMIT:
                content = (content + self._text.encode("latin-1"))[:CONTENT_LIMIT]
            length += len(self._text)
            self._at = len(self._text)
        return Broken(self._index, reason, content, length)


class _ElementEnd:
    """Where a JSON value ends, fed piece by piece, by nothing but its brackets and quotes."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int) -> int | None:
        """The index after the value's last character, None if it goes on after `text`."""
        for index in range(at, len(text)):
            mark = text[index]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif mark == "\\":
                    self._escaped = True
                elif mark == '"':
                    self._in_string = False
                    if not self._depth:
                        return index + 1
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                if self._depth == 0:
                    return index
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
            elif mark == "," and not self._depth:
                return index
        return None


def avro_rows(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """A block of dicts for every block of an Avro file; a damaged block and all that follows is one Broken."""
    stream = _Stream(chunks)
    index = 0
    try:
        # Invalid UTF-8 spoils a record, not its block: the decoder finds and refuses what escaped.
        reader = fastavro.block_reader(cast(IO[bytes], stream), handle_unicode_errors="surrogateescape")
        stream.mark()
        end = stream.tell()
        for block in reader:
            rows, damage = _avro_block(block)
            if rows:
                yield Block(index, rows, kind="rows")
                index += len(rows)
            if damage:
                raise damage
            stream.mark()
            end = block.offset + block.size
        if stream.tell() != end:
            raise EOFError("the file is cut short")
    except Exception as error:  # fastavro raises whatever the damage leads to
        stream.drain()
        reason = str(error) or "the file is cut short"
        yield Broken(index, f"not readable as Avro: {reason[:200]}", bytes(stream.head), stream.marked)


def _avro_block(block: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """The records of a block as far as they can be read, and what stopped it."""
    rows: list[Any] = []
    try:
        rows.extend(block)
    except Exception as error:
        return rows, error
    return rows, None


class _Stream:
    """Chunks as a file that can only be read on, and that knows what was read of it since `mark`."""

    # Far above what any writer makes; a damaged length must not fill the memory.
    _LONGEST_READ = 256 * 1024 * 1024

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._position = 0
        self.mark()

    def mark(self) -> None:
        self.head = bytearray()
        """The first 64 KiB read since the mark."""
        self.marked = 0
        """Bytes read since the mark."""

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if size > self._LONGEST_READ:
            raise ValueError(f"a block of {size} bytes")
        content = self._chunk[self._at : self._at + size]
        self._at += len(content)
        while len(content) < size:
            self._chunk, self._at = next(self._chunks, b""), 0
            if not self._chunk:
                break
            more = self._chunk[: size - len(content)]
            self._at = len(more)
            content += more
        self._position += len(content)
        self.marked += len(content)
        if len(self.head) < CONTENT_LIMIT:
            self.head += content[: CONTENT_LIMIT - len(self.head)]
        return content

    def drain(self) -> None:
        """Read to the end, or as far as can be."""
        try:
            while self.read(CHUNK):
                pass
        except CutShortError:
            return


def parquet_rows(file: File) -> Iterator[Block | Broken]:
    """Blocks of dicts from a Parquet file, of the columns that activity has."""
    index = 0
    try:
        parquet = pq.ParquetFile(file, buffer_size=CHUNK, pre_buffer=False)
        columns = [name for name in parquet.schema_arrow.names if name in Activity.__struct_fields__]
        for batch in parquet.iter_batches(batch_size=2048, columns=columns):
            yield from _parquet_batch(index, _whole_milliseconds(batch))
            index += batch.num_rows
    except (pa.ArrowException, OSError, EOFError) as error:
        yield Broken(index, f"not readable as Parquet: {str(error)[:200]}", b"", 0)


def _parquet_batch(index: int, batch: Any) -> Iterator[Block | Broken]:
    try:
        yield Block(index, batch.to_pylist(maps_as_pydicts="lossy"), kind="rows")
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield Broken(index, "not valid UTF-8", b"", 0)
            return
        half = batch.num_rows // 2
        yield from _parquet_batch(index, batch.slice(0, half))
        yield from _parquet_batch(index + half, batch.slice(half))


def _whole_milliseconds(batch: Any) -> Any:
    """`batch` with `occurred_at` as epoch milliseconds if it is a timestamp: Python has none of nanoseconds."""
    at = batch.schema.get_field_index("occurred_at")
    if at < 0 or not pa.types.is_timestamp(batch.schema.field(at).type):
        return batch
    moments = batch.column(at)
    whole = moments.cast(pa.timestamp("ms", moments.type.tz), safe=False).cast(pa.int64())
    return batch.set_column(at, "occurred_at", whole)


def _inflated(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """Any number of compressed streams one after the other, as the formats allow; zero bytes may follow them."""
    stream: Any = None
    began = False
    gathered: list[bytes] = []
    size = 0
    problem = ""
    for piece in _pieces(chunks):
        left = piece
        while left and not problem:
            if stream is None:
                left = left.lstrip(b"\0") if began else left
                if not left:
                    break
                stream, began = _STREAMS[compression](), True
            try:
                content = stream.decompress(left)
            except (zlib.error, zstandard.ZstdError, OSError, EOFError, ValueError) as error:
                problem = f"the {compression} stream is damaged: {error}"
                break
            gathered.append(content)
            size += len(content)
            left = b""
            if stream.eof:
                left, stream = stream.unused_data, None
        if size >= CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
        if problem:
            break
    if size:
        yield b"".join(gathered)
    if stream is not None:
        raise CutShortError(problem or f"the {compression} stream is cut short")


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # What 8 KiB can blow up to bounds the memory, whatever the file claims.
    for chunk in chunks:
        for at in range(0, len(chunk), 8192):
            yield chunk[at : at + 8192]


_STREAMS: dict[Compression, Callable[[], Any]] = {
    "gz": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
