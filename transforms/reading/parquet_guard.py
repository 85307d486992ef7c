"""What a Parquet file may cost, found out before it is decoded.

A page of a few bytes can stand for a billion values: runs of one value, a dictionary of one long text, texts that begin
as the one before. pyarrow decodes as many rows at a time as it is told, whatever they hold, and pages as large as they
say. So the footer and the headers of pages are looked at first, and from them follows how many rows may be decoded at
a time. Only where the headers alone would allow too few, pages are looked into: for the longest entry of a dictionary,
for the row with the most values in a list, for how much texts share.

The layout of files: https://parquet.apache.org/docs/file-format/
"""

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa

from transforms.reading.blocks import File
from transforms.reading.limits import ReadLimits, TooLargeError
from transforms.reading.thrift import BINARY, LIST, STRUCT, Thrift, ThriftError

_MAGIC = b"PAR1"
_TAIL = 8
"""Bytes at the end: how long the footer is, and the magic."""
_HEADER = 256
"""Bytes that the header of a page mostly fits in."""
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
"""Kinds of pages."""
_DELTA_LENGTH, _DELTA = 6, 7
_IN_DICTIONARY = frozenset({2, 8})
"""Encodings."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a value of each type."""
_OVERHEAD = 16
"""Bytes that pyarrow takes for a value beside the value: levels, offsets, an index."""
_ENTRY = 16
"""Bytes that it takes for an entry of a dictionary beside the entry."""
_DAMAGED = (ValueError, LookupError, struct.error, OSError, ArithmeticError, pa.ArrowException)
"""What comes of looking into pages that are damaged. pyarrow will say so, of the same bytes."""

_length = struct.Struct("<I").unpack_from


def check_footer(file: File, limits: ReadLimits) -> None:
    """Raise TooLargeError for a footer that would take too much to read. One that is damaged is left to pyarrow."""
    try:
        size = file.seek(0, 2)
    except OSError:  # a pipe
        return
    if size < _TAIL:
        return
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    (length,) = _length(tail)
    if tail[4:] != _MAGIC or length > size - _TAIL:
        return
    if length > limits.footer:
        raise TooLargeError(f"a footer of {length} bytes, of at most {limits.footer}")
    file.seek(size - _TAIL - length)
    try:
        _check_metadata(Thrift(file.read(length), limits.footer_parts), limits)
    except ThriftError:
        return
    except TooLargeError as error:
        raise TooLargeError(f"its footer cannot be used: {error}") from None


def _check_metadata(thrift: Thrift, limits: ReadLimits) -> None:
    chunks = 0
    seen = set()
    for number, type_ in thrift.fields():
        if number in seen:
            raise TooLargeError("a part of it is there twice")
        seen.add(number)
        if number == 2 and type_ == LIST:
            _check_schema(thrift, limits)
        elif number == 4 and type_ == LIST:
            groups, _ = thrift.entries()
            chunks += groups
            for _ in range(groups):
                chunks += _columns(thrift)
                if chunks > limits.chunks:
                    raise TooLargeError(f"more than {limits.chunks} columns of row groups")
        else:
            thrift.skip(type_)


def _check_schema(thrift: Thrift, limits: ReadLimits) -> None:
    """Raises TooLargeError for a schema that is too large, or too deep."""
    count, _ = thrift.entries()
    if count > limits.columns:
        raise TooLargeError(f"{count} columns and groups of them, of at most {limits.columns}")
    left: list[int] = []
    for _ in range(count):
        children = 0
        for number, type_ in thrift.fields():
            if number == 4 and type_ == BINARY:
                length = len(thrift.binary())
                if length > limits.name:
                    raise TooLargeError(f"the name of a column has {length} bytes, of at most {limits.name}")
            elif number == 5:
                children = thrift.integer()
            else:
                thrift.skip(type_)
        while left and left[-1] == 0:
            left.pop()
        if left:
            left[-1] -= 1
        if children > 0:
            left.append(children)
        if len(left) > limits.depth:
            raise TooLargeError(f"columns are nested deeper than {limits.depth} levels")


