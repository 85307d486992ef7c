"""Parquet files, cut into blocks of rows.

Columns are first read in types of which any value can be read: times as the integers they are stored as, and so on.
What they mean is worked out value by value, so that an odd one costs its row only.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from schemas.reject import CONTENT_LIMIT
from transforms.reading.blocks import CHUNK, Block, Broken, File
from transforms.reading.limits import LIMITS, Allowance, ReadLimits, TooLargeError
from transforms.reading.parquet_guard import check_footer, rows_at_a_time
from transforms.reading.rows import (
    ACTIVITY_FIELDS,
    ConversionError,
    Fields,
    date_text,
    duration_text,
    finite,
    key_text,
    milliseconds,
    number,
    showable,
    shown,
    text,
    time_text,
    used_fields,
    uuid_of,
    why,
)

_LEAST = 64
"""Bytes that a row counts for, if it has fewer."""
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_MS = 86_400_000
_COLUMN = re.compile(r"\n  (?=(?:required|optional|repeated) )")
_VARIANT = re.compile(r" \(Variant(\(\d+\))?\) \{$", re.MULTILINE)

_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How values are read: in which type of Arrow, and what is then made of a value that is not null, if anything."""

    type: Any
    convert: _Convert | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    """`close` reads what `quick` cannot: text that is not valid UTF-8."""

    name: str
    quick: _Reading
    close: _Reading


class _RefusedError(ValueError):
    """A file of which no row can be read, because of a column that is used."""


def parquet_rows(file: File, limits: ReadLimits = LIMITS) -> Iterator[Block | Broken]:
    """The rows of a Parquet file as dicts, in the types of `transforms.reading.rows`, and what could not be read."""
    rows = None
    try:
        check_footer(file, limits)
        parquet = pq.ParquetFile(
            file,
            buffer_size=CHUNK,
            pre_buffer=False,
            coerce_int96_timestamp_unit="ms",  # in nanoseconds, far years would come out as near ones
            page_checksum_verification=True,
            thrift_string_size_limit=limits.footer,
            thrift_container_size_limit=limits.chunks,
        )
        rows = parquet.metadata.num_rows
        columns = _columns(parquet)
    except _RefusedError as error:
        yield Broken(0, str(error), b"", _length(file), rows, unread=True)
        return
    except Exception as error:  # foreign bytes lead to any
        yield Broken(0, _not_readable(error), b"", _length(file), rows, unread=True)
        return
    start = 0
    allowance = Allowance(limits)
    allowance.read = _length(file)
    reader = _Groups(file, parquet, columns, allowance)
    for group in range(parquet.metadata.num_row_groups):
        yield from reader.read(group, start)
        if reader.is_used_up:
            return
        start += parquet.metadata.row_group(group).num_rows
    if start < rows:
        reason = f"the file says that it has {rows} rows, and its row groups have {start}"
        yield Broken(start, _not_readable(reason), b"", 0, rows - start)


def _length(file: File) -> int:
    """Bytes; 0 of what has no end to go to, such as a pipe."""
    try:
        return file.seek(0, 2)
    except OSError:
        return 0


def _columns(parquet: Any) -> list[_Column]:
    """The columns to read. Raises _RefusedError."""
    schema = parquet.schema_arrow
    used = used_fields(schema.names)
    count = Counter(schema.names)
    columns = []
    for index, variant in enumerate(_variants(parquet)):
        name = schema.names[index]
        if name not in used:
            continue
        try:
            if count[name] > 1:
                raise ConversionError("there are several columns of this name")
            if variant:
                raise ConversionError(
                    f"a column of the type VARIANT, which is not read: write it as text (in SQL: CAST({name} AS JSON)) "
                    "or as a struct, list or map"
                )
            type_ = schema.field(index).type
            columns.append(
                _Column(name, _reading(type_, used[name], False, False), _reading(type_, used[name], False, True))
            )
        except ConversionError as error:
            if name in ACTIVITY_FIELDS:
                raise _RefusedError(f"{name}: {error}") from None
    return columns


def _variants(parquet: Any) -> list[bool]:
    """Of each column, whether it is of the type VARIANT. pyarrow tells only in the text of the Parquet schema; to Arrow
    such a column is a struct of binaries."""
    described = str(parquet.schema)
    columns = _COLUMN.split(described)[1:]
    if len(columns) == len(parquet.schema_arrow):
        return [bool(_VARIANT.search(column)) for column in columns]
    # A name with a line end in it: no telling which column is which.
    anywhere = bool(_VARIANT.search(described))
    return [anywhere and types.is_struct(field.type) for field in parquet.schema_arrow]


