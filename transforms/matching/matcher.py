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
from transforms.reading.originals import Original
from transforms.reading.views import Path
from transforms.statements.passage import original_of
from transforms.storage import StorageError

MOST_CARRIED = 32
"""Of so many forwarders at most the ids are carried with a statement from where it is read. More may be more bytes than
the statement."""


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
        failed_runs: of such a letter: runs in which it has failed though its forwarder took others.
    """

    record: Record
    statement: dict[str, Any] | None
    forwarders: tuple[str, ...]
    undecided: tuple[str, ...]
    stored: StoredPayload | None = None
    is_letter: bool = False
    failed_runs: int = 0


def stored_match(letter: DeadLetter, record: Record, *, is_letter: bool = False) -> Match:
    """The record of a dead letter, due to the forwarder of the letter, with the payload that was sent.

    Args:
        letter: the dead letter.
        record: of the letter.
        is_letter: whether it is tried again by itself. Then it stays as it is, and no other is written, if an outage
            keeps it from being delivered.
    """
    stored = None if letter.payload is None else StoredPayload(letter.payload, letter.payload_kind)
    return Match(record, None, (letter.forwarder_id,), (), stored, is_letter, letter.failed_runs)


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
        self._of_statements: StatementMatcher | None = None

    def match(self, record: Record) -> Match | None:
        """Whom the record is due to; None if it is due to nobody."""
        if record.kind == "statement":
            return self._match_statement(record)
        index, sees_statements = self._derived.get(record.kind) or self._prepare(record.kind)
        statement = self._statements.statement(record) if sees_statements else None
        return _match(record, statement, index.matching(query_document(record, statement)))

    def _match_statement(self, record: Record) -> Match | None:
        if record.due is not None:
            return Match(record, None, record.due, ()) if record.due else None
        if self._of_statements is None:
            self._of_statements = StatementMatcher(self._forwarders)
        matcher = self._of_statements
        try:
            matching = matcher.matching(original_of(record))
        except RecursionError:
            # It is too deep to be read here: nobody can say whose query it matches.
            in_question = [each for each in matcher.forwarders if not_wanted(record, each) is None]
            return Match(record, None, (), _ids(in_question)) if in_question else None
        # It is sent as its text: what was decoded of it is not needed any more.
        return _match(record, None, matching)

    def _prepare(self, kind: Kind) -> tuple[ForwarderIndex[Forwarder], bool]:
        """The index of the forwarders that take a kind, and whether one of their queries looks at the statement."""
        index = self._index(kind)
        self._derived[kind] = index, "statement" in index.fields
        return self._derived[kind]

    def _index(self, kind: Kind) -> ForwarderIndex[Forwarder]:
        takers = _takers(self._forwarders, kind)
        if takers not in self._indexes:
            self._indexes[takers] = ForwarderIndex(takers)
        return self._indexes[takers]


class StatementMatcher:
    """Matches statements against the forwarders that take them. It is an `Onlooker` of what is read.

    Args:
        forwarders: as for `Matcher`.
    """

    def __init__(self, forwarders: Iterable[Forwarder]) -> None:
        self._index = ForwarderIndex(_takers(forwarders, "statement"))
        self._view = StatementView(self._index.paths)

    @property
    def forwarders(self) -> tuple[Forwarder, ...]:
        """Those that take statements."""
        return self._index.forwarders

    @property
    def paths(self) -> frozenset[Path]:
        """What the queries look at in a statement, each as the names on its way."""
        return self._view.paths

    def matching(self, original: Original) -> Matching[Forwarder]:
        """Whom a statement is due to. Raises RecursionError if it is nested deeper than can be read."""
        return self._index.matching(self._view.document(original))

    def look(self, original: Original, statement: dict[str, Any] | None) -> None:
        """Note in a statement whom it is due to, so that `Matcher` need not ask again (`Original.due`).

        That is left to `Matcher` where a query gives up, and where so many match that it would be much to carry.

        Args:
            original: the statement.
            statement: what `paths` lead to in it, which is changed here; None: that was not decoded.
        """
        try:
            matching = self._index.matching(self._view.document(original, statement))
        except RecursionError:
            return
        if not matching.undecided and len(matching) <= MOST_CARRIED:
            original.due = matching.ids


def _takers(forwarders: Iterable[Forwarder], kind: Kind) -> tuple[Forwarder, ...]:
    return tuple(each for each in forwarders if each.kinds is None or kind in each.kinds)


def _match(record: Record, statement: dict[str, Any] | None, matching: Matching[Forwarder]) -> Match | None:
    undecided = matching.undecided
    if not matching and not undecided:
        return None
    return Match(record, statement, matching.ids, _ids(undecided) if undecided else ())


def _ids(forwarders: Iterable[Forwarder]) -> tuple[str, ...]:
    return tuple([forwarder.id for forwarder in forwarders])
