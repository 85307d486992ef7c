"""Sums of scores, exact on the shortest decimals (records.md section 3)."""

import sys
from collections.abc import Iterable
from decimal import Context, Decimal

from schemas.activity import Number

# Wide enough for any two doubles to be added without rounding.
_EXACT = Context(prec=800, Emax=10_000, Emin=-10_000)
_LARGEST_PRINTED_INTEGER = 2**63
# From here on a double's value need not be its shortest decimal: 1e23 is 99999999999999991611392.
_EVERY_INTEGER_IS_A_DOUBLE = 2**53


def exact_sum(values: Iterable[Number | None]) -> Number | None:
    """The sum of the non-null values; None if there is none. Integral results are ints.

    `0.1 + 0.2` is 0.3. What 64 bits cannot hold is a float again, and never infinite: JSON has no word for that.
    """
    whole = 0
    fractional: Decimal | None = None
    found = False
    for value in values:
        if value is None:
            continue
        found = True
        if isinstance(value, int):
            whole += value
        elif value.is_integer() and abs(value) <= _EVERY_INTEGER_IS_A_DOUBLE:
            whole += int(value)
        else:
            fractional = _EXACT.add(fractional or Decimal(), Decimal(repr(value)))
    if not found:
        return None
    if fractional is None:
        return whole if abs(whole) < _LARGEST_PRINTED_INTEGER else _as_double(Decimal(whole))
    total = _EXACT.add(fractional, Decimal(whole))
    if total == total.to_integral_value() and abs(total) < _LARGEST_PRINTED_INTEGER:
        return int(total)
    return _as_double(total)


def _as_double(value: Decimal) -> float:
    largest = Decimal(sys.float_info.max)
    return float(max(-largest, min(largest, value)))