def _columns(thrift: Thrift) -> int:
    """How many columns the row group has that begins here, which is passed over."""
    columns = 0
    for number, type_ in thrift.fields():
        if number == 1 and type_ == LIST:
            count, each = thrift.entries()
            columns += count
            for _ in range(count):
                thrift.skip(each)
        else:
            thrift.skip(type_)
    return columns


def rows_at_a_time(file: File, parquet: Any, group: int, names: list[str], limits: ReadLimits) -> int:
    """How many rows of a row group may be decoded at a time.

    Args:
        file: that `parquet` reads.
        parquet: the file as pyarrow's ParquetFile.
        group: the number of the row group.
        names: of the columns that are read.
        limits: how much memory may be taken, about.

    Raises:
        TooLargeError: not a single row may be, or a page is too large.
    """
    metadata = parquet.metadata.row_group(group)
    chunks = [
        _Chunk(file, metadata.column(index), parquet.schema.column(index), limits)
        for index in range(metadata.num_columns)
        if _is_read(parquet.schema.column(index).path, names)
    ]
    pages = sum(chunk.largest for chunk in chunks)
    if pages > limits.pages:
        raise TooLargeError(f"a row group whose largest pages take {pages} bytes, of at most {limits.pages}")
    rows = limits.rows
    if _fits(chunks, rows, limits):
        return rows
    known: dict[bytes, _Sharing] = {}
    for chunk in chunks:
        chunk.look_closely(known)
    while not _fits(chunks, rows, limits):
        rows //= 2
        if not rows:
            values, size = _cost(chunks, 1)
            raise TooLargeError(
                f"a row group with rows of {values} values and {size} bytes, or more, of at most {limits.values} and "
                f"{limits.batch}"
            )
    return rows


def _is_read(path: str, names: list[str]) -> bool:
    # A name with a dot in it cannot be told from a path: then every column counts.
    return any("." in name for name in names) or path.partition(".")[0] in names


def _fits(chunks: list["_Chunk"], rows: int, limits: ReadLimits) -> bool:
    values, size = _cost(chunks, rows)
    return values <= limits.values and size <= limits.batch


def _cost(chunks: list["_Chunk"], rows: int) -> tuple[int, int]:
    """Values and bytes, at most, of so many rows that follow each other."""
    costs = [chunk.cost(rows) for chunk in chunks]
    return sum(values for values, _ in costs), sum(size for _, size in costs)


@dataclass(slots=True)
class _Page:
    """A page of data, or a dictionary.

    Attributes:
        at: where its content begins in the file.
        packed: bytes.
        unpacked: bytes.
        values: how many it says it has, nulls and empty lists too.
        encoding: of the values.
        levels: bytes of the repetition and of the definition levels, if the header tells: then they are not compressed.
        is_compressed: whether the rest is.
        rows: how many rows begin in it, as far as that is known.
    """

    at: int
    packed: int
    unpacked: int
    values: int
    encoding: int
    levels: tuple[int, int] | None = None
    is_compressed: bool = True
    rows: int = 0


