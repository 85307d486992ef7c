"""A query as one Python function: an expression over local variables, whose constants are passed in as arguments.

No text of a query ever becomes source. Names of fields are parameters `s0, s1, ...` and operands are parameters `c0,
c1, ...` of the functions around it. So queries of one shape share one compiled source; to compile one takes 130 to 430
us. Only generated names are put into the source.

The function has two values. When a regular expression hits its limit, it hands over to `fallback`, which has three.

Several queries can be one function, too. What they all lead through is then read once.
"""

import datetime as dt
import functools
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from transforms.query.elements import element_test
from transforms.query.errors import UndecidedError
from transforms.query.nodes import (
    And,
    ElemMatch,
    Equal,
    Exists,
    Field,
    Found,
    In,
    Node,
    Not,
    Or,
    Order,
    Path,
    Predicate,
    Size,
    Test,
    Type,
    takes_whole_arrays,
)
from transforms.query.paths import Walker
from transforms.query.values import MISSING, ObjectId, is_nan

MAX_WEIGHT = 60
"""Fields and names of paths in one expression; what has more is cut into several functions.

The parser of CPython stops at about 100 nested parentheses, and the time to compile grows faster than the source.
"""

# Types of which the fast comparison of a test says all. Anything else (arrays, subclasses, Decimal) is put to the
# general test.
_ATOMS = frozenset((type(None), bool, str, int, float, dict, ObjectId))
_ATOMS_AND_DATES = _ATOMS | {dt.datetime}
_PYTHON_TYPES: dict[frozenset[str], frozenset[type]] = {
    frozenset(("string",)): frozenset((str,)),
    frozenset(("bool",)): frozenset((bool,)),
    frozenset(("object",)): frozenset((dict,)),
    frozenset(("date",)): frozenset((dt.datetime,)),
    frozenset(("int", "long", "double", "decimal")): frozenset((int, float)),
}
_SYMBOLS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_UNDECIDED = (UndecidedError, RecursionError, ArithmeticError, AttributeError)

Truth = Callable[[Any], bool | None]
Scoped = tuple[Mapping[str, str], Node]
"""A query, and the strings that a document must hold in some top-level fields, whatever the query says."""

UNDECIDED = -1
"""What a function of several queries returns where two values are not enough for one of them."""


def compile_node(node: Node, fallback: Truth) -> Truth:
    """The function of a whole query. It never raises.

    Args:
        node: the query.
        fallback: answers for a document where two values are not enough; None for undecided.
    """
    if _weight(node) > MAX_WEIGHT:
        parts = _assemble(node)

        def guarded(document: Any) -> bool | None:
            try:
                return parts(document)
            except _UNDECIDED:
                return fallback(document)

        return guarded
    writer = _Writer()
    body = (
        f"   try:\n    return {writer.node(node)}\n   except {writer.shared(_UNDECIDED)}:\n"
        f"    return {writer.constant(fallback)}(d)\n"
    )
    whole: Truth = writer.function(body)
    return whole


def compile_together(queries: Sequence[Scoped]) -> Callable[[Any], int] | None:
    """One function of several queries. It never raises.

    Returns:
        A function of a document. It returns a number whose bit `1 << n` tells whether the n-th query and its scope
        surely match; or UNDECIDED. None if a query is too large for that.
    """
    if any(_weight(node) > MAX_WEIGHT for _, node in queries):
        return None
    writer = _Writer()
    tests = [
        f"    if {writer.scoped(scope, node)}:\n     m |= {1 << number}\n"
        for number, (scope, node) in enumerate(queries)
    ]
    undecided = writer.shared(_UNDECIDED)
    body = f"   m = 0\n   try:\n{''.join(tests)}   except {undecided}:\n    return {UNDECIDED}\n   return m\n"
    together: Callable[[Any], int] = writer.function(body)
    return together


def _assemble(node: Node) -> Predicate:
    """The function of a node of any size. It may raise what `_UNDECIDED` names."""
    if _weight(node) <= MAX_WEIGHT:
        writer = _Writer()
        part: Predicate = writer.function(f"   return {writer.node(node)}\n")
        return part
    if isinstance(node, Field):
        walker = Walker(node.path, element_test(node.test, _assemble), not takes_whole_arrays(node.test))
        return walker.inside(0)
    if isinstance(node, Not):
        child = _assemble(node.child)
        return lambda document: not child(document)
    children = tuple(map(_assemble, _halves(node)))
    if isinstance(node, And):
        return lambda document: all(child(document) for child in children)
    return lambda document: any(child(document) for child in children)


