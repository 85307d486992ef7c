"""Delivery over HTTP of many records a request (docs/spec/forwarders.md section 2, *Batches*)."""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec

from transforms.forwarders import Forwarder
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.batches import (
    ANSWER_READ,
    AROUND,
    CONTENT_TYPES,
    SEPARATOR,
    UnreadableAnswerError,
    batch_id,
    entry_answers,
    joined,
)
from transforms.sinks.http import MOST_HOPS, RETRIED, TOO_MANY_HOPS, PostSink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_exchange import Answer, Request
from transforms.sinks.statement_requests import StatementRequest

logger = logging.getLogger(__name__)

REFUSED_IN_A_ROW = 20
"""Single records in a row that are refused, before any array is taken: then the receiver does not know arrays."""

_OF_THE_FORWARDER = frozenset((401, 403, 404, 405, 410, 415))
"""Statuses that speak of the forwarder and not of a record. So do 3xx, and those of 5xx that are not retried."""

_TOO_LARGE = 413


def post_sink(forwarder: Forwarder, client: HttpClient, **options: Any) -> PostSink:
    """The sink of an HTTP forwarder: a BatchPostSink if its document asks for batches.

    Args:
        forwarder: a resolved one whose target is HTTP.
        client: carries its requests.
        options: of `PostSink`.
    """
    is_batch = getattr(forwarder.target, "batch", None) is not None
    return (BatchPostSink if is_batch else PostSink)(forwarder, client, **options)


