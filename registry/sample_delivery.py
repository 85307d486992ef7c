"""Trying a forwarder out: which forwarders a record would reach and why, and one sample record on its real way."""

import json
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from registry.documents import FaultyDocumentError
from schemas import Record
from schemas.record import Kind, decode_record
from schemas.times import rfc3339
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Document, Forwarder, Rules, check_document, resolve
from transforms.matching.document import encode_payload, query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import MatchResult, Query, compile_query
from transforms.sinks.base import Item, Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import AiohttpSink
from transforms.sinks.kinesis import StreamLimits
from transforms.sinks.preflight import preflight

JsonObject = dict[str, Any]

AT_ONCE: Final = 4
"""Trials that run at a time: each may wait for a slow receiver."""

REMEMBERED: Final = 20_000
"""Queries that are kept compiled for matching, the latest used: 2 kB each or so, for most."""

_SETTINGS: Final = DeliverySettings(max_backoff=1.0, outage_budget=10.0, grace=1.0)
_STATEMENTS: Final = StatementBuilder()

_SESSION: Final = {
    "session_id": "f4e854f4-3324-4395-beec-1650b522007a",
    "activity_id": "activity_1234567890",
    "user_id": "sample-user",
}
_MESSAGES: Final[dict[Kind, JsonObject]] = {
    "event": {"event": "session-completed", **_SESSION, "time": "2020-02-17 15:11:43"},
    "status": {
        "user_id": _SESSION["user_id"],
        "activity_id": _SESSION["activity_id"],
        "num_attempted": 9,
        "num_questions": 10,
        "session_id": _SESSION["session_id"],
        "session_duration": 8,
        "status": "Completed",
        "dt_started": "2020-02-17T15:03:23Z",
        "dt_completed": "2020-02-17T15:11:43Z",
    },
    "score": {
        "user_id": _SESSION["user_id"],
        "activity_id": _SESSION["activity_id"],
        "session_id": _SESSION["session_id"],
        "score": 9,
        "max_score": 10,
        "subscores": [],
        "status": "Completed",
    },
}


class RecordError(ValueError):
    """What was given is no record. The text says why."""


class BusyError(Exception):
    """As many trials as may run at a time do."""


def sample_record(kind: Kind, organisation: str | None, lrs_id: str | None) -> Record:
    """A record as the contract documents it, of nobody, with a new id: no receiver takes it for a repetition."""
    message = _MESSAGES[kind]
    return Record(
        id=str(uuid.uuid4()),
        kind=kind,
        organisation=organisation,
        lrs_id=lrs_id,
        user_id=message["user_id"],
        timestamp=int(time.time() * 1000),
        record_id="sample",
        place=0,
        message=message,
        body=msgspec.json.encode(message),
        metadata={"sample": True},
    )


