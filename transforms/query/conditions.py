"""What a document must hold for a query to match: the conditions that an index can look up.

A query is weakened to alternatives. Each is a set of conditions "the path leads to an element with this key". If the
query matches, some alternative holds. The reverse is not so: who looks up has to verify with the whole query. Three
things are never looked up: null (which a missing field equals too), anything under a negation, and values without a
key.
"""

import datetime as dt
from decimal import Decimal
from typing import Any

from transforms.query.nodes import (
    And,
    ElemMatch,
    Equal,
    Field,
    In,
    Node,
    Or,
    Order,
    Path,
    Test,
)
from transforms.query.paths import as_index
from transforms.query.values import ObjectId, as_utc, is_nan

Alternative = dict[Path, Any]

MAX_ALTERNATIVES = 64
"""Of one query. Each is an entry of the index, so a long `$in` costs memory, and the product of several costs more."""

ANYTHING: list[Alternative] = [{}]


class _Boolean:
    """The key of a boolean. True and 1 would be one key of a dict."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


TRUE_KEY = _Boolean(True)
FALSE_KEY = _Boolean(False)


def key_of(value: Any) -> Any:
    """The key under which equal values are found; None for values that are not looked up.

    Equal numbers of any type have one key. A boolean has another key than the number that it equals in Python.
    """
    if isinstance(value, str | ObjectId):
        return value
    if isinstance(value, bool):
        return TRUE_KEY if value else FALSE_KEY
    if isinstance(value, int | float | Decimal):
        return None if is_nan(value) else value
    if isinstance(value, dt.datetime):
        return as_utc(value)
    return None


def alternatives(node: Node) -> list[Alternative]:
    """The alternatives of which one must hold for the node to hold. There are none if it can never hold."""
    if isinstance(node, Field):
        return _of_field(node)
    if isinstance(node, And):
        return _of_all(node)
    if isinstance(node, Or):
        return _of_any(node)
    return ANYTHING


def _of_field(node: Field) -> list[Alternative]:
    test = node.test
    if isinstance(test, Equal):
        return _of_values(node.path, (test.value,))
    if isinstance(test, In) and not test.patterns:
        return _of_values(node.path, test.values)
    if isinstance(test, ElemMatch) and not test.of_items:
        return _of_items(node.path, test.condition)
    return ANYTHING


def _of_values(path: Path, values: tuple[Any, ...]) -> list[Alternative]:
    if not path or len(values) > MAX_ALTERNATIVES:
        return ANYTHING
    keys: dict[Any, None] = {}
    for value in values:
        key = key_of(value)
        if key is None:
            return ANYTHING
        keys[key] = None
    return [{path: key} for key in keys]


def _of_items(path: Path, condition: Node) -> list[Alternative]:
    """What `$elemMatch` says of the whole document: the same conditions, on longer paths.

    Not where an index is part of a path: that may have meant an array inside the array.
    """
    inner = alternatives(condition)
    for alternative in inner:
        for part in alternative:
            if any(as_index(name) is not None for name in (*path, *part)):
                return ANYTHING
    return [{(*path, *part): key for part, key in alternative.items()} for alternative in inner]


def _of_all(node: And) -> list[Alternative]:
    result = ANYTHING
    for child in node.children:
        implied = alternatives(child)
        if len(result) * len(implied) <= MAX_ALTERNATIVES:
            # Where both have a condition on one path, either of the two is implied. The first is kept.
            result = [{**second, **first} for first in result for second in implied]
        elif {} in result:
            result = implied
    return result


def _of_any(node: Or) -> list[Alternative]:
    result: list[Alternative] = []
    for child in node.children:
        result.extend(alternatives(child))
        if len(result) > MAX_ALTERNATIVES or {} in result:
            return ANYTHING
    return result


def necessary_fields(node: Node) -> tuple[Field, ...]:
    """The fields each of which must hold for the node to hold."""
    if isinstance(node, Field):
        return (node,)
    if isinstance(node, And):
        return tuple(field for child in node.children for field in necessary_fields(child))
    return ()


def comparable(value: Any) -> tuple[str, Any] | None:
    """The kind of a value, and a form that compares within that kind; None where no order is looked up."""
    if isinstance(value, str):
        return "string", value
    if isinstance(value, dt.datetime):
        return "date", as_utc(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or is_nan(value):
        return None
    return "number", value


def needs_element(test: Test) -> bool:
    """Whether a test is false where there is no element. Only null equals a missing field."""
    if isinstance(test, Order | Equal):
        return test.value is not None
    return not (isinstance(test, In) and None in test.values)
