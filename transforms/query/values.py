"""The values of a query document, their canonical types and their order (docs/spec/mongo-query.md sections 1 and 5).

Documents hold `dict`, `list`, `str`, `int`, `float`, `bool`, `None` and `datetime`. `ObjectId`, `Regex`, `Long` and
`Decimal` come from Extended JSON alone.
"""

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Missing:
    """The type of MISSING."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


@dataclass(frozen=True, slots=True)
class ObjectId:
    """An object id: 24 hexadecimal digits in lower case."""

    hex: str

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-f]{24}", self.hex) is None:
            raise ValueError(f"an object id is 24 lower-case hexadecimal digits, not {self.hex!r}")


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression as a value: one that stands in a query as a literal, or one that is stored in a document."""

    pattern: str
    options: str = ""


class Long(int):
    """An integer of 32 bits that was written as one of 64. Only `$type` sees the difference."""

    __slots__ = ()


UNKNOWN_TYPE = -1
MISSING_TYPE, NULL_TYPE, NUMBER_TYPE, STRING_TYPE, OBJECT_TYPE, ARRAY_TYPE = 0, 5, 10, 15, 20, 25
OBJECT_ID_TYPE, BOOL_TYPE, DATE_TYPE, REGEX_TYPE = 35, 40, 45, 50

_CANONICAL: dict[type, int] = {
    Missing: MISSING_TYPE,
    type(None): NULL_TYPE,
    bool: BOOL_TYPE,
    int: NUMBER_TYPE,
    Long: NUMBER_TYPE,
    float: NUMBER_TYPE,
    Decimal: NUMBER_TYPE,
    str: STRING_TYPE,
    dict: OBJECT_TYPE,
    list: ARRAY_TYPE,
    ObjectId: OBJECT_ID_TYPE,
    dt.datetime: DATE_TYPE,
    Regex: REGEX_TYPE,
}


def canonical_type(value: object) -> int:
    """The canonical type of a value (docs/spec/mongo-query.md section 1); UNKNOWN_TYPE for what no JSON can hold.

    A subclass counts as what it derives from. So a document is read the same way whichever decoder made it.
    """
    kind = _CANONICAL.get(type(value))
    if kind is not None:
        return kind
    for base in type(value).__mro__[1:]:
        if base in _CANONICAL:
            return _CANONICAL[base]
    return UNKNOWN_TYPE


def is_nan(value: object) -> bool:
    """Whether a value is the number NaN."""
    return isinstance(value, float | Decimal) and value != value


def as_utc(value: dt.datetime) -> dt.datetime:
    """A date as an instant. One without a zone is in UTC."""
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value


def compare(left: Any, right: Any) -> int:
    """The order of two values of one canonical type: negative, zero or positive (docs/spec/mongo-query.md section 5).

    It goes no deeper than the shallower of the two values, and a query's values have a limited depth.
    """
    kind = canonical_type(left)
    if kind == NUMBER_TYPE:
        return _compare_numbers(left, right)
    if kind == OBJECT_TYPE:
        return _compare_objects(left, right)
    if kind == ARRAY_TYPE:
        return _compare_arrays(left, right)
    if kind == DATE_TYPE:
        left, right = as_utc(left), as_utc(right)
    elif kind == OBJECT_ID_TYPE:
        left, right = left.hex, right.hex
    elif kind == REGEX_TYPE:
        left, right = (left.pattern, left.options), (right.pattern, right.options)
    elif kind in (NULL_TYPE, MISSING_TYPE):
        return 0
    return int(left > right) - int(left < right)


def _compare_numbers(left: Any, right: Any) -> int:
    left_nan, right_nan = is_nan(left), is_nan(right)
    if left_nan or right_nan:
        return int(right_nan) - int(left_nan)
    return int(left > right) - int(left < right)


def _compare_objects(left: dict[str, Any], right: dict[str, Any]) -> int:
    for (left_name, left_value), (right_name, right_value) in zip(left.items(), right.items(), strict=False):
        order = canonical_type(left_value) - canonical_type(right_value)
        if order == 0:
            order = int(left_name > right_name) - int(left_name < right_name)
        if order == 0:
            order = compare_any(left_value, right_value)
        if order:
            return order
    return len(left) - len(right)


def _compare_arrays(left: list[Any], right: list[Any]) -> int:
    for left_value, right_value in zip(left, right, strict=False):
        order = compare_any(left_value, right_value)
        if order:
            return order
    return len(left) - len(right)


def compare_any(left: Any, right: Any) -> int:
    """The order of two values of any types: by canonical type, then by value.

    Values of an unknown type are never equal.
    """
    kind = canonical_type(left)
    order = kind - canonical_type(right)
    if order:
        return order
    return -1 if kind == UNKNOWN_TYPE else compare(left, right)


def equal(element: Any, operand: Any) -> bool:
    """Whether an element equals an operand; null also equals MISSING (docs/spec/mongo-query.md section 5)."""
    if operand is None:
        return element is None or element is MISSING
    return compare_any(element, operand) == 0


def type_name(value: object) -> str:
    """The `$type` alias of a value; "" for MISSING and what no JSON can hold (docs/spec/mongo-query.md section 6)."""
    kind = canonical_type(value)
    if kind == NUMBER_TYPE:
        if isinstance(value, float):
            return "double"
        if isinstance(value, Decimal):
            return "decimal"
        fits = isinstance(value, int) and INT32_MIN <= value <= INT32_MAX
        return "int" if fits and not isinstance(value, Long) else "long"
    return _ALIASES.get(kind, "")


_ALIASES = {
    NULL_TYPE: "null",
    STRING_TYPE: "string",
    OBJECT_TYPE: "object",
    ARRAY_TYPE: "array",
    OBJECT_ID_TYPE: "objectId",
    BOOL_TYPE: "bool",
    DATE_TYPE: "date",
    REGEX_TYPE: "regex",
}


def whole_int64(value: object) -> int | None:
    """A number without its fraction, if 64 bits hold that.

    None for infinity, NaN, greater numbers, booleans, and what is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        whole = int(value)
    except (ValueError, OverflowError):
        return None
    return whole if INT64_MIN <= whole <= INT64_MAX else None


def show(value: object, limit: int = 80) -> str:
    """A value as short text like JSON, for messages, cut off at `limit` characters.

    A large value is never walked as a whole.
    """
    text = _show(value, limit)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _show(value: object, room: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # Cut before it is escaped, so that a long text is not escaped as a whole.
        cut = value[:room]
        return '"' + cut.replace("\\", "\\\\").replace('"', '\\"') + ('"' if len(cut) == len(value) else "...")
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return "an integer beyond 64 bits"
    if isinstance(value, dt.datetime):
        return f'date("{as_utc(value).isoformat()}")'
    if isinstance(value, ObjectId):
        return f'oid("{value.hex}")'
    if isinstance(value, Regex):
        return f"/{value.pattern[:room]}/{value.options}"
    if isinstance(value, dict | list):
        return _show_members(value, room)
    if isinstance(value, int | float | Decimal | Missing):
        return str(value)
    return f"a {type(value).__name__}"


def _show_members(value: dict[Any, Any] | list[Any], room: int) -> str:
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    parts: list[str] = []
    used = 0
    for member in value.items() if isinstance(value, dict) else value:
        if used >= room:
            parts.append("...")
            break
        if isinstance(value, dict):
            part = f"{_show(str(member[0]), room)}: {_show(member[1], room - used - 2)}"
        else:
            part = _show(member, room - used - 2)
        parts.append(part)
        used += len(part) + 2
    return opened + ", ".join(parts) + closed