def read_record(content: JsonObject, organisation: str) -> Record:
    """The record in `content`: a line of `--write_records jsonl`, or the message alone. Raises RecordError.

    Its organisation is that of who asks: records of others reach none of the forwarders they may see.
    """
    kind = "event" if "event" in content else "status" if "num_attempted" in content else "score"
    envelope: JsonObject = {
        "id": str(uuid.uuid4()),
        "kind": kind,
        "lrs_id": None,
        "timestamp": rfc3339(int(time.time() * 1000)),
        "record_id": "",
        "place": 0,
        "metadata": {},
    }
    try:
        record = decode_record(msgspec.json.encode({**envelope, **content, "organisation": organisation}))
        _STATEMENTS.statement(record)
    except KeyError as error:
        raise RecordError(f"is no record: its message has no {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RecordError(f"is no record: {error}") from None
    return record


class Matcher:
    """Says which forwarders a record would reach. Remembers what it compiled, by what the documents say.

    Safe to use from several threads.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._judged = lru_cache(maxsize=REMEMBERED)(self._judge)

    def matching(self, record: Record, documents: Iterable[JsonObject]) -> list[JsonObject]:
        """For each document whether it would get the record, and what decided. Judged as the job judges.

        `documents` may have redactions for secrets: those have no part in it.
        """
        document = query_document(record, _STATEMENTS.statement(record))
        answers = []
        for content in documents:
            active = content.get("active") is True
            reached, reason = self._reached(content, active, record, document)
            answers.append({"_id": content["_id"], "active": active, "reached": reached, "reason": reason})
        return answers

    def _reached(self, content: JsonObject, active: bool, record: Record, document: JsonObject) -> tuple[bool, str]:
        found = self._judged(json.dumps([content.get(name) for name in _JUDGED]))
        if found.forwarder is None or found.query is None:
            return False, found.problem
        out_of_scope = _out_of_scope(found.forwarder, record)
        # Not by the query's generated function: for a record or two, making it costs more than it saves.
        explanation = found.query.explain(document)
        reason = out_of_scope or str(explanation)
        if not active:
            return False, f"the forwarder is not active; its query: {reason}"
        return out_of_scope is None and explanation.outcome is MatchResult.MATCH, reason

    def _judge(self, judged: str) -> "_Judged":
        """The forwarder that a document is as far as matching goes: where it sends to is left out."""
        given = {name: value for name, value in zip(_JUDGED, json.loads(judged), strict=True) if value is not None}
        bare = {"_id": "matching", "active": True, "configuration": {"url": "matching.invalid"}, **given}
        checked = check_document(Document("the store", bare), self._rules)
        problem = "; ".join(f"{fault.field} {fault.message}" for fault in checked.faults)
        return _Judged(checked.forwarder, checked.query if isinstance(checked.query, Query) else None, problem)


_JUDGED: Final = ("organisation", "lrs_id", "query")


@dataclass(frozen=True, slots=True)
class _Judged:
    """`forwarder` and its `query`; `problem` says why where there is none."""

    forwarder: Forwarder | None
    query: Query | None
    problem: str


def _out_of_scope(forwarder: Forwarder, record: Record) -> str | None:
    for name, wanted, found in (
        ("organisation", forwarder.organisation, record.organisation),
        ("lrs_id", forwarder.lrs_id, record.lrs_id),
    ):
        if wanted is not None and wanted != found:
            return f"not in scope: {name} is {found!r}, the forwarder's is {wanted!r}"
    return None


@dataclass
class Trials:
    """Sends samples. `allow_networks`: CIDRs that HTTP may reach though they are private, as for the job."""

    rules: Rules
    allow_networks: Sequence[str] = ()
    _free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE), repr=False)

    def send(self, document: JsonObject, kind: Kind | None) -> JsonObject:
        """Send one sample through the job's own delivery, one attempt; what became of it.

        document: whole, with its secrets; one that is not active is tried as if it were. kind: of the sample; None:
        one that the query matches, if there is one. Raises FaultyDocumentError, BusyError.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError
        try:
            forwarder = self._forwarder(document)
            limits = self._look_ahead(forwarder)
            record, matches = _chosen(forwarder, kind)
            return {"matches": matches, "receipt": self._deliver(forwarder, record, limits)}
        finally:
            self._free.release()

    def _forwarder(self, document: JsonObject) -> Forwarder:
        checked = check_document(Document("the store", {**document, "active": True}), self.rules)
        if checked.forwarder is None:
            raise FaultyDocumentError(checked.faults, checked.warnings)
        resolution = resolve([checked.forwarder], self.rules.references)
        if resolution.faults:
            raise FaultyDocumentError(resolution.faults)
        # One attempt tells what there is to tell, and somebody is waiting for the answer.
        return replace(resolution.forwarders[0], max_retries=0)

    def _look_ahead(self, forwarder: Forwarder) -> Mapping[str, StreamLimits]:
        found = preflight([forwarder], self.allow_networks)
        if found.faults:
            raise FaultyDocumentError(found.faults)
        return found.limits

    def _deliver(self, forwarder: Forwarder, record: Record, limits: Mapping[str, StreamLimits]) -> JsonObject:
        payload = encode_payload(record, forwarder.payload, lambda: _STATEMENTS.statement(record))
        settled: list[Settlement] = []
        deliveries = DeliveryEngine(
            [forwarder],
            settled.extend,
            _SETTINGS,
            http_sink=partial(AiohttpSink, allow_networks=self.allow_networks),
            batch_sink=batch_sinks(limits),
        )
        try:
            deliveries.submit([Item(forwarder.id, record, payload, forwarder.payload)])
            deliveries.drain()
        finally:
            deliveries.close()
        return _receipt(settled[0], payload)


def _chosen(forwarder: Forwarder, kind: Kind | None) -> tuple[Record, bool]:
    """A sample of the kind, or the first that the query matches, and whether it matches."""
    query = compile_query(forwarder.query)
    kinds: Sequence[Kind] = ("event", "status", "score") if kind is None else (kind,)
    samples = [sample_record(each, forwarder.organisation, forwarder.lrs_id) for each in kinds]
    for sample in samples:
        if query.matches(query_document(sample, _STATEMENTS.statement(sample))):
            return sample, True
    return samples[0], False


def _receipt(settlement: Settlement, payload: bytes) -> JsonObject:
    item, outcome = settlement.item, settlement.outcome
    return {
        "forwarder_id": item.forwarder_id,
        "id": item.record.id,
        "user_id": item.record.user_id,
        "kind": item.record.kind,
        "outcome": "delivered" if settlement.delivered else "dead_lettered",
        "attempts": item.attempts,
        "status": outcome.status,
        "shard": outcome.shard,
        "sequence_number": outcome.sequence_number,
        "ambiguous": item.ambiguous or outcome.ambiguous,
        "first_attempt": _time(item.first_attempt),
        "last_attempt": _time(item.last_attempt),
        "reason": outcome.reason or None,
        "response": outcome.response,
        "payload": payload.decode(),
    }


def _time(epoch_ms: int | None) -> str | None:
    return None if epoch_ms is None else rfc3339(epoch_ms)
