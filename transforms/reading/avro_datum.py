"""Rows from Avro's binary encoding, by the schema that they were written with.

The types of a schema become functions, each of which reads one value and says where it ends. Values are converted as
they are read, see `transforms.reading.rows`. fastavro is not used: what it cannot convert ends its block, since where
the next row begins is then lost. Nor would it be faster.
"""

import re
import struct
from collections.abc import Callable
from typing import Any

from transforms.reading.avro_schema import AvroType
from transforms.reading.limits import LIMITS, ReadLimits
from transforms.reading.rows import (
    ACTIVITY_FIELDS,
    ConversionError,
    Fields,
    date_text,
    duration_text,
    finite,
    milliseconds,
    scaled,
    shown,
    text,
    time_text,
    used_fields,
    uuid_of,
    uuid_text,
    why,
)

_Read = Callable[[bytes, int], tuple[Any, int]]
"""Of encoded rows and a place among them: the value that begins there, and where it ends."""

_PER_SECOND = {"millis": 1000, "micros": 1_000_000, "nanos": 1_000_000_000}
_float = struct.Struct("<f").unpack_from
_double = struct.Struct("<d").unpack_from
_months_days_millis = struct.Struct("<III").unpack
_WALL_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_ENDS = "the rows end within it"
_LONGEST_DECIMAL = 1024
"""Bytes. More hold no number that a double can hold, whatever the scale."""
_IN_BLOCKS = -1
"""In place of a number of values: the next block of an array or a map is to come."""


class DamagedError(ValueError):
    """Bytes that the schema does not fit, so that it cannot be told where the value ends, nor the row."""


class OddRowError(ValueError):
    """A row with a value that cannot be converted. It ends at `end`; `content` shows it."""

    def __init__(self, reason: str, content: bytes, end: int) -> None:
        super().__init__(reason)
        self.content = content
        self.end = end


class _TooManyError(DamagedError, ConversionError):
    """More values than a row may have. It is not read to its end, so where it ends is not known."""


class _Budget:
    """What the row that is being read may still cost.

    Attributes:
        values: that it may still have.
        levels: how often records may still be entered that are in a record of the same type.
    """

    __slots__ = ("_limits", "levels", "values")

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self.refill()

    def refill(self) -> None:
        """For the next row."""
        self.values = self._limits.values
        self.levels = self._limits.depth

    def spent(self) -> int:
        """Values that the row has, as far as they are counted: see `AvroType`."""
        return self._limits.values - self.values

    def spend(self, number: int) -> None:
        """Raises _TooManyError if the row has more values than it may."""
        self.values -= number
        if self.values < 0:
            raise _TooManyError(f"a row of {self.spent()} values or more, of at most {self._limits.values}")

    def block(self, encoded: bytes, at: int, item: AvroType) -> tuple[int, int | None, int]:
        """What a block of an array or a map begins with.

        Returns how many values it has, in how many bytes if that is told, and where they are. Raises DamagedError if
        they cannot be so many, or may not.
        """
        number, at = _read_long(encoded, at)
        size = None
        if number < 0:
            number = -number
            size, at = _read_long(encoded, at)
        left = len(encoded) - at
        most = left // item.least if item.least else self._limits.empty_values
        if number > most or (size is not None and not 0 <= size <= left):
            raise DamagedError(f"{number} values in a block of {left if size is None else size} bytes")
        self.values -= number * item.values
        if self.values < 0:
            self.spend(0)
        return number, size, at


