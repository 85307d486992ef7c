"""Many records in one body, and an answer that speaks of each (docs/spec/forwarders.md section 2, *Batches*)."""

import gzip
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.record import NAMESPACE
from transforms.forwarders.model import BatchFormat

CONTENT_TYPES: dict[BatchFormat, str] = {"array": "application/json", "lines": "application/x-ndjson"}

SEPARATOR = 1
"""Bytes that a record takes in a body beside its payload: a comma, or a line end."""

AROUND = 1
"""Bytes of a body beside its records with their separators: an array has two brackets, and one comma less."""

GZIP_LEVEL = 3
"""How hard gzip tries. Levels 1 and 2 take as long; level 6 takes two to five times as long for arrays of statements
that are a twentieth to a ninth smaller."""

ANSWER_READ = 1024 * 1024
"""Bytes that are read of an answer with a status for each record."""


def joined(payloads: Sequence[bytes], format: BatchFormat) -> bytes:
    """The body of a batch.

    Args:
        payloads: JSON texts. Their bytes are not changed, but for line ends between tokens in the format `lines`.
        format: `array`: a JSON array of them. `lines`: one a line, each with a line end.
    """
    if format == "array":
        return b"[%b]" % b",".join(payloads)
    return b"".join([one_line(payload) + b"\n" for payload in payloads])


def one_line(payload: bytes) -> bytes:
    """A JSON text in one line. A line end in it stands between two tokens, since a JSON string cannot hold one."""
    if b"\n" not in payload and b"\r" not in payload:
        return payload
    return payload.replace(b"\r", b" ").replace(b"\n", b" ")


def batch_id(ids: Sequence[str]) -> str:
    """The `Idempotency-Key` of a batch: a UUIDv5 of its records' ids in order, with a line end between two."""
    return str(uuid.uuid5(NAMESPACE, "\n".join(ids)))


def compressed(body: bytes) -> bytes:
    """The body in gzip. The same body gives the same bytes: the header holds no time."""
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


class EntryAnswer(msgspec.Struct, frozen=True, gc=False):
    """What an answer says of one record of a batch: a status, and the entry of the array as it was written."""

    status: int
    text: bytes


class UnreadableAnswerError(ValueError):
    """An answer is no JSON array with one status for each record. The text says what it is instead."""


_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _WithStatus(msgspec.Struct, gc=False):
    status: Any


_decode_entry = msgspec.json.Decoder(int | _WithStatus).decode


def entry_answers(body: bytes, count: int) -> list[EntryAnswer]:
    """The statuses of a batch whose outcome is `per_record`.

    Args:
        body: a JSON array of one entry for each record, in their order: a status, or an object with `status`.
        count: of the records.

    Raises:
        UnreadableAnswerError: the body is not that.
    """
    try:
        entries = _decode_entries(body)
    except (msgspec.DecodeError, RecursionError):
        raise UnreadableAnswerError("the answer is no JSON array") from None
    if len(entries) != count:
        raise UnreadableAnswerError(f"the answer has {len(entries)} entries for {count} records")
    return [_entry(index, bytes(entry)) for index, entry in enumerate(entries)]


def _entry(index: int, text: bytes) -> EntryAnswer:
    try:
        entry = _decode_entry(text)
    except (msgspec.DecodeError, RecursionError):
        raise UnreadableAnswerError(f"entry {index} of the answer is no status, nor an object with one") from None
    status = entry.status if isinstance(entry, _WithStatus) else entry
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status < 600:
        raise UnreadableAnswerError(f"entry {index} of the answer has no status from 200 to 599")
    return EntryAnswer(status, text)