class _Chunk:
    """A column of a row group: its pages, and what rows of it cost to decode.

    Attributes:
        largest: bytes of its dictionary and of its largest page, as they are and decompressed.
    """

    def __init__(self, file: File, chunk: Any, column: Any, limits: ReadLimits) -> None:
        self._file = file
        self._limits = limits
        self._codec = chunk.compression.lower()
        self._repetition = column.max_repetition_level
        self._definition = column.max_definition_level
        of_one_length = column.physical_type == "FIXED_LEN_BYTE_ARRAY"
        self._width = column.length if of_one_length else _WIDTHS.get(column.physical_type)
        """Bytes of a value; None where they differ."""
        self._dictionary: _Page | None = None
        self._pages = list(self._walk(chunk))
        self.largest = max((page.packed + page.unpacked for page in self._pages), default=0)
        if self._dictionary:
            self.largest += self._dictionary.packed + self._dictionary.unpacked + _ENTRY * self._dictionary.values
        if self.largest > limits.pages:
            return  # it is refused, and not looked at
        self._longest_delta = max((self._of_delta(page) for page in self._pages), default=0)
        self._longest_entry = self._dictionary.unpacked if self._dictionary and not self._width else 0
        self._longest_row = 1
        if self._repetition:
            self._longest_row = sum(page.values for page in self._pages)
        else:
            for page in self._pages:
                page.rows = page.values
        self._sum_up()

    def cost(self, rows: int) -> tuple[int, int]:
        """Values and bytes, at most, of so many rows that follow each other."""
        values, plain = self._window(rows)
        values = min(values, rows * self._longest_row)
        width = self._width or max(self._longest_entry, self._longest_delta)
        return values, values * (_OVERHEAD + width) + plain

    def look_closely(self, known: dict[bytes, "_Sharing"]) -> None:
        """Look into pages, where the headers alone tell little: at the entries of a dictionary, at where rows begin.

        known: see `_look_at_rows`; the fields of a record have the same rows.
        """
        try:
            if self._dictionary and not self._width:
                self._longest_entry = _longest_text(self._unpacked(self._dictionary), self._dictionary.values)
            if self._repetition and self._longest_row > self._limits.rows:
                self._look_at_rows(known)
        except _DAMAGED:
            pass  # then it is as the headers say, at most

    def _walk(self, chunk: Any) -> Iterator[_Page]:
        """The pages of data, as far as their headers can be read. The dictionary is put aside."""
        at = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
            at = chunk.dictionary_page_offset
        end = at + chunk.total_compressed_size
        count = 0
        while at < end:
            try:
                header, length = self._header(at)
                kind, page = _page(header, at + length)
            except (ThriftError, _NoPageError, OSError, OverflowError):
                return  # pyarrow will come to it, and say so
            at = page.at + page.packed
            count += 1
            if count > self._limits.chunks:
                raise TooLargeError(f"a column of more than {self._limits.chunks} pages")
            if kind == _DICTIONARY:
                if page.values * (self._width or 4) > page.unpacked:
                    raise TooLargeError(f"a dictionary of {page.values} values in {page.unpacked} bytes")
                self._dictionary = self._dictionary or page
            else:
                yield page

    def _header(self, at: int) -> tuple[dict[int, Any], int]:
        """The header of a page, and its bytes."""
        size = _HEADER
        while True:
            self._file.seek(at)
            content = self._file.read(size)
            thrift = Thrift(content, self._limits.page_header)
            try:
                header = thrift.value(STRUCT)
            except ThriftError:
                if len(content) < size:
                    raise
                if size >= self._limits.page_header:
                    raise TooLargeError(f"a page whose header has more than {size} bytes") from None
                size *= 8
                continue
            return header, thrift.at

    def _sum_up(self) -> None:
        """Add up what is in the pages, for `_window`."""
        self._rows = [0, *accumulate(page.rows for page in self._pages)]
        self._values = [0, *accumulate(page.values for page in self._pages)]
        self._plain = [0, *accumulate(self._of_plain(page) for page in self._pages)]

    def _of_plain(self, page: _Page) -> int:
        """Bytes of texts that stand in a page as they are."""
        return 0 if self._width or page.encoding in _IN_DICTIONARY else page.unpacked

    def _window(self, rows: int) -> tuple[int, int]:
        """Values, and bytes of texts that stand in pages as they are, of all pages that so many rows may touch."""
        count = len(self._pages)
        more = rows if self._repetition else rows - 1
        most_values = most_plain = 0
        for begin in range(count):
            # The last page that is touched, if the first row is the last one in its page.
            end = max(bisect_left(self._rows, self._rows[begin + 1] + more, begin, count), begin + 1)
            most_values = max(most_values, self._values[end] - self._values[begin])
            most_plain = max(most_plain, self._plain[end] - self._plain[begin])
            if end == count:
                break
        return most_values, most_plain

    def _look_at_rows(self, known: dict[bytes, "_Sharing"]) -> None:
        """Find out where rows begin. known: what was found out for pages, by their levels."""
        width = self._repetition.bit_length()
        longest = last = 0
        for page in self._pages:
            levels = self._repetition_levels(page)
            key = blake2b(b"%d %d " % (page.values, width) + levels, digest_size=16).digest()
            if key not in known:
                known[key] = _sharing(levels, page.values, width)
            sharing = known[key]
            page.rows = sharing.rows
            longest = max(longest, last + sharing.first, sharing.longest)
            last = sharing.last if sharing.rows else last + sharing.first
        self._longest_row = max(longest, last)
        self._sum_up()

    def _repetition_levels(self, page: _Page) -> bytes:
        if page.levels:
            return self._packed(page)[: page.levels[0]]
        content = self._unpacked(page)
        (length,) = _length(content)
        return content[4 : 4 + length]

    def _of_delta(self, page: _Page) -> int:
        """Bytes of the longest text of a page, at most, if a text may be longer in memory than in the page.

        Raises TooLargeError if it says that it has more texts than values: memory is taken for so many.
        """
        if page.encoding not in (_DELTA, _DELTA_LENGTH):
            return 0
        try:
            content = self._texts(page)
            longest = 0
            at = 0
            for _ in range(2 if page.encoding == _DELTA else 1):
                # The lengths of what is shared with the text before, then of the rest; or of texts as a whole.
                count, highest, at = _deltas(content, at, whole=page.encoding == _DELTA)
                if count > page.values:
                    raise TooLargeError(f"a page of {page.values} values and {count} texts")
                longest += highest
        except _DAMAGED as error:
            if isinstance(error, TooLargeError):
                raise
            raise ValueError("a page of texts that cannot be looked into") from None
        # No more can be shared than there is.
        return min(longest, page.unpacked) if page.encoding == _DELTA else 0

    def _texts(self, page: _Page) -> bytes:
        """The content of a page without the levels."""
        content = self._unpacked(page)
        at = 0
        if page.levels is None:
            for level in (self._repetition, self._definition):
                at += 4 + _length(content, at)[0] if level else 0
        return content[at:]

    def _unpacked(self, page: _Page) -> bytes:
        """The content of a page, decompressed, without levels that are not compressed."""
        content = self._packed(page)
        before = sum(page.levels or ())
        content, size = content[before:], page.unpacked - before
        if self._codec == "uncompressed" or not page.is_compressed:
            return content
        codec = "lz4_raw" if self._codec.startswith("lz4") else self._codec
        unpacked: bytes = pa.Codec(codec).decompress(content, decompressed_size=size, asbytes=True)
        return unpacked

    def _packed(self, page: _Page) -> bytes:
        self._file.seek(page.at)
        return self._file.read(page.packed)


