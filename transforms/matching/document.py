"""What a forwarder's query sees, and what it is sent (docs/spec/records.md section 4).

`schemas.query_document` is the table of what stands in a query document.
"""

from collections.abc import Callable
from typing import Any

import orjson

from schemas import Record
from schemas.delivery import PayloadKind
from schemas.times import rfc3339, utc


def query_document(record: Record, statement: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a forwarder's query is matched against; `statement` is left out when none is given.

    The message's own fields, `_id`, `kind`, `organisation`, `lrs_id`, `timestamp`, `metadata`, `statement`.
    `timestamp`, `statement.timestamp` and `statement.stored` are datetimes.
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
    """The bytes a forwarder is sent, UTF-8 JSON; `statement` is asked only when the payload holds it."""
    if kind == "record":
        return record.body
    if kind == "statement":
        return orjson.dumps(statement())
    built = statement()
    document = {**query_document(record), "timestamp": rfc3339(record.timestamp), "statement": built}
    return orjson.dumps(document)
