"""What `--explain` says of a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import KINDS, Kind
from tests.support.settlements import documented_record
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.matching.document import query_document
from transforms.matching.explanation import decide, explain
from transforms.matching.matcher import Matcher
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query

STATEMENTS = StatementBuilder()
STUBBORN = "a" * 40 + "!"
"""A user for whom `(a+)+$` needs exponential time."""

QUERIES = (
    "{}",
    '{"kind": "score"}',
    '{"kind": {"$ne": "score"}, "user_id": {"$in": ["u-1", "u-2"]}}',
    '{"score": {"$gt": 8}}',
    '{"subscores.items": "293486384"}',
    '{"metadata.grade": {"$type": "number"}}',
    '{"$or": [{"event": "session-started"}, {"num_attempted": {"$lt": 9}}]}',
    '{"statement.actor.account.name": "u-2"}',
    '{"user_id": {"$regex": "(a+)+$"}}',
)


def forwarder(id_: str, query: str) -> Forwarder:
    return Forwarder(id_, "org", None, query, "record", 0, KinesisTarget("streams", "s"))


@given(st.sampled_from(KINDS), st.sampled_from(["u-1", "u-2", STUBBORN]), st.sampled_from(QUERIES))
def test_what_is_explained_is_what_is_matched(kind: Kind, user: str, query: str) -> None:
    record, one = documented_record(kind=kind, user=user), forwarder("f", query)
    document = query_document(record, STATEMENTS.statement(record))
    match = Matcher([one], STATEMENTS).match(record)
    decision = decide(record, one, compile_query(query), document)
    assert decision.is_due == (match is not None and match.forwarders == ("f",))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ('{"kind": "event"}', 'match: kind $eq "event" (found "event")'),
        ('{"kind": "event", "metadata.grade": 6}', "no match: metadata.grade $eq 6 (found 5)"),
        ('{"user_id": {"$regex": "(a+)+$"}}', f'undecided: user_id $regex "(a+)+$" (found "{STUBBORN}")'),
    ],
)
def test_a_line_names_the_record_and_one_each_forwarder_and_what_decided(query: str, reason: str) -> None:
    record = documented_record(user=STUBBORN)
    about, line = explain(record, (forwarder("f", query),), STATEMENTS)
    assert about == f"{record.id}: session-started of user {record.user_id}, session s-1"
    assert line == f"  f: {reason}"
