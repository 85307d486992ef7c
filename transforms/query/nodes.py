"""A query as it is understood: a tree of logical nodes over tests.

A test says something of one element. A `Field` says that some element which its path leads to passes its test
(docs/spec/mongo-query.md sections 3 and 4). `And`, `Or` and `Not` put nodes together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transforms.query.regex import Search
from transforms.query.values import Regex, show

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Equal:
    """The element equals a value."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The element has the canonical type of the value, and stands in an order to it.

    Attributes:
        operator: `$gt`, `$gte`, `$lt` or `$lte`.
    """

    operator: str
    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The element is a string in which the pattern is found, or it is the same regular expression, stored."""

    regex: Regex
    search: Search


@dataclass(frozen=True, slots=True, eq=False)
class In:
    """The element equals one of the values, or one of the patterns is found in it."""

    values: tuple[Any, ...]
    patterns: tuple[Found, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Exists:
    """There is an element."""


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """The element has one of these types, by their `$type` aliases."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Mod:
    """The element, without its fraction, leaves this remainder when divided by `divisor`."""

    divisor: int
    remainder: int


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """All or any bits of the element under the mask are set or clear, as `operator` says (`$bitsAllSet`, ...)."""

    operator: str
    mask: int


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """The element is an array of this length."""

    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ElemMatch:
    """The element is an array, and one of its items satisfies the condition.

    Attributes:
        condition: what an item has to satisfy.
        of_items: the condition is about the item itself, and its fields have the empty path. Otherwise it is about the
            item's fields; an item that is an array then counts as an object with the fields "0", "1", ...
    """

    condition: "Node"
    of_items: bool


Test = Equal | Order | Found | In | Exists | Type | Mod | Bits | Size | ElemMatch


@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """One operator of a query as its author wrote it.

    Attributes:
        name: the dotted name that it stands under; empty for a logical operator.
        operator: such as `$gt`.
        argument: what it is given.
    """

    name: str
    operator: str
    argument: Any

    @property
    def text(self) -> str:
        """The clause in one short line."""
        return f"{self.name} {self.operator} {show(self.argument)}".lstrip()


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Some element that the path leads to passes the test. `clause` says so in the author's words."""

    path: Path
    test: Test
    clause: Clause


@dataclass(frozen=True, slots=True, eq=False)
class And:
    """Every child holds."""

    children: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Or:
    """Some child holds."""

    children: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Not:
    """The child does not hold."""

    child: "Node"
    clause: Clause


Node = Field | And | Or | Not
Document = dict[str, Any]
Predicate = Callable[[Any], bool]


def takes_whole_arrays(test: Test) -> bool:
    """Whether a test is put to an array as it is, not to its elements too (docs/spec/mongo-query.md section 3)."""
    return isinstance(test, Size | ElemMatch)
