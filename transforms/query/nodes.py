"""A query as it is understood: a tree of logical nodes over tests of single elements."""

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
    """The element has the value's canonical type and stands in this order to it: `$gt`, `$gte`, `$lt` or
    `$lte`.
    """

    operator: str
    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The element is a string in which the pattern is found, or an equal stored regular expression."""

    regex: Regex
    search: Search


@dataclass(frozen=True, slots=True, eq=False)
class In:
    """The element equals one of the values or one of the patterns is found in it."""

    values: tuple[Any, ...]
    patterns: tuple[Found, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Exists:
    """There is an element."""


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """The element has one of these types."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Mod:
    """The element, truncated, leaves this remainder."""

    divisor: int
    remainder: int


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """The element's bits under the mask: all or any of them set or clear."""

    operator: str
    mask: int


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """The element is an array of this length."""

    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ElemMatch:
    """The element is an array one item of which satisfies the condition.

    `of_items`: the condition is about the item itself (its fields have the empty path); otherwise about the
    item's fields, an array item counting as an object with the fields "0", "1", ...
    """

    condition: "Node"
    of_items: bool


Test = Equal | Order | Found | In | Exists | Type | Mod | Bits | Size | ElemMatch


@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """One operator of a query as its author wrote it: the dotted name it stands under, if any, and its
    argument.
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
    """Some element that the path leads to passes the test."""

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
