"""Extended JSON, v2 canonical and relaxed, and Learning Locker's `$dte` (docs/spec/mongo-query.md section 8)."""

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from transforms.query.values import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, Long, ObjectId, Regex, show

UNIX_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?\s?([Zz]|[+-]\d\d(?::?\d\d)?)?)?)?)?",
    re.ASCII,
)
_DOUBLE = re.compile(r"-?Infinity|NaN|[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
# Of decimal128: 34 digits, and exponents of the last digit from -6176 to 6111.
_DECIMAL_DIGITS, _DECIMAL_MIN_EXPONENT, _DECIMAL_MAX_EXPONENT = 34, -6176, 6111


class ExtendedJsonError(ValueError):
    """The content of a wrapper such as `$date` cannot be read. `wrapper` is its name."""

    def __init__(self, wrapper: str, message: str) -> None:
        super().__init__(message)
        self.wrapper = wrapper


def parse_date(text: str) -> dt.datetime | None:
    """The instant of an ISO 8601 date in UTC, its milliseconds cut off and not rounded; None if it cannot be read.

    It may be a year, a year and a month, a date, or a date and a time with any number of digits after the second.
    Without a zone it is in UTC (docs/spec/mongo-query.md section 11).
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    milliseconds = int((fraction or "0").ljust(3, "0")[:3])
    try:
        date = dt.datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            milliseconds * 1000, tzinfo=_zone(zone),
        )  # fmt: skip
        return date.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None) -> dt.timezone:
    if text is None or text in "Zz":
        return dt.UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    if int(digits[2:]) > 59:
        raise ValueError("minutes of a zone")
    offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return dt.timezone(-offset if text[0] == "-" else offset)


def _date(name: str, value: Any) -> dt.datetime:
    date: dt.datetime | None = None
    if isinstance(value, dt.datetime):
        date = value
    elif isinstance(value, str):
        date = parse_date(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        try:
            date = UNIX_EPOCH + dt.timedelta(milliseconds=value)
        except OverflowError:
            date = None
    if date is None:
        raise ExtendedJsonError(name, f"{name} cannot be read as a date: {show(value)}")
    return date


def _object_id(name: str, value: Any) -> ObjectId:
    if isinstance(value, ObjectId):
        return value
    if not isinstance(value, str) or re.fullmatch("[0-9a-fA-F]{24}", value) is None:
        raise ExtendedJsonError(name, f"{name} must be 24 hexadecimal digits: {show(value)}")
    return ObjectId(value.lower())


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ExtendedJsonError(name, f"{name} must be an integer from {low} to {high}: {show(value)}")
    return value


def _int(name: str, value: Any) -> int:
    return _integer(name, value, INT32_MIN, INT32_MAX)


def _long(name: str, value: Any) -> int:
    number = _integer(name, value, INT64_MIN, INT64_MAX)
    return Long(number) if INT32_MIN <= number <= INT32_MAX else number


def _double(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _DOUBLE.fullmatch(value)):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ExtendedJsonError(name, f"{name} must be a number as a string: {show(value)}")


def _decimal(name: str, value: Any) -> Decimal:
    if isinstance(value, str) and len(value) <= 6200:
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("sNaN")
        if number.is_infinite() or number.is_qnan():
            return number
        if number.is_finite():
            _, digits, exponent = number.as_tuple()
            in_range = _DECIMAL_MIN_EXPONENT <= int(exponent) <= _DECIMAL_MAX_EXPONENT
            if len(digits) <= _DECIMAL_DIGITS and in_range:
                return number
    raise ExtendedJsonError(name, f"{name} must be a decimal128 as a string: {show(value)}")


def _regular_expression(name: str, value: Any) -> Regex:
    if isinstance(value, Mapping) and set(value) in ({"pattern"}, {"pattern", "options"}):
        pattern, options = value["pattern"], value.get("options", "")
        if isinstance(pattern, str) and isinstance(options, str):
            return Regex(pattern, options)
    raise ExtendedJsonError(name, f"{name} must hold the strings pattern and options: {show(value)}")


_READERS = {
    "$date": _date,
    "$dte": _date,
    "$oid": _object_id,
    "$numberInt": _int,
    "$numberLong": _long,
    "$numberDouble": _double,
    "$numberDecimal": _decimal,
    "$regularExpression": _regular_expression,
}
_REFUSED = frozenset(
    ("$binary", "$uuid", "$code", "$timestamp", "$minKey", "$maxKey", "$undefined", "$symbol", "$dbPointer")
)


def read_wrapper(name: str, value: Any) -> Any:
    """The value that a wrapper stands for.

    Args:
        name: of the wrapper, such as `$oid`.
        value: what is in it, with the wrappers inside already read.

    Raises:
        KeyError: `name` is no wrapper.
        ExtendedJsonError: it cannot be read, or no record can hold such a value.
    """
    if name in _REFUSED:
        raise ExtendedJsonError(name, f"Extended JSON {name} is not supported: no record holds such a value")
    return _READERS[name](name, value)


def is_wrapper(name: str) -> bool:
    """Whether an object whose only member has this name is a value of Extended JSON."""
    return name in _READERS or name in _REFUSED


def from_extended_json(value: Any) -> Any:
    """The values that a query is matched against, from parsed JSON with wrappers.

    For tests and tools. `{"at": {"$date": "2020-01-01T00:00:00Z"}}` gives an aware `datetime`
    (docs/spec/mongo-query.md section 8).

    Raises:
        ValueError: a wrapper cannot be read.
    """
    if isinstance(value, Mapping):
        if len(value) == 1:
            ((name, inner),) = value.items()
            if is_wrapper(name):
                return read_wrapper(name, from_extended_json(inner))
        return {name: from_extended_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [from_extended_json(member) for member in value]
    return value
