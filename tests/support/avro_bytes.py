"""Avro container files with rows of any bytes: what no writer of Avro would write."""

import json
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import fastavro

SYNC = b"0123456789abcdef"
IDS = ("record_id", "user_id", "session_id", "activity_id", "action")
ID_FIELDS: list[dict[str, Any]] = [{"name": name, "type": "string"} for name in IDS]
NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z


def long(number: int) -> bytes:
    """As Avro encodes an int or a long."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*encoded, rest])


def text(value: str | bytes) -> bytes:
    """As Avro encodes a string, or bytes."""
    content = value.encode() if isinstance(value, str) else value
    return long(len(content)) + content


def record(fields: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": "Row", "fields": list(fields)}


def header(schema: Any, codec: str | None = None) -> bytes:
    meta = {"avro.schema": json.dumps(schema), **({"avro.codec": codec} if codec else {})}
    return b"Obj\x01" + long(len(meta)) + b"".join(text(key) + text(meta[key]) for key in meta) + long(0) + SYNC


def block(count: int, body: bytes) -> bytes:
    return long(count) + text(body) + SYNC


def container(schema: Any, rows: Iterable[bytes], rows_in_block: int = 1000) -> bytes:
    """A file of rows that are encoded already, however."""
    encoded = list(rows)
    parts = [encoded[at : at + rows_in_block] for at in range(0, len(encoded), rows_in_block)]
    return header(schema) + b"".join(block(len(part), b"".join(part)) for part in parts)


def ids(number: int, **given: str | bytes) -> bytes:
    """The first fields of activity, those of ID_FIELDS, encoded."""
    values = {"record_id": f"r{number}", "user_id": "u", "session_id": "s", "activity_id": "a", "action": "START"}
    return b"".join(map(text, (values | given).values()))


def encoded(schema: Any, value: Any) -> bytes:
    """One value as fastavro encodes it."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()
