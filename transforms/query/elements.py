"""What a test says of one element, as functions (docs/spec/mongo-query.md section 6).

They return True or False, or raise UndecidedError where a regular expression hit its limit.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from transforms.query.nodes import (
    Bits,
    ElemMatch,
    Equal,
    Exists,
    Found,
    In,
    Mod,
    Node,
    Order,
    Predicate,
    Size,
    Test,
    Type,
)
from transforms.query.values import (
    BOOL_TYPE,
    MISSING,
    NUMBER_TYPE,
    Regex,
    canonical_type,
    compare,
    equal,
    is_nan,
    type_name,
    whole_int64,
)

_UINT64 = 2**64 - 1


def element_test(test: Test, match_of: Callable[[Node], Predicate]) -> Predicate:
    """The function that puts a test to one element.

    Args:
        test: what is asked.
        match_of: gives the function for the condition of `$elemMatch`.
    """
    if isinstance(test, ElemMatch):
        return _elem_match(test, match_of(test.condition))
    return _MAKERS[type(test)](test)


def as_object(item: Any) -> dict[str, Any] | None:
    """An item of an array as `$elemMatch` sees it: an object, or an array as one. None for anything else."""
    if isinstance(item, dict):
        return item
    if isinstance(item, list):
        return {str(index): member for index, member in enumerate(item)}
    return None


def _elem_match(test: ElemMatch, holds: Predicate) -> Predicate:
    if test.of_items:
        return lambda element: isinstance(element, list) and any(holds(item) for item in element)

    def some_object(element: Any) -> bool:
        if not isinstance(element, list):
            return False
        for item in element:
            fields = item if type(item) is dict else as_object(item)
            if fields is not None and holds(fields):
                return True
        return False

    return some_object


def _equal(test: Equal) -> Predicate:
    operand = test.value
    if isinstance(operand, str):
        return lambda element: bool(element == operand)
    return lambda element: equal(element, operand)


def _order(test: Order) -> Predicate:
    operand, operator = test.value, test.operator
    inclusive = operator in ("$gte", "$lte")
    if operand is None:
        return lambda element: inclusive and (element is None or element is MISSING)
    if is_nan(operand):
        return lambda element: inclusive and is_nan(element)
    kind = canonical_type(operand)
    # Inside arrays and objects NaN sorts below every number. Compared by itself it is in no order to any.
    numbers = kind == NUMBER_TYPE
    accepts = _ACCEPTS[operator]

    def in_order(element: Any) -> bool:
        if canonical_type(element) != kind or (numbers and is_nan(element)):
            return False
        return accepts(compare(element, operand))

    return in_order


_ACCEPTS: dict[str, Callable[[int], bool]] = {
    "$gt": lambda order: order > 0,
    "$gte": lambda order: order >= 0,
    "$lt": lambda order: order < 0,
    "$lte": lambda order: order <= 0,
}


def _found(test: Found) -> Predicate:
    search, stored = test.search, test.regex

    def found(element: Any) -> bool:
        if isinstance(element, str):
            return search(element)
        return isinstance(element, Regex) and equal(element, stored)

    return found


def _in(test: In) -> Predicate:
    hashed = frozenset(value for value in test.values if isinstance(value, str))
    others = tuple(value for value in test.values if not isinstance(value, str))
    patterns = tuple(_found(pattern) for pattern in test.patterns)

    def one_of(element: Any) -> bool:
        if isinstance(element, str):
            if element in hashed:
                return True
        elif any(equal(element, value) for value in others):
            return True
        return any(pattern(element) for pattern in patterns)

    return one_of


def _exists(_: Exists) -> Predicate:
    return lambda element: element is not MISSING


def _type(test: Type) -> Predicate:
    names = test.names
    return lambda element: type_name(element) in names


def _mod(test: Mod) -> Predicate:
    divisor, remainder = abs(test.divisor), test.remainder

    def leaves_remainder(element: Any) -> bool:
        whole = whole_int64(element)
        if whole is None:
            return False
        # C's remainder has the sign of the dividend, Python's that of the divisor.
        left = abs(whole) % divisor
        return (-left if whole < 0 else left) == remainder

    return leaves_remainder


def _bits(test: Bits) -> Predicate:
    mask, operator = test.mask, test.operator

    def bits(element: Any) -> bool:
        if canonical_type(element) in (BOOL_TYPE,) or not isinstance(element, int | float | Decimal):
            return False
        whole = whole_int64(element)
        if whole is None or whole != element:
            return False
        under = (whole & _UINT64) & mask
        if operator == "$bitsAllSet":
            return under == mask
        if operator == "$bitsAllClear":
            return under == 0
        if operator == "$bitsAnySet":
            return under != 0
        return under != mask

    return bits


def _size(test: Size) -> Predicate:
    length = test.length
    return lambda element: isinstance(element, list) and len(element) == length


_MAKERS: dict[type, Callable[[Any], Predicate]] = {
    Equal: _equal,
    Order: _order,
    Found: _found,
    In: _in,
    Exists: _exists,
    Type: _type,
    Mod: _mod,
    Bits: _bits,
    Size: _size,
}
