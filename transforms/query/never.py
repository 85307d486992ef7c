"""What in a query no query document can ever hold: told when a forwarder is loaded, not found out in production.

A query is judged by the table of `schemas.query_document`, once for each shape of a document: a clause holds for all
documents of the shape, for none, or for some. A clause that holds for none, whatever the shape, is probably not what
its author meant; a query that does is never going to forward anything.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Any

from schemas.query_document import (
    DERIVED_SHAPES,
    QUERY_FIELDS,
    STATEMENT_FIELDS,
    QueryField,
    QueryType,
    Shape,
)
from transforms.query.elements import element_test
from transforms.query.nodes import (
    And,
    Bits,
    ElemMatch,
    Equal,
    Exists,
    Field,
    Found,
    In,
    Mod,
    Node,
    Not,
    Or,
    Order,
    Path,
    Size,
    Test,
    Type,
)
from transforms.query.query import Query
from transforms.query.values import (
    ARRAY_TYPE,
    BOOL_TYPE,
    DATE_TYPE,
    MISSING,
    NUMBER_TYPE,
    OBJECT_ID_TYPE,
    OBJECT_TYPE,
    STRING_TYPE,
    UNKNOWN_TYPE,
    canonical_type,
    show,
)

Shapes = tuple[Shape, ...]

_DERIVED_FIELDS = {tuple(field.name.split(".")): field for field in QUERY_FIELDS}
_STATEMENT_FIELDS = {tuple(field.name.split(".")): field for field in STATEMENT_FIELDS}
_CANONICAL: dict[QueryType, int] = {
    "id": STRING_TYPE,
    "string": STRING_TYPE,
    "date": DATE_TYPE,
    "number": NUMBER_TYPE,
    "boolean": BOOL_TYPE,
    "object": OBJECT_TYPE,
    "map": OBJECT_TYPE,
    "array": ARRAY_TYPE,
    "any": UNKNOWN_TYPE,
}
_TYPE_NAMES: dict[QueryType, frozenset[str]] = {
    "id": frozenset({"string"}),
    "string": frozenset({"string"}),
    "date": frozenset({"date"}),
    "number": frozenset({"number", "int", "long", "double"}),
    "boolean": frozenset({"bool"}),
    "object": frozenset({"object"}),
    "map": frozenset({"object"}),
    "array": frozenset({"array"}),
    "any": frozenset(),
}
_IS: dict[QueryType, str] = {
    "id": "text",
    "string": "text",
    "date": "a date",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "map": "an object",
    "array": "an array",
    "any": "anything",
}
_OPERAND = {
    STRING_TYPE: "text",
    DATE_TYPE: "a date",
    NUMBER_TYPE: "a number",
    BOOL_TYPE: "true or false",
    OBJECT_TYPE: "an object",
    ARRAY_TYPE: "an array",
    OBJECT_ID_TYPE: "an ObjectId",
}
_ALWAYS = "; every record matches this"


MOST_TOLD = 20
"""Clauses of a query that are told. A query may have a hundred thousand."""


def never_matching(query: Query, shapes: Shapes = DERIVED_SHAPES) -> list[str]:
    """What in `query` can never hold, each in a sentence that begins with the clause, at most MOST_TOLD; nothing if all
    can.

    It is judged for query documents of these shapes.

    Of a negation, such as `$ne`, it says that the clause always holds.

    Names at the top level that no document has are left out: whoever loads the query tells them by
    `schemas.query_document.names_of`.
    """
    told = list(islice(_distinct(_clauses(query.node, shapes)), MOST_TOLD))
    if told or any(_truth(query.node, shape) is not False for shape in shapes):
        return told
    if any(len(path) == 1 and _field_at(path, shapes) is None for path in _paths(query.node)):
        return []
    clauses = dict.fromkeys(_blamed(query.node, shape) for shape in shapes)
    return [f"no record matches all of it: none has {' and '.join(clauses)}"]


def _fields(shape: Shape) -> dict[Path, QueryField]:
    return _STATEMENT_FIELDS if shape == "statement" else _DERIVED_FIELDS


def _field_at(path: Path, shapes: Shapes) -> QueryField | None:
    """The field that a path names in documents of some of these shapes. Of two, that of derived records."""
    for shape in shapes:
        field = _fields(shape).get(path)
        if field is not None:
            return field
    return None


def _truth(node: Node, shape: Shape) -> bool | None:
    """Whether the node holds for all documents of a shape (True), for none (False), or for some (None)."""
    if isinstance(node, Field):
        return _field_truth(node.path, node.test, shape)
    if isinstance(node, Not):
        inner = _truth(node.child, shape)
        return None if inner is None else not inner
    decisive = isinstance(node, Or)
    found = [_truth(child, shape) for child in node.children]
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _field_truth(path: Path, test: Test, shape: Shape) -> bool | None:
    field, known = _leads_to(path, shape)
    if field is None:
        return None if known else _on_missing(test)
    if field.type == "any":
        return None
    values = field.values.get(shape)
    if values is not None:
        holds = element_test(test, _unknown) if not isinstance(test, ElemMatch) else _no_array
        found = {holds(value) for value in values}
        truth = found.pop() if len(found) == 1 else None
    else:
        truth = _typed(test, field)
    if (field.sometimes or _passes_array(path)) and truth is not None and _on_missing(test) is not truth:
        return None if truth or _on_missing(test) else False
    return truth


def _leads_to(path: Path, shape: Shape) -> tuple[QueryField | None, bool]:
    """The field that a path names in a shape's documents; without one, whether it may lead to something all the same.

    Numbers in a path are places in an array: `subscores.0.score`.
    """
    names = tuple(name for name in path if not name.isdecimal()) if path[:1] == ("subscores",) else path
    if len(names) < len(path) and names == ("subscores",):
        return None, shape == "score"
    fields = _fields(shape)
    field = fields.get(names)
    if field is not None:
        return (field, True) if shape in field.shapes else (None, False)
    for length in range(1, len(names)):
        above = fields.get(names[:length])
        if above is not None and shape in above.shapes and above.type in ("map", "any"):
            return None, True
    return None, False


def _passes_array(path: Path) -> bool:
    return len(path) > 1 and path[0] == "subscores"


def _on_missing(test: Test) -> bool:
    """What a test says of a field that is not there."""
    return not isinstance(test, ElemMatch) and bool(element_test(test, _unknown)(MISSING))


def _unknown(_: Node) -> Any:
    raise TypeError("only $elemMatch asks for the predicate of a condition")


def _no_array(_: Any) -> bool:
    return False


def _typed(test: Test, field: QueryField) -> bool | None:
    """Whether a test can hold for a value of the field's type."""
    kind = _CANONICAL[field.type]
    if isinstance(test, Exists):
        return True
    if isinstance(test, Equal):
        return None if _can_equal(test.value, field) else False
    if isinstance(test, Order):
        if test.value is None:
            return None if field.nullable else False
        return None if canonical_type(test.value) == kind or field.type == "array" else False
    if isinstance(test, Found):
        return None if kind == STRING_TYPE or field.type == "array" else False
    if isinstance(test, In):
        patterns = bool(test.patterns) and (kind == STRING_TYPE or field.type == "array")
        return None if patterns or any(_can_equal(value, field) for value in test.values) else False
    if isinstance(test, Type):
        names = _TYPE_NAMES[field.type] | (frozenset({"null"}) if field.nullable else frozenset())
        return None if test.names & names or field.type == "array" else False
    if isinstance(test, Mod | Bits):
        return None if kind in (NUMBER_TYPE, ARRAY_TYPE) else False
    if isinstance(test, Size | ElemMatch):
        return None if kind == ARRAY_TYPE else False
    return None


