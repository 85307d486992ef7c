"""Names with dots in a path: with `&46;`, and as IRIs that are written as they are."""

import json
from typing import Any

import pytest

from transforms.query import compile_query
from transforms.query.parse import possible_paths

DOCUMENT = {"e": {"http://a.b/c": {"d": 5, "list": [1, 2]}, "http://a.b/c.x": 6, "http://a.b": 7, "plain": {"d": 1}}}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"e.http://a&46;b/c.d": 5}, True),
        ({"e.http://a.b/c.d": 5}, True),
        ({"e.http://a.b/c.d": 6}, False),
        ({"e.http://a.b/c.x": 6}, True),
        ({"e.http://a.b/c": {"$type": "object"}}, True),
        ({"e.http://a.b": 7}, True),
        ({"e.http://a.b/c.list": 2}, True),
        ({"e.http://a.b/c.list.1": 2}, True),
        ({"e.http://a.b/c.list": {"$elemMatch": {"$gt": 1}}}, True),
        ({"e.http://a.b/c.d": {"$exists": False}}, False),
        ({"e.http://a.b/c.d": {"$exists": True}}, True),
        ({"e.http://a.b/c.z": {"$exists": False}}, True),
        ({"e.http://a.b/c.d": None}, False),
        ({"e.http://a.b/c.z": None}, True),
        ({"e.http://a.b/c.x": {"$ne": 6}}, False),
        ({"e.http://a.b/c.d": {"$ne": 6}}, True),
        ({"e.http://a.b/c.d": {"$not": {"$gt": 4}}}, False),
        ({"e.http://a.b/c.d": {"$in": [4, 5]}, "e.plain.d": 1}, True),
    ],
    ids=json.dumps,
)
def test_an_iri_is_one_name_with_its_dots_escaped_or_not(query: dict[str, Any], matches: bool) -> None:
    compiled = compile_query(json.dumps(query))
    assert compiled.matches(DOCUMENT) is matches
    assert (compiled.explain(DOCUMENT).outcome.name == "MATCH") is matches


def test_a_name_without_an_iri_means_one_path() -> None:
    assert possible_paths("a.b&46;c.0") == (("a", "b.c", "0"),)
    assert possible_paths("a.http://x&46;y/z.b") == (("a", "http://x.y/z", "b"),)
    assert possible_paths("a.http://x.y/z") == (("a", "http://x.y/z"),)
    assert possible_paths("a.http://x.y") == (("a", "http://x.y"),)


def test_the_readings_of_an_iri_are_few_however_many_dots_it_has() -> None:
    paths = possible_paths("a.http://x.y/" + ".".join("abcdefghij"))
    assert [len(path) for path in paths] == [2, 3, 4, 5]
    assert paths[0] == ("a", "http://x.y/a.b.c.d.e.f.g.h.i.j")
