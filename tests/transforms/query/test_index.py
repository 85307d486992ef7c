"""The index of forwarders: scopes, order, groups, pickling, and that it looks at few queries only."""

import json
import pickle
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from transforms.query import ForwarderIndex, Matching, QueryError, compile_query
from transforms.query.conditions import MAX_ALTERNATIVES, alternatives
from transforms.query.parse import parse_query


@dataclass(frozen=True)
class Forwarder:
    id: str
    query: Any = None
    organisation: str | None = None
    lrs_id: str | None = None

    @property
    def scope(self) -> dict[str, str]:
        scope = {"organisation": self.organisation, "lrs_id": self.lrs_id}
        return {field: value for field, value in scope.items() if value is not None}


def ids(result: Matching[Forwarder]) -> list[str]:
    return [forwarder.id for forwarder in result]


@pytest.fixture(params=[1_000, 0], ids=["asked at once", "looked up"])
def few_groups(request: pytest.FixtureRequest) -> int:
    """Every law holds for a few groups and for many, so each test is put to both ways."""
    return int(request.param)


def test_scope_and_query_both_decide_and_the_given_order_is_kept(few_groups: int) -> None:
    index = ForwarderIndex(
        [
            Forwarder("z", {"kind": "event"}, "o1"),
            Forwarder("other tenant", {"kind": "event"}, "o2"),
            Forwarder("a", '{"kind": "event"}'),
            Forwarder("other store", {"kind": "event"}, "o1", "l2"),
            Forwarder("m", "", "o1", "l1"),
            Forwarder("other kind", {"kind": "score"}, "o1"),
            Forwarder("b", {"kind": {"$ne": "score"}}, None, "l1"),
        ],
        few_groups,
    )
    assert ids(index.matching({"kind": "event", "organisation": "o1", "lrs_id": "l1"})) == [
        "z",
        "a",
        "m",
        "b",
    ]
    assert ids(index.matching({"kind": "event", "organisation": None})) == ["a"]
    assert ids(index.matching({"kind": "event"})) == ["a"]
    assert len(index) == 7


def test_a_scope_is_one_value_not_an_element_of_an_array(few_groups: int) -> None:
    index = ForwarderIndex([Forwarder(str(number), {}, f"o{number}") for number in range(9)], few_groups)
    assert ids(index.matching({"organisation": "o3"})) == ["3"]
    assert ids(index.matching({"organisation": ["o3"]})) == []


def test_the_fields_that_some_query_looks_at() -> None:
    index = ForwarderIndex([Forwarder("1", {"kind": 1}, "o1"), Forwarder("2", {"a.b": {"$ne": 1}}), Forwarder("3")])
    assert index.fields == {"kind", "a"}


def test_no_forwarders_match_nothing(few_groups: int) -> None:
    assert ids(ForwarderIndex[Forwarder]([], few_groups).matching({"a": 1})) == []


def test_forwarders_of_one_query_stand_in_their_given_order_among_others(few_groups: int) -> None:
    index = ForwarderIndex([Forwarder(str(number), {"a": number % 3 % 2}) for number in range(30)], few_groups)
    assert ids(index.matching({"a": [0, 1]})) == [str(number) for number in range(30)]
    assert ids(index.matching({"a": 1})) == [str(number) for number in range(30) if number % 3 == 1]


@pytest.mark.parametrize(
    "operand", [None, {"$in": [None, [1]]}, {"$gte": None}, {"$exists": False}, {"$not": {"$gt": 1}}]
)
def test_what_holds_of_a_missing_field_is_not_looked_up_by_its_name(operand: Any, few_groups: int) -> None:
    index = ForwarderIndex([Forwarder(str(number), {f"m.k{number}": operand}) for number in range(9)], few_groups)
    documents: list[dict[str, Any]] = [{}, {"m": {}}, {"m": None}, {"m": {"other": 1}}, {"m": [{}]}]
    for document in documents:
        assert len(index.matching(document)) == 9