def _can_equal(value: Any, field: QueryField) -> bool:
    if value is None:
        return field.nullable
    # An element of an array may equal the value, too.
    return field.type == "array" or canonical_type(value) == _CANONICAL[field.type]


def _clauses(node: Node, shapes: Shapes) -> Iterator[str]:
    """A sentence for each clause that can never hold by itself."""
    if isinstance(node, Not):
        if isinstance(node.child, Not):
            yield from _clauses(node.child.child, shapes)
        elif isinstance(node.child, Field) and _is_never(node.child, shapes):
            yield from (sentence + _ALWAYS for sentence in _clauses(node.child, shapes))
        else:
            yield from _clauses(node.child, shapes)
    elif isinstance(node, And):
        for child in node.children:
            yield from _clauses(child, shapes)
    elif isinstance(node, Or):
        # An ObjectId that is compared with an id is read as one and as its text: one clause became several nodes.
        readings = Counter(
            child.clause.text for child in node.children if isinstance(child, Field) and not _is_never(child, shapes)
        )
        for child in node.children:
            if not (isinstance(child, Field) and readings[child.clause.text] > (not _is_never(child, shapes))):
                yield from _clauses(child, shapes)
    elif _is_never(node, shapes):
        why = _why_never(node, shapes)
        if why:
            yield f"{node.clause.text}: {why}"
    elif isinstance(node.test, In):
        yield from _dead_values(node, node.test, shapes)
    elif isinstance(node.test, ElemMatch) and not node.test.of_items:
        yield from _clauses(_inside(node.test.condition, node.path), shapes)