class RowReader:
    """Reads rows of a schema: a record, or a union in which records are."""

    def __init__(self, schema: AvroType, limits: ReadLimits = LIMITS) -> None:
        self._union = schema.name == "union"
        self._types = schema.branches if self._union else [schema]
        self._budget = _Budget(limits)
        self._cost = schema.values
        self._records = [
            _RecordReader(type_, limits, self._budget) if type_.name == "record" else None for type_ in self._types
        ]
        self.holds_rows = any(self._records)
        """Whether any row can be activity."""
        self.least = schema.least
        """The fewest bytes of a row."""

    def spent(self) -> int:
        """How many values the last row has, about."""
        return self._cost + self._budget.spent()

    def read(self, encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
        """The row that begins at `at`, in JSON's types, and where it ends. Raises OddRowError and DamagedError."""
        self._budget.refill()
        branch = 0
        if self._union:
            branch, at = _branch(encoded, at, len(self._types))
        record = self._records[branch]
        if record is None:
            end = skip(self._types[branch], encoded, at, self._budget)
            raise OddRowError(f"a record is needed, not {self._types[branch].name}", encoded[at:end], end)
        return record.read(encoded, at)


class _RecordReader:
    def __init__(self, type_: AvroType, limits: ReadLimits, budget: _Budget) -> None:
        used = used_fields(name for name, _ in type_.fields)
        compiler = _Compiler(budget)
        self._limits = limits
        self._budget = budget
        self._types = type_.fields
        self._reads: list[tuple[str | None, _Read]] = [
            (name, compiler.reader(each, used[name])) if name in used else (None, compiler.passer(each))
            for name, each in type_.fields
        ]

    def read(self, encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
        row = {}
        end = at
        try:
            for name, read in self._reads:
                value, end = read(encoded, end)
                if name is not None:
                    row[name] = value
            if end <= len(encoded):
                return row, end
        except Exception:  # noqa: S110  # foreign bytes lead to any
            pass
        return self._read_closely(encoded, at)

    def _read_closely(self, encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
        """The same, where a value is odd: finds out which, and where the row ends all the same."""
        row: dict[str, Any] = {}
        content: dict[str, Any] = {}
        reason = ""
        passing, reading = _Budget(self._limits), self._budget
        reading.refill()
        for (used, read), (name, type_) in zip(self._reads, self._types, strict=True):
            try:
                end = skip(type_, encoded, at, passing)
            except DamagedError as error:
                raise DamagedError(f"{name}: {error}") from None
            if used is not None:
                try:
                    content[name] = row[name] = read(encoded, at)[0]
                except Exception as error:  # foreign bytes lead to any
                    content[name] = _unconverted(type_, encoded, at, end)
                    if name in ACTIVITY_FIELDS:
                        reason = reason or f"{name}: {why(error)}"
            at = end
        if reason:
            raise OddRowError(reason, shown(content), at)
        return row, at


def skip(type_: AvroType, encoded: bytes, at: int, budget: _Budget | None = None) -> int:
    """Where the value that begins at `at` ends. Does not recurse: it may be of any depth. Raises DamagedError.

    budget: of the row that the value is in; None: the value has one of its own.
    """
    budget = budget or _Budget(LIMITS)
    todo = [(type_, 1)]
    while todo:
        each, count = todo.pop()
        if count == _IN_BLOCKS:
            number, size, at = budget.block(encoded, at, each.branches[0])
            if number:
                todo.append((each, _IN_BLOCKS))
                if size is None:
                    todo.append((each.branches[0], number))
                else:
                    at += size
        elif each.name in ("int", "long", "enum"):
            for _ in range(count):
                _, at = _read_long(encoded, at)
        elif each.name in ("string", "bytes"):
            for _ in range(count):
                _, at = _read_bytes(encoded, at)
        elif each.name in ("record", "union", "array", "map"):
            if count > 1:
                todo.append((each, count - 1))
            if each.name == "record":
                if each.loops:
                    budget.spend(each.values)
                todo += [(field, 1) for _, field in reversed(each.fields)]
            elif each.name == "union":
                branch, at = _branch(encoded, at, len(each.branches))
                todo.append((each.branches[branch], 1))
            else:
                todo.append((each, _IN_BLOCKS))
        else:
            at += each.size * count
        if at > len(encoded):
            raise DamagedError(_ENDS)
    return at


def _unconverted(type_: AvroType, encoded: bytes, at: int, end: int) -> bytes | int:
    """What to show of a value that cannot be converted: a text or a number where it is one, else its bytes."""
    while type_.name == "union":
        branch, at = _branch(encoded, at, len(type_.branches))
        type_ = type_.branches[branch]
    if type_.name in ("string", "bytes"):
        return _read_bytes(encoded, at)[0]
    return _read_long(encoded, at)[0] if type_.name in ("int", "long", "enum") else encoded[at:end]


class _Compiler:
    """Makes the functions that read the types of a schema."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._records: dict[tuple[int, int], _Read] = {}

    def passer(self, type_: AvroType) -> _Read:
        """Passes over values that are not used. Its ends are not checked."""
        if type_.name in ("int", "long", "enum"):
            return _read_long
        if type_.name in ("string", "bytes"):
            return _read_bytes
        if type_.name in ("null", "boolean", "float", "double", "fixed"):
            return lambda encoded, at: (None, at + type_.size)
        return lambda encoded, at: (None, skip(type_, encoded, at, self._budget))

    def reader(self, type_: AvroType, used: Fields | None, listed: bool = False) -> _Read:
        """Reads and converts values of a type. `used` are the fields of records in it, if they are `listed`."""
        simple = _simple_reader(type_)
        if simple:
            return simple
        if type_.name == "union":
            return _union_reader([self.reader(branch, used, listed) for branch in type_.branches])
        if type_.name == "array":
            return self._array_reader(type_.branches[0], self.reader(type_.branches[0], used, True))
        if type_.name == "map":
            return self._map_reader(type_.branches[0], self.reader(type_.branches[0].fields[1][1], used, listed))
        key = id(type_), id(used if listed else None)
        if key not in self._records:
            # Until it is made: a record may contain itself.
            self._records[key] = lambda encoded, at: self._again(type_, self._records[key], encoded, at)
            self._records[key] = self._record_reader(type_, used, listed)
        return self._records[key]

    def _again(self, type_: AvroType, read: _Read, encoded: bytes, at: int) -> tuple[Any, int]:
        """Reads a record that is in a record of the same type."""
        budget = self._budget
        budget.spend(type_.values)
        if not budget.levels:
            raise ConversionError("nested too deep")
        budget.levels -= 1
        try:
            return read(encoded, at)
        finally:
            budget.levels += 1

    def _record_reader(self, type_: AvroType, used: Fields | None, listed: bool) -> _Read:
        reads: list[tuple[str | None, _Read]] = []
        for name, each in type_.fields:
            if not listed or used is None:
                reads.append((name, self.reader(each, used)))
            elif name in used:
                reads.append((name, self.reader(each, used[name])))
            else:
                reads.append((None, self.passer(each)))

        def read(encoded: bytes, at: int) -> tuple[Any, int]:
            record = {}
            for name, read_field in reads:
                value, at = read_field(encoded, at)
                if name is not None:
                    record[name] = value
            return record, at

        return read

    def _array_reader(self, item_type: AvroType, read_item: _Read) -> _Read:
        block = self._budget.block

        def read(encoded: bytes, at: int) -> tuple[list[Any], int]:
            items: list[Any] = []
            number, _, at = block(encoded, at, item_type)
            while number:
                for _ in range(number):
                    item, at = read_item(encoded, at)
                    items.append(item)
                number, _, at = block(encoded, at, item_type)
            return items, at

        return read

    def _map_reader(self, entry_type: AvroType, read_value: _Read) -> _Read:
        block = self._budget.block

        def read(encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
            entries: dict[str, Any] = {}
            number, _, at = block(encoded, at, entry_type)
            while number:
                for _ in range(number):
                    key, at = _read_text(encoded, at)
                    entries[key], at = read_value(encoded, at)
                number, _, at = block(encoded, at, entry_type)
            return entries, at

        return read


def _simple_reader(type_: AvroType) -> _Read | None:
    """Reads and converts values that hold no others. None for other types."""
    read = _READS.get(type_.name)
    if type_.name == "fixed":
        read = _fixed_reader(type_.size)
    if type_.name == "enum":
        return _enum_reader(type_.symbols)
    if read is None:
        return None
    convert = _conversion(type_)
    return read if convert is None else _converting(read, convert)


def _conversion(type_: AvroType) -> Callable[[Any], Any] | None:
    meaning, _, unit = (type_.logical or "").rpartition("-")
    if meaning in ("timestamp", "local-timestamp"):
        return milliseconds(_PER_SECOND[unit])
    if meaning == "time":
        return time_text(_PER_SECOND[unit])
    if type_.logical == "date":
        return date_text
    if type_.logical == "decimal":
        return lambda value: _decimal(value, type_.scale)
    if type_.logical == "datetime":
        return _wall_clock
    if type_.logical == "duration":
        return _duration
    if type_.name == "fixed" and type_.size == 16:
        return uuid_of  # also where nothing says so: what else would be text of 16 bytes
    if type_.logical == "uuid":
        return uuid_text
    return text if type_.name in ("bytes", "fixed") else None


def _decimal(value: bytes, scale: int) -> int | float:
    if len(value) > _LONGEST_DECIMAL:
        raise ConversionError("a number beyond double")
    return scaled(int.from_bytes(value, "big", signed=True), scale)


def _wall_clock(value: str) -> str:
    """BigQuery's DATETIME in the one spelling of a time without a zone that is read."""
    return value.replace("T", " ") if _WALL_CLOCK.fullmatch(value) else value


def _duration(value: bytes) -> str:
    """Avro's duration, which counts three units apart: `P1M2DT3.5S`."""
    months, days, millis = _months_days_millis(value)
    return f"P{months}M{days}D{duration_text(1000)(millis)[1:]}"


def _converting(read: _Read, convert: Callable[[Any], Any]) -> _Read:
    def read_and_convert(encoded: bytes, at: int) -> tuple[Any, int]:
        value, end = read(encoded, at)
        return convert(value), end

    return read_and_convert


def _read_null(encoded: bytes, at: int) -> tuple[None, int]:
    return None, at


def _read_boolean(encoded: bytes, at: int) -> tuple[bool, int]:
    return encoded[at] != 0, at + 1


def _read_float(encoded: bytes, at: int) -> tuple[float, int]:
    return finite(_float(encoded, at)[0]), at + 4


def _read_double(encoded: bytes, at: int) -> tuple[float, int]:
    return finite(_double(encoded, at)[0]), at + 8


def _read_long(encoded: bytes, at: int) -> tuple[int, int]:
    try:
        byte = encoded[at]
        at += 1
        if byte < 128:
            return (byte >> 1) ^ -(byte & 1), at
        number = byte & 127
        for shift in range(7, 64, 7):
            byte = encoded[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                break
    except IndexError:
        raise DamagedError(_ENDS) from None
    if byte >= 128 or number >> 64:
        raise DamagedError("a number of more than 64 bits")
    return (number >> 1) ^ -(number & 1), at


def _read_bytes(encoded: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_long(encoded, at)
    end = at + length
    if length < 0 or end > len(encoded):
        raise DamagedError(f"a length of {length} bytes, where {len(encoded) - at} are left")
    return encoded[at:end], end


def _read_text(encoded: bytes, at: int) -> tuple[str, int]:
    length = encoded[at]
    end = at + 1 + (length >> 1)
    if length < 128 and not length & 1 and end <= len(encoded):  # the most of all texts: without a call it is quicker
        return encoded[at + 1 : end].decode(), end
    value, end = _read_bytes(encoded, at)
    return value.decode(), end


def _fixed_reader(size: int) -> _Read:
    def read(encoded: bytes, at: int) -> tuple[bytes, int]:
        end = at + size
        if end > len(encoded):
            raise DamagedError(_ENDS)
        return encoded[at:end], end

    return read


def _enum_reader(symbols: list[str]) -> _Read:
    count = len(symbols)

    def read(encoded: bytes, at: int) -> tuple[str, int]:
        index, end = _read_long(encoded, at)
        if not 0 <= index < count:
            raise ConversionError(f"symbol {index} of an enum that has {count}")
        return symbols[index], end

    return read


def _branch(encoded: bytes, at: int, count: int) -> tuple[int, int]:
    branch, at = _read_long(encoded, at)
    if not 0 <= branch < count:
        raise DamagedError(f"branch {branch} of a union that has {count}")
    return branch, at


def _union_reader(branches: list[_Read]) -> _Read:
    count = len(branches)
    by_byte = {branch << 1: read_branch for branch, read_branch in enumerate(branches[:64])}

    def read(encoded: bytes, at: int) -> tuple[Any, int]:
        read_branch = by_byte.get(encoded[at])
        if read_branch:
            return read_branch(encoded, at + 1)
        branch, at = _branch(encoded, at, count)
        return branches[branch](encoded, at)

    return read


_READS: dict[str, _Read] = {
    "null": _read_null,
    "boolean": _read_boolean,
    "int": _read_long,
    "long": _read_long,
    "float": _read_float,
    "double": _read_double,
    "bytes": _read_bytes,
    "string": _read_text,
}
