"""What a forwarder's query sees, and what the forwarder is sent.

Of derived records that is docs/spec/records.md section 4, of statements docs/spec/statements.md sections 2 and 5.
`schemas.query_document` is the table of what a query document holds.
"""

from collections.abc import Callable
from typing import Any

import orjson

from schemas import Record
from schemas.delivery import PayloadKind
from schemas.times import rfc3339, utc
from transforms.query.extended_json import ExtendedJsonError, is_wrapper, read_wrapper
from transforms.reading import extended_json
from transforms.reading.exact_json import canonical_text, loads


def query_document(record: Record, statement: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a forwarder's query is matched against.

    Args:
        record: the record.
        statement: of the record, as `StatementBuilder` makes it. Without one the document has no `statement`. Of a
            record that is a statement it becomes part of the document, its dates as dates.

    Returns:
        The fields of the message and those of the table in `schemas.query_document`; of a statement those of its
        document instead of a message. The dates are aware datetimes in UTC.
    """
    if record.kind == "statement":
        return _document_of_statement(record, statement)
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


def payload_kind(record: Record, wanted: PayloadKind) -> PayloadKind:
    """What a forwarder that asks for `wanted` is sent of a record: to a statement, `record` and `statement` are one."""
    return "statement" if record.kind == "statement" and wanted == "record" else wanted


def encode_payload(record: Record, kind: PayloadKind, statement: Callable[[], dict[str, Any]]) -> bytes:
    """The bytes that a forwarder is sent for a record, in JSON as UTF-8.

    A statement is sent as the text that it was.

    Args:
        record: the record.
        kind: the message alone, the statement, or the whole query document.
        statement: builds the statement of the record. It is called only if the payload holds the statement.
    """
    if kind == "record" or (kind == "statement" and record.kind == "statement"):
        return record.body
    if kind == "statement":
        return orjson.dumps(statement())
    if record.kind == "statement":
        return orjson.dumps(_sent_document(record))
    built = statement()
    document = {**query_document(record), "timestamp": rfc3339(record.timestamp), "statement": built}
    return orjson.dumps(document)


def _document_of_statement(record: Record, statement: dict[str, Any] | None) -> dict[str, Any]:
    time = utc(record.timestamp)
    document: dict[str, Any] = {"voided": False}
    if record.document is not None:
        document |= _query_values(loads(record.document))
    document["_id"] = record.id
    document["kind"] = record.kind
    document["organisation"] = record.organisation
    document["lrs_id"] = record.lrs_id
    document["timestamp"] = time
    stored = None if record.stored is None else utc(record.stored)
    if stored is not None:
        document["stored"] = stored
    if statement is not None:
        if "timestamp" in statement:
            statement["timestamp"] = time
        if stored is not None and "stored" in statement:
            statement["stored"] = stored
        document["statement"] = statement
    return document


def _query_values(value: Any) -> Any:
    """The values that queries see of a document of Learning Locker: Extended JSON read, and names with dots."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, inner),) = value.items()
            if is_wrapper(name):
                try:
                    return read_wrapper(name, _query_values(inner))
                except ExtendedJsonError:
                    return value  # no query can ask for such a value
        return {name.replace("&46;", "."): _query_values(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_query_values(item) for item in value]
    return value


def _sent_document(record: Record) -> dict[str, Any]:
    """The query document of a statement for orjson to encode, the statement as its text."""
    document = {} if record.document is None else _sent_values(extended_json.plain(loads(record.document), []))
    return {
        **document,
        "_id": record.id,
        "kind": record.kind,
        "organisation": record.organisation,
        "lrs_id": record.lrs_id,
        "timestamp": rfc3339(record.timestamp),
        **({} if record.stored is None else {"stored": rfc3339(record.stored)}),
        "voided": document.get("voided", False),
        "statement": orjson.Fragment(record.body),
    }


def _sent_values(value: Any) -> Any:
    """A document's values with dots in their names. Numbers beyond what orjson writes are written as their digits."""
    if isinstance(value, dict):
        return {name.replace("&46;", "."): _sent_values(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_sent_values(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not -_BEYOND_LONG < value < _BEYOND_LONG:
        return orjson.Fragment(canonical_text(value))
    return value


_BEYOND_LONG = 2**63
