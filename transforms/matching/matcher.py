"""Every record against the query of every forwarder in whose scope it is, without Beam."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas import DeadLetter, Record
from transforms.forwarders import Forwarder, PayloadKind
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import ForwarderIndex


class StoredPayload(NamedTuple):
    """A payload as it was sent before."""

    payload: bytes
    kind: PayloadKind


class Match(NamedTuple):
    """A record and the ids of the forwarders it is due to; `undecided`: a query gave up
    (docs/spec/mongo-query.md section 7).

    Ids, because Beam encodes elements, if only to measure them, and a forwarder holds secrets.
    `statement` is there when matching had to build it; `stored` when what is sent is a dead letter's payload.
    """

    record: Record
    statement: dict[str, Any] | None
    forwarders: tuple[str, ...]
    undecided: tuple[str, ...]
    stored: StoredPayload | None = None


def stored_match(letter: DeadLetter, record: Record) -> Match:
    """A dead letter's record, due to its forwarder, with the payload that was sent."""
    stored = None if letter.payload is None else StoredPayload(letter.payload, letter.payload_kind)
    return Match(record, None, (letter.forwarder_id,), (), stored)


class Matcher:
    """Matches records against forwarders; the pure part of `MatchForwarders`."""

    def __init__(self, forwarders: Iterable[Forwarder], statements: StatementBuilder) -> None:
        self._index: ForwarderIndex[Forwarder] = ForwarderIndex(forwarders)
        self._statement = statements.statement if "statement" in self._index.fields else None

    def match(self, record: Record) -> Match | None:
        """Who the record is due to; None if no one."""
        statement = self._statement(record) if self._statement is not None else None
        found = self._index.matching(query_document(record, statement))
        if not found.matched and not found.undecided:
            return None
        return Match(record, statement, _ids(found.matched), _ids(found.undecided))


def _ids(forwarders: tuple[Forwarder, ...]) -> tuple[str, ...]:
    return tuple([forwarder.id for forwarder in forwarders])
