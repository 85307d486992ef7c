"""Records: what is forwarded. A record is a derived message, or a statement as it was read."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from schemas.activity import Scalar
from schemas.times import millis_of, rfc3339

NAMESPACE = UUID("9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24")
"""The namespace of every id that is made. If it changed, every receiver would see every record as a new one."""

DerivedKind = Literal["event", "status", "score"]
DERIVED_KINDS: tuple[DerivedKind, ...] = ("event", "status", "score")
Kind = Literal[DerivedKind, "statement"]
KINDS: tuple[Kind, ...] = (*DERIVED_KINDS, "statement")
RecordFormat = Literal["jsonl", "avro", "parquet"]
"""Of files with records in them."""

_INT64 = range(-(1 << 63), 1 << 63)


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is forwarded. Steps share it, so it is never changed.

    It is one derived message (docs/spec/records.md section 3), or one statement as it was read, of the kind `statement`
    (docs/spec/statements.md section 1).

    Attributes:
        id: the same on every run; of a statement its own, in lower case.
        timestamp: epoch ms; the `occurred_at` of the activity that caused the record, or the statement's `timestamp`,
            else its `stored`.
        record_id: of that activity; of a statement its id.
        place: the index of that activity in the order of its session; of a statement the index among its user's
            statements of the run, in the order in which they leave.
        message: the documented message. Its keys are in the documented order. It is empty for a statement: who needs
            one as an object decodes `body`.
        body: the message in compact JSON, as UTF-8; or the statement's text, as it was read.
        metadata: what the session's activities brought along, up to that one; empty for a statement.
        stored: epoch ms; when a store says that it took the statement. None: it does not say, or the record is derived.
        document: what Learning Locker's document has around the statement, in Extended JSON; None where there is none.
        voids: the id of the statement that this one voids, in lower case; None for all other records.
        due: ids of the forwarders whose query matches, of a statement that was matched as it was read. None: it was
            not.
    """

    id: str
    kind: Kind
    organisation: str | None
    lrs_id: str | None
    user_id: str
    timestamp: int
    record_id: str
    place: int
    message: dict[str, Any]
    body: bytes
    metadata: dict[str, Scalar]
    stored: int | None = None
    document: bytes | None = None
    voids: str | None = None
    due: tuple[str, ...] | None = None

    @property
    def leaves_at(self) -> int:
        """Epoch ms by which a user's records are put in order: of a statement `stored`, else `timestamp`."""
        return self.timestamp if self.stored is None else self.stored


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """What follows the fields of the message on a record's line. No message has a field of one of these names."""

    id: str
    kind: Kind
    organisation: str | None
    lrs_id: str | None
    timestamp: str
    record_id: str
    place: int
    metadata: dict[str, Scalar]


