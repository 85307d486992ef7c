"""Regular expressions: MongoDB's meaning, bounded time, and undecided as a third value."""

import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from transforms.query import ForwarderIndex, MatchResult, QueryError, compile_query
from transforms.query.regex import compile_search, required_prefix


def found(pattern: str, text: str, options: str = "") -> bool:
    return compile_query({"a": {"$regex": pattern, "$options": options}}).matches({"a": text})


@pytest.mark.parametrize(
    ("pattern", "options", "text", "expected"),
    [
        (r"\w", "", "é", False),
        (r"^\d$", "", "\u0661", False),
        (r"\s", "", "\u00a0", False),
        ("[[:alpha:]]", "", "é", False),
        ("[[:alpha:]]+", "", "abc", True),
        ("É", "i", "é", True),
        ("\u0422\u0415", "i", "\u0442\u0435", True),
        ("straße", "i", "STRASSE", False),
        ("a$", "", "a\n", True),
        ("a$", "", "a\nb", False),
        ("a$", "m", "a\nb", True),
        (r"a\Z", "", "a\n", True),
        (r"a\z", "", "a\n", False),
        ("^b", "", "a\nb", False),
        ("^b", "m", "a\nb", True),
        ("a.b", "", "a\nb", False),
        ("a.b", "s", "a\nb", True),
        ("a b # c", "x", "ab", True),
        ("a b", "u", "a b", True),
        (r"(?<n>a)\k<n>", "", "aa", True),
        (r"\Qa.b\E", "", "axb", False),
        (r"\Qa.b\E", "", "a.b", True),
        (r"a\hb", "", "a\tb", True),
        (r"a\Rb", "", "a\r\nb", True),
        (r"\p{L}", "", "é", True),
        (r"\x{e9}", "", "é", True),
        (r"\x{e9}", "", "x{e9}", False),
        (r"\x{1F600}", "", "\U0001f600", True),
        (r"\xe9", "", "é", True),
        ("a(?i)b", "", "aB", True),
        ("a(?i)b", "", "AB", False),
        ("(?<=a|bc)d", "", "bcd", True),
        ("(a)(?1)", "", "aa", True),
        ("^a\\.b", "", "axb", False),
        ("^a\\.b", "", "a.bc", True),
        ("^ab$", "", "ab\n", True),
        ("^ab$", "", "ab\n\n", False),
        ("ab$", "", "xab\n", True),
        (".*ab.*", "", "x\nxabx", True),
        ("^ab.*", "", "xab", False),
        (".*ab", "", "xab", True),
        ("", "", "", True),
        ("^$", "", "\n", True),
        ("a\\\\.*", "", "a\\", True),
        ("a\\.*", "", "a", True),
        ("a\\$", "", "a$", True),
        ("😀$", "", "x😀", True),
    ],
)
def test_patterns_mean_what_mongodb_means(pattern: str, options: str, text: str, expected: bool) -> None:
    assert found(pattern, text, options) is expected


@pytest.mark.parametrize(
    "pattern", ["(", "a{2,1}", r"\u00e9", r"\U", r"\C", "a\0b", "\ud800", "x" * 20_000,
                "(*LIMIT_MATCH=9)a", "(*UTF)(*LIMIT_HEAP=9)a"]
)  # fmt: skip
def test_a_pattern_that_could_mean_something_else_is_refused(pattern: str) -> None:
    with pytest.raises(QueryError):
        compile_query({"a": {"$regex": pattern}})


def test_patterns_are_searched_in_strings_only() -> None:
    for element in (5, None, True, {"b": "a"}, [["a"]]):
        assert not compile_query({"x": {"$regex": ""}}).matches({"x": element})
    assert compile_query({"x": {"$regex": "^a(b|c)"}}).matches({"x": [1, "ab"]})


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(\w+\s?)+$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
@pytest.mark.parametrize("text", ["a" * 40 + "!", "a" * 5_000 + "!", "a" * 200_000 + "!", ("a" * 15 + "!") * 400])
def test_a_hostile_pattern_is_cut_short(pattern: str, text: str) -> None:
    query = compile_query({"a": {"$regex": pattern}})
    start = time.process_time()
    outcome = query.evaluate({"a": text})
    assert time.process_time() - start < 1.0
    assert outcome is not MatchResult.MATCH
    assert query.matches({"a": text}) is False


