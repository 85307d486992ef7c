"""Matches records against the queries of all forwarders in whose scope they are."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from schemas import DeadLetter, Kind, Record
from transforms.forwarders import Forwarder, PayloadKind
from transforms.matching.document import query_document
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.matching.view import StatementView
from transforms.query import ForwarderIndex, Matching
from transforms.storage import StorageError


class StoredPayload(NamedTuple):
    """A payload as it was sent before."""

    payload: bytes
    kind: PayloadKind


class Match(msgspec.Struct, frozen=True, gc=False):
    """A record, and the forwarders that it is due to. Steps share it, so it is never changed.

    Forwarders are given by their ids, since Beam encodes elements, if only to measure them, and a forwarder holds
    secrets.

    Attributes:
        record: the record.
        statement: its statement, if matching had to build it. None where the record is a statement: that is its body.
        forwarders: ids of those whose query matches.
        undecided: ids of those whose query gave up (docs/spec/mongo-query.md section 7).
        stored: the payload of a dead letter, if that is what is sent.
        is_letter: whether it is of an open dead letter that is tried again by itself (`--catch_up`).
    """

    record: Record
    statement: dict[str, Any] | None
    forwarders: tuple[str, ...]
    undecided: tuple[str, ...]
    stored: StoredPayload | None = None
    is_letter: bool = False


def stored_match(letter: DeadLetter, record: Record, *, is_letter: bool = False) -> Match:
    """The record of a dead letter, due to the forwarder of the letter, with the payload that was sent.

    Args:
        letter: the dead letter.
        record: of the letter.
        is_letter: whether it is tried again by itself. Then it stays as it is, and no other is written, if an outage
            keeps it from being delivered.
    """
    stored = None if letter.payload is None else StoredPayload(letter.payload, letter.payload_kind)
    return Match(record, None, (letter.forwarder_id,), (), stored, is_letter)


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
        self._forwarders = tuple(forwarders)
        self._statements = statements
        every: ForwarderIndex[Forwarder] = ForwarderIndex(self._forwarders)
        self._indexes: dict[tuple[Forwarder, ...], ForwarderIndex[Forwarder]] = {self._forwarders: every}
        self._derived: dict[Kind, tuple[ForwarderIndex[Forwarder], bool]] = {}
        self._of_statements: tuple[ForwarderIndex[Forwarder], StatementView] | None = None

    def match(self, record: Record) -> Match | None:
        """Whom the record is due to; None if it is due to nobody."""
        if record.kind == "statement":
            return self._match_statement(record)
        index, sees_statements = self._derived.get(record.kind) or self._prepare(record.kind)
        statement = self._statements.statement(record) if sees_statements else None
        return _match(record, statement, index.matching(query_document(record, statement)))

    def _match_statement(self, record: Record) -> Match | None:
        if self._of_statements is None:
            index = self._index("statement")
            self._of_statements = index, StatementView(index.paths)
        index, view = self._of_statements
        try:
            document = view.document(record)
        except RecursionError:
            # It is too deep to be read here: nobody can say whose query it matches.
            in_question = [each for each in index.forwarders if not_wanted(record, each) is None]
            return Match(record, None, (), _ids(in_question)) if in_question else None
        # It is sent as its text: what was decoded of it is not needed any more.
        return _match(record, None, index.matching(document))

    def _prepare(self, kind: Kind) -> tuple[ForwarderIndex[Forwarder], bool]:
        """The index of the forwarders that take a kind, and whether one of their queries looks at the statement."""
        index = self._index(kind)
        self._derived[kind] = index, "statement" in index.fields
        return self._derived[kind]

    def _index(self, kind: Kind) -> ForwarderIndex[Forwarder]:
        takers = tuple(each for each in self._forwarders if each.kinds is None or kind in each.kinds)
        if takers not in self._indexes:
            self._indexes[takers] = ForwarderIndex(takers)
        return self._indexes[takers]


def _match(record: Record, statement: dict[str, Any] | None, matching: Matching[Forwarder]) -> Match | None:
    undecided = matching.undecided
    if not matching and not undecided:
        return None
    return Match(record, statement, matching.ids, _ids(undecided) if undecided else ())


def _ids(forwarders: Iterable[Forwarder]) -> tuple[str, ...]:
    return tuple([forwarder.id for forwarder in forwarders])