class BatchPostSink(PostSink):
    """Sends many records a request. What a request may hold changes with what its receiver turns out to take.

    Args:
        forwarder: a resolved one whose target is HTTP, with `batch`.
        client: carries its requests.
        options: of `PostSink`.

    Attributes:
        max_items: records that a request may hold. It becomes 1 when the receiver does not know arrays.
        max_bytes: bytes that the sizes of a request's records may add up to. A 413 halves it.
        is_atomic: whether the receiver takes all records of a request or none.
    """

    def __init__(self, forwarder: Forwarder, client: HttpClient, **options: Any) -> None:
        super().__init__(forwarder, client, **options)
        if self._target.batch is None:
            raise TypeError(f"forwarder {forwarder.id} has no batch")
        self._batch = self._target.batch
        self.max_items = self._batch.records
        self.max_bytes = self._batch.bytes - AROUND
        self.is_atomic = self._batch.outcome == "all_or_nothing"
        content_type = {"Content-Type": CONTENT_TYPES[self._batch.format]}
        self._common = ({**self._headers, **content_type}, {**self._statement_headers, **content_type})
        # Whether the receiver takes arrays; None while nothing is known.
        self._knows_arrays: bool | None = None
        self._refused_in_a_row = 0

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a body."""
        return len(item.payload) + SEPARATOR

    def group(self, item: Item) -> Hashable:
        """What the headers of a request, and the meaning of its answer, hang on."""
        return item.hops, item.payload_kind, item.record.kind == "statement"

    async def send_batch(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one attempt at items of one group; one outcome for each, or SPLIT for all of them."""
        if items[0].hops >= MOST_HOPS:
            return [TOO_MANY_HOPS] * len(items)
        if self._knows_arrays is False:
            return [await self.send(items[0])] if len(items) == 1 else _split(AttemptResult(Verdict.SPLIT), items)
        requests: list[StatementRequest | None] = [None] * len(items)
        payloads: Sequence[bytes] = [item.payload for item in items]
        if items[0].payload_kind == items[0].record.kind == "statement":
            made = await self._as_they_are(payloads)
            if isinstance(made, AttemptResult):
                # It ends without a request. Those behind it wait until that is durable.
                return [made] if len(items) == 1 else _split(AttemptResult(Verdict.SPLIT), items)
            requests, payloads = list(made), [each.statement for each in made]
        answer = await self._exchange(await self._batch_request(items, payloads))
        if isinstance(answer, AttemptResult):
            return [answer] * len(items)
        outcomes = await self._outcomes(items, requests, answer)
        if answer.resent:
            outcomes = _each(outcomes, lambda outcome: msgspec.structs.replace(outcome, ambiguous=True))
        return [
            msgspec.structs.replace(outcome, remarks=(*outcome.remarks, *made.remarks))
            if made is not None and made.remarks and outcome.verdict is Verdict.DELIVERED
            else outcome
            for outcome, made in zip(outcomes, requests, strict=True)
        ]

    async def _as_they_are(self, statements: Sequence[bytes]) -> list[StatementRequest] | AttemptResult:
        """The requests for statements that are forwarded as they are, or what becomes of the first without one."""
        requests = []
        for statement in statements:
            made = await self._statements.request(statement)
            if isinstance(made, AttemptResult):
                return made
            requests.append(made)
        return requests

    async def _batch_request(self, items: Sequence[Item], payloads: Sequence[bytes]) -> Request:
        body = await self._encoded(joined(payloads, self._batch.format))
        own = self._own_headers(items[0], batch_id([item.record.id for item in items]), body)
        common = self._common[items[0].payload_kind == "statement"]
        return Request(self._url, {**own, **self._encoding}, body, most=ANSWER_READ, common=common)

    async def _outcomes(
        self, items: Sequence[Item], requests: Sequence[StatementRequest | None], answer: Answer
    ) -> list[AttemptResult]:
        status = answer.status
        if 200 <= status < 300:
            self._knows_arrays = True
            if self.is_atomic or status not in (200, 207):
                return [AttemptResult(Verdict.DELIVERED, status=status)] * len(items)
            return await self._outcomes_of_each(items, requests, answer)
        judged = self._judged(items[0], answer)
        if status in RETRIED:
            return [judged] * len(items)
        if status in _OF_THE_FORWARDER or status < 400 or status >= 500:
            waits = msgspec.structs.replace(
                judged, verdict=Verdict.RETRY, spends_attempt=False, failure=True, opens_breaker=True
            )
            return [waits] * len(items)
        if len(items) > 1:
            if status == _TOO_LARGE:
                self._learn(sum(map(self.size, items)))
            return _split(AttemptResult(Verdict.SPLIT, f"http_{status}", status=status), items)
        if self._knows_arrays is None and status != _TOO_LARGE:
            return [await self._alone(items[0])]
        made = requests[0]
        return [judged if made is None else await self._compared(made, judged)]

    async def _alone(self, item: Item) -> AttemptResult:
        """Send a record as it is that was refused in an array, where no array was ever taken."""
        outcome = await self.send(item)
        if outcome.verdict is Verdict.DELIVERED:
            self._forget_arrays("takes a record that it has refused in an array")
        elif outcome.verdict is Verdict.GIVE_UP:
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSED_IN_A_ROW:
                self._forget_arrays(f"has refused {REFUSED_IN_A_ROW} records in a row, and no array was taken before")
        return outcome

    def _forget_arrays(self, why: str) -> None:
        if self._knows_arrays is False:
            return  # Another request has shown it.
        self._knows_arrays = False
        self.max_items = 1
        logger.warning(
            "forwarder %s: its receiver %s: it is taken not to know batches, and each record goes alone from now on. "
            "Leave configuration.batch out",
            self._forwarder_id,
            why,
        )

    def _learn(self, refused: int) -> None:
        """The receiver refuses a body of so many bytes."""
        if refused // 2 < self.max_bytes:
            self.max_bytes = max(1, refused // 2)
            logger.warning(
                "forwarder %s: its receiver refuses a request of %d bytes as too large (413): from now on requests "
                "with several records have at most %d. Set configuration.batch.bytes to what it takes",
                self._forwarder_id,
                refused,
                self.max_bytes,
            )

    async def _outcomes_of_each(
        self, items: Sequence[Item], requests: Sequence[StatementRequest | None], answer: Answer
    ) -> list[AttemptResult]:
        """What an answer with a status for each record means."""
        try:
            entries = entry_answers(answer.body, len(items))
        except UnreadableAnswerError as error:
            told = AttemptResult(
                Verdict.RETRY, "bad_response", status=answer.status, response=str(error), ambiguous=True, failure=True
            )
            return [told] * len(items)
        outcomes = []
        for item, made, entry in zip(items, requests, entries, strict=True):
            if 200 <= entry.status < 300:
                outcomes.append(AttemptResult(Verdict.DELIVERED, status=entry.status))
                continue
            judged = self._judged(item, Answer(entry.status, {}, entry.text))
            outcomes.append(judged if made is None else await self._compared(made, judged))
        return outcomes


def _split(outcome: AttemptResult, items: Sequence[Item]) -> list[AttemptResult]:
    return [msgspec.structs.replace(outcome, spends_attempt=False)] * len(items)


def _each(outcomes: list[AttemptResult], change: Callable[[AttemptResult], AttemptResult]) -> list[AttemptResult]:
    """Each outcome changed. Those that are one stay one: by that a lane knows that they are of one answer."""
    changed = {id(outcome): change(outcome) for outcome in outcomes}
    return [changed[id(outcome)] for outcome in outcomes]
