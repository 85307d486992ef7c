"""The checked examples that come with the definition of the language: cases/mongo_public.jsonl."""

import json
from typing import Any

import pytest

from tests.support.paths import SHARED, needs_shared
from transforms.query import MatchResult, QueryError, compile_query, from_extended_json

# May be refused when compiled, but never answered wrongly.
MAY_BE_REFUSED = ("optional_", "regex_pcre")


def cases() -> list[dict[str, Any]]:
    lines = (SHARED / "cases" / "mongo_public.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@needs_shared
def test_every_case_is_answered_as_mongodb_does() -> None:
    wrong = []
    answered = 0
    for case in cases():
        if case.get("error"):
            continue
        try:
            query = compile_query(case["query"])
        except QueryError as error:
            if not case["category"].startswith(MAY_BE_REFUSED):
                wrong.append((case["id"], str(error)))
            continue
        document = from_extended_json(case["doc"]) if case.get("ejson") else case["doc"]
        expected = MatchResult.MATCH if case["matches"] else MatchResult.NO_MATCH
        if query.matches(document) is not case["matches"] or query.evaluate(document) is not expected:
            wrong.append((case["id"], query.explain(document).text))
        answered += 1
    assert wrong == []
    assert answered > 2_000


@needs_shared
def test_every_invalid_query_is_refused_as_text_and_as_mapping() -> None:
    invalid = [case["query"] for case in cases() if case.get("error")]
    assert len(invalid) == 49
    for query in invalid:
        with pytest.raises(QueryError):
            compile_query(query)
        with pytest.raises(QueryError):
            compile_query(json.dumps(query))
