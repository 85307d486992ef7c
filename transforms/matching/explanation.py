"""Whether each forwarder gets a record, and what decided (`--explain`)."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from schemas import Record
from transforms.forwarders import Forwarder
from transforms.matching.document import query_document
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import MatchResult, Query, compile_query


def is_meant(record: Record, id_: str) -> bool:
    """Whether an id is that of a record, of its session, or of the activity that caused it."""
    # Ids of records are in lower case, however a statement spells its own.
    return record.id == id_.lower() or id_ in (record.record_id, record.message.get("session_id"))


def explain(record: Record, forwarders: tuple[Forwarder, ...], statements: StatementBuilder) -> Iterator[str]:
    """Lines for the user: one about the record, then one for each forwarder.

    Args:
        record: the record.
        forwarders: whose documents are asked.
        statements: builds the statement that the queries see.
    """
    statement = statements.statement(record)
    yield f"{record.id}: {_told(record, statement)}"
    document = query_document(record, statement)
    for forwarder in forwarders:
        yield f"  {forwarder.id}: {decide(record, forwarder, compile_query(forwarder.query), document).reason}"


def _told(record: Record, statement: dict[str, Any]) -> str:
    if record.kind == "statement":
        return f"statement of user {record.user_id}, verb {statement['verb']['id']}"
    name = record.message.get("event", record.kind)
    return f"{name} of user {record.user_id}, session {record.message['session_id']}"


Sample = tuple[Record, dict[str, Any]]
"""A record and its query document."""


def sample_of(record: Record, statements: StatementBuilder) -> Sample:
    """A record, with the document that queries see of it. `statements` builds its statement."""
    return record, query_document(record, statements.statement(record))


def nearest_miss(samples: Iterable[Sample], forwarder: Forwarder) -> str | None:
    """The clause with which a forwarder's query refuses the record that comes nearest to a match, in words.

    Nothing of the record is told but its kind: this goes into reports.

    Args:
        samples: to choose from.
        forwarder: whose query matches none of them.

    Returns:
        None if no record is in the forwarder's scope.
    """
    query = compile_query(forwarder.query)
    nearest: tuple[int, bool] | None = None
    told: str | None = None
    for record, document in samples:
        if not_wanted(record, forwarder) is not None:
            continue
        explanation = query.explain(document)
        if explanation.outcome is MatchResult.MATCH:
            continue
        rank = query.clauses_that_hold(document), explanation.has_value
        if nearest is None or rank > nearest:
            nearest = rank
            told = f"of a {record.message.get('event', record.kind)} it refuses {explanation.clause}"
    return told


class Decision(NamedTuple):
    """Whether a record is due to a forwarder, and what decided: the kind, the scope, or a clause of the query."""

    is_due: bool
    reason: str


def decide(record: Record, forwarder: Forwarder, query: Query, document: dict[str, Any]) -> Decision:
    """Whether a record is due to a forwarder. A record whose query is undecided is not.

    For a few records. `Matcher` decides the same for many, faster and without reasons.

    Args:
        query: the forwarder's, compiled.
        document: the record's query document, with its statement.
    """
    reason = not_wanted(record, forwarder)
    if reason is not None:
        return Decision(False, reason)
    explanation = query.explain(document)
    return Decision(explanation.outcome is MatchResult.MATCH, str(explanation))
