"""A sample record on its real way to one forwarder (`POST /:id/test`): the job's own delivery, in one attempt."""

import io
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import fastavro
import msgspec

from registry.deliveries import NOT_REACHED, shown_reason, shown_receipt
from registry.documents import FaultyDocumentError
from schemas import KINDS, DerivedKind, Kind, Record, avro_schema
from schemas.json_values import JsonObject
from schemas.times import now_ms, rfc3339
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Document, Fault, Forwarder, HttpTarget, Rules, check_document, resolve
from transforms.matching.document import encode_payload, payload_kind, query_document
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query
from transforms.reading.originals import OriginalDecoder
from transforms.receipts.avro_container import plain
from transforms.receipts.encoder import Encoder
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.base import Item, Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.data_streams import StreamLimits
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_origin import SinkError
from transforms.sinks.preflight import look_up, preflight
from transforms.statements.passage import record_of

logger = logging.getLogger(__name__)

SAMPLES_AT_ONCE = 12
"""Samples that are sent at a time. Each may wait for a slow receiver, and holds a thread of the service meanwhile."""

SAMPLES_OF_ONE = 2
"""Samples of one organisation that are sent at a time, so that no organisation takes all places."""

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
    """As many samples are being sent as may be at a time, of one organisation or of all. The text says which."""


class NotReachedError(Exception):
    """A sample did not come as far as a receiver. The text is the same whatever the reason, which the log has."""

    def __init__(self) -> None:
        super().__init__(
            "the receiver was not reached: there is none of this name, it does not answer, or its network is not open "
            "to forwarders; whoever runs the service finds in its log which it is"
        )


class _Places:
    """The samples that are being sent, by organisation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def one(self, organisation: str) -> Iterator[None]:
        """A place as long as the context lasts. Raises BusyError."""
        with self._lock:
            if self._taken[organisation] >= SAMPLES_OF_ONE:
                raise BusyError(f"{SAMPLES_OF_ONE} tests of this organisation are running: try again")
            if self._taken.total() >= SAMPLES_AT_ONCE:
                raise BusyError("as many tests run as may at a time: try again")
            self._taken[organisation] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[organisation] -= 1
                if not self._taken[organisation]:
                    del self._taken[organisation]


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
        self._guard = AddressGuard(allow_networks)
        self._places = _Places()

    def send(self, document: JsonObject, kind: Kind | None) -> JsonObject:
        """Send one sample to the forwarder that a document describes, and wait for what becomes of it.

        Args:
            document: whole, with its secrets. A forwarder that is not active is sent the sample too.
            kind: of the sample; None: one that the query matches, if there is one.

        Returns:
            `matches`: whether the query matches the sample. `receipt`: its receipt, and the `payload` that was sent.

        Raises:
            FaultyDocumentError: the job would refuse the document, or its stream.
            NotReachedError: there is no receiver, or it may not be reached. The error does not say which: that would
                tell what names and addresses there are inside.
            BusyError: as many samples are being sent already as may be.
        """
        with self._places.one(str(document.get("organisation"))):
            forwarder = self._forwarder(document)
            is_inside, limits = self._look_ahead(forwarder)
            record, matches = self._choose(forwarder, kind)
            return {"matches": matches, "receipt": self._deliver(forwarder, record, limits, is_inside)}

    def _forwarder(self, document: JsonObject) -> Forwarder:
        checked = check_document(Document("the store", {**document, "active": True}), self._rules)
        if checked.forwarder is None:
            raise FaultyDocumentError(checked.faults, checked.warnings)
        resolution = resolve([checked.forwarder], self._rules.references)
        if resolution.faults:
            raise FaultyDocumentError(resolution.faults)
        # One attempt says what there is to say, and somebody is waiting for the answer.
        return replace(resolution.forwarders[0], max_retries=0)

    def _look_ahead(self, forwarder: Forwarder) -> tuple[bool, Mapping[str, StreamLimits]]:
        """What the job asks before it sends: may the address be dialled, is the stream there, what are its limits?

        Returns:
            Whether the receiver is at an address that may be dialled by `--allow_network` alone; and the limits.
        """
        is_inside = False
        if isinstance(forwarder.target, HttpTarget):
            try:
                host = look_up(forwarder.target, self._guard)
            except SinkError as error:
                raise FaultyDocumentError([Fault(forwarder.id, "the test", "", str(error))]) from None
            if len(host.refused) == len(host.addresses):
                raise _not_reached(forwarder.id, ", ".join(host.refused) or f"{forwarder.target.host} does not resolve")
            is_inside = any(map(AddressGuard().refusal, host.addresses))
        checked = preflight([forwarder], self._allow_networks)
        if any(fault.field in _ADDRESSES for fault in checked.faults):
            raise _not_reached(forwarder.id, "; ".join(fault.message for fault in checked.faults))
        if checked.faults:
            raise FaultyDocumentError(checked.faults)
        return is_inside, checked.limits

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

    def _deliver(
        self, forwarder: Forwarder, record: Record, limits: Mapping[str, StreamLimits], is_inside: bool
    ) -> JsonObject:
        kind = payload_kind(record, forwarder.payload)
        payload = encode_payload(record, kind, lambda: self._statements.statement(record))
        settled: list[Settlement] = []
        engine = DeliveryEngine(
            [forwarder],
            settled.extend,
            _SETTINGS,
            http_sink=partial(post_sink, client=HttpClient(self._allow_networks)),
            batch_sink=batch_sinks(limits),
        )
        try:
            engine.submit([Item(forwarder.id, record, payload, kind)])
            engine.drain()
        finally:
            engine.close()
        receipt = _receipt(settled[0])
        if receipt["status"] is None and shown_reason(receipt["reason"], is_inside) == NOT_REACHED:
            raise _not_reached(forwarder.id, receipt["reason"])
        return {**receipt, "payload": payload.decode()}


_ADDRESSES = ("configuration.url", "configuration.tokenUrl")


def _not_reached(forwarder_id: str, why: str) -> NotReachedError:
    """The one answer of a sample that reached nobody; `why` goes to the operator's log."""
    logger.warning("the test of forwarder %s reached nobody: %s", forwarder_id, why)
    return NotReachedError()


def _receipt(settlement: Settlement) -> JsonObject:
    """What a run would write of the settlement, read back as `GET /:id/deliveries` reads it."""
    encoder = Encoder(RUN_ID)
    (receipt,) = encoder.receipts([settlement], now_ms())
    row = encoder.dead_letter(settlement, receipt)
    schema = plain(avro_schema("dead_letter"))
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(row), schema, None)
    return shown_receipt({**decoded, "reason": decoded["reason"] or None})
