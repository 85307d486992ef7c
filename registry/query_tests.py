"""A query tried before it is a forwarder's: what its clauses say of a record, what can never match, how many would."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from registry.matching import MatchPreview, RecordError
from registry.sample_delivery import sample_record
from schemas import KINDS, Kind, Record
from schemas.json_values import JsonObject
from schemas.query_document import EVENTS, QUERY_FIELDS, STATEMENT_FIELDS, QueryField
from schemas.record import encode_record
from schemas.times import rfc3339
from transforms.forwarders import Document, Fault, Forwarder, Rules, check_document
from transforms.matching.document import query_document
from transforms.matching.explanation import Decision, decide
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import MatchResult, Query
from transforms.query.clauses import JudgedClause, judged_clauses

COUNTING = 2.0
"""Seconds that one count may take. A pattern that costs much may not stop the service."""


class Asked(NamedTuple):
    """What decides who gets a record: the fields of a forwarder document apart from `active` and the organisation.

    Attributes:
        query: a text in JSON, an object, or None.
        kinds: as a document has them; None: all derived ones.
        lrs_id: the store; None: any.
    """

    query: Any
    kinds: Any = None
    lrs_id: Any = None


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A query after the job's rules.

    Attributes:
        forwarder: that has it; None if it breaks a rule.
        query: compiled.
        faults: the rules that it breaks.
        warnings: what can never match, and what else is probably not meant.
    """

    forwarder: Forwarder | None
    query: Query | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


class JudgedRecord(NamedTuple):
    """What a query says of a record.

    Attributes:
        decision: whether the record is due, and what decided: the kind, the scope, or a clause.
        clauses: what each clause says, whether the record is in scope or not; None if the record is nested too deeply.
    """

    decision: Decision
    clauses: JudgedClause | None


class Tally(NamedTuple):
    """How many records were looked at, and how many of them matched, by kind. Every kind of a record is in both."""

    looked_at: Counter[Kind]
    matched: Counter[Kind]
    is_complete: bool


class QueryTests:
    """Tries queries. Safe to use from several threads.

    Everything is judged as the job does, by `transforms.matching` and the rules of documents.

    Args:
        rules: the job's rules for documents from a service.
        statements: builds the statements that queries look at.
        matcher: reads records that a client gives.
        clock: gives seconds; monotonic.
    """

    def __init__(
        self,
        rules: Rules,
        statements: StatementBuilder,
        matcher: MatchPreview,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._statements = statements
        self._matcher = matcher
        self._clock = clock

    def check(self, asked: Asked, organisation: str) -> CheckedQuery:
        """Judge a query by the rules of a forwarder document that has it."""
        fields = {"query": asked.query, "kinds": asked.kinds, "lrs_id": asked.lrs_id, "organisation": organisation}
        known = {name: value for name, value in fields.items() if value is not None}
        document = {"_id": "tester", "active": True, "configuration": {"url": "tester.invalid"}, **known}
        checked = check_document(Document("the tester", document), self._rules)
        query = checked.query if isinstance(checked.query, Query) else None
        forwarder = checked.forwarder if query is not None else None
        return CheckedQuery(forwarder, query, _about(checked.faults), _about(checked.warnings))

    def judge(self, query: Query, forwarder: Forwarder, record: Record) -> JudgedRecord:
        """What a query says of a record, clause by clause."""
        document = self._document(record)
        try:
            clauses = judged_clauses(query, document)
        except RecursionError:
            clauses = None
        return JudgedRecord(decide(record, forwarder, query, document), clauses)

    def count(self, query: Query, forwarder: Forwarder, records: Iterable[Record]) -> Tally:
        """How many of some records are due to a forwarder, within `COUNTING` seconds."""
        deadline = self._clock() + COUNTING
        tally = Tally(Counter(), Counter(), True)
        for record in records:
            if self._clock() >= deadline:
                return tally._replace(is_complete=False)
            tally.looked_at[record.kind] += 1
            is_due = not_wanted(record, forwarder) is None and (
                query.evaluate(self._document(record)) is MatchResult.MATCH
            )
            tally.matched[record.kind] += is_due
        return tally

    def read_record(self, text: str, organisation: str) -> Record:
        """The record that a client has written. Raises RecordError, which says what is wrong."""
        try:
            content = msgspec.json.decode(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"is no JSON: {error}") from None
        if not isinstance(content, dict):
            raise RecordError("is no JSON object")
        return self._matcher.read_record(content, organisation, text.encode())

    def _document(self, record: Record) -> JsonObject:
        return query_document(record, self._statements.statement(record))


def _about(found: Iterable[Fault]) -> tuple[Fault, ...]:
    """What was found in the fields that are tried. The rest of the document is nobody's."""
    return tuple(fault for fault in found if fault.field.partition(".")[0] in ("query", "kinds", "lrs_id"))


class SampleRecord(NamedTuple):
    """A record to try a query on.

    Attributes:
        name: for people.
        kind: of the record.
        text: a line of `--write_records jsonl`, laid out for reading.
    """

    name: str
    kind: Kind
    text: str


def sample_records(organisation: str) -> list[SampleRecord]:
    """A made-up record of each kind, and of each event."""
    samples = []
    for kind in KINDS:
        record = sample_record(kind, organisation, None)
        if kind != "event":
            samples.append(SampleRecord(kind, kind, readable(record)))
            continue
        for event in EVENTS:
            message = {**record.message, "event": event}
            body = msgspec.json.encode(message)
            samples.append(
                SampleRecord(event, kind, readable(msgspec.structs.replace(record, message=message, body=body)))
            )
    return samples


def readable(record: Record) -> str:
    """A record as its line of `--write_records jsonl`, laid out for reading."""
    line = encode_record(record)
    try:
        return json.dumps(json.loads(line), ensure_ascii=False, indent=2, allow_nan=False)
    except (ValueError, RecursionError):
        return line.decode()  # a number that Python writes otherwise


def told(record: Record) -> str:
    """What a record is, in a few words for people."""
    what = record.message.get("event", record.kind)
    return f"{what} of {record.user_id}, {rfc3339(record.timestamp)}"


def query_fields() -> list[JsonObject]:
    """What a query may ask for, as the tester's form lists it."""
    fields: dict[str, JsonObject] = {}
    for field in (*QUERY_FIELDS, *STATEMENT_FIELDS):
        shown = fields.setdefault(field.name, {"name": field.name, **_shown(field)})
        shown["kinds"] += [kind for kind in _kinds(field) if kind not in shown["kinds"]]
        shown["values"] += [value for value in _values(field) if value not in shown["values"]]
    return list(fields.values())


def _shown(field: QueryField) -> JsonObject:
    return {"type": field.type, "meaning": field.meaning, "kinds": [], "values": []}


def _kinds(field: QueryField) -> list[str]:
    return list(dict.fromkeys("event" if shape in EVENTS else shape for shape in field.shapes))


def _values(field: QueryField) -> list[str | bool | int]:
    """The values that a field can have, where they are few."""
    listed: Mapping[Any, tuple[str | bool | int, ...]] = field.values
    if any(shape not in listed for shape in field.shapes):
        return []
    return [value for values in listed.values() for value in values]