HOSTILE = {"bad": {"$regex": "(a+)+$"}}
UNDECIDED = {"bad": "a" * 40 + "!", "yes": 1}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (HOSTILE, MatchResult.UNDECIDED),
        ({"$nor": [HOSTILE]}, MatchResult.UNDECIDED),
        ({"bad": {"$not": HOSTILE["bad"]}}, MatchResult.UNDECIDED),
        ({"$and": [HOSTILE, {"yes": 1}]}, MatchResult.UNDECIDED),
        ({"$and": [{"yes": 1}, HOSTILE]}, MatchResult.UNDECIDED),
        ({"$and": [HOSTILE, {"yes": 2}]}, MatchResult.NO_MATCH),
        ({"$and": [{"yes": 2}, HOSTILE]}, MatchResult.NO_MATCH),
        ({"$or": [HOSTILE, {"yes": 1}]}, MatchResult.MATCH),
        ({"$or": [{"yes": 1}, HOSTILE]}, MatchResult.MATCH),
        ({"$or": [HOSTILE, {"yes": 2}]}, MatchResult.UNDECIDED),
        ({"$nor": [HOSTILE, {"yes": 1}]}, MatchResult.NO_MATCH),
        ({"$nor": [{"$and": [HOSTILE, {"yes": 2}]}]}, MatchResult.MATCH),
        ({"bad": {"$in": [{"$regularExpression": {"pattern": "(a+)+$"}}]}}, MatchResult.UNDECIDED),
        (
            {"bad": {"$nin": [{"$regularExpression": {"pattern": "(a+)+$"}}]}},
            MatchResult.UNDECIDED,
        ),
        (
            {
                "bad": {
                    "$in": [
                        {"$regularExpression": {"pattern": "(a+)+$"}},
                        {"$regularExpression": {"pattern": "a(a|b)", "options": ""}},
                    ]
                }
            },
            MatchResult.MATCH,
        ),
    ],
)
def test_undecided_is_a_third_value(query: Any, expected: MatchResult) -> None:
    compiled = compile_query(query)
    assert compiled.evaluate(UNDECIDED) is expected
    assert compiled.matches(UNDECIDED) is (expected is MatchResult.MATCH)
    assert compiled.explain(UNDECIDED).outcome is expected


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        (["a" * 40 + "!", "aa"], MatchResult.MATCH),
        (["aa", "a" * 40 + "!"], MatchResult.MATCH),
        (["a" * 40 + "!", "b"], MatchResult.UNDECIDED),
        (["!", "b"], MatchResult.NO_MATCH),
    ],
)
def test_an_element_that_surely_matches_decides(elements: list[str], expected: MatchResult) -> None:
    assert compile_query({"x": {"$regex": "(a+)+$"}}).evaluate({"x": elements}) is expected
    assert compile_query({"x": {"$elemMatch": {"$regex": "(a+)+$"}}}).evaluate({"x": elements}) is expected


def test_a_hostile_array_costs_few_limits() -> None:
    query = compile_query(HOSTILE)
    document = {"bad": ["a" * 3_000 + "!"] * 3_000}
    start = time.process_time()
    assert query.evaluate(document) is MatchResult.UNDECIDED
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?:x|y|z)*" * 1_500, MatchResult.MATCH),
        # The JIT refuses this one.
        (".*" * 8_000, MatchResult.MATCH),
        ("(a|b)?" * 2_000, MatchResult.MATCH),
        ("(.+)+" * 800, MatchResult.NO_MATCH),
        ("(?=a)" * 3_000, MatchResult.MATCH),
    ],
    ids=lambda value: value[:8] if isinstance(value, str) else value.name,
)
def test_a_huge_pattern_is_searched_in_bounded_time(pattern: str, expected: MatchResult) -> None:
    start = time.process_time()
    query = compile_query({"a": {"$regex": pattern}})
    assert query.evaluate({"a": "a" * 30}) is expected
    for text in ("a" * 3_000 + "!", "ab" * 20_000):
        query.evaluate({"a": text})
    assert time.process_time() - start < 2.0


def test_a_lone_surrogate_is_undecided() -> None:
    assert compile_query({"a": {"$regex": "a|b"}}).evaluate({"a": "\ud800"}) is MatchResult.UNDECIDED