class _StatementLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A statement as a line. `document` is left out where there is none."""

    statement: msgspec.Raw
    id: str
    kind: Literal["statement"]
    organisation: str | None
    lrs_id: str | None
    user_id: str
    timestamp: str
    stored: str | None
    voids: str | None
    place: int
    document: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _KindOfLine(msgspec.Struct, frozen=True, gc=False):
    kind: Kind


_ENVELOPE = frozenset(_Envelope.__struct_fields__)
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_message = msgspec.json.Decoder(dict[str, Any]).decode
_decode_kind = msgspec.json.Decoder(_KindOfLine).decode
_decode_statement_line = msgspec.json.Decoder(_StatementLine).decode
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _timestamp_of(text: str) -> int:
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(f"timestamp {text!r} is not of the form 2020-02-17T15:03:23.000Z")
    return millis_of(datetime.fromisoformat(text))


def encode_record(record: Record) -> bytes:
    """A record as one line of `--write_records jsonl`, without the newline: compact JSON without nesting.

    First comes the message, byte for byte, then `id`, `kind`, `organisation`, `lrs_id`, `timestamp` (RFC 3339 with
    milliseconds), `record_id`, `place` and `metadata`.

    Of a statement the line has `statement`, the text as it was read, then `id`, `kind`, `organisation`, `lrs_id`,
    `user_id`, `timestamp`, `stored`, `voids`, `place`, and `document` where there is one.
    """
    if record.kind == "statement":
        return _encode(
            _StatementLine(
                statement=msgspec.Raw(record.body),
                id=record.id,
                kind=record.kind,
                organisation=record.organisation,
                lrs_id=record.lrs_id,
                user_id=record.user_id,
                timestamp=rfc3339(record.timestamp),
                stored=None if record.stored is None else rfc3339(record.stored),
                voids=record.voids,
                place=record.place,
                document=msgspec.UNSET if record.document is None else msgspec.Raw(record.document),
            )
        )
    envelope = _encode(
        _Envelope(
            record.id,
            record.kind,
            record.organisation,
            record.lrs_id,
            rfc3339(record.timestamp),
            record.record_id,
            record.place,
            record.metadata,
        )
    )
    return b"%b,%b" % (record.body[:-1], envelope[1:])


def decode_record(line: bytes) -> Record:
    """The record of a line that `encode_record` made. Nothing is lost, and message or statement have the same bytes.

    Raises:
        ValueError: it is no such line. (The errors of msgspec are ValueErrors, too.)
    """
    if _decode_kind(line).kind == "statement":
        return _decode_statement(line)
    envelope = _decode_envelope(line)
    # The message is cut out of the line and not encoded again, so that 1.0 stays 1.0, and an escape stays as it is.
    fields = [(name, raw) for name, raw in _decode_line(line).items() if name not in _ENVELOPE]
    body = b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), bytes(raw)) for name, raw in fields)
    message = _decode_message(body)
    user_id = message.get("user_id")
    if not isinstance(user_id, str):
        raise ValueError("not a record: its message has no user_id")
    return Record(
        envelope.id,
        envelope.kind,
        envelope.organisation,
        envelope.lrs_id,
        user_id,
        _timestamp_of(envelope.timestamp),
        envelope.record_id,
        envelope.place,
        message,
        body,
        envelope.metadata,
    )


def _decode_statement(line: bytes) -> Record:
    fields = _decode_statement_line(line)
    return Record(
        fields.id,
        fields.kind,
        fields.organisation,
        fields.lrs_id,
        fields.user_id,
        _timestamp_of(fields.timestamp),
        fields.id,
        fields.place,
        {},
        bytes(fields.statement),
        {},
        None if fields.stored is None else _timestamp_of(fields.stored),
        None if isinstance(fields.document, msgspec.UnsetType) else bytes(fields.document),
        fields.voids,
    )


def record_row(record: Record) -> dict[str, Any]:
    """A record as a row of the schema of its kind (event.avsc, status.avsc, score.avsc, statement.avsc), for fastavro.

    Times are in epoch ms. A sum of scores that 64 bits do not hold becomes a double.
    """
    if record.kind == "statement":
        return {
            "statement": record.body.decode(),
            "id": record.id,
            "kind": record.kind,
            "organisation": record.organisation,
            "lrs_id": record.lrs_id,
            "user_id": record.user_id,
            "timestamp": record.timestamp,
            "stored": record.stored,
            "voids": record.voids,
            "place": record.place,
            "document": None if record.document is None else record.document.decode(),
        }
    message = record.message
    return {
        **(_fitting(message) if record.kind == "score" else message),
        "id": record.id,
        "kind": record.kind,
        "organisation": record.organisation,
        "lrs_id": record.lrs_id,
        "timestamp": record.timestamp,
        "record_id": record.record_id,
        "place": record.place,
        "metadata": record.metadata,
    }


def record_of_row(row: Mapping[str, Any]) -> Record:
    """The record of a row that `record_row` or `parquet_row` made, as it is read back. Its times may be datetimes.

    The message has the same values, and may have other bytes.

    Raises:
        KeyError, TypeError, ValueError: it is no such row.
    """
    if row["kind"] == "statement":
        document = row["document"]
        return Record(
            row["id"],
            row["kind"],
            row["organisation"],
            row["lrs_id"],
            row["user_id"],
            _millis(row["timestamp"]),
            row["id"],
            row["place"],
            {},
            row["statement"].encode(),
            {},
            None if row["stored"] is None else _millis(row["stored"]),
            None if document is None else document.encode(),
            row["voids"],
        )
    message = {name: value for name, value in row.items() if name not in _ENVELOPE}
    metadata = row["metadata"]
    return Record(
        row["id"],
        row["kind"],
        row["organisation"],
        row["lrs_id"],
        message["user_id"],
        _millis(row["timestamp"]),
        row["record_id"],
        row["place"],
        message,
        _encode(message),
        msgspec.json.decode(metadata) if isinstance(metadata, str) else metadata,
    )


def _millis(time: int | datetime) -> int:
    return millis_of(time) if isinstance(time, datetime) else time


def _fitting(value: Any) -> Any:
    if type(value) is int:
        return value if value in _INT64 else float(value)
    if isinstance(value, dict):
        return {name: _fitting(inner) for name, inner in value.items()}
    return [_fitting(inner) for inner in value] if isinstance(value, list) else value


def parquet_row(record: Record) -> dict[str, Any]:
    """A record as a row of `schemas.arrow.arrow_schema(record.kind)`: `record_row`, with `metadata` as text in JSON."""
    row = record_row(record)
    if record.kind == "statement":
        return row
    row["metadata"] = _encode(record.metadata).decode()
    return row
