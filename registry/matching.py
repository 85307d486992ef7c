"""Which forwarders a record would reach, and why (`POST /match`), without sending anything."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from schemas import Record
from schemas.json_values import JsonObject
from schemas.record import decode_record
from schemas.times import now_ms, rfc3339
from transforms.forwarders import Document, Forwarder, Rules, check_document
from transforms.forwarders.values import INVALID
from transforms.matching.document import query_document
from transforms.matching.explanation import decide
from transforms.matching.statement import StatementBuilder
from transforms.query import Query
from transforms.reading.originals import OriginalDecoder
from transforms.statements.passage import record_of

COMPILED_QUERIES = 20_000
"""Queries that are kept compiled, those used last. Most take about 2 kB of memory."""

_DECIDING = ("organisation", "lrs_id", "kinds", "query")
"""The fields of a document that decide who gets a record, apart from `active`."""


# Of a statement that is only asked about no time is asked.
_STATEMENTS = OriginalDecoder(include_voided=True, stored_now=True)


class RecordError(ValueError):
    """What was given is no record. The text says why."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A document as far as matching goes; where there is no forwarder, `problem` says why."""

    forwarder: Forwarder | None
    query: Query | None
    problem: str


class MatchPreview:
    """Says which forwarders a record would reach. Safe to use from several threads.

    The answers are those of a job that is given the same `--actor_home_page` and `--session_duration_unit`: both build
    statements with a `StatementBuilder`, and both decide by `transforms.matching`.

    Args:
        rules: the job's rules for documents from a service.
        statements: builds the statement that queries over `statement` look at.
    """

    def __init__(self, rules: Rules, statements: StatementBuilder) -> None:
        self._rules = rules
        self._statements = statements
        self._compiled = lru_cache(maxsize=COMPILED_QUERIES)(self._compile)

    def read_record(self, content: JsonObject, organisation: str, text: bytes) -> Record:
        """The record that a client gives.

        Args:
            content: a line of `--write_records jsonl`, or a message alone; or an xAPI statement, alone or in a document
                of Learning Locker.
            text: what `content` was read from.
            organisation: the client's. The record becomes one of this organisation: those of others reach none of the
                forwarders that the client may see.

        Raises:
            RecordError: `content` is none of these.
        """
        if content.get("kind") == "statement" or "verb" in content or "statement" in content:
            return self._read_statement(content, organisation, text)
        kind = "event" if "event" in content else "status" if "num_attempted" in content else "score"
        envelope: JsonObject = {
            "id": str(uuid.uuid4()),
            "kind": kind,
            "lrs_id": None,
            "timestamp": rfc3339(now_ms()),
            "record_id": "",
            "place": 0,
            "metadata": {},
        }
        try:
            record = decode_record(msgspec.json.encode({**envelope, **content, "organisation": organisation}))
            self._statements.statement(record)
        except KeyError as error:
            raise RecordError(f"is no record: its message has no {error.args[0]}") from None
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"is no record: {error}") from None
        return record

    def _read_statement(self, content: JsonObject, organisation: str, text: bytes) -> Record:
        try:
            is_line = content.get("kind") == "statement"
            record = decode_record(text) if is_line else record_of(*_STATEMENTS.read(text))
            self._statements.statement(record)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"is no record: {error}") from None
        return msgspec.structs.replace(record, organisation=organisation)

    def matching(self, record: Record, documents: Iterable[JsonObject]) -> list[JsonObject]:
        """For each forwarder document: whether the record would reach it, and what decided.

        Args:
            record: as `read_record` gives it.
            documents: in any state; redactions may stand for their secrets, which have no part in matching.

        Returns:
            `{"_id", "active", "reached", "reason"}` for each document, in their order.
        """
        query_subject = query_document(record, self._statements.statement(record))
        answers = []
        for document in documents:
            active = document.get("active") is True
            reached, reason = self._reached(document, active, record, query_subject)
            answers.append({"_id": document["_id"], "active": active, "reached": reached, "reason": reason})
        return answers

    def _reached(
        self, document: JsonObject, active: bool, record: Record, query_subject: JsonObject
    ) -> tuple[bool, str]:
        if (problem := document.get(INVALID)) is not None:
            return False, f"the document is invalid: {problem}"
        compiled = self._compiled(json.dumps([document.get(name) for name in _DECIDING]))
        if compiled.forwarder is None or compiled.query is None:
            return False, compiled.problem
        decision = decide(record, compiled.forwarder, compiled.query, query_subject)
        if not active:
            return False, f"the forwarder is not active; its query: {decision.reason}"
        return decision.is_due, decision.reason

    def _compile(self, deciding: str) -> _Compiled:
        """The forwarder of a document of which only the deciding fields are known, as JSON."""
        values = {name: value for name, value in zip(_DECIDING, json.loads(deciding), strict=True) if value is not None}
        document = {"_id": "matching", "active": True, "configuration": {"url": "matching.invalid"}, **values}
        checked = check_document(Document("the store", document), self._rules)
        problem = "; ".join(f"{fault.field} {fault.message}" for fault in checked.faults)
        return _Compiled(checked.forwarder, checked.query if isinstance(checked.query, Query) else None, problem)
