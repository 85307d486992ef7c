"""A query as rows of a form, and back: the common clauses, for those who do not write MongoDB's language.

A query that the form can show is written back as it was, to the order of its members. Any other query has no rows, and
stays JSON. Rows that are written and read again say the same, in the form's own words.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from schemas.json_values import JsonObject
from transforms.query.parse import is_operator_document

Join = Literal["all", "any"]
"""Whether all rows have to hold, or any of them."""

ValueType = Literal["text", "number", "boolean", "null"]
"""What a row's values are in JSON."""

Operator = Literal[
    "is", "is not", "is at least", "is more than", "is at most", "is less than", "is one of", "is none of",
    "contains", "starts with", "ends with", "matches", "exists",
]  # fmt: skip
"""What a row asks. `matches` takes a regular expression, and `exists` a boolean."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the form.

    Attributes:
        field: a dotted path of the query document.
        operator: what is asked of it.
        type: of the values.
        values: as they are written in a form: a text as it is, all else as in JSON. One, or several for `is one of` and
            `is none of`.
    """

    field: str
    operator: Operator
    type: ValueType
    values: tuple[str, ...]


class Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole query as a form shows it."""

    join: Join
    rows: tuple[Row, ...]


class RowError(ValueError):
    """A row cannot be written as JSON.

    Args:
        place: of the row, from 0.
        message: what is wrong with it.
    """

    def __init__(self, place: int, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(f"row {place + 1} {message}")


_COMPARISONS: dict[Operator, str] = {
    "is not": "$ne",
    "is at least": "$gte",
    "is more than": "$gt",
    "is at most": "$lte",
    "is less than": "$lt",
}
_LISTS: dict[Operator, str] = {"is one of": "$in", "is none of": "$nin"}
_PATTERNS: dict[Operator, tuple[str, str]] = {"contains": ("", ""), "starts with": ("^", ""), "ends with": ("", "$")}
"""What stands before and behind the escaped text. `matches` has whatever these do not make."""

OPERATORS: tuple[Operator, ...] = (
    "is", *_COMPARISONS, *_LISTS, *_PATTERNS, "matches", "exists",
)  # fmt: skip

_SPECIAL = re.compile(r"[.^$*+?()\[\]{}|\\/]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def written(form: Rows) -> JsonObject:
    """The query of a form.

    Raises:
        RowError: a row is not complete, or its value is none of its type.
    """
    clauses = [(row.field, _condition(place, row)) for place, row in enumerate(form.rows)]
    if form.join == "any" and len(clauses) > 1:
        return {"$or": [{field: condition} for field, condition in clauses]}
    query: JsonObject = {}
    last = ""
    for field, condition in clauses:
        if field not in query:
            query[field] = condition
        elif field == last and _may_join(query[field], condition):
            query[field] = {**query[field], **condition}
        else:
            # Two clauses of one name need an object each.
            return {"$and": [{field: condition} for field, condition in clauses]}
        last = field
    return query


def read(query: object) -> Rows | None:
    """The form of a query as it was read from JSON; None if the form cannot show it as it is."""
    if not isinstance(query, dict):
        return None
    join: Join = "any" if list(query) == ["$or"] else "all"
    parts: object = query[next(iter(query))] if list(query) in (["$or"], ["$and"]) else [query]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    rows: list[Row] = []
    for part in parts:
        for field, condition in part.items():
            found = _rows(field, condition)
            if found is None:
                return None
            rows += found
    form = Rows(join, tuple(rows))
    try:
        # Whatever is written otherwise is not what the form means.
        return form if _same(written(form), query) else None
    except RowError:
        return None


def _same(left: object, right: object) -> bool:
    return json.dumps(left) == json.dumps(right)


def _may_join(first: Any, second: Any) -> bool:
    return is_operator_document(first) and is_operator_document(second) and first.keys().isdisjoint(second)


def _condition(place: int, row: Row) -> Any:
    """What stands under a row's field."""
    if not row.field or row.field.startswith("$"):
        raise RowError(place, "has no field" if not row.field else f"asks for {row.field}, which is no field")
    if row.operator in _LISTS:
        return {_LISTS[row.operator]: [_value(place, row.type, text) for text in row.values]}
    if len(row.values) != 1:
        raise RowError(place, f"{row.operator} takes one value")
    (text,) = row.values
    if row.operator in _PATTERNS:
        before, behind = _PATTERNS[row.operator]
        return {"$regex": f"{before}{_SPECIAL.sub(_escape, _text(place, row, text))}{behind}"}
    if row.operator == "matches":
        return {"$regex": _text(place, row, text)}
    if row.operator == "exists":
        if row.type != "boolean":
            raise RowError(place, "exists takes true or false")
        return {"$exists": _value(place, row.type, text)}
    value = _value(place, row.type, text)
    return value if row.operator == "is" else {_COMPARISONS[row.operator]: value}


def _text(place: int, row: Row, text: str) -> str:
    if row.type != "text" or not text:
        raise RowError(place, f"{row.operator} takes a text")
    return text


def _value(place: int, value_type: ValueType, text: str) -> Any:
    if value_type == "text":
        return text
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = _NOTHING
    if _type_of(value) != value_type:
        wanted = {"number": "a number", "boolean": "true or false", "null": "null"}[value_type]
        raise RowError(place, f"has {text[:40]!r}, which is not {wanted}")
    return value


_NOTHING = object()


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _type_of(value: object) -> ValueType | None:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) and abs(value) != float("inf") else None


def _rows(field: str, condition: object) -> list[Row] | None:
    """The rows of what stands under a field; None if no rows say it."""
    if not is_operator_document(condition):
        row = _row(field, "is", [condition])
        return None if row is None else [row]
    rows: list[Row] = []
    for name, argument in cast(JsonObject, condition).items():
        row = _operator_row(field, name, argument)
        if row is None:
            return None
        rows.append(row)
    return rows


def _operator_row(field: str, name: str, argument: object) -> Row | None:
    if name == "$regex":
        return _pattern_row(field, argument)
    if name == "$exists":
        return _row(field, "exists", [argument])
    for operator, sign in _LISTS.items():
        if sign == name:
            return _row(field, operator, argument) if isinstance(argument, list) else None
    operators = [operator for operator, sign in _COMPARISONS.items() if sign == name]
    return _row(field, operators[0], [argument]) if operators else None


def _pattern_row(field: str, pattern: object) -> Row | None:
    if not isinstance(pattern, str):
        return None
    # The last of these would take what the others have made, if it came first.
    for operator in ("starts with", "ends with", "contains"):
        before, behind = _PATTERNS[operator]
        inner = pattern.removeprefix(before).removesuffix(behind)
        text = _ESCAPED.sub(r"\1", inner)
        if text and f"{before}{_SPECIAL.sub(_escape, text)}{behind}" == pattern:
            return Row(field, operator, "text", (text,))
    return Row(field, "matches", "text", (pattern,))


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0]


def _row(field: str, operator: Operator, values: Sequence[object]) -> Row | None:
    types = {_type_of(value) for value in values} or {"text"}
    if len(types) > 1 or None in types:
        return None
    shown = tuple(value if isinstance(value, str) else json.dumps(value) for value in values)
    return Row(field, operator, cast(ValueType, types.pop()), shown)