class _NoPageError(ValueError):
    """What no reader takes for the header of a page."""


def _page(header: dict[int, Any], at: int) -> tuple[int, _Page]:
    """The kind of a page, and the page, by its header. What is neither data nor a dictionary has no values."""
    kind, unpacked, packed = (_number(header, field) for field in (1, 2, 3))
    page = _Page(at, packed, unpacked, 0, 0)
    told = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0))
    if isinstance(told, dict):
        page.values = _number(told, 1)
        page.encoding = _number(told, 4 if kind == _DATA_V2 else 2)
        if kind == _DATA_V2:
            page.levels = _number(told, 6), _number(told, 5)
            page.is_compressed = told.get(7) is not False
    return kind, page


def _number(fields: dict[int, Any], field: int) -> int:
    number = fields.get(field)
    if not isinstance(number, int) or number < 0:
        raise _NoPageError
    return number


class _Sharing(NamedTuple):
    """How the values of a page are shared out among rows. The lengths are not less than they are.

    Attributes:
        rows: how many begin in the page, not more than there are.
        first: values before the first row begins.
        longest: values of the longest of the rows that begin and end in it.
        last: values of the last row that begins in it.
    """

    rows: int
    first: int
    longest: int
    last: int


def _sharing(levels: bytes, values: int, width: int) -> _Sharing:
    """The sharing of a page, by its repetition levels, of `width` bits each: a row begins at each 0.

    Levels are runs of one level, and groups of eight levels packed into bits:
    https://parquet.apache.org/docs/file-format/data-pages/encodings/#RLE
    """
    rows = seen = at = last = longest = 0
    first: int | None = None
    in_byte = 8 // width
    while seen < values:
        run = levels[at]
        at += 1
        if run > 127:
            run, at = _varint(levels, at - 1)
        if not run & 1:
            count = min(run >> 1, values - seen)
            level = levels[at]
            at += 1
            seen += count
            if level or not count:
                last += count
                continue
            part = count, 0, 1, 1
        else:
            packed = levels[at : at + (run >> 1) * width]
            at += len(packed)
            if not packed:
                raise ValueError("the levels end")
            seen += len(packed) * in_byte
            part = _known_sharing(packed, width) if len(packed) <= _SHORT else _sharing_of_packed(packed, width)
            if not part[0]:
                last += part[1]
                continue
        begun, before, within, after = part
        if first is None:
            first = last + before
        elif last + before > longest:
            longest = last + before
        if within > longest:
            longest = within
        last = after
        rows += begun
    if first is None:
        return _Sharing(0, last, 0, 0)
    return _Sharing(max(rows - (seen - values), 0), first, longest, last)


