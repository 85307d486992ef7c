"""Whom a record is due to, by the queries of all forwarders at once."""

import pytest

from schemas import DeadLetter, Record
from tests.support.activity import documented_session
from tests.support.settlements import documented_record
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.matching.matcher import Matcher, StoredPayload, stored_match
from transforms.matching.statement import StatementBuilder
from transforms.query import QueryError
from transforms.sessions.derivation import Derivation

UNDECIDABLE = '{"user_id": {"$regex": "(a+)+$"}}'
"""Of a user named so that the pattern needs exponential time."""


def forwarder(id_: str, query: str = "{}", organisation: str | None = None) -> Forwarder:
    return Forwarder(id_, organisation, None, query, "record", 0, KinesisTarget("streams", "s"))


def matcher(*forwarders: Forwarder) -> Matcher:
    return Matcher(forwarders, StatementBuilder())


def due_to(made: Matcher, record: Record) -> tuple[str, ...]:
    match = made.match(record)
    return match.forwarders if match is not None else ()


def test_each_record_of_a_session_goes_to_those_that_asked_for_it_in_the_order_of_the_documents() -> None:
    made = matcher(
        forwarder("scores", '{"kind": "score"}'),
        forwarder("all"),
        forwarder("completed", '{"statement.verb.id": "http://adlnet.gov/expapi/verbs/completed"}'),
        forwarder("good", '{"score": {"$gte": 4}}'),
        forwarder("elsewhere", organisation="another"),
    )
    records = Derivation().user(documented_session())
    assert {str(record.message.get("event", record.kind)): due_to(made, record) for record in records} == {
        "session-started": ("all",),
        "session-completed": ("all", "completed"),
        "status": ("all",),
        "score": ("scores", "all", "good"),
    }


def test_a_record_that_nobody_is_due_is_no_match() -> None:
    assert matcher(forwarder("f", '{"kind": "score"}')).match(documented_record(kind="event")) is None
    assert matcher().match(documented_record()) is None


@pytest.mark.parametrize(("query", "is_built"), [('{"kind": "event"}', False), ('{"statement.id": {"$ne": 1}}', True)])
def test_a_statement_is_built_where_a_query_looks_at_it(query: str, is_built: bool) -> None:
    match = matcher(forwarder("f", query)).match(documented_record())
    assert match is not None
    assert (match.statement is not None) is is_built


def test_who_cannot_be_decided_is_named_apart_and_keeps_nobody_else_from_the_record() -> None:
    record = documented_record(user="a" * 40 + "!")
    match = matcher(forwarder("hostile", UNDECIDABLE), forwarder("all")).match(record)
    assert match is not None
    assert (match.forwarders, match.undecided) == (("all",), ("hostile",))


def test_a_query_that_cannot_be_used_names_its_forwarder() -> None:
    with pytest.raises(QueryError, match=r"^forwarder bad: "):
        matcher(forwarder("good"), forwarder("bad", '{"a": {"$foo": 1}}'))


@pytest.mark.parametrize("payload", [b'{"as": "sent"}', None])
def test_a_dead_letter_is_due_to_its_own_forwarder_with_what_was_sent(payload: bytes | None) -> None:
    letter = DeadLetter(
        forwarder_id="f",
        id="1",
        user_id="u-1",
        kind="event",
        outcome="dead_lettered",
        attempts=1,
        settled_at=0,
        run_id="run",
        reason="http_400",
        payload=payload,
        payload_kind="record",
        record=b"",
    )
    match = stored_match(letter, documented_record())
    assert (match.forwarders, match.undecided) == (("f",), ())
    assert match.stored == (None if payload is None else StoredPayload(payload, "record"))