class _Groups:
    """Reads row groups, each by itself: were a column of it short, later rows would be of mixed columns.

    Attributes:
        is_used_up: whether more came of the file than may.
    """

    def __init__(self, file: File, parquet: Any, columns: list[_Column], allowance: Allowance) -> None:
        self._file = file
        self._parquet = parquet
        self._columns = columns
        self._names = [column.name for column in columns]
        self._allowance = allowance
        self._made = 0
        self.is_used_up = False

    def read(self, group: int, start: int) -> Iterator[Block | Broken]:
        """The rows of a row group, of which the first one has the number `start`."""
        told = self._parquet.metadata.row_group(group)
        read = 0
        try:
            limits = self._allowance.limits
            at_a_time = rows_at_a_time(self._file, self._parquet, group, self._names, limits)
            for batch in self._parquet.iter_batches(batch_size=at_a_time, row_groups=[group], columns=self._names):
                self._count(batch)
                yield from _batch(start + read, batch, self._columns)
                read += batch.num_rows
        except Exception as error:  # foreign bytes lead to any
            length = 0 if read else told.total_byte_size
            rows = (self._parquet.metadata.num_rows - start if self.is_used_up else told.num_rows) - read
            yield Broken(start + read, _not_readable(error), b"", length, rows, unread=self.is_used_up)
            return
        if read < told.num_rows:
            reason = f"a row group says that it has {told.num_rows} rows, and has {read}"
            yield Broken(start + read, _not_readable(reason), b"", 0, told.num_rows - read)
        elif (values := most_values(self._parquet.schema, told, self._names)) > read:
            reason = f"a row group says that it has {read} rows, and has columns of {values} values"
            yield Broken(start + read, _not_readable(reason), b"", 0, values - read)

    def _count(self, batch: Any) -> None:
        """Raises TooLargeError if more came of the file than may."""
        size = sum(_size(batch.column(index)) for index in range(batch.num_columns))
        self._made += max(size, _LEAST * batch.num_rows)
        try:
            self._allowance.check(self._made, "the file")
        except TooLargeError:
            self.is_used_up = True
            raise


def _size(array: Any) -> int:
    """Bytes of values, each counted where it stands, though a dictionary may hold it once."""
    if not _has_dictionary(array.type):
        size: int = array.nbytes
        return size
    if types.is_dictionary(array.type):
        return _size(array.cast(array.type.value_type))
    if types.is_struct(array.type):
        return sum(map(_size, array.flatten()))
    return _size(array.flatten()) if _is_list(array.type) else sum(map(_size, (array.keys, array.items)))


def _has_dictionary(type_: Any) -> bool:
    if types.is_dictionary(type_):
        return True
    return any(_has_dictionary(type_.field(index).type) for index in range(type_.num_fields))


def most_values(schema: Any, group: Any, names: list[str]) -> int:
    """How many values a column has, of those that have one for each row.

    names: of the columns that could be read. What the file says of others is not looked at, since nothing has checked
    it.
    """
    single = [
        index
        for index in range(group.num_columns)
        if schema.column(index).max_repetition_level == 0
        and not {schema.column(index).path, schema.column(index).path.partition(".")[0]}.isdisjoint(names)
    ]
    return max((group.column(index).num_values for index in single), default=0)


def _batch(start: int, batch: Any, columns: list[_Column]) -> Iterator[Block | Broken]:
    names = []
    values = []
    odd: dict[int, str] = {}
    for column in columns:
        read, problems = _values(batch.column(batch.schema.get_field_index(column.name)), column)
        names.append(column.name)
        values.append(read)
        if column.name in ACTIVITY_FIELDS:
            odd = {row: f"{column.name}: {reason}" for row, reason in problems.items()} | odd
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)] or [{}] * batch.num_rows
    after = 0
    for row in sorted(odd):
        if row > after:
            yield Block(start + after, rows[after:row], kind="rows")
        content = shown(rows[row])
        yield Broken(start + row, odd[row], content[:CONTENT_LIMIT], len(content), 1)
        after = row + 1
    if after < len(rows):
        yield Block(start + after, rows[after:], kind="rows")


def _values(array: Any, column: _Column) -> tuple[list[Any], dict[int, str]]:
    """The values of a column, and which of them could not be converted and why: those are as they were read."""
    try:
        return _read(array, column.quick), {}
    except Exception:  # whatever it is, it is looked for
        values: list[Any] = []
        problems = {}
        for row in range(len(array)):
            one = array.slice(row, 1)
            try:
                values += _read(one, column.close)
            except Exception as error:  # foreign bytes lead to any
                problems[row] = why(error)
                values.append(_unconverted(one, column))
        return values, problems