@dataclass(frozen=True)
class Forwarder:
    id: str
    query: Any
    scope: Mapping[str, str] = field(default_factory=dict)


both_ways = pytest.mark.parametrize("few_groups", [1_000, 0], ids=["asked at once", "looked up"])


@both_ways
@pytest.mark.parametrize("copies", [1, 12])
def test_the_index_tells_undecided_from_no_match(copies: int, few_groups: int) -> None:
    specifications = [HOSTILE, {"yes": 1}, {"$nor": [HOSTILE]}, {**HOSTILE, "yes": 2}, {"yes": 2}]
    forwarders = [
        Forwarder(f"{number}-{copy}", query) for copy in range(copies) for number, query in enumerate(specifications)
    ]
    result = ForwarderIndex(forwarders, few_groups).matching(UNDECIDED)
    assert list(result) == [forwarder for forwarder in forwarders if forwarder.query == {"yes": 1}]
    assert result.matched == tuple(result)
    assert list(result.undecided) == [
        forwarder for forwarder in forwarders if forwarder.query in (HOSTILE, {"$nor": [HOSTILE]})
    ]


@both_ways
def test_the_index_keeps_undecided_behind_a_field_that_many_share(few_groups: int) -> None:
    forwarders = [Forwarder(str(n), {**HOSTILE, "yes": {"$ne": n}}) for n in range(9)]
    result = ForwarderIndex(forwarders, few_groups).matching(UNDECIDED)
    assert list(result) == []
    assert [forwarder.id for forwarder in result.undecided] == ["0", *"2345678"]


@both_ways
def test_the_index_keeps_undecided_among_many_patterns(few_groups: int) -> None:
    forwarders = [Forwarder(str(n), {"bad": {"$regex": f"(a+)+{n}?$"}}) for n in range(9)]
    result = ForwarderIndex(forwarders, few_groups).matching(UNDECIDED)
    assert list(result) == []
    assert list(result.undecided) == forwarders


@pytest.mark.parametrize(
    ("pattern", "options", "prefix"),
    [
        ("^abc", "", "abc"),
        ("^ab*c", "", "a"),
        ("^a\\.b", "", "a.b"),
        ("^a\\.?b", "", "a"),
        ("^a|b", "", ""),
        ("^a(b|c)", "", "a"),
        ("^a(b)|c", "", ""),
        ("^a\\(b|c", "", ""),
        ("^[a|b]", "", ""),
        ("abc", "", ""),
        ("^abc", "i", ""),
        ("^abc", "m", ""),
        ("^ab{2}", "", "a"),
        ("^a\\d", "", "a"),
        ("^ab$", "", "ab"),
    ],
)
def test_the_beginning_that_a_pattern_requires(pattern: str, options: str, prefix: str) -> None:
    assert required_prefix(pattern, options) == prefix


@pytest.mark.parametrize(
    ("pattern", "options"),
    [("ab[cd]", ""), ("ab?[cd]", ""), ("a|b[cd]", ""), ("a(b|c)", ""), ("^a\\.[cd]", "m"), ("ab[cd]", "i"),
     ("a b[cd]", "x"), ("a{0}[cd]", ""), ("a\\+*[cd]", ""), ("\\\\b*[cd]", "")],
)  # fmt: skip
def test_a_search_for_the_plain_part_first_changes_no_answer(pattern: str, options: str) -> None:
    flags = re.ASCII
    for letter in options:
        flags |= {"i": re.IGNORECASE, "m": re.MULTILINE, "x": re.VERBOSE}[letter]
    search = compile_search(pattern, options)
    texts = ["".join(letters) for length in range(4) for letters in itertools.product("abcA.+\\\n", repeat=length)]
    for text in texts:
        assert search(text) is (re.search(pattern, text, flags) is not None), (pattern, text)


def test_a_required_beginning_is_really_required() -> None:
    for pattern in ("^ab*c", "^a\\.?b", "^a(b|c)?", "^ab{0}", "^a\\+*"):
        prefix = required_prefix(pattern, "")
        search = compile_search(pattern, "")
        for text in ("a", "ac", "ab", "a.b", "abc", "b", "", "a+", "a++"):
            assert text.startswith(prefix) or not search(text)
