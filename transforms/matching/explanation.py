"""For one record, and each forwarder: whether it gets the record, and what decided."""

from collections.abc import Iterator

from schemas import Record
from transforms.forwarders import Forwarder
from transforms.matching.document import query_document
from transforms.matching.scope import out_of_scope
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query


def explain(record: Record, forwarders: tuple[Forwarder, ...], statements: StatementBuilder) -> Iterator[str]:
    """A line about the record, then one for each forwarder: whether it gets the record, and what decided."""
    name = record.message.get("event", record.kind)
    yield f"{record.id}: {name} of user {record.user_id}, session {record.message['session_id']}"
    document = query_document(record, statements.statement(record))
    for forwarder in forwarders:
        yield f"  {forwarder.id}: {_reason(record, forwarder, document)}"


def _reason(record: Record, forwarder: Forwarder, document: dict[str, object]) -> str:
    return out_of_scope(record, forwarder) or str(compile_query(forwarder.query).explain(document))
