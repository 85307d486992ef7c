"""Payloads of a record: each kind encoded once, its statement built once at most."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from schemas import Record
from transforms.forwarders import PayloadKind
from transforms.matching.document import encode_payload
from transforms.matching.statement import StatementBuilder

Statement = dict[str, Any]


def encoded(
    record: Record, statement: Statement | None, due: Iterable[tuple[str, PayloadKind]], statements: StatementBuilder
) -> Iterator[tuple[str, bytes]]:
    """(forwarder id, payload) for each of `due`. `statement` is the record's, where matching has built it."""
    payloads: dict[str, bytes] = {}
    for forwarder_id, kind in due:
        payload = payloads.get(kind)
        if payload is None:
            if kind != "record" and statement is None:
                statement = statements.statement(record)
            payload = payloads[kind] = encode_payload(record, kind, partial(_given, statement))
        yield forwarder_id, payload


def _given(statement: Statement | None) -> Statement:
    assert statement is not None
    return statement