def _halves(node: And | Or) -> tuple[Node, ...]:
    """The children in groups, each a node of the same kind that is small enough for one expression."""
    most = MAX_WEIGHT - 1  # the node of the group weighs one
    groups: list[list[Node]] = [[]]
    room = most
    for child in node.children:
        weight = _weight(child)
        if weight > room and groups[-1]:
            groups.append([])
            room = most
        groups[-1].append(child)
        room -= weight
    kind = type(node)
    return tuple(group[0] if len(group) == 1 else kind(tuple(group)) for group in groups)


def _weight(node: Node) -> int:
    if isinstance(node, Field):
        return 1 + len(node.path)
    if isinstance(node, Not):
        return 1 + _weight(node.child)
    return 1 + sum(map(_weight, node.children))


@functools.lru_cache(maxsize=4096)
def compiled_shape(source: str) -> Callable[..., Any]:
    """The function of this source: it takes the shared constants of a shape, and returns its maker."""
    namespace: dict[str, Any] = {"__builtins__": {"type": type, "len": len}}
    exec(compile(source, "<query>", "exec"), namespace)  # noqa: S102 - only names generated below are in it
    shape: Callable[..., Any] = namespace["shape"]
    return shape


@functools.lru_cache(maxsize=4096)
def compiled_maker(source: str, shared: tuple[Any, ...]) -> Callable[..., Any]:
    """The function that makes the functions of one shape over the same fields.

    They share these constants. Each constant of a function is in a cell of its own, and with ten thousand functions the
    processor's cache has room only for what they share.
    """
    maker: Callable[..., Any] = compiled_shape(source)(*shared)
    return maker