def _sharing_of_packed(packed: bytes, width: int) -> _Sharing:
    zeros, none_is_zero = _PACKED_LEVELS[width]
    in_byte = 8 // width
    rows = sum(packed.translate(zeros))
    if not rows:
        return _Sharing(0, len(packed) * in_byte, 0, 0)
    runs = [found.span() for found in none_is_zero.finditer(packed)]
    first = runs[0][1] if runs and not runs[0][0] else 0
    last = len(packed) - runs[-1][0] if runs and runs[-1][1] == len(packed) else 0
    longest = max((end - begin for begin, end in runs), default=0)
    return _Sharing(rows, in_byte * (first + 1) - 1, in_byte * (longest + 2) - 1, in_byte * (last + 1))


_SHORT = 4
"""Bytes of packed levels of which there are many alike."""
_known_sharing = lru_cache(4096)(_sharing_of_packed)


def _packed_levels(width: int) -> tuple[bytes, re.Pattern[bytes]]:
    """For each byte of packed levels how many are 0, and what matches bytes in which none is."""
    mask = (1 << width) - 1
    zeros = bytes(sum(not byte >> shift & mask for shift in range(0, 8, width)) for byte in range(256))
    none = b"".join(re.escape(bytes([byte])) for byte in range(256) if not zeros[byte])
    return zeros, re.compile(b"[" + none + b"]+")


_PACKED_LEVELS = {width: _packed_levels(width) for width in (1, 2)}
"""By the bits of a level. More than two would be lists in lists in lists in lists."""


def _longest_text(dictionary: bytes, entries: int) -> int:
    """Bytes of the longest entry."""
    at = longest = 0
    for _ in range(entries):
        (length,) = _length(dictionary, at)
        at += 4 + length
        longest = max(longest, length)
    return longest


def _deltas(content: bytes, at: int, whole: bool) -> tuple[int, int, int]:
    """Numbers that are encoded as the differences between them.

    https://parquet.apache.org/docs/file-format/data-pages/encodings/#DELTAENC

    Args:
        content: holds them.
        at: where they begin.
        whole: whether to look at them all, and not at their count alone.

    Returns:
        How many there are, a number that none of them is above, and where they end.
    """
    block, at = _varint(content, at)
    parts, at = _varint(content, at)
    count, at = _varint(content, at)
    number, at = _zigzag(content, at)
    highest = number
    if not whole:
        return count, highest, at
    if not parts or block % parts:
        raise ValueError("no such blocks")
    size = block // parts
    left = count - 1
    while left > 0:
        least, at = _zigzag(content, at)
        widths = content[at : at + parts]
        at += parts
        for width in widths:
            if left <= 0:
                break
            length = size * width // 8
            packed = int.from_bytes(content[at : at + length], "little")
            if at + length > len(content):
                raise ValueError("the numbers end")
            at += length
            # Within a part they are no higher than if they only rose.
            highest = max(highest, number + size * max(least + (1 << width) - 1, 0))
            number += size * least + _sum_of_packed(packed, size, width)
            left -= size
    return count, highest, at


def _sum_of_packed(packed: int, count: int, width: int) -> int:
    """The sum of `count` numbers of `width` bits each."""
    if not width:
        return 0
    ones = ((1 << count * width) - 1) // ((1 << width) - 1)  # the lowest bit of each number
    return sum((packed >> bit & ones).bit_count() << bit for bit in range(width))


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(content, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("a number of more than 64 bits")
