"""What a forwarder's query sees, and what the forwarder is sent (docs/spec/records.md section 4).

`schemas.query_document` is the table of what a query document holds.
"""

from collections.abc import Callable
from typing import Any

import orjson

from schemas import Record
from schemas.delivery import PayloadKind
from schemas.times import rfc3339, utc


def query_document(record: Record, statement: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a forwarder's query is matched against.

    Args:
        record: the record.
        statement: of the record, as `StatementBuilder` makes it. Without one the document has no `statement`.

    Returns:
        The fields of the message and those of the table in `schemas.query_document`. The dates are aware datetimes in
        UTC.
    """
    time = utc(record.timestamp)
    document = {
        **record.message,
        "_id": record.id,
        "kind": record.kind,
        "organisation": record.organisation,
        "lrs_id": record.lrs_id,
        "timestamp": time,
        "metadata": record.metadata,
    }
    if statement is not None:
        document["statement"] = {**statement, "timestamp": time, "stored": time}
    return document


def encode_payload(record: Record, kind: PayloadKind, statement: Callable[[], dict[str, Any]]) -> bytes:
    """The bytes that a forwarder is sent for a record, in JSON as UTF-8.

    Args:
        record: the record.
        kind: the message alone, the statement, or the whole query document.
        statement: builds the statement of the record. It is called only if the payload holds the statement.
    """
    if kind == "record":
        return record.body
    if kind == "statement":
        return orjson.dumps(statement())
    built = statement()
    document = {**query_document(record), "timestamp": rfc3339(record.timestamp), "statement": built}
    return orjson.dumps(document)
