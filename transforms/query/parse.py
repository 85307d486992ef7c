"""The tree of a query, from its text or a mapping (docs/spec/mongo-query.md sections 2, 6, 8, 10 and 11).

Everything that can be wrong with a query is found here. The errors have MongoDB's words, and say where it stands.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NoReturn

from schemas.query_document import paths_of
from transforms.query.errors import QueryError
from transforms.query.extended_json import ExtendedJsonError, is_wrapper, parse_date, read_wrapper
from transforms.query.nodes import (
    And,
    Bits,
    Clause,
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
from transforms.query.regex import RegexError, compile_search
from transforms.query.values import INT32_MAX, ObjectId, Regex, show, whole_int64

MAX_DEPTH = 100
"""How deep a query may be nested: objects, arrays and the parts of dotted names, counted together.

MongoDB allows 100 levels of operators. It keeps every recursion here far from Python's limit.
"""

ID_PATHS = paths_of("id")
DATE_PATHS = paths_of("date")

TOP_LEVEL = "$and, $or, $nor, $comment"
FIELD_OPERATORS = (
    "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $type, $size, $mod, $regex, $options, $all, "
    "$elemMatch, $not, $bitsAllSet, $bitsAllClear, $bitsAnySet, $bitsAnyClear"
)
_KNOWN_BUT_REFUSED = {
    "$expr": "$expr is not supported: a forwarder's query may only compare fields with values",
    "$jsonSchema": "$jsonSchema is not supported",
    "$where": "$where is not supported: code from a query is never executed",
    "$text": "$text is not supported: there is no text index",
}
_PATHLESS = frozenset(
    {"$and", "$or", "$nor", "$comment", "$alwaysTrue", "$alwaysFalse", "$sampleRate", *_KNOWN_BUT_REFUSED}
)

_TYPE_CODES = {
    1: "double", 2: "string", 3: "object", 4: "array", 5: "binData", 6: "undefined", 7: "objectId", 8: "bool",
    9: "date", 10: "null", 11: "regex", 12: "dbPointer", 13: "javascript", 14: "symbol",
    15: "javascriptWithScope", 16: "int", 17: "timestamp", 18: "long", 19: "decimal",
    -1: "minKey", 127: "maxKey",
}  # fmt: skip
_TYPE_ALIASES = frozenset({*_TYPE_CODES.values(), "number"})
_NUMBER_TYPES = frozenset({"double", "int", "long", "decimal"})


class Where:
    """The way from the top of the query to a part of it. The text is put together only for a message."""

    __slots__ = ("parent", "step")

    def __init__(self, parent: "Where | None", step: str) -> None:
        self.parent = parent
        self.step = step

    def __str__(self) -> str:
        steps: list[str] = []
        here: Where | None = self
        while here is not None:
            steps.append(here.step)
            here = here.parent
        text = ""
        for step in reversed(steps):
            text += step if step.startswith("[") else f" > {step}"
        return text.removeprefix(" > ")


def _refuse(message: str, operator: str, where: "Where | None", allowed: str = "") -> NoReturn:
    raise QueryError(message, operator=operator, where="" if where is None else str(where), allowed=allowed)


def read_source(query: Any) -> Any:
    """The value of a query as it was given: a text in JSON, a mapping, or nothing. A blank text is the empty query."""
    if query is None:
        return {}
    if not isinstance(query, str):
        return query
    if not query.strip():
        return {}
    try:
        return json.loads(
            query, object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_float=_finite_float
        )
    except QueryError:
        raise
    except RecursionError:
        raise QueryError(f"a query may be nested {MAX_DEPTH} levels deep, not deeper") from None
    except json.JSONDecodeError as error:
        raise QueryError(f"a query must be JSON: {error}{_shell_hint(error)}") from None
    except ValueError as error:
        raise QueryError(f"a query must be JSON: {error}") from None


_QUOTED = r"""\(\s*["']([^"']*)["']\s*\)"""
_NEW = r"(?:new\s+)?"
_NUMBER_CALLS = "(?:Number(?:Long|Int|Decimal)|Long|Int32|Double|Decimal128)"
_NUMBER = r"""\(\s*["']?([-+.\deE]+)["']?\s*\)"""
_SHELL: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
    (re.compile(_NEW + "(?:ISODate|Date)" + _QUOTED), lambda date: json.dumps({"$date": date})),
    (re.compile(_NEW + "ObjectId" + _QUOTED), lambda digits: json.dumps({"$oid": digits})),
    (re.compile(_NEW + _NUMBER_CALLS + _NUMBER), lambda number: number),
    (re.compile(_NEW + r"(?:ISODate|Date)\(()"), lambda _: 'a date as text, such as {"$date": "2020-02-17T15:03:23Z"}'),
    (re.compile(_NEW + "RegExp" + _QUOTED), lambda pattern: json.dumps({"$regex": pattern})),
    (re.compile(r"(/(?![*/])(?:[^/\\\n]|\\.)+/[A-Za-z]*)"), lambda literal: json.dumps(_regex_of(literal))),
    (re.compile(r"'((?:[^'\\\n]|\\.)*)'"), lambda text: json.dumps(text.replace("\\'", "'"))),
    (re.compile(r"([A-Za-z_$][\w$.]*)(?=\s*:)"), json.dumps),
)
"""What the MongoDB shell takes and JSON does not: its form, and what JSON has instead of what the group holds."""


_LAST_COMMA = re.compile(r",\s*[}\]]")


def _shell_hint(error: json.JSONDecodeError) -> str:
    """How JSON writes what stands where a query ceases to be JSON; "" if that is not the MongoDB shell's syntax."""
    for form, json_way in _SHELL:
        found = form.match(error.doc, error.pos)
        if found is not None:
            return f"; {found[0][:80]} is the MongoDB shell's way of writing it: JSON has {json_way(found[1])}"
    if error.doc.startswith(("//", "/*"), error.pos):
        return "; JSON has no comments"
    # Python 3.13 finds fault with the comma, earlier versions with the bracket behind it.
    if _LAST_COMMA.match(error.doc, max(error.doc.rfind(",", 0, error.pos + 1), 0)):
        return "; JSON has no comma after the last member"
    return ""


def _regex_of(literal: str) -> dict[str, str]:
    expression, _, options = literal[1:].rpartition("/")
    return {"$regex": expression.replace("\\/", "/"), **({"$options": options} if options else {})}


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise QueryError(f"duplicate key: {show(name)}", operator=name)
            seen.add(name)
    return members


def _no_constant(text: str) -> NoReturn:
    raise QueryError(f'a query must be JSON: {text} is not a JSON value; write {{"$numberDouble": "{text}"}}')


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise QueryError(f"number out of range: {text[:40]}")
    return number


_SCALARS = (str, int, float, type(None), dt.datetime, ObjectId, Regex, Decimal)


def read_values(value: Any, where: Where | None, depth: int) -> Any:
    """A copy of a value of a query in which Extended JSON is read.

    It comes before any operator is looked at (docs/spec/mongo-query.md section 8).
    """
    if depth > MAX_DEPTH:
        _refuse(
            f"a query may be nested {MAX_DEPTH} levels deep, not deeper", "", None,
            "objects, arrays and the parts of dotted names count together",
        )  # fmt: skip
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        if len(value) == 1:
            ((name, inner),) = value.items()
            if isinstance(name, str) and is_wrapper(name):
                try:
                    return read_wrapper(name, read_values(inner, where, depth + 1))
                except ExtendedJsonError as error:
                    _refuse(str(error), name, where)
        members: dict[str, Any] = {}
        for name, member in value.items():
            if not isinstance(name, str):
                _refuse(f"a field name must be a string, not {show(name)}", str(name), where)
            members[name] = read_values(member, Where(where, name), depth + 1 + name.count("."))
        return members
    if isinstance(value, list | tuple):
        items: list[Any] = []
        for index, item in enumerate(value):
            items.append(read_values(item, Where(where, f"[{index}]"), depth + 1))
        return items
    _refuse(
        f"a query may not hold a value of type {type(value).__name__}",
        "",
        where,
        "JSON and Extended JSON values",
    )


def parse_query(query: Any) -> tuple[Node, Any]:
    """The tree of a query, and a plain copy of what it was read from.

    Raises:
        QueryError: it breaks a rule.
    """
    source = read_source(query)
    value = read_values(source, None, 0)
    if not isinstance(value, dict):
        _refuse(f"a query must be a JSON object, not {show(value)}", "", None, "a JSON object, or nothing")
    where: Where | None = None
    if "$match" in value and not value.keys() - {"$match", "$comment"}:
        where = Where(None, "$match")
        value = value["$match"]
        if not isinstance(value, dict):
            _refuse(f"$match needs an object, not {show(value)}", "$match", where, "an object")
    return _query(value, (), where), value


def _query(members: dict[str, Any], prefix: Path, where: Where | None) -> Node:
    """The AND of the members of a query object. `prefix`: the path of the `$elemMatch` around it."""
    nodes: list[Node] = []
    for name, value in members.items():
        here = Where(where, name)
        if name == "$comment":
            continue
        if name in ("$and", "$or", "$nor"):
            nodes.append(_logical(name, value, prefix, here))
        elif name.startswith("$"):
            if name == "$expr" and prefix:
                _refuse("$expr can only be applied to the top-level document", name, here)
            _refuse(_KNOWN_BUT_REFUSED.get(name, f"unknown top level operator: {name}"), name, here, TOP_LEVEL)
        else:
            nodes.append(_field(name, value, prefix, here))
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _logical(name: str, value: Any, prefix: Path, where: Where) -> Node:
    if not isinstance(value, list):
        _refuse(f"{name} must be an array", name, where, "a nonempty array of objects")
    if not value:
        _refuse("$and/$or/$nor must be a nonempty array", name, where, "a nonempty array of objects")
    children: list[Node] = []
    for index, entry in enumerate(value):
        here = Where(where, f"[{index}]")
        if not isinstance(entry, dict):
            _refuse("$or/$and/$nor entries need to be full objects", name, here, "objects, each a query")
        children.append(_query(entry, prefix, here))
    if name == "$and":
        return And(tuple(children))
    if name == "$or":
        return Or(tuple(children))
    return Not(Or(tuple(children)), Clause("", "$nor", value))


def split_path(name: str) -> Path:
    """The names of a dotted path. `&46;` is a dot inside a name (docs/spec/mongo-query.md section 11)."""
    return tuple(part.replace("&46;", ".") for part in name.split("."))


_READINGS = 4
"""How many readings of a dotted name are tried. More would be of a name whose parts nobody can tell apart."""


def possible_paths(name: str) -> tuple[Path, ...]:
    """The paths that a dotted name may mean, the likeliest first: several where an IRI with plain dots stands in it.

    The names of xAPI's extensions are IRIs. One that is written without `&46;` is one name at least up to the slash
    after its host. Each dot after that may be one of the IRI's own or begin the next name; the likeliest is that all
    are the IRI's.
    """
    parts = name.split(".")
    begins = next((at for at, part in enumerate(parts) if "://" in part and "&46;" not in part), None)
    if begins is None:
        return (split_path(name),)
    above, tail = split_path(".".join(parts[:begins])) if begins else (), parts[begins:]
    paths: list[Path] = []
    for length in range(len(tail), 0, -1):
        iri = ".".join(tail[:length])
        if len(paths) == _READINGS or (paths and "/" not in iri.partition("://")[2]):
            break
        below = split_path(".".join(tail[length:])) if length < len(tail) else ()
        paths.append((*above, iri.replace("&46;", "."), *below))
    return tuple(paths)


def _field(name: str, value: Any, prefix: Path, where: Where) -> Node:
    path, *others = possible_paths(name)
    context = _Context(name, path, (*prefix, *path), tuple(others))
    if isinstance(value, Regex):
        return context.leaf("$regex", _found(value, "$regex", where), value)
    if is_operator_document(value):
        return _operators(value, context, where)
    return context.equality("$eq", value, where)


def is_operator_document(value: Any) -> bool:
    """Whether an object consists of operators: its first key starts with `$`, and it is no DBRef."""
    if not isinstance(value, dict) or not value:
        return False
    return next(iter(value)).startswith("$") and not ("$ref" in value and "$id" in value)


class _Context:
    """The field that operators stand under.

    Attributes:
        name: as the query has it.
        path: from the document, or from the item of `$elemMatch`, to the elements.
        whole: from the top of the document.
        others: paths that the name may mean instead of `path`, where a document has something there.
    """

    __slots__ = ("name", "others", "path", "whole")

    def __init__(self, name: str, path: Path, whole: Path, others: tuple[Path, ...] = ()) -> None:
        self.name = name
        self.path = path
        self.whole = whole
        self.others = others

    def leaf(self, operator: str, test: Test, argument: Any) -> Node:
        clause = Clause(self.name, operator, argument)
        field = Field(self.path, test, clause)
        if not self.others:
            return field
        there = [Field(path, Exists(), clause) for path in self.others]
        readings = [And((has, Field(has.path, test, clause))) for has in there]
        return Or((And((Not(Or(tuple(there)), clause), field)), *readings))

    def negated(self, operator: str, child: Node, argument: Any) -> Node:
        return Not(child, Clause(self.name, operator, argument))

    def operand(self, value: Any, operator: str, where: Where) -> Any:
        """An operand of a comparison. It is read as a date where the query document has a date."""
        if isinstance(value, str) and self.whole in DATE_PATHS:
            date = parse_date(value)
            if date is None:
                _refuse(
                    f"{'.'.join(self.whole)} is a date, and {show(value)} cannot be read as one", operator, where,
                    "an ISO 8601 date such as 2020-02-17T15:03:23Z",
                )  # fmt: skip
            return date
        return value

    def operands(self, value: Any, operator: str, where: Where) -> tuple[Any, ...]:
        """As `operand`, but an ObjectId stands for its text too, where the document has ids as text."""
        read = self.operand(value, operator, where)
        if isinstance(read, ObjectId) and self.whole in ID_PATHS:
            return read.hex, read
        return (read,)

    def equality(self, operator: str, value: Any, where: Where) -> Node:
        values = self.operands(value, operator, where)
        test = Equal(values[0]) if len(values) == 1 else In(values, ())
        return self.leaf(operator, test, value)


def _operators(members: dict[str, Any], context: _Context, where: Where) -> Node:
    """The AND of the predicates of an operator document, each about the path on its own."""
    nodes: list[Node] = []
    for operator, argument in members.items():
        here = Where(where, operator)
        if operator == "$options":
            if "$regex" not in members:
                _refuse("$options needs a $regex", operator, here, "$regex beside it")
            continue
        if operator == "$regex":
            nodes.append(_regex(members, context, where))
            continue
        parser = _PARSERS.get(operator)
        if parser is None:
            _refuse(f"unknown operator: {operator}", operator, here, FIELD_OPERATORS)
        nodes.append(parser(operator, argument, context, here))
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _equal(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    return context.equality(operator, argument, where)


def _not_equal(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if isinstance(argument, Regex):
        _refuse("Can't have regex as arg to $ne.", operator, where, "any value but a regular expression; see $not")
    return context.negated(operator, context.equality(operator, argument, where), argument)


def _order(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if isinstance(argument, Regex):
        _refuse(
            f"Can't have RegEx as arg to predicate {operator}",
            operator,
            where,
            "any value but a regular expression",
        )
    leaves = tuple(
        context.leaf(operator, Order(operator, value), argument)
        for value in context.operands(argument, operator, where)
    )
    return leaves[0] if len(leaves) == 1 else Or(leaves)


def _in(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if not isinstance(argument, list):
        _refuse("$in needs an array", operator, where, "an array of values")
    values: list[Any] = []
    patterns: list[Found] = []
    for index, member in enumerate(argument):
        here = Where(where, f"[{index}]")
        if isinstance(member, Regex):
            patterns.append(_found(member, operator, here))
        elif is_operator_document(member):
            _refuse("cannot nest $ under $in", operator, here, "values, and regular expressions as literals")
        else:
            values.extend(context.operands(member, operator, here))
    leaf = context.leaf(operator, In(tuple(values), tuple(patterns)), argument)
    return context.negated(operator, leaf, argument) if operator == "$nin" else leaf


def _exists(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    leaf = context.leaf(operator, Exists(), argument)
    is_number = isinstance(argument, int | float | Decimal)
    if argument is None or (is_number and argument == 0):
        return context.negated(operator, leaf, argument)
    return leaf


def _type(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    listed = argument if isinstance(argument, list) else [argument]
    if not listed:
        _refuse(
            f"{context.name} must match at least one type",
            operator,
            where,
            "an alias, a number or a list of those",
        )
    names: set[str] = set()
    for code in listed:
        name = code
        if isinstance(code, str):
            if code not in _TYPE_ALIASES:
                _refuse(f"Unknown type name alias: {code}", operator, where, ", ".join(sorted(_TYPE_ALIASES)))
        elif isinstance(code, bool) or not isinstance(code, int | float | Decimal):
            _refuse("type must be represented as a number or a string", operator, where, "an alias or a number")
        else:
            whole = whole_int64(code)
            if whole != code or whole not in _TYPE_CODES:
                _refuse(f"Invalid numerical type code: {code}", operator, where, "1 to 19, -1 and 127")
            name = _TYPE_CODES[whole]
        names |= _NUMBER_TYPES if name == "number" else {name}
    return context.leaf(operator, Type(frozenset(names)), argument)


def _size(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    allowed = "a whole number from 0 to 2147483647"
    if isinstance(argument, bool) or not isinstance(argument, int | float | Decimal):
        _refuse(f"Failed to parse $size. Expected a number in: $size: {show(argument)}", operator, where, allowed)
    whole = whole_int64(argument)
    if whole is None or whole != argument or whole > INT32_MAX:
        _refuse(f"Failed to parse $size. Expected an integer: $size: {show(argument)}", operator, where, allowed)
    if whole < 0:
        message = f"Failed to parse $size. Expected a non-negative number in: $size: {show(argument)}"
        _refuse(message, operator, where, allowed)
    return context.leaf(operator, Size(whole), argument)


def _mod(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    allowed = "[divisor, remainder], numbers that fit 64 bits, the divisor not 0"
    if not isinstance(argument, list):
        _refuse("malformed mod, needs to be an array", operator, where, allowed)
    if len(argument) != 2:
        fault = "not enough elements" if len(argument) < 2 else "too many elements"
        _refuse(f"malformed mod, {fault}", operator, where, allowed)
    whole: list[int] = []
    for role, number in zip(("divisor", "remainder"), argument, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
            _refuse(f"malformed mod, {role} not a number", operator, where, allowed)
        truncated = whole_int64(number)
        if truncated is None:
            _refuse(f"malformed mod, {role} value is invalid: {show(number)}", operator, where, allowed)
        whole.append(truncated)
    if whole[0] == 0:
        _refuse("divisor cannot be 0", operator, where, allowed)
    return context.leaf(operator, Mod(whole[0], whole[1]), argument)


def _bits(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    return context.leaf(operator, Bits(operator, _mask(operator, argument, context, where)), argument)


def _mask(operator: str, argument: Any, context: _Context, where: Where) -> int:
    allowed = "a non-negative integer that fits 64 bits, or an array of non-negative bit positions"
    shown = f"{operator}: {show(argument)}"
    if isinstance(argument, list):
        mask = 0
        for index, position in enumerate(argument):
            here = Where(where, f"[{index}]")
            shown = f"{index}: {show(position)}"
            whole = whole_int64(position)
            if whole is None or whole != position or whole > INT32_MAX:
                _refuse(f"bit positions must be an integer but got: {shown}", operator, here, allowed)
            if whole < 0:
                _refuse(f"bit positions must be >= 0 but got: {shown}", operator, here, allowed)
            # Beyond its 64 bits a number has the bit of its sign.
            mask |= 1 << min(whole, 63)
        return mask
    if isinstance(argument, bool) or not isinstance(argument, int | float | Decimal):
        message = f"{context.name} takes an Array, a number, or a BinData but received: {shown}"
        _refuse(message, operator, where, allowed)
    whole = whole_int64(argument)
    if whole is None:
        _refuse(f"Cannot represent as a 64-bit integer: {shown}", operator, where, allowed)
    if whole != argument:
        _refuse(f"Expected an integer: {shown}", operator, where, allowed)
    if whole < 0:
        _refuse(f"Expected a non-negative number in: {shown}", operator, where, allowed)
    return whole


def _regex(members: dict[str, Any], context: _Context, where: Where) -> Node:
    pattern, options = members["$regex"], members.get("$options", "")
    here = Where(where, "$regex")
    if not isinstance(options, str):
        _refuse("$options has to be a string", "$options", Where(where, "$options"), "letters of imsxu")
    if isinstance(pattern, Regex):
        if pattern.options and "$options" in members:
            _refuse("options set in both $regex and $options", "$regex", here, "options in one place")
        regex = Regex(pattern.pattern, pattern.options or options)
    elif isinstance(pattern, str):
        regex = Regex(pattern, options)
    else:
        _refuse("$regex has to be a string", "$regex", here, "a pattern as a string")
    argument = regex if options else pattern
    return context.leaf("$regex", _found(regex, "$regex", here), argument)


def _found(regex: Regex, operator: str, where: Where) -> Found:
    try:
        search = compile_search(regex.pattern, regex.options)
    except RegexError as error:
        _refuse(str(error), operator, where, "a PCRE2 pattern, options of imsxu")
    return Found(regex, search)


def _all(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if not isinstance(argument, list):
        _refuse("$all needs an array", operator, where, "an array of values, or of $elemMatch objects")
    if not argument:
        return Or(())
    nodes: list[Node] = []
    with_elem_match = _begins_with_elem_match(argument[0])
    for index, member in enumerate(argument):
        here = Where(where, f"[{index}]")
        if with_elem_match:
            if not _begins_with_elem_match(member) or len(member) != 1:
                _refuse("$all/$elemMatch has to be consistent", operator, here, "only $elemMatch objects, or none")
            nodes.append(_elem_match("$elemMatch", member["$elemMatch"], context, Where(here, "$elemMatch")))
        elif isinstance(member, Regex):
            nodes.append(context.leaf(operator, _found(member, operator, here), member))
        elif is_operator_document(member):
            _refuse("no $ expressions in $all", operator, here, "values, or only $elemMatch objects")
        else:
            nodes.append(context.equality(operator, member, here))
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _begins_with_elem_match(member: Any) -> bool:
    return isinstance(member, dict) and next(iter(member), "") == "$elemMatch"


def _elem_match(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if not isinstance(argument, dict):
        _refuse("$elemMatch needs an Object", operator, where, "an object of conditions on one item")
    first = next(iter(argument), "")
    of_items = first.startswith("$") and first not in _PATHLESS
    if of_items:
        condition = _operators(argument, _Context("", (), context.whole), where)
    else:
        condition = _query(argument, context.whole, where)
    return context.leaf(operator, ElemMatch(condition, of_items), argument)


def _not(operator: str, argument: Any, context: _Context, where: Where) -> Node:
    if isinstance(argument, Regex):
        child: Node = context.leaf("$regex", _found(argument, operator, where), argument)
    elif not isinstance(argument, dict):
        _refuse("$not needs a regex or a document", operator, where, "an object of operators")
    elif not argument:
        _refuse("$not cannot be empty", operator, where, "an object of operators")
    else:
        child = _operators(argument, context, where)
    return context.negated(operator, child, argument)


_PARSERS: dict[str, Callable[[str, Any, _Context, Where], Node]] = {
    "$eq": _equal,
    "$ne": _not_equal,
    "$gt": _order,
    "$gte": _order,
    "$lt": _order,
    "$lte": _order,
    "$in": _in,
    "$nin": _in,
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$all": _all,
    "$elemMatch": _elem_match,
    "$not": _not,
    "$bitsAllSet": _bits,
    "$bitsAllClear": _bits,
    "$bitsAnySet": _bits,
    "$bitsAnyClear": _bits,
}