def test_a_forwarder_is_given_once_however_many_alternatives_hold(few_groups: int) -> None:
    index = ForwarderIndex(
        [Forwarder(str(number), {"a": {"$in": [number, number + 1]}}) for number in range(9)], few_groups
    )
    result = index.matching({"a": [1, 2]})
    assert ids(result) == ["0", "1", "2"]
    assert result.matched == tuple(result)
    assert result.undecided == ()


@pytest.mark.parametrize(
    "element", [1, 1.0, True, "1", None, datetime(2020, 1, 1, tzinfo=UTC), [1], [[1]], {}, 0, -0.0]
)
def test_keys_are_told_apart_as_equality_tells_them(element: Any, few_groups: int) -> None:
    operands = [
        1,
        True,
        "1",
        None,
        {"$date": "2020-01-01T00:00:00Z"},
        [1],
        0,
        False,
        {"$numberDouble": "NaN"},
    ]
    forwarders = [Forwarder(str(number), {"a": operand}) for number, operand in enumerate(operands)]
    document = {"a": element}
    expected = [forwarder.id for forwarder in forwarders if compile_query(forwarder.query).matches(document)]
    assert ids(ForwarderIndex(forwarders, few_groups).matching(document)) == expected


def test_a_refusal_names_the_forwarder() -> None:
    with pytest.raises(QueryError, match=r"forwarder f2: unknown operator: \$near") as caught:
        ForwarderIndex([Forwarder("f1"), Forwarder("f2", {"a": {"$near": 1}})])
    assert caught.value.operator == "$near"


def test_an_index_pickles_as_its_forwarders() -> None:
    forwarders = [Forwarder(str(number), {"a": {"$in": [number, "x"]}}, f"o{number % 2}") for number in range(20)]
    index = ForwarderIndex(forwarders)
    document = {"a": "x", "organisation": "o1"}
    before = ids(index.matching(document))
    data = pickle.dumps(index)
    again = pickle.loads(data)  # noqa: S301
    assert ids(again.matching(document)) == before == [str(number) for number in range(1, 20, 2)]
    assert len(data) < 100 * len(forwarders) + 500


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"a": 1}, [{("a",): 1}]),
        ({"a": None}, [{}]),
        ({"a": {"$ne": 1}}, [{}]),
        ({"a": {"$not": {"$eq": 1}}}, [{}]),
        ({"$nor": [{"a": 1}]}, [{}]),
        ({"a": {"$in": [1, None]}}, [{}]),
        ({"a": {"$in": [1, 2]}, "b": "x"}, [{("a",): 1, ("b",): "x"}, {("a",): 2, ("b",): "x"}]),
        ({"a": {"$in": []}}, []),
        ({"$or": [{"a": 1}, {"b": 2}]}, [{("a",): 1}, {("b",): 2}]),
        ({"$or": [{"a": 1}, {"b": {"$gt": 2}}]}, [{}]),
        ({"$and": [{"a": {"$gt": 1}}, {"b.c": "x"}]}, [{("b", "c"): "x"}]),
        ({"a": {"$elemMatch": {"b": 1}}}, [{("a", "b"): 1}]),
        ({"a.0": {"$elemMatch": {"b": 1}}}, [{}]),
        ({"a": {"$elemMatch": {"0": 1}}}, [{}]),
        ({"a": {"$elemMatch": {"$eq": 1}}}, [{}]),
        ({"a": {"b": 1}}, [{}]),
        ({"a": {"$in": list(range(MAX_ALTERNATIVES + 1))}}, [{}]),
    ],
)
def test_what_a_query_requires_of_a_document(query: Any, expected: Any) -> None:
    assert alternatives(parse_query(query)[0]) == expected


