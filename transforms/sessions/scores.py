"""Sums of scores, exact on the shortest decimals (docs/spec/records.md section 3)."""

import sys
from collections.abc import Callable, Iterable
from decimal import Context, Decimal

from schemas.activity import Number

# Enough digits to add any two doubles without rounding.
_EXACT = Context(prec=800, Emax=10_000, Emin=-10_000)
_NOTHING = Decimal()
_LARGEST_DOUBLE = Decimal(sys.float_info.max)
_LARGEST_PRINTED_INTEGER = 2**63
# A whole number of eighths up to this has at most 15 digits, so the double's value is its shortest decimal. Above it
# need not be: 1e23 is 99999999999999991611392.
_EXACT_EIGHTHS = 1e11


class ScoreSum:
    """A sum of scores, which values come to and leave again.

    The sum is that of the decimals that the values are printed as, so 0.1 + 0.2 is 0.3. It is exact at every moment.
    So it depends neither on the order of the values, nor on those that have come and left.
    """

    __slots__ = ("_count", "_eighths", "_rest")

    def __init__(self) -> None:
        self._count = 0
        # Nearly all scores are whole numbers, halves or quarters. Those are summed as integers: exact, and fast.
        self._eighths = 0
        self._rest = _NOTHING

    def add(self, values: Iterable[Number | None]) -> None:
        """Add values. None is no value."""
        count, eighths = self._changed(values, _EXACT.add)
        self._count += count
        self._eighths += eighths

    def remove(self, values: Iterable[Number | None]) -> None:
        """Take away values that were added."""
        count, eighths = self._changed(values, _EXACT.subtract)
        self._count -= count
        self._eighths -= eighths

    def _changed(
        self, values: Iterable[Number | None], change: Callable[[Decimal, Decimal], Decimal]
    ) -> tuple[int, int]:
        """Change the rest. Returns how many values there are, and the eighths of those that are none of the rest."""
        count = eighths = 0
        for value in values:
            if value is None:
                continue
            count += 1
            if isinstance(value, int):
                eighths += 8 * value
            elif (scaled := 8 * value).is_integer() and abs(value) <= _EXACT_EIGHTHS:
                eighths += int(scaled)
            else:
                self._rest = change(self._rest, Decimal(repr(value)))
        return count, eighths

    def total(self) -> Number | None:
        """The sum; None if it has no values.

        A whole number is an int. What 64 bits cannot hold is a float, and never infinite, since JSON has no word for
        that.
        """
        if not self._count:
            return None
        eighths = self._eighths
        if not self._rest and abs(eighths) < 8 * _LARGEST_PRINTED_INTEGER:
            return eighths / 8 if eighths % 8 else eighths // 8
        total = _EXACT.add(self._rest, _EXACT.divide(Decimal(eighths), Decimal(8)))
        if abs(total) < _LARGEST_PRINTED_INTEGER and total == total.to_integral_value():
            return int(total)
        return float(max(-_LARGEST_DOUBLE, min(_LARGEST_DOUBLE, total)))
