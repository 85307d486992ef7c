"""What Avro and Parquet hold and JSON does not, as JSON would hold it.

Both have types of their own: times, dates, UUIDs, decimals, enumerations. A row goes on in JSON's types alone: None,
bool, int, finite float, str, list, and dict with text as its keys. So a row is judged as a line of JSON is, and a
reject can always show it.

| a value of | becomes |
|---|---|
| timestamp, with a zone or without one (then it is UTC) | epoch milliseconds, rounded down |
| date, time of day, duration | its text in ISO 8601 |
| UUID | its text in lower case |
| decimal | a number |
| binary | text, which must be UTF-8 |

A value that cannot be converted raises ConversionError, and costs the row it is in. Fields that activity does not have
are not converted.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from schemas import Activity, Response, SubscoreDefinition, Tag
from transforms.reading.limits import TooLargeError

Fields = Mapping[str, "Fields | None"]
"""Names of fields, and for each the fields that are used of the records in it; None: all of them."""

_TAG: Fields = dict.fromkeys(Tag.__struct_fields__)

ACTIVITY_FIELDS: Fields = dict.fromkeys(Activity.__struct_fields__) | {
    "responses": dict.fromkeys(Response.__struct_fields__),
    "subscores": dict.fromkeys(SubscoreDefinition.__struct_fields__) | {"tags": _TAG},
    "item_tags": _TAG,
}
"""What activity has. The fields of records apply to records in an array: those of `item_tags` may be records too."""

_REQUIRED = [field.name for field in msgspec.structs.fields(Activity) if field.required]
_DAY = 86_400


class ConversionError(ValueError):
    """A value that has no counterpart in JSON. The message says why."""


def used_fields(names: Iterable[str]) -> Fields:
    """Those of a file's fields `names` that are read.

    These are the fields that activity has. Where the file lacks one that activity must have, every row will be refused;
    then all fields are read, so that the rejects show what the file has instead.
    """
    given = list(names)
    if all(name in given for name in _REQUIRED):
        return {name: ACTIVITY_FIELDS[name] for name in given if name in ACTIVITY_FIELDS}
    return {name: ACTIVITY_FIELDS.get(name) for name in given}


def text(value: bytes) -> str:
    """UTF-8 as text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConversionError("not valid UTF-8") from None


def finite(value: float) -> float:
    """`value`, if it is a number."""
    if not isfinite(value):
        raise ConversionError("NaN and Infinity are not numbers here")
    return value


def uuid_text(value: str) -> str:
    """A UUID in any spelling, in the usual one: lower case, with hyphens."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ConversionError(f"{value[:40]!r} is not a UUID") from None


def uuid_of(value: bytes) -> str:
    """The 16 bytes of a UUID as text."""
    return str(uuid.UUID(bytes=value))


def milliseconds(per_second: int) -> Callable[[int], int] | None:
    """Converts a count since the epoch, in units of which a second has `per_second`. None where it is the same."""
    if per_second == 1000:
        return None
    if per_second < 1000:
        factor = 1000 // per_second
        return lambda count: count * factor
    divisor = per_second // 1000
    return lambda count: count // divisor


def date_text(days: int) -> str:
    """A date, given as days since the epoch: `2020-02-17`."""
    try:
        return date.fromordinal(days + _EPOCH_DAY).isoformat()
    except (ValueError, OverflowError):
        raise ConversionError(f"day {days} since 1970 is in none of the years 1 to 9999") from None


def time_text(per_second: int) -> Callable[[int], str]:
    """Converts a time of day, a count since midnight: `15:03:23` or `15:03:23.5`."""

    def convert(count: int) -> str:
        seconds, rest = divmod(count, per_second)
        if not 0 <= seconds < _DAY:
            raise ConversionError(f"a time of day that is {count} {_unit(per_second)} after midnight")
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{_fraction(rest, per_second)}"

    return convert


def duration_text(per_second: int) -> Callable[[int], str]:
    """Converts a duration, a count: `PT500S`."""

    def convert(count: int) -> str:
        seconds, rest = divmod(abs(count), per_second)
        return f"{'-' if count < 0 else ''}PT{seconds}{_fraction(rest, per_second)}S"

    return convert


def number(value: Decimal) -> int | float:
    """A decimal as JSON holds it: an integer if it is one."""
    nearest = float(value)
    if not isfinite(nearest):
        raise ConversionError("a number beyond double")
    return int(value) if value == value.to_integral_value() else nearest


def scaled(unscaled: int, scale: int) -> int | float:
    """`unscaled` divided by ten to the power of `scale`: an integer if it is one."""
    unit: int = 10**scale
    whole, rest = divmod(unscaled, unit)
    try:
        nearest = unscaled / unit
    except OverflowError:
        raise ConversionError("a number beyond double") from None
    return nearest if rest else whole


def key_text(value: object) -> str:
    """The key of a map as JSON writes it. `value` has been converted."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise ConversionError("a map has keys that are neither text nor integers")


def why(error: Exception) -> str:
    """The reason to give for a value that could not be converted, of any exception."""
    if isinstance(error, ConversionError | TooLargeError):
        return str(error)
    if isinstance(error, UnicodeError):
        return "not valid UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return f"{type(error).__name__}: {error}"[:200]


def shown(row: object) -> bytes:
    """A row that could not be converted, as a reject shows it: JSON, as far as may be."""
    try:
        return json.dumps(showable(row), ensure_ascii=False).encode(errors="backslashreplace")
    except (RecursionError, ValueError, OverflowError) as error:
        return f"({why(error)})".encode()


def showable(value: Any) -> Any:
    """A value in JSON's types, whatever it is: bytes that are no UTF-8 in hexadecimal."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"0x{value.hex()}"
    if isinstance(value, Mapping):
        return {str(showable(key)): showable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [showable(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _fraction(rest: int, per_second: int) -> str:
    return f".{rest:0{len(str(per_second)) - 1}}".rstrip("0") if rest else ""


def _unit(per_second: int) -> str:
    return {1: "s", 1000: "ms", 1_000_000: "us", 1_000_000_000: "ns"}[per_second]


_EPOCH_DAY = date(1970, 1, 1).toordinal()
