"""The language again, written line by line from docs/spec/mongo-query.md: slow, obvious, and sharing no code with
the package.

It reads parsed JSON queries without Extended JSON, and answers with Python's `re` for patterns that mean
the same in both engines. It does not validate: it is given valid queries only.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

MISSING = object()


def matches(query: dict[str, Any], doc: Any) -> bool:
    """Section 2: a query is the AND of its members."""
    for name, value in query.items():
        if name == "$comment":
            continue
        if name == "$and":
            ok = all(matches(part, doc) for part in value)
        elif name == "$or":
            ok = any(matches(part, doc) for part in value)
        elif name == "$nor":
            ok = not any(matches(part, doc) for part in value)
        else:
            ok = matches_field(name, value, doc)
        if not ok:
            return False
    return True


def matches_field(name: str, value: Any, doc: Any) -> bool:
    parts = [part.replace("&46;", ".") for part in name.split(".")]
    if is_operator_document(value):
        return matches_operators(parts, value, doc)
    return some(doc, parts, True, lambda e: equal(e, value))


def is_operator_document(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) == 0:
        return False
    if "$ref" in value and "$id" in value:
        return False
    return str(next(iter(value))).startswith("$")


def matches_operators(parts: list[str], ops: dict[str, Any], doc: Any) -> bool:
    """Section 2: the AND of independent predicates, each quantified over the path on its own."""
    return all(predicate(parts, op, arg, ops, doc) for op, arg in ops.items() if op != "$options")


def some(doc: Any, parts: list[str], leaf: bool, holds: Any) -> bool:
    """Section 4: a field predicate is true iff some expanded element satisfies it."""
    if not parts:
        return bool(holds(doc))
    return any(holds(e) for e in expand(doc, parts, leaf))


def expand(obj: Any, parts: list[str], leaf: bool) -> Iterator[Any]:
    """Section 3, as printed."""
    cur = obj
    for i, p in enumerate(parts):
        v = cur[p] if isinstance(cur, dict) and p in cur else MISSING
        if i == len(parts) - 1:
            if leaf and isinstance(v, list):
                yield from v
            yield v
            return
        if isinstance(v, dict):
            cur = v
            continue
        if isinstance(v, list):
            yield from expand_array(v, parts[i + 1 :], leaf)
            return
        yield MISSING
        return


def expand_array(arr: list[Any], rest: list[str], leaf: bool) -> Iterator[Any]:
    for idx, e in enumerate(arr):
        hit = re.fullmatch("[0-9]+", rest[0]) is not None and rest[0] == str(idx)
        if isinstance(e, dict):
            yield from expand(e, rest, leaf)
            if hit:
                if len(rest) == 1:
                    yield e
                else:
                    yield from expand(e, rest[1:], leaf)
        elif hit:
            if len(rest) == 1:
                yield e
            elif isinstance(e, list):
                yield from expand_array(e, rest[1:], leaf)


def predicate(parts: list[str], op: str, arg: Any, ops: dict[str, Any], doc: Any) -> bool:
    """Section 6, row by row."""
    if op == "$eq":
        return some(doc, parts, True, lambda e: equal(e, arg))
    if op == "$ne":
        return not some(doc, parts, True, lambda e: equal(e, arg))
    if op in ("$gt", "$gte", "$lt", "$lte"):
        return some(doc, parts, True, lambda e: ordered(op, e, arg))
    if op == "$in":
        return some(doc, parts, True, lambda e: any(equal(e, member) for member in arg))
    if op == "$nin":
        return not some(doc, parts, True, lambda e: any(equal(e, member) for member in arg))
    if op == "$exists":
        exists = some(doc, parts, True, lambda e: e is not MISSING)
        is_false = arg is None or arg is False or (isinstance(arg, int | float) and arg == 0)
        return not exists if is_false else exists
    if op == "$type":
        wanted = arg if isinstance(arg, list) else [arg]
        return some(doc, parts, True, lambda e: any(has_type(e, t) for t in wanted))
    if op == "$size":
        return some(doc, parts, False, lambda e: isinstance(e, list) and len(e) == arg)
    if op == "$mod":
        return some(doc, parts, True, lambda e: leaves(e, int(arg[0]), int(arg[1])))
    if op == "$regex":
        flags = re.IGNORECASE if "i" in ops.get("$options", "") else 0
        return some(doc, parts, True, lambda e: isinstance(e, str) and re.search(arg, e, flags | re.ASCII) is not None)
    if op == "$all":
        return len(arg) > 0 and all(all_member(parts, member, doc) for member in arg)
    if op == "$elemMatch":
        return some(doc, parts, False, lambda e: elem_match(e, arg))
    if op == "$not":
        return not matches_operators(parts, arg, doc)
    return some(doc, parts, True, lambda e: bits(op, e, arg))


def all_member(parts: list[str], member: Any, doc: Any) -> bool:
    if isinstance(member, dict) and "$elemMatch" in member:
        return predicate(parts, "$elemMatch", member["$elemMatch"], {}, doc)
    return some(doc, parts, True, lambda e: equal(e, member))


def elem_match(e: Any, arg: dict[str, Any]) -> bool:
    if not isinstance(e, list):
        return False
    first = next(iter(arg)) if arg else ""
    if first.startswith("$") and first not in ("$and", "$or", "$nor", "$comment"):
        return any(matches_operators([], arg, item) for item in e)
    for item in e:
        if isinstance(item, list):
            item = {str(i): member for i, member in enumerate(item)}
        if isinstance(item, dict) and matches(arg, item):
            return True
    return False


def canonical(v: Any) -> int:
    """Section 1."""
    if v is MISSING:
        return 0
    if v is None:
        return 5
    if isinstance(v, bool):
        return 40
    if isinstance(v, int | float):
        return 10
    if isinstance(v, str):
        return 15
    if isinstance(v, dict):
        return 20
    if isinstance(v, list):
        return 25
    if isinstance(v, datetime):
        return 45
    raise AssertionError(v)


def cmp(a: Any, b: Any) -> int:
    """Section 5; operands of one canonical type."""
    kind = canonical(a)
    if kind == 20:
        for (an, av), (bn, bv) in zip(a.items(), b.items(), strict=False):
            if canonical(av) != canonical(bv):
                return canonical(av) - canonical(bv)
            if an != bn:
                return -1 if an < bn else 1
            inner = cmp(av, bv)
            if inner:
                return inner
        return len(a) - len(b)
    if kind == 25:
        for av, bv in zip(a, b, strict=False):
            if canonical(av) != canonical(bv):
                return canonical(av) - canonical(bv)
            inner = cmp(av, bv)
            if inner:
                return inner
        return len(a) - len(b)
    if kind in (0, 5):
        return 0
    if kind == 10 and (a != a or b != b):
        return int(b != b) - int(a != a)
    return -1 if a < b else 1 if a > b else 0


def equal(e: Any, v: Any) -> bool:
    if v is None and e is MISSING:
        return True
    return canonical(e) == canonical(v) and cmp(e, v) == 0


def ordered(op: str, e: Any, v: Any) -> bool:
    if v is None:
        return op in ("$gte", "$lte") and (e is None or e is MISSING)
    if canonical(e) != canonical(v):
        return False
    if canonical(v) == 10 and (e != e or v != v):
        return op in ("$gte", "$lte") and e != e and v != v
    c = cmp(e, v)
    return {"$gt": c > 0, "$gte": c >= 0, "$lt": c < 0, "$lte": c <= 0}[op]


CODES = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    8: "bool",
    9: "date",
    10: "null",
    16: "int",
    18: "long",
}


def has_type(e: Any, t: Any) -> bool:
    wanted = CODES[t] if isinstance(t, int) else t
    if wanted == "number":
        return canonical(e) == 10
    if isinstance(e, float):
        own = "double"
    elif canonical(e) == 10:
        own = "int" if -(2**31) <= e < 2**31 else "long"
    else:
        own = {5: "null", 15: "string", 20: "object", 25: "array", 40: "bool", 45: "date"}.get(canonical(e), "")
    return own == wanted


def integer(e: Any) -> int | None:
    """A number that fits int64 after truncation toward 0."""
    if canonical(e) != 10 or e != e or e in (float("inf"), float("-inf")):
        return None
    whole = int(e)
    return whole if -(2**63) <= whole < 2**63 else None


def leaves(e: Any, divisor: int, remainder: int) -> bool:
    whole = integer(e)
    if whole is None:
        return False
    left = abs(whole) % abs(divisor)
    return (left if whole >= 0 else -left) == remainder


def bits(op: str, e: Any, arg: Any) -> bool:
    whole = integer(e)
    if whole is None or whole != e:
        return False
    positions = arg if isinstance(arg, list) else [p for p in range(63) if arg >> p & 1]
    # Two's complement, the sign extended: Python's shift does exactly that.
    is_set = [whole >> p & 1 for p in positions]
    return {
        "$bitsAllSet": all(is_set),
        "$bitsAllClear": not any(is_set),
        "$bitsAnySet": any(is_set),
        "$bitsAnyClear": not all(is_set),
    }[op]
