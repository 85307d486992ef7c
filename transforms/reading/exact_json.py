"""JSON whose numbers no double can hold: as values for queries, as exact values, and in one spelling for equal content.

JSON allows numbers of any size and any number of digits. A statement may hold such numbers, and is forwarded with them.
"""

import json
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from schemas.numbers import number_text

_LARGEST_LONG = 2**63
# It reads integers of any size as they are, where orjson makes doubles of them.
_decode = msgspec.json.Decoder().decode


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
    """The value of a JSON text, with every number as the Decimal that it spells. Raises as `loads`."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def canonical_text(value: Any) -> str:
    """Compact JSON that is the same for equal values, however they were spelled.

    Names are sorted. A number that is integral and below 2**63 is an integer, any other the shortest text of its
    double, or its digits where no double can hold it.

    Args:
        value: of JSON, with numbers as int, float or Decimal.
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
    return _number(Decimal(value))


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
    sign, digits, exponent = number.normalize().as_tuple()
    return f"{'-' if sign else ''}{''.join(map(str, digits))}e{exponent}"


def _integer(text: str) -> int | float:
    """Python reads no integer of more than 4,300 digits. No double holds one of more than 309."""
    return int(text) if len(text) <= 309 else float(text)