def document_of(rng: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {
        "organisation": f"o{rng.randrange(4)}",
        "verb": {"id": f"http://x.org/{rng.choice('abc')}"},
        "score": rng.choice([None, 0, 1, 2.5, 7, True, [1, 9], "5"]),
        "tags": rng.sample(["red", "green", "blue", 1], 2),
        "meta": rng.choice([{}, {"k1": 1}, {"k1": None, "k2": [1]}, 5, None, [{"k2": 1}]]),
        "at": datetime(2020, 1, rng.randrange(1, 28), tzinfo=UTC),
    }
    del document[rng.choice(list(document))]
    return document


def query_of(rng: random.Random) -> dict[str, Any]:
    verb = f"http://x.org/{rng.choice('abc')}"
    choices: list[dict[str, Any]] = [
        {"organisation": f"o{rng.randrange(4)}", "verb.id": verb},
        {"tags": {"$in": rng.sample(["red", "green", "blue", 1], 2)}},
        {"score": {rng.choice(["$gt", "$gte", "$lt", "$lte"]): rng.choice([0, 1, 2.5, 7, "5", True])}},
        {"score": {"$gte": rng.randrange(3), "$lt": 5}, "verb.id": {"$ne": verb}},
        {"at": {rng.choice(["$gt", "$lte"]): {"$date": f"2020-01-{rng.randrange(10, 28)}T00:00:00Z"}}},
        {f"meta.k{rng.randrange(4)}": {"$exists": rng.random() < 0.7}},
        {"meta.k2": {"$type": "number"}},
        {"verb.id": {"$regex": rng.choice(["^http://x\\.org/a", "^http://x\\.org/(b|c)", "[ab]$", "(?i)X.ORG/A"])}},
        {"$or": [{"verb.id": verb, "tags": "red"}, {"organisation": "o1"}]},
        {"$or": [{"verb.id": verb}, {"score": {"$gt": 1}}]},
        {"tags": {"$all": ["red", 1]}},
        {"$nor": [{"verb.id": verb}]},
        {"score": True},
    ]
    return rng.choice(choices)


@pytest.mark.parametrize("count", [1, 3, 10, 30, 300])
def test_a_realistic_index_gives_what_brute_force_gives(count: int, few_groups: int) -> None:
    rng = random.Random(count)  # noqa: S311
    scopes = [None, None, "o1", "o2"]
    forwarders = [Forwarder(str(number), json.dumps(query_of(rng)), rng.choice(scopes)) for number in range(count)]
    compiled = [compile_query(forwarder.query) for forwarder in forwarders]
    index = ForwarderIndex(forwarders, few_groups)
    for _ in range(60):
        document = document_of(rng)
        expected = [
            forwarder.id
            for forwarder, query in zip(forwarders, compiled, strict=True)
            if forwarder.organisation in (None, document.get("organisation")) and query.matches(document)
        ]
        assert ids(index.matching(document)) == expected


class CountedDocument(dict[str, Any]):
    """Counts how often it is asked for a field."""

    asked = 0

    def get(self, name: str, default: Any = None) -> Any:
        CountedDocument.asked += 1
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        CountedDocument.asked += 1
        return super().__getitem__(name)


@pytest.mark.slow
def test_the_cost_follows_the_hits_not_the_forwarders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in looks into the document, which no busy machine can blur."""
    monkeypatch.setattr(CountedDocument, "asked", 0)
    count = 2_000
    index = ForwarderIndex(
        [
            Forwarder(str(number), {"verb": f"v{number % 5}", "user": f"u{number}"}, f"o{number % 100}")
            for number in range(count)
        ]
    )
    for number in range(0, count, 10):
        fields = {"verb": f"v{number % 5}", "user": f"u{number}", "organisation": f"o{number % 100}"}
        assert ids(index.matching(CountedDocument(fields))) == [str(number)]
    assert 200 <= CountedDocument.asked <= 200 * 6


def test_results_that_repeat_are_remembered_in_bounded_space(monkeypatch: pytest.MonkeyPatch, few_groups: int) -> None:
    monkeypatch.setattr("transforms.query.index._REMEMBERED_FORWARDERS", 50)
    index = ForwarderIndex([Forwarder(str(number), {"tags": number}) for number in range(40)], few_groups)
    for first in range(40):
        for second in range(first + 1, 40):
            assert ids(index.matching({"tags": [second, first]})) == [str(first), str(second)]
            assert sum(map(len, [*index._remembered.values(), *index._by_bits.values()])) <= 50
