"""A sample record on its real way to one forwarder (`POST /:id/test`): the job's own delivery, in one attempt."""

import io
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import fastavro
import msgspec

from registry.deliveries import shown_receipt
from registry.documents import FaultyDocumentError
from schemas import KINDS, DerivedKind, Kind, Record, avro_schema
from schemas.json_values import JsonObject
from schemas.times import now_ms, rfc3339
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Document, Forwarder, Rules, check_document, resolve
from transforms.matching.document import encode_payload, payload_kind, query_document
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query
from transforms.reading.originals import OriginalDecoder
from transforms.receipts.avro_container import plain
from transforms.receipts.encoder import Encoder
from transforms.sinks.base import Item, Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import AiohttpSink
from transforms.sinks.kinesis import StreamLimits
from transforms.sinks.preflight import preflight
from transforms.statements.passage import record_of

SAMPLES_AT_ONCE = 4
"""Samples that are sent at a time. Each may wait for a slow receiver, and holds a thread of the service meanwhile."""

RUN_ID = "sample"
"""What stands for the run in a sample's receipt."""

# Somebody waits for the answer: a receiver that does not answer is given up after 10 s.
_SETTINGS = DeliverySettings(max_backoff=1.0, outage_budget=10.0, grace=1.0)

_SESSION = {
    "session_id": "f4e854f4-3324-4395-beec-1650b522007a",
    "activity_id": "activity_1234567890",
    "user_id": "sample-user",
}
_MESSAGES: dict[DerivedKind, JsonObject] = {
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


class BusyError(Exception):
    """As many samples are being sent as may be at a time."""


def sample_record(kind: Kind, organisation: str | None, lrs_id: str | None) -> Record:
    """A made-up record with a new id, so that no receiver takes it for a repetition."""
    if kind == "statement":
        return _sample_statement(organisation, lrs_id)
    message = _MESSAGES[kind]
    return Record(
        id=str(uuid.uuid4()),
        kind=kind,
        organisation=organisation,
        lrs_id=lrs_id,
        user_id=message["user_id"],
        timestamp=now_ms(),
        record_id="sample",
        place=0,
        message=message,
        body=msgspec.json.encode(message),
        metadata={"sample": True},
    )


def _sample_statement(organisation: str | None, lrs_id: str | None) -> Record:
    statement = {
        "id": str(uuid.uuid4()),
        "actor": {"account": {"homePage": "https://learner.invalid", "name": _SESSION["user_id"]}},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/completed", "display": {"en": "completed"}},
        "object": {"id": f"https://learner.invalid/activities/{_SESSION['activity_id']}"},
        "result": {"completion": True},
        "timestamp": rfc3339(now_ms()),
    }
    user_id, original = OriginalDecoder(organisation, lrs_id).read(msgspec.json.encode(statement))
    return record_of(user_id, original)


class SampleDelivery:
    """Sends samples. Safe to use from several threads.

    Args:
        rules: the job's rules for documents from a service.
        statements: builds the statements that queries look at and forwarders are sent.
        allow_networks: CIDRs that HTTP may reach though they are private, as the job's `--allow_network`.
    """

    def __init__(self, rules: Rules, statements: StatementBuilder, allow_networks: Sequence[str] = ()) -> None:
        self._rules = rules
        self._statements = statements
        self._allow_networks = allow_networks
        self._free = threading.Semaphore(SAMPLES_AT_ONCE)

    def send(self, document: JsonObject, kind: Kind | None) -> JsonObject:
        """Send one sample to the forwarder that a document describes, and wait for what becomes of it.

        Args:
            document: whole, with its secrets. A forwarder that is not active is sent the sample too.
            kind: of the sample; None: one that the query matches, if there is one.

        Returns:
            `matches`: whether the query matches the sample. `receipt`: its receipt, and the `payload` that was sent.

        Raises:
            FaultyDocumentError: the job would refuse the document, or cannot reach its target.
            BusyError: `SAMPLES_AT_ONCE` samples are being sent already.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError
        try:
            forwarder = self._forwarder(document)
            limits = self._look_ahead(forwarder)
            record, matches = self._choose(forwarder, kind)
            return {"matches": matches, "receipt": self._deliver(forwarder, record, limits)}
        finally:
            self._free.release()

    def _forwarder(self, document: JsonObject) -> Forwarder:
        checked = check_document(Document("the store", {**document, "active": True}), self._rules)
        if checked.forwarder is None:
            raise FaultyDocumentError(checked.faults, checked.warnings)
        resolution = resolve([checked.forwarder], self._rules.references)
        if resolution.faults:
            raise FaultyDocumentError(resolution.faults)
        # One attempt says what there is to say, and somebody is waiting for the answer.
        return replace(resolution.forwarders[0], max_retries=0)

    def _look_ahead(self, forwarder: Forwarder) -> Mapping[str, StreamLimits]:
        """What the job asks before it sends: may the address be dialled, is the stream there, what are its limits?"""
        checked = preflight([forwarder], self._allow_networks)
        if checked.faults:
            raise FaultyDocumentError(checked.faults)
        return checked.limits

    def _choose(self, forwarder: Forwarder, kind: Kind | None) -> tuple[Record, bool]:
        """A sample of the kind, or the first of any kind that the query matches; and whether it does."""
        query = compile_query(forwarder.query)
        kinds = (forwarder.kinds or KINDS) if kind is None else (kind,)
        samples = [sample_record(kind, forwarder.organisation, forwarder.lrs_id) for kind in kinds]
        for sample in samples:
            document = query_document(sample, self._statements.statement(sample))
            if not_wanted(sample, forwarder) is None and query.matches(document):
                return sample, True
        return samples[0], False

    def _deliver(self, forwarder: Forwarder, record: Record, limits: Mapping[str, StreamLimits]) -> JsonObject:
        kind = payload_kind(record, forwarder.payload)
        payload = encode_payload(record, kind, lambda: self._statements.statement(record))
        settled: list[Settlement] = []
        engine = DeliveryEngine(
            [forwarder],
            settled.extend,
            _SETTINGS,
            http_sink=partial(AiohttpSink, allow_networks=self._allow_networks),
            batch_sink=batch_sinks(limits),
        )
        try:
            engine.submit([Item(forwarder.id, record, payload, kind)])
            engine.drain()
        finally:
            engine.close()
        return {**_receipt(settled[0]), "payload": payload.decode()}


def _receipt(settlement: Settlement) -> JsonObject:
    """What a run would write of the settlement, read back as `GET /:id/deliveries` reads it."""
    row = Encoder(RUN_ID).dead_letter(settlement, now_ms())
    schema = plain(avro_schema("dead_letter"))
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(row), schema, None)
    return shown_receipt({**decoded, "reason": decoded["reason"] or None})
