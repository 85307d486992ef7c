"""Queries and documents that meet often: few names, few values, arrays and objects everywhere."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "0", "1", "d.e"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [
            0,
            1,
            2,
            -1,
            3,
            5,
            -3,
            1.0,
            0.0,
            -0.0,
            2.5,
            -2.5,
            2**31,
            2**53 + 1,
            float(2**53),
            1e300,
            float("nan"),
        ]
    ),
    st.sampled_from(["", "a", "b", "ab", "abc", "xyz", "1", "Ab"]),
    st.sampled_from([datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)]),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)


VALUES = st.recursive(SCALARS, containers, max_leaves=6)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(st.sampled_from(["a", "b", "c", "0", "1", "d&46;e"]), min_size=1, max_size=3).map(".".join)
# What is not an operator document when it stands as an operand; documents never have names with a `$`.
OPERANDS = st.one_of(SCALARS, VALUES)
TYPES = st.sampled_from(
    [
        "double",
        "string",
        "object",
        "array",
        "bool",
        "date",
        "null",
        "int",
        "long",
        "number",
        1,
        2,
        3,
        4,
        8,
        10,
        16,
        18,
    ]
)
PATTERNS = st.sampled_from(["a", "^a", "b$", "^ab$", "^a.*", "[ab]c?", "^(a|x)", "^ab?c", "a|z", "^abc|^x", "B", ""])
MASKS = st.integers(0, 15) | st.lists(st.sampled_from([0, 1, 2, 5, 63, 70]), max_size=3)


def member(name: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return value.map(lambda found: {name: found})


@st.composite
def operators(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    choices = [
        *(member(name, OPERANDS) for name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")),
        *(member(name, st.lists(OPERANDS, max_size=3)) for name in ("$in", "$nin", "$all")),
        member("$exists", st.sampled_from([True, False, 1, 0, None, "", []])),
        member("$type", TYPES | st.lists(TYPES, min_size=1, max_size=2)),
        member("$size", st.integers(0, 3)),
        member("$mod", st.tuples(st.sampled_from([2, 3, -2, 2.5]), st.sampled_from([0, 1, -1])).map(list)),
        member("$regex", PATTERNS),
        st.builds(lambda p: {"$options": "i", "$regex": p}, PATTERNS),
        *(member(f"$bits{kind}", MASKS) for kind in ("AllSet", "AllClear", "AnySet", "AnyClear")),
    ]
    if depth:
        choices += [
            member("$not", operators(depth - 1)),
            member("$elemMatch", operators(depth - 1)),
            member("$elemMatch", queries(depth - 1)),
            member("$all", st.lists(member("$elemMatch", queries(depth - 1)), min_size=1, max_size=2)),
        ]
    parts = draw(st.lists(st.one_of(choices), min_size=1, max_size=2))
    return {name: value for part in parts for name, value in part.items()}


@st.composite
def queries(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    choices = [
        st.tuples(PATHS, OPERANDS),
        st.tuples(PATHS, operators(depth)),
        st.tuples(st.just("$comment"), st.just("why")),
    ]
    if depth:
        parts = st.lists(queries(depth - 1), min_size=1, max_size=3)
        choices += [st.tuples(st.sampled_from(["$and", "$or", "$nor"]), parts)]
    return dict(draw(st.lists(st.one_of(choices), max_size=3)))