def _read(array: Any, reading: _Reading) -> list[Any]:
    values: list[Any] = (array if array.type == reading.type else array.cast(reading.type)).to_pylist()
    convert = reading.convert
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _unconverted(one: Any, column: _Column) -> Any:
    """What to show of a value that cannot be converted."""
    try:
        return showable(one.cast(column.close.type).to_pylist()[0])
    except Exception:  # whatever it is, it is told elsewhere
        return None


def _reading(type_: Any, used: Fields | None, listed: bool, close: bool) -> _Reading:
    """How to read values of a type. `used` are the fields of structs in it, if they are `listed`.

    `close`: text may be no UTF-8. Raises ConversionError for types that are not read.
    """
    if isinstance(type_, pa.BaseExtensionType):
        storage = _reading(type_.storage_type, used, listed, close)
        return _Reading(storage.type, _EXTENSIONS.get(type_.extension_name, storage.convert))
    if types.is_dictionary(type_):
        return _reading(type_.value_type, used, listed, close)
    if types.is_struct(type_):
        return _struct_reading(type_, used, listed, close)
    if types.is_map(type_):
        return _map_reading(type_, used, listed, close)
    if _is_list(type_):
        item = _reading(type_.value_type, used, True, close)
        list_of = pa.large_list if types.is_large_list(type_) or types.is_large_list_view(type_) else pa.list_
        return _Reading(list_of(item.type), None if item.convert is None else _each(item.convert))
    return _simple_reading(type_, close)


_EXTENSIONS: dict[str, _Convert] = {"arrow.uuid": uuid_of, "arrow.bool8": bool}


def _is_list(type_: Any) -> bool:
    return any(
        is_list(type_)
        for is_list in (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
    )


def _simple_reading(type_: Any, close: bool) -> _Reading:
    """How to read values that hold no others."""
    if types.is_string(type_) or types.is_string_view(type_):
        return _Reading(pa.binary(), text) if close else _Reading(pa.string())
    if types.is_large_string(type_):
        return _Reading(pa.large_binary(), text) if close else _Reading(type_)
    if types.is_binary(type_) or types.is_binary_view(type_):
        return _Reading(pa.binary(), text)
    if types.is_large_binary(type_):
        return _Reading(type_, text)
    if types.is_fixed_size_binary(type_):
        # Sixteen bytes are a UUID also where nothing says so: what else would be text of that length?
        return _Reading(type_, uuid_of if type_.byte_width == 16 else text)
    if types.is_integer(type_) or types.is_boolean(type_) or types.is_null(type_):
        return _Reading(type_)
    if types.is_floating(type_):
        return _Reading(pa.float32() if types.is_float16(type_) else type_, finite)
    if types.is_decimal(type_):
        return _Reading(type_, number)
    if types.is_timestamp(type_):
        return _Reading(pa.int64(), milliseconds(_PER_SECOND[type_.unit]))
    if types.is_date32(type_):
        return _Reading(pa.int32(), date_text)
    if types.is_date64(type_):
        return _Reading(pa.int64(), lambda count: date_text(count // _DAY_MS))
    if types.is_time(type_):
        return _Reading(pa.int32() if types.is_time32(type_) else pa.int64(), time_text(_PER_SECOND[type_.unit]))
    if types.is_duration(type_):
        return _Reading(pa.int64(), duration_text(_PER_SECOND[type_.unit]))
    raise ConversionError(f"a column of the type {type_}, which is not read")


def _struct_reading(type_: Any, used: Fields | None, listed: bool, close: bool) -> _Reading:
    fields = []
    converts: dict[str, _Convert] = {}
    for field in type_:
        within = used
        if listed and used is not None:
            if field.name not in used:
                continue
            within = used[field.name]
        reading = _reading(field.type, within, False, close)
        fields.append((field.name, reading.type))
        if reading.convert:
            converts[field.name] = reading.convert

    def convert(struct: dict[str, Any]) -> dict[str, Any]:
        for name, convert_field in converts.items():
            if struct[name] is not None:
                struct[name] = convert_field(struct[name])
        return struct

    return _Reading(pa.struct(fields), convert if converts else None)


def _map_reading(type_: Any, used: Fields | None, listed: bool, close: bool) -> _Reading:
    key = _reading(type_.key_type, None, False, close)
    value = _reading(type_.item_type, used, listed, close)

    def convert(entries: list[tuple[Any, Any]]) -> dict[str, Any]:
        """Of a key that is there twice the last value counts."""
        return {
            key_text(name if key.convert is None else key.convert(name)): (
                entry if value.convert is None or entry is None else value.convert(entry)
            )
            for name, entry in entries
        }

    return _Reading(pa.map_(key.type, value.type), convert)


def _each(convert: _Convert) -> _Convert:
    return lambda values: [None if value is None else convert(value) for value in values]


def _not_readable(reason: object) -> str:
    return f"not readable as Parquet: {why(reason) if isinstance(reason, Exception) else reason}"[:300]
