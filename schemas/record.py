"""Derived records: the documented message, and what travels with it."""

import re
from datetime import datetime
from typing import Any, Literal

import msgspec

from schemas.activity import Scalar
from schemas.times import millis_of, rfc3339

Kind = Literal["event", "status", "score"]
KINDS: tuple[Kind, ...] = ("event", "status", "score")

_INT64 = range(-(1 << 63), 1 << 63)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One derived message (docs/spec/records.md section 3). Steps share it, so it is never changed.

    Attributes:
        id: the same on every run.
        timestamp: epoch ms; the `occurred_at` of the activity that caused the record.
        record_id: of that activity.
        place: the index of that activity in the order of its session.
        message: the documented message. Its keys are in the documented order.
        body: the message in compact JSON, as UTF-8.
        metadata: what the session's activities brought along, up to that one.
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


_ENVELOPE = frozenset(_Envelope.__struct_fields__)
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_message = msgspec.json.Decoder(dict[str, Any]).decode
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _timestamp_of(text: str) -> int:
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(f"timestamp {text!r} is not of the form 2020-02-17T15:03:23.000Z")
    return millis_of(datetime.fromisoformat(text))


def encode_record(record: Record) -> bytes:
    """A record as one line of `--write_records jsonl`, without the newline: compact JSON without nesting.

    First comes the message, byte for byte, then `id`, `kind`, `organisation`, `lrs_id`, `timestamp` (RFC 3339 with
    milliseconds), `record_id`, `place` and `metadata`.
    """
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
    """The record of a line that `encode_record` made. Nothing is lost, and the message has the same bytes.

    Raises:
        ValueError: it is no such line. (The errors of msgspec are ValueErrors, too.)
    """
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


def record_row(record: Record) -> dict[str, Any]:
    """A record as a row of the schema of its kind (event.avsc, status.avsc, score.avsc), for fastavro.

    `timestamp` is in epoch ms. A sum of scores that 64 bits do not hold becomes a double.
    """
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


def _fitting(value: Any) -> Any:
    if type(value) is int:
        return value if value in _INT64 else float(value)
    if isinstance(value, dict):
        return {name: _fitting(inner) for name, inner in value.items()}
    return [_fitting(inner) for inner in value] if isinstance(value, list) else value


def parquet_row(record: Record) -> dict[str, Any]:
    """A record as a row of `schemas.arrow.arrow_schema(record.kind)`: `record_row`, with `metadata` as text in JSON."""
    row = record_row(record)
    row["metadata"] = _encode(record.metadata).decode()
    return row