class _Writer:
    """Writes the expression of a node, and collects its constants.

    A value that a path leads through is held in a variable. `known` says which variables are surely assigned where the
    next expression stands. Those are the ones that the operand before it in an `and` or `or` begins with, under the
    same checks of types.
    """

    def __init__(self) -> None:
        self._own: list[Any] = []
        self._shared: dict[Any, str] = {}
        self._variables = 0
        self.known: dict[Path, str] = {(): "d"}

    def constant(self, value: Any) -> str:
        """The name of a constant of this query alone: an operand, or a function that has one in it."""
        self._own.append(value)
        return f"c{len(self._own) - 1}"

    def shared(self, value: Any) -> str:
        """The name of a constant that queries over the same fields share: a name, a type or a set of types."""
        return self._shared.setdefault(value, f"s{len(self._shared)}")

    def function(self, body: str) -> Any:
        """The function with this body, its constants bound."""
        own = ", ".join(f"c{number}" for number in range(len(self._own)))
        source = (
            f"def shape({', '.join(self._shared.values())}):\n"
            f" def make({own}):\n  def match(d):\n{body}  return match\n return make\n"
        )
        return compiled_maker(source, tuple(self._shared))(*self._own)

    def scoped(self, scope: Mapping[str, str], node: Node) -> str:
        """The expression of a query with its scope."""
        known = self.known
        tests: list[str] = []
        for field, required in scope.items():
            _, value = self._value("d", (field,))
            tests.append(f"{value} == {self.constant(required)}")
            if len(tests) == 1:
                known = self.known
        tests.append(self.node(node))
        if scope:
            self.known = known  # the rest is looked at only where the first field holds what it must
        return " and ".join(tests)

    def node(self, node: Node) -> str:
        if isinstance(node, Field):
            return self._field(node)
        if isinstance(node, Not):
            return f"not {self.node(node.child)}"
        if not node.children:
            return "True" if isinstance(node, And) else "False"
        known_after_first = self.known
        parts: list[str] = []
        for position, child in enumerate(node.children):
            parts.append(self.node(child))
            if position == 0:
                known_after_first = dict(self.known)
        self.known = known_after_first
        return "(" + (" and " if isinstance(node, And) else " or ").join(parts) + ")"

    def _field(self, node: Field) -> str:
        path, test = node.path, node.test
        walker = Walker(path, element_test(test, _assemble), not takes_whole_arrays(test))
        if not path:
            return f"{self.constant(walker.test)}(d)"
        closing = ""
        opened = ""
        parent = "d"
        when_missing = str(walker.when_missing)
        for position in range(1, len(path)):
            variable, value = self._value(parent, path[:position])
            otherwise = self.constant(walker.at(position))
            is_object = f"type({value}) is {self.shared(dict)}"
            closing = (
                f" if {is_object} else {when_missing} if {variable} is None else {otherwise}({variable}))" + closing
            )
            opened += "("
            parent = variable
        return opened + self._leaf(parent, path, test, walker) + closing

    def _value(self, parent: str, path: Path) -> tuple[str, str]:
        """The variable of the value at a path, and the expression for the value at this point."""
        variable = self.known.get(path)
        if variable is not None:
            return variable, variable
        self._variables += 1
        variable = f"v{self._variables}"
        # A new dict, since `node` keeps the one that was there and restores it.
        self.known = {**self.known, path: variable}
        name = self.shared(path[-1])
        return variable, f"({variable} := {parent}.get({name}))"

    def _leaf(self, parent: str, path: Path, test: Test, walker: Walker) -> str:
        name = self.shared(path[-1])
        if isinstance(test, Exists):
            return f"({name} in {parent})"
        fast = self._fast_leaf(parent, path, test, walker)
        if fast is not None:
            return fast
        missing = self.shared(MISSING)
        return f"{self.constant(walker.end())}({parent}.get({name}, {missing}))"

    def _fast_leaf(self, parent: str, path: Path, test: Test, walker: Walker) -> str | None:
        """The expression for the most frequent tests. In it, arrays and rare types are put to the general test."""
        if isinstance(test, Equal):
            return self._equal(parent, path, test.value, walker)
        if isinstance(test, Size):
            _, value = self._value(parent, path)
            variable = self.known[path]
            length = self.constant(test.length)
            return f"(type({value}) is {self.shared(list)} and len({variable}) == {length})"
        if isinstance(test, ElemMatch):
            _, value = self._value(parent, path)
            variable = self.known[path]
            return f"(type({value}) is {self.shared(list)} and {self.constant(walker.end())}({variable}))"
        own: str | None = None
        others = _ATOMS_AND_DATES
        if isinstance(test, Found):
            own = f"{self.constant(test.search)}({{v}}) if type({{e}}) is {self.shared(str)}"
        elif isinstance(test, Order):
            own, others = self._order(test)
        elif isinstance(test, In) and not test.patterns and test.values:
            own = self._members(test)
        elif isinstance(test, Type) and test.names in _PYTHON_TYPES:
            own = f"True if type({{e}}) in {self.shared(_PYTHON_TYPES[test.names])}"
        if own is None:
            return None
        _, value = self._value(parent, path)
        variable = self.known[path]
        atoms = self.shared(others)
        general = f"{self.constant(walker.end())}({variable})"
        return f"({own.format(v=variable, e=value)} else type({variable}) not in {atoms} and {general})"

    def _equal(self, parent: str, path: Path, operand: Any, walker: Walker) -> str | None:
        if isinstance(operand, dict | list | dt.datetime | ObjectId | Decimal) or is_nan(operand):
            return None
        if not isinstance(operand, str | int | float | type(None)):
            return None
        _, value = self._value(parent, path)
        variable = self.known[path]
        is_list = f"type({variable}) is {self.shared(list)}"
        if operand is None:
            return f"({value} is None or {is_list} and None in {variable})"
        constant = self.constant(operand)
        general = f"{is_list} and {self.constant(walker.end())}({variable})"
        if isinstance(operand, bool):
            return f"({value} is {constant} or {general})"
        if isinstance(operand, int | float) and operand in (0, 1):
            boolean = "False" if operand == 0 else "True"
            return f"({value} == {constant} and {variable} is not {boolean} or {general})"
        return f"({value} == {constant} or {is_list} and {constant} in {variable})"

    def _order(self, test: Order) -> tuple[str | None, frozenset[type]]:
        operand, symbol = test.value, _SYMBOLS[test.operator]
        if isinstance(operand, bool) or is_nan(operand):
            return None, _ATOMS
        if isinstance(operand, int | float):
            number, fraction = self.shared(int), self.shared(float)
            constant = self.constant(operand)
            return (
                f"{{v}} {symbol} {constant} if type({{e}}) is {number} or type({{v}}) is {fraction}",
                _ATOMS_AND_DATES,
            )
        if isinstance(operand, str):
            return (
                f"{{v}} {symbol} {self.constant(operand)} if type({{e}}) is {self.shared(str)}",
                _ATOMS_AND_DATES,
            )
        if isinstance(operand, dt.datetime):
            utc = self.shared(dt.UTC)
            date = self.shared(dt.datetime)
            return (
                f"{{v}} {symbol} {self.constant(operand)} if type({{e}}) is {date} and {{v}}.tzinfo is {utc}",
                _ATOMS,
            )
        return None, _ATOMS

    def _members(self, test: In) -> str | None:
        if all(isinstance(value, str) for value in test.values):
            return f"{{v}} in {self.constant(frozenset(test.values))} if type({{e}}) is {self.shared(str)}"
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in test.values)
        if numbers and not any(is_nan(value) for value in test.values):
            number, fraction = self.shared(int), self.shared(float)
            constant = self.constant(frozenset(test.values))
            return f"{{v}} in {constant} if type({{e}}) is {number} or type({{v}}) is {fraction}"
        return None
