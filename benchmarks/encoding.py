"""Payloads of a record: each kind encoded once, its statement built once at most, and only if a payload holds it."""

from collections.abc import Iterable, Iterator
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

    def built() -> Statement:
        nonlocal statement
        if statement is None:
            statement = statements.statement(record)
        return statement

    payloads: dict[str, bytes] = {}
    for forwarder_id, kind in due:
        payload = payloads.get(kind)
        if payload is None:
            payload = payloads[kind] = encode_payload(record, kind, built)
        yield forwarder_id, payload