def _is_never(node: Node, shapes: Shapes) -> bool:
    return all(_truth(node, shape) is False for shape in shapes)


def _distinct(sentences: Iterator[str]) -> Iterator[str]:
    told = set()
    for sentence in sentences:
        if sentence not in told:
            told.add(sentence)
            yield sentence


def _inside(node: Node, path: Path) -> Node:
    """The condition of an `$elemMatch` with whole paths."""
    if isinstance(node, Field):
        return replace(node, path=path + node.path)
    if isinstance(node, Not):
        return replace(node, child=_inside(node.child, path))
    return replace(node, children=tuple(_inside(child, path) for child in node.children))


def _dead_values(node: Field, test: In, shapes: Shapes) -> Iterator[str]:
    """Values of `$in` or `$nin` that a field of few values never has."""
    possible = _possible(node.path, shapes)
    if possible is None:
        return
    dead = [value for value in test.values if isinstance(value, str) and value not in possible]
    if dead:
        listed = ", ".join(show(value) for value in dead[:MOST_TOLD]) + (", ..." if len(dead) > MOST_TOLD else "")
        yield f"{node.clause.text}: {node.clause.name} is never {listed}; it is {_one_of(possible)}"


def _possible(path: Path, shapes: Shapes) -> dict[str | bool | int, None] | None:
    """All values that there are at a path in documents of these shapes; None where they cannot be listed."""
    possible: dict[str | bool | int, None] = {}
    for shape in shapes:
        field, known = _leads_to(path, shape)
        if field is None and known:
            return None
        if field is not None:
            values = field.values.get(shape)
            if values is None:
                return None
            possible |= dict.fromkeys(values)
    return possible or None


def _why_never(node: Field, shapes: Shapes) -> str:
    """Why a clause holds for no document of any shape; "" where somebody else tells."""
    path = node.path
    name = ".".join(path)
    names = tuple(part for part in path if not part.isdecimal()) if path[:1] == ("subscores",) else path
    field = _field_at(names, shapes)
    if field is None:
        return "" if len(path) == 1 or _field_at(path[:1], shapes) is None else f"no record has {name}{_nearest(name)}"
    possible = _possible(names, shapes)
    if possible is not None and not _wrong_type(node.test, field):
        return f"{name} is {_one_of(possible)}"
    return f"{name} is {_IS[field.type]}{_example(field)}, and {_asked(node.test, field)}"


def _wrong_type(test: Test, field: QueryField) -> bool:
    return _typed(test, field) is False


def _asked(test: Test, field: QueryField) -> str:
    """What a test wants instead of a field's type, and what to write."""
    if isinstance(test, Equal | Order):
        wanted = _OPERAND.get(canonical_type(test.value), "null")
        return f"is compared with {wanted}, which it never equals{_instead(field, canonical_type(test.value))}"
    if isinstance(test, In):
        return "is compared with values of other types only, which it never equals"
    if isinstance(test, Found):
        return "a regular expression is for text" + (
            ": compare it with $gte and $lt and a date" if field.type == "date" else ""
        )
    if isinstance(test, Type):
        return f"$type asks for {', '.join(sorted(test.names))}"
    if isinstance(test, Mod | Bits):
        return "the operator is for numbers"
    return "the operator is for arrays"


def _instead(field: QueryField, operand: int) -> str:
    if operand == DATE_TYPE and field.type == "string":
        return ": give text in that form, or ask for timestamp, which is a date"
    if operand == STRING_TYPE and field.type == "number":
        return ": write the number without quotes"
    if operand == NUMBER_TYPE and field.type in ("string", "id"):
        return ": write it in quotes"
    if operand == NUMBER_TYPE and field.type == "date":
        return ': write a date, such as "2020-02-17T15:03:23Z"'
    return ""


def _example(field: QueryField) -> str:
    _, _, example = field.meaning.partition("as 2")
    return f" such as 2{example}" if example else ""


def _one_of(values: Iterable[str | bool | int]) -> str:
    listed = [str(value) for value in values]
    return listed[0] if len(listed) == 1 else "one of " + ", ".join(listed)


def _nearest(name: str) -> str:
    close = get_close_matches(name, [field.name for field in QUERY_FIELDS], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _paths(node: Node) -> Iterator[Path]:
    if isinstance(node, Field):
        yield node.path
    elif isinstance(node, Not):
        yield from _paths(node.child)
    else:
        for child in node.children:
            yield from _paths(child)


def _blamed(node: Node, shape: Shape) -> str:
    """The clause for which no document of a shape matches."""
    if isinstance(node, Field | Not):
        return node.clause.text
    for child in node.children:
        if _truth(child, shape) is False:
            return _blamed(child, shape)
    return "any of its parts"
