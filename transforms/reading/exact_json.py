"""JSON whose numbers no double can hold: as values for queries, as exact values, and in one spelling for equal content.

JSON allows numbers of any size and any number of digits. A statement may hold such numbers, and is forwarded with them.
"""

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import orjson

from schemas.numbers import number_text

_LARGEST_LONG = 2**63
# It reads integers of any size as they are, where orjson makes doubles of them.
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Beyond:
    """A number with an exponent of more than 18 digits, which no Decimal holds. It equals one that is spelled alike.

    Attributes:
        text: how it is spelled, in lower case.
    """

    text: str


def loads(text: bytes) -> Any:
    """The value of a JSON text, as queries see it. A number beyond double is infinity, as it is in JavaScript.

    Raises:
        ValueError: it is no JSON, or not in UTF-8.
        RecursionError: it is nested deeper than can be read.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(text, parse_int=_integer)


def loads_exactly(text: bytes) -> Any:
    """The value of a JSON text, with every number as the Decimal that it spells, or as Beyond. Raises as `loads`."""
    try:
        return json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except InvalidOperation:
        return json.loads(text, parse_int=Decimal, parse_float=_exact)


def _exact(text: str) -> Decimal | Beyond:
    try:
        return Decimal(text)
    except InvalidOperation:
        text = text.lower()
        return Beyond(text) if text.partition("e")[0].strip("-0.") else Decimal()


def canonical_text(value: Any) -> str:
    """Compact JSON that is the same for equal values, however they were spelled.

    Names are sorted. A number that is integral and below 2**63 is an integer, any other the shortest text of its
    double, or its digits where no double can hold it.

    Args:
        value: of JSON, with numbers as int, float, Decimal or Beyond.
    """
    if isinstance(value, dict):
        members = (f"{_string(name)}:{canonical_text(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical_text, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return value.text if isinstance(value, Beyond) else _number(Decimal(value))


def _string(text: str) -> str:
    return orjson.dumps(text).decode()


def _number(number: Decimal) -> str:
    if number.is_infinite():
        return "1e999" if number > 0 else "-1e999"
    if not number:
        return "0"
    # Of a huge exponent the digits are not written out.
    if number.adjusted() < len(str(_LARGEST_LONG)) and number == number.to_integral_value():
        whole = int(number)
        if abs(whole) < _LARGEST_LONG:
            return str(whole)
    nearest = float(number)
    if nearest and abs(nearest) != float("inf"):
        return number_text(nearest)
    # Not by `normalize`, which knows no exponent beyond 999,999, and rounds.
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    return f"{'-' if sign else ''}{significant}e{int(exponent) + len(text) - len(significant)}"


def _integer(text: str) -> int | float:
    """Python reads no integer of more than 4,300 digits. No double holds one of more than 309."""
    return int(text) if len(text) <= 309 else float(text)
