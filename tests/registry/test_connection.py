"""The connection interface (docs/spec/forwarders.md section 5): pages that stay right while documents come and go."""

import json
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.connection import PATH as CONNECTION
from registry.filters import filtered, ordered, read_order
from registry.paging import page
from registry.rest import PATH
from registry.stores.base import StoredDocument
from tests.support.registry_house import create
from transforms.query.values import compare_any


def ask(client: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = client.get(CONNECTION, params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(found: dict[str, Any]) -> list[str]:
    return [edge["node"]["_id"] for edge in found["edges"]]


@pytest.fixture
def five(editor: TestClient) -> TestClient:
    for number in range(5):
        create(editor, _id=f"f{number}", description=f"d{number // 2}")
    return editor


def test_pages_go_forwards_and_backwards(five: TestClient) -> None:
    first = ask(five, first=2)
    assert ids(first) == ["f0", "f1"]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][1]["cursor"],
    }
    second = ask(five, first=2, after=first["pageInfo"]["endCursor"])
    assert ids(second) == ["f2", "f3"]
    assert (second["pageInfo"]["hasNextPage"], second["pageInfo"]["hasPreviousPage"]) == (True, True)
    third = ask(five, first=2, after=second["pageInfo"]["endCursor"])
    assert ids(third) == ["f4"]
    assert third["pageInfo"]["hasNextPage"] is False
    back = ask(five, last=2, before=third["pageInfo"]["startCursor"])
    assert ids(back) == ["f2", "f3"]
    assert ids(ask(five, last=2)) == ["f3", "f4"]
    nothing = ask(five, first=2, after=third["pageInfo"]["endCursor"])
    assert nothing == {
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": True, "startCursor": None, "endCursor": None},
    }


def test_filter_sort_and_projection(five: TestClient) -> None:
    found = ask(
        five,
        filter=json.dumps({"description": {"$ne": "d0"}}),
        sort=json.dumps({"description": -1}),
        project=json.dumps({"description": 1}),
    )
    assert [edge["node"] for edge in found["edges"]] == [
        {"_id": "f4", "description": "d2"},
        {"_id": "f2", "description": "d1"},
        {"_id": "f3", "description": "d1"},
    ]


def test_cursors_stand_while_documents_come_and_go(five: TestClient) -> None:
    sort = {"sort": "-description"}
    assert ids(ask(five, **sort)) == ["f4", "f2", "f3", "f0", "f1"]
    page = ask(five, first=2, **sort)
    for gone in ("f2", "f4"):
        five.delete(f"{PATH}/{gone}")
    create(five, _id="before", description="d9")
    create(five, _id="f2b", description="d1")
    # f2, whose cursor it is, is gone; f2b has come after its place, `before` before it.
    assert ids(ask(five, after=page["pageInfo"]["endCursor"], **sort)) == ["f2b", "f3", "f0", "f1"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"after": "nonsense"},
        {"before": "W10"},
        {"after": "eyJhIjoxfQ"},
        {"first": "-1"},
        {"last": "1001"},
        {"filter": "{"},
        {"project": "a,-b"},
        {"sort": "$x"},
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(five: TestClient, parameters: dict[str, str]) -> None:
    answer = five.get(CONNECTION, params=parameters)
    assert answer.status_code == 400
    assert [fault["field"] for fault in answer.json()["faults"]] == list(parameters)


def test_a_cursor_is_for_the_sort_it_came_with(five: TestClient) -> None:
    cursor = ask(five, first=1, sort="description")["pageInfo"]["endCursor"]
    answer = five.get(CONNECTION, params={"after": cursor, "sort": "-description"})
    assert answer.status_code == 400


# The laws of paging, on any values


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "", "a", "B", "ä"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
CONTENTS = st.lists(st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2), max_size=12)
SORTS = st.sampled_from(["", "x", "-x", "x,-y", "-x,y", "x.a", "-_id", "x,-_id"])


def stocked(contents: list[dict[str, Any]]) -> list[StoredDocument]:
    return [StoredDocument({"_id": f"{number:03}", **content}) for number, content in enumerate(contents)]


@settings(max_examples=60)
@given(contents=CONTENTS, sort=SORTS, size=st.integers(1, 4))
def test_following_the_cursors_gives_every_document_once_in_order(
    contents: list[dict[str, Any]], sort: str, size: int
) -> None:
    order = read_order(sort)
    documents = ordered(stocked(contents), order)
    forwards: list[str] = []
    after = None
    while (shown := page(documents, order, first=size, after=after)).edges:
        forwards += [stored.id for _, stored in shown.edges]
        after = shown.edges[-1][0]
        assert shown.has_next == (len(forwards) < len(documents))
    backwards: list[str] = []
    before = None
    while (shown := page(documents, order, last=size, before=before)).edges:
        backwards = [stored.id for _, stored in shown.edges] + backwards
        before = shown.edges[0][0]
    assert forwards == backwards == [stored.id for stored in documents]


@settings(max_examples=60)
@given(contents=CONTENTS, gone=st.sets(st.integers(0, 11)), sort=SORTS, at=st.integers(0, 11))
def test_what_comes_after_a_cursor_does_not_hang_on_what_is_gone(
    contents: list[dict[str, Any]], gone: set[int], sort: str, at: int
) -> None:
    order = read_order(sort)
    documents = ordered(stocked(contents), order)
    everything = page(documents, order).edges
    if at >= len(everything):
        return
    left = [stored for number, stored in enumerate(documents) if number not in gone]
    expected = [stored.id for number, stored in enumerate(documents) if number > at and number not in gone]
    assert [stored.id for _, stored in page(left, order, after=everything[at][0]).edges] == expected


@settings(max_examples=60)
@given(values=st.lists(VALUES.filter(lambda value: not isinstance(value, list)), max_size=10))
def test_the_order_is_the_query_engines(values: list[Any]) -> None:
    documents = ordered(stocked([{"x": value} for value in values]), read_order("x"))
    sorted_values = [stored.content["x"] for stored in documents]
    for left, right in pairwise(sorted_values):
        assert compare_any(left, right) <= 0
    assert filtered(documents, None) == documents
