"""Matches records against the queries of all forwarders in whose scope they are."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas import DeadLetter, Record
from transforms.forwarders import Forwarder, PayloadKind
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import ForwarderIndex
from transforms.storage import StorageError


class StoredPayload(NamedTuple):
    """A payload as it was sent before."""

    payload: bytes
    kind: PayloadKind


class Match(NamedTuple):
    """A record, and the forwarders that it is due to.

    Forwarders are given by their ids, since Beam encodes elements, if only to measure them, and a forwarder holds
    secrets.

    Attributes:
        record: the record.
        statement: its statement, if matching had to build it.
        forwarders: ids of those whose query matches.
        undecided: ids of those whose query gave up (docs/spec/mongo-query.md section 7).
        stored: the payload of a dead letter, if that is what is sent.
    """

    record: Record
    statement: dict[str, Any] | None
    forwarders: tuple[str, ...]
    undecided: tuple[str, ...]
    stored: StoredPayload | None = None


def stored_match(letter: DeadLetter, record: Record) -> Match:
    """The record of a dead letter, due to the forwarder of the letter, with the payload that was sent."""
    stored = None if letter.payload is None else StoredPayload(letter.payload, letter.payload_kind)
    return Match(record, None, (letter.forwarder_id,), (), stored)


def stored_document(letter: DeadLetter, record: Record, statements: StatementBuilder) -> dict[str, Any]:
    """What a query sees of the record of a dead letter.

    Raises:
        StorageError: the record lacks what every record has, so the letter is not as it was written.
    """
    try:
        return query_document(record, statements.statement(record))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"the dead letter of {letter.id} to {letter.forwarder_id} is damaged: restore dead_letters/{letter.run_id}"
            "-* from a backup, or move that part away; then its dead letters are not sent again"
        ) from error


class Matcher:
    """Matches records against forwarders. `MatchForwarders` is the step around it.

    Args:
        forwarders: active and valid.
        statements: builds the statements that a query or a payload needs.

    Raises:
        QueryError: the query of a forwarder cannot be used.
    """

    def __init__(self, forwarders: Iterable[Forwarder], statements: StatementBuilder) -> None:
        self._index: ForwarderIndex[Forwarder] = ForwarderIndex(forwarders)
        self._statement = statements.statement if "statement" in self._index.fields else None

    def match(self, record: Record) -> Match | None:
        """Whom the record is due to; None if it is due to nobody."""
        statement = self._statement(record) if self._statement is not None else None
        matching = self._index.matching(query_document(record, statement))
        if not matching.matched and not matching.undecided:
            return None
        return Match(record, statement, _ids(matching.matched), _ids(matching.undecided))


def _ids(forwarders: tuple[Forwarder, ...]) -> tuple[str, ...]:
    return tuple([forwarder.id for forwarder in forwarders])
