"""Laws that hold for every query and document, and agreement with an oracle written from the spec alone."""

import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.query import oracle
from tests.transforms.query.strategies import DOCUMENTS, OPERANDS, PATHS, SCALARS, VALUES, operators, queries
from transforms.query import ForwarderIndex, MatchResult, compile_query

OFTEN = settings(max_examples=80)
SOMETIMES = settings(max_examples=25)


def outcome(matched: bool) -> MatchResult:
    return MatchResult.MATCH if matched else MatchResult.NO_MATCH


@OFTEN
@given(queries(), DOCUMENTS)
def test_the_compiled_function_the_evaluation_and_the_oracle_agree(query: Any, document: Any) -> None:
    expected = oracle.matches(query, document)
    compiled = compile_query(query)
    assert compiled.matches(document) is expected
    assert compiled.evaluate(document) is outcome(expected)
    assert compiled.explain(document).outcome is outcome(expected)


@OFTEN
@given(PATHS, operators(), DOCUMENTS)
def test_one_operator_document_agrees_with_the_oracle(path: str, operator: Any, document: Any) -> None:
    query = {path: operator}
    assert compile_query(query).matches(document) is oracle.matches(query, document)


@OFTEN
@given(PATHS, OPERANDS, VALUES)
def test_equality_with_any_value_agrees_with_the_oracle(path: str, operand: Any, value: Any) -> None:
    document = {"a": value, "b": operand}
    query = {path: operand}
    assert compile_query(query).matches(document) is oracle.matches(query, document)


@SOMETIMES
@given(queries(), DOCUMENTS)
def test_nor_is_not(query: Any, document: Any) -> None:
    negated = compile_query({"$nor": [query]})
    assert negated.matches(document) is not compile_query(query).matches(document)


@SOMETIMES
@given(PATHS, operators(), DOCUMENTS)
def test_field_not_is_nor(path: str, operator: Any, document: Any) -> None:
    by_not = compile_query({path: {"$not": operator}})
    assert by_not.matches(document) is compile_query({"$nor": [{path: operator}]}).matches(document)


@SOMETIMES
@given(queries(), DOCUMENTS, st.data())
def test_the_order_of_a_querys_members_means_nothing(query: Any, document: Any, data: st.DataObject) -> None:
    permuted = dict(data.draw(st.permutations(list(query.items()))))
    assert compile_query(permuted).matches(document) is compile_query(query).matches(document)


@SOMETIMES
@given(queries(), DOCUMENTS, VALUES)
def test_an_unrelated_field_means_nothing(query: Any, document: Any, value: Any) -> None:
    compiled = compile_query(query)
    assert "unrelated" not in compiled.fields
    assert compiled.matches({"unrelated": value, **document}) is compiled.matches(document)


@SOMETIMES
@given(queries(), DOCUMENTS)
def test_wrapping_in_and_means_nothing(query: Any, document: Any) -> None:
    assert compile_query({"$and": [query]}).matches(document) is compile_query(query).matches(document)


@SOMETIMES
@given(queries(), DOCUMENTS)
def test_fields_are_all_that_a_query_looks_at(query: Any, document: Any) -> None:
    compiled = compile_query(query)
    seen = {name: value for name, value in document.items() if name in compiled.fields}
    assert compiled.matches(seen) is compiled.matches(document)
    assert {path.split(".")[0].replace("&46;", ".") for path in compiled.paths} == compiled.fields


@SOMETIMES
@given(PATHS, SCALARS, DOCUMENTS, st.data())
def test_the_order_of_a_documents_names_matters_only_to_equality_with_objects(
    path: str, operand: Any, document: Any, data: st.DataObject
) -> None:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            pairs = data.draw(st.permutations(list(value.items())))
            return {name: shuffle(member) for name, member in pairs}
        return [shuffle(item) for item in value] if isinstance(value, list) else value

    compiled = compile_query({path: operand})
    assert compiled.matches(shuffle(document)) is compiled.matches(document)


@SOMETIMES
@given(queries(), DOCUMENTS)
def test_a_pickled_query_is_the_same_query(query: Any, document: Any) -> None:
    compiled = compile_query(query)
    again = pickle.loads(pickle.dumps(compiled))  # noqa: S301
    assert again.matches(document) is compiled.matches(document)


@dataclass(frozen=True)
class Forwarder:
    id: str
    organisation: str | None
    lrs_id: str | None
    query: Any

    @property
    def scope(self) -> dict[str, str]:
        scope = {"organisation": self.organisation, "lrs_id": self.lrs_id}
        return {field: value for field, value in scope.items() if value is not None}


SCOPES = st.sampled_from([None, "o1", "o2"])
# Conjunctions of equality are what the index is made for; whole random queries are what could mislead it.
INDEXED = st.dictionaries(PATHS, SCALARS, max_size=3) | st.fixed_dictionaries(
    {"$or": st.lists(st.dictionaries(PATHS, SCALARS, min_size=1, max_size=2), min_size=1, max_size=3)}
)
FORWARDERS = st.lists(st.tuples(SCOPES, SCOPES, INDEXED | queries()), max_size=14)


both_ways = pytest.mark.parametrize("few_groups", [1_000, 0], ids=["asked at once", "looked up"])


@both_ways
@settings(max_examples=60)
@given(FORWARDERS, DOCUMENTS, SCOPES, SCOPES)
def test_the_index_gives_what_brute_force_gives(
    few_groups: int, specifications: Any, document: Any, organisation: Any, lrs_id: Any
) -> None:
    forwarders = [Forwarder(str(number), *parts) for number, parts in enumerate(specifications)]
    document = {**document, "organisation": organisation, "lrs_id": lrs_id}
    expected = [
        forwarder
        for forwarder in forwarders
        if forwarder.organisation in (None, organisation)
        and forwarder.lrs_id in (None, lrs_id)
        and oracle.matches(forwarder.query, document)
    ]
    index = ForwarderIndex(forwarders, few_groups)
    result = index.matching(document)
    assert list(result) == expected
    assert result.undecided == ()
    assert list(index.matching(document)) == expected


@both_ways
@settings(max_examples=20)
@given(st.lists(st.dictionaries(PATHS, operators(1), min_size=1, max_size=2), min_size=6, max_size=12), DOCUMENTS)
def test_the_index_gives_what_brute_force_gives_for_operators(
    few_groups: int, specifications: Any, document: Any
) -> None:
    forwarders = [Forwarder(str(number), None, None, query) for number, query in enumerate(specifications)]
    expected = [forwarder for forwarder in forwarders if oracle.matches(forwarder.query, document)]
    assert list(ForwarderIndex(forwarders, few_groups).matching(document)) == expected
