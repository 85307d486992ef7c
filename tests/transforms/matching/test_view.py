"""What is decoded of a statement for its queries, beside the whole of it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Record
from tests.support.statements import STATEMENT_TEXTS, statement, text
from transforms.forwarders import Forwarder
from transforms.forwarders.model import KinesisTarget
from transforms.matching.document import query_document
from transforms.matching.explanation import decide
from transforms.matching.matcher import MOST_CARRIED, Matcher, StatementMatcher
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query
from transforms.reading.originals import OriginalDecoder, decode_original
from transforms.reading.views import view_of
from transforms.statements.passage import record_of

STATEMENTS = StatementBuilder()
PATHS = st.sampled_from(
    [
        "statement.verb.id",
        "statement.verb",
        "statement.result.score.raw",
        "statement.result",
        "statement.result.extensions.http://example&46;org/x&46;y",
        "statement.result.extensions.http://example.org/x.y",
        "statement.result.extensions.http://example&46;org/x&46;y.0",
        "statement.other",
        "statement.other.0",
        "statement.other.é",
        "statement.attachments.usageType",
        "statement.attachments.0.length",
        "statement.timestamp",
        "statement.stored",
        "statement",
        "timestamp",
        "stored",
        "voided",
        "organisation",
        "_id",
    ]
)
OPERANDS: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        1.5,
        796,
        "é",
        "",
        {"$date": "2026-03-01T12:00:00Z"},
        "http://adlnet.gov/expapi/verbs/answered",
        [],
    ]
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    clauses = []
    for _ in range(draw(st.integers(1, 3))):
        path, operator = draw(PATHS), draw(st.sampled_from(["$eq", "$ne", "$gt", "$lte", "$exists", "$type", "$size"]))
        operand = draw(OPERANDS)
        if operator == "$type":
            operand = draw(st.sampled_from(["number", "string", "object", "array", "date", "null", "bool"]))
        elif operator == "$size":
            operand = draw(st.integers(0, 2))
        elif path in ("statement.timestamp", "statement.stored", "timestamp", "stored") and isinstance(operand, str):
            operand = "2026-03-01T12:00:00Z"
        clauses.append({path: {operator: operand}})
    return json.dumps({draw(st.sampled_from(["$and", "$or", "$nor"])): clauses})


def forwarder(id_: str, query: str) -> Forwarder:
    return Forwarder(id_, None, None, query, "statement", 0, KinesisTarget("streams", "s"))


def record(sent: str, **more: Any) -> Record:
    return record_of(*OriginalDecoder(**more).read(sent.encode()))


def shown(forwarders: list[Forwarder], sent: str) -> Record:
    """The record of a statement that was matched as it was read."""
    decoder = OriginalDecoder()
    decoder.show(StatementMatcher(forwarders))
    user_id, line = decoder.admit(sent.encode())
    return record_of(user_id, decode_original(line))


def matched(forwarders: list[Forwarder], read: Record) -> list[str]:
    match = Matcher(forwarders, STATEMENTS).match(read)
    return list(match.forwarders if match else ())


@given(STATEMENT_TEXTS, st.lists(queries(), min_size=1, max_size=4))
def test_who_gets_a_statement_is_the_same_as_if_all_of_it_were_looked_at(sent: str, asked: list[str]) -> None:
    forwarders = [forwarder(str(number), query) for number, query in enumerate(asked)]
    read = record(sent)
    document = query_document(read, STATEMENTS.statement(read))
    due = [each.id for each in forwarders if decide(read, each, compile_query(each.query), document).is_due]
    assert matched(forwarders, read) == due
    seen = shown(forwarders, sent)
    assert seen.due is None or list(seen.due) == due
    assert matched(forwarders, seen) == due


@pytest.mark.parametrize("count", [0, 1, MOST_CARRIED, MOST_CARRIED + 1])
def test_so_many_ids_are_carried_from_reading_and_all_get_it(count: int) -> None:
    verb = {"statement.verb.id": statement()["verb"]["id"]}
    forwarders = [forwarder(str(number), json.dumps(verb)) for number in range(count)]
    others = [forwarder("other", json.dumps({"statement.verb.id": "https://example.org/other"}))]
    seen = shown([*forwarders, *others], text(statement()))
    ids = [each.id for each in forwarders]
    assert seen.due == (tuple(ids) if count <= MOST_CARRIED else None)
    assert matched([*forwarders, *others], seen) == ids


def test_what_was_found_at_reading_is_not_asked_again() -> None:
    seen = shown([forwarder("a", "{}"), forwarder("b", json.dumps({"_id": "no"}))], text(statement()))
    assert matched([forwarder("b", "{}")], seen) == ["a"]


def test_where_a_query_gives_up_it_is_asked_again() -> None:
    slow = json.dumps({"statement.verb.id": {"$regex": "^(a+)+$"}})
    sent = text(statement(verb={"id": "a" * 60 + "!"}))
    seen = shown([forwarder("slow", slow)], sent)
    match = Matcher([forwarder("slow", slow)], STATEMENTS).match(seen)
    assert seen.due is None
    assert match is not None
    assert match.undecided == ("slow",)


def test_only_what_is_asked_for_is_decoded() -> None:
    sent = statement(result={"score": {"raw": 1, "max": 2}, "success": True}, context={"a": [{"b": 1, "c": 2}], "d": 3})
    view = view_of([("verb", "id"), ("result", "score", "raw"), ("context", "a", "b"), ("object", "id", "x")])
    assert view(text(sent).encode()) == {
        "verb": sent["verb"],
        "result": {"score": {"raw": 1}},
        "context": {"a": [{"b": 1}]},
        "object": {"id": sent["object"]["id"]},
    }


def test_a_number_beyond_double_is_infinity_to_a_query() -> None:
    sent = text(statement(result={"score": {"raw": "n"}, "other": 1})).replace('"n"', "1e400")
    asked = [
        {"statement.result.score.raw": {"$gt": 1e300}},
        {"statement.result.score.raw": {"$numberDouble": "Infinity"}},
        {"statement.result.other": 1},
        {"statement.result.score.raw": {"$lt": 0}},
    ]
    forwarders = [forwarder(str(number), json.dumps(query)) for number, query in enumerate(asked)]
    match = Matcher(forwarders, STATEMENTS).match(record(sent))
    assert match is not None
    assert match.forwarders == ("0", "1", "2")


def test_integers_of_any_size_are_exact_to_a_query() -> None:
    large = 123456789012345678901234567890
    sent = text(statement(result={"n": large}))
    forwarders = [
        forwarder("same", f'{{"statement.result.n": {large}}}'),
        forwarder("next", f'{{"statement.result.n": {large + 1}}}'),
    ]
    match = Matcher(forwarders, STATEMENTS).match(record(sent))
    assert match is not None
    assert match.forwarders == ("same",)


def test_a_statement_that_is_too_deep_to_be_read_is_undecided() -> None:
    inside = "[" * 990 + "]" * 990
    sent = text(statement(x="deep")).replace('"deep"', inside)
    read = record_of("ann", OriginalDecoder().read(text(statement()).encode())[1])
    deep = msgspec.structs.replace(read, body=sent.encode())
    forwarders = [forwarder("all", '{"statement.x.0": 1}'), forwarder("other", "{}")]

    def at_the_end_of_the_stack(left: int) -> Any:
        return Matcher(forwarders, STATEMENTS).match(deep) if not left else at_the_end_of_the_stack(left - 1)

    match = at_the_end_of_the_stack(200)
    assert match.undecided == ("all", "other")
