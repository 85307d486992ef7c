"""Sums of scores, exact on the shortest decimals (docs/spec/records.md section 3)."""

import sys
from collections.abc import Iterable
from decimal import Context, Decimal

from schemas.activity import Number

# Enough digits to add any two doubles without rounding.
_EXACT = Context(prec=800, Emax=10_000, Emin=-10_000)
_LARGEST_DOUBLE = Decimal(sys.float_info.max)
_LARGEST_PRINTED_INTEGER = 2**63
# A whole number of eighths up to this has at most 15 digits, so the double's value is its shortest decimal. Above it
# need not be: 1e23 is 99999999999999991611392.
_EXACT_EIGHTHS = 1e11


def exact_sum(values: Iterable[Number | None]) -> Number | None:
    """The sum of the values that are not null; None if there are none.

    The sum is that of the decimals that the values are printed as, so 0.1 + 0.2 is 0.3. A whole number is an int. What
    64 bits cannot hold is a float, and never infinite, since JSON has no word for that.
    """
    # Nearly all scores are whole numbers, halves or quarters. Those are summed as integers, which is exact and fast.
    eighths = 0
    rest: Decimal | None = None
    is_empty = True
    for value in values:
        if value is None:
            continue
        is_empty = False
        if isinstance(value, int):
            eighths += 8 * value
        elif (scaled := 8 * value).is_integer() and abs(value) <= _EXACT_EIGHTHS:
            eighths += int(scaled)
        else:
            rest = _EXACT.add(rest or Decimal(), Decimal(repr(value)))
    if is_empty:
        return None
    if rest is None and abs(eighths) < 8 * _LARGEST_PRINTED_INTEGER:
        return eighths / 8 if eighths % 8 else eighths // 8
    total = _EXACT.add(rest or Decimal(), _EXACT.divide(Decimal(eighths), Decimal(8)))
    if abs(total) < _LARGEST_PRINTED_INTEGER and total == total.to_integral_value():
        return int(total)
    return float(max(-_LARGEST_DOUBLE, min(_LARGEST_DOUBLE, total)))
