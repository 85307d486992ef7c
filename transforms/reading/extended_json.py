"""MongoDB's Extended JSON: values that say their type, `{"$numberLong": "3"}`, and what they stand for in JSON.

Both of its formats are read, canonical and relaxed, as mongoexport and the drivers write them, and the older spelling
of dates and binary. https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/

| of the type | becomes |
|---|---|
| `$numberInt`, `$numberLong`, `$numberDouble`, `$numberDecimal` | a number |
| `$date`, `$timestamp` | a time as text, in RFC 3339; beyond the year 9999 epoch milliseconds |
| `$oid`, `$uuid`, `$symbol`, `$binary` that is a UUID | text |
| `$undefined` | null |
"""

import base64
import binascii
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from schemas.times import rfc3339

_UUID_SUBTYPE = 4


class ExtendedJsonError(ValueError):
    """A value whose name is one of Extended JSON's and whose content is not. The message says what was expected."""


def plain(value: Any, odd: list[str] | None = None) -> Any:
    """`value`, of JSON's types, with every value of Extended JSON in it as what it stands for.

    What holds none is returned as it is, not copied.

    Args:
        value: may hold others, at any depth.
        odd: gets the messages of values that cannot be converted, which then stay as they are: whether that matters
            depends on whether anything uses them. None: they raise ExtendedJsonError.
    """
    if isinstance(value, dict):
        if any(name.startswith("$") for name in value):
            convert = next((_TYPES[name] for name in value if name in _TYPES), None)
            if convert is not None:
                try:
                    return convert(value)
                except ExtendedJsonError as error:
                    if odd is None:
                        raise
                    odd.append(str(error))
                    return value
        changed = {name: plain(entry, odd) for name, entry in value.items()}
        return changed if any(changed[name] is not entry for name, entry in value.items()) else value
    if isinstance(value, list):
        entries = [plain(entry, odd) for entry in value]
        return entries if any(new is not old for new, old in zip(entries, value, strict=True)) else value
    return value


def _only(value: dict[str, Any], name: str) -> Any:
    if len(value) > 1:
        raise ExtendedJsonError(f"an object with {name} has nothing else")
    return value[name]


def _integer(name: str) -> Callable[[dict[str, Any]], int]:
    def convert(value: dict[str, Any]) -> int:
        text = _only(value, name)
        try:
            if isinstance(text, str) and len(text) <= 20 and text.isascii() and "_" not in text:
                return int(text)
        except ValueError:
            pass
        if isinstance(text, int) and not isinstance(text, bool):
            return text
        raise ExtendedJsonError(f"{name} holds an integer as text")

    return convert


def _double(value: dict[str, Any]) -> float:
    text = _only(value, "$numberDouble")
    try:
        number = float(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise ExtendedJsonError("$numberDouble holds a number as text")
    return _finite(number)


def _decimal(value: dict[str, Any]) -> int | float:
    text = _only(value, "$numberDecimal")
    try:
        number = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        number = None
    if number is None:
        raise ExtendedJsonError("$numberDecimal holds a number as text")
    # A signaling NaN has no double.
    nearest = _finite(float("nan") if number.is_nan() else float(number))
    return int(number) if number == number.to_integral_value() else nearest


def _finite(number: float) -> float:
    if not isfinite(number):
        raise ExtendedJsonError("NaN and Infinity are not numbers here")
    return number


def _date(value: dict[str, Any]) -> str | int:
    held = plain(_only(value, "$date"))
    if isinstance(held, str):
        return held
    if isinstance(held, int) and not isinstance(held, bool):
        return _time(held)
    raise ExtendedJsonError("$date holds a time as text, or milliseconds")


def _timestamp(value: dict[str, Any]) -> str | int:
    held = _only(value, "$timestamp")
    seconds = held.get("t") if isinstance(held, dict) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise ExtendedJsonError("$timestamp holds seconds as t")
    return _time(seconds * 1000)


def _time(milliseconds: int) -> str | int:
    try:
        return rfc3339(milliseconds)
    except OverflowError:
        return milliseconds


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    def convert(value: dict[str, Any]) -> str:
        text = _only(value, name)
        if not isinstance(text, str):
            raise ExtendedJsonError(f"{name} holds text")
        return text

    return convert


def _uuid(value: dict[str, Any]) -> str:
    try:
        return str(uuid.UUID(_text("$uuid")(value)))
    except ValueError:
        raise ExtendedJsonError("$uuid holds a UUID as text") from None


def _binary(value: dict[str, Any]) -> str:
    """`{"$binary": {"base64": ..., "subType": "04"}}`, or as it was before: `{"$binary": ..., "$type": "04"}`."""
    held = value["$binary"]
    content, subtype = (
        (held.get("base64"), held.get("subType")) if isinstance(held, dict) else (held, value.get("$type"))
    )
    try:
        if isinstance(content, str) and isinstance(subtype, str) and int(subtype, 16) == _UUID_SUBTYPE:
            return str(uuid.UUID(bytes=base64.b64decode(content, validate=True)))
    except (ValueError, binascii.Error):
        pass
    raise ExtendedJsonError("$binary is not read, except for a UUID (subtype 04)")


def _undefined(value: dict[str, Any]) -> None:
    _only(value, "$undefined")


_TYPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$numberInt": _integer("$numberInt"),
    "$numberLong": _integer("$numberLong"),
    "$numberDouble": _double,
    "$numberDecimal": _decimal,
    "$date": _date,
    "$timestamp": _timestamp,
    "$oid": _text("$oid"),
    "$symbol": _text("$symbol"),
    "$uuid": _uuid,
    "$binary": _binary,
    "$undefined": _undefined,
}
