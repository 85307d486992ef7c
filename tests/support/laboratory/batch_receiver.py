"""A receiver of batches, as a script of the HTTP fault server: what it takes, refuses and stores, record by record."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.laboratory.http_fault_server import Answer, Arrival, Fault

NO_ANSWER = frozenset({"reset", "close", "half_close", "cut_headers", "reset_headers", "garbage"})
"""Faults after which the sender cannot know whether the request was stored."""


def payloads_of(arrival: Arrival) -> list[Any]:
    """The records of a request: of an array, of lines, or the one that it is."""
    body = gzip.decompress(arrival.body) if arrival.headers.get("content-encoding") == "gzip" else arrival.body
    if arrival.headers["content-type"] == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    found = json.loads(body)
    return found if isinstance(found, list) else [found]


def record_id(payload: Any) -> str:
    """The id of what `tests.support.records` makes, or of a statement."""
    return str(payload["id"]) if "id" in payload else f"{payload['user_id']}/{payload['number']}"


@dataclass
class BatchReceiver:
    """Takes all of a request or nothing, and judges by the ids of its records.

    Attributes:
        guilty: ids that it refuses with `status`, and with them the whole request.
        status: of a refusal.
        liar: ids with which it stores what stands before them, and then refuses or fails with `lie`.
        lie: the status after that.
        most_bytes: of a body; a larger one is answered with 413.
        knows_arrays: else every request with an array is refused.
        per_record: it answers 207 with a status for each record.
        fault: asked before anything else: an answer instead, or None.
        stored: ids in the order in which they were stored.
        doubtful: ids that a request held of which the sender could not know whether it was stored.
        calls: the ids of each request.
        sizes: bytes of each body, and whether it was too large.
        in_doubt: how many requests left the sender in doubt.
        refused: of each request whether the sender can know that nothing of it was stored.
    """

    guilty: frozenset[str] | set[str] = frozenset()
    status: int = 400
    liar: frozenset[str] | set[str] = frozenset()
    lie: int = 500
    most_bytes: int | None = None
    knows_arrays: bool = True
    per_record: bool = False
    fault: Callable[[Arrival], Answer | None] = lambda arrival: None
    stored: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    calls: list[list[str]] = field(default_factory=list)
    sizes: list[tuple[int, bool]] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    refused: list[bool] = field(default_factory=list)
    in_doubt: int = 0

    def __call__(self, arrival: Arrival) -> Answer:
        before = len(self.stored), self.in_doubt
        answer = self._answer(arrival)
        self.refused.append((len(self.stored), self.in_doubt) == before)
        return answer

    def _answer(self, arrival: Arrival) -> Answer:
        payloads = payloads_of(arrival)
        ids = [record_id(payload) for payload in payloads]
        self.calls.append(ids)
        self.arrivals.append(arrival)
        answer = self.fault(arrival)
        if answer is not None:
            is_stored = answer.stored if answer.stored is not None else 200 <= answer.status < 300
            if answer.fault in NO_ANSWER or answer.status in (502, 504):
                self.doubtful.update(ids)
                self.in_doubt += 1
            if is_stored:
                self.stored += ids
            return answer
        is_too_large = self.most_bytes is not None and len(arrival.body) > self.most_bytes
        self.sizes.append((len(arrival.body), is_too_large))
        if is_too_large:
            return Answer(413)
        if not self.knows_arrays and (isinstance(json.loads(arrival.body), list)):
            return Answer(400, body=b"an array is no record")
        if self.per_record:
            return self._answer_each(ids)
        lies = [index for index, id_ in enumerate(ids) if id_ in self.liar]
        if lies and Counter(map(tuple, self.calls))[tuple(ids)] <= 2:
            self.stored += ids[: lies[0]]
            self.doubtful.update(ids[: lies[0]])  # The receiver's doing: no sender can know.
            return Answer(self.lie)
        if not self.guilty.isdisjoint(ids):
            return Answer(self.status, body=b"one of them is not valid")
        self.stored += ids
        return Answer(200)

    def _answer_each(self, ids: Sequence[str]) -> Answer:
        statuses: list[int | dict[str, Any]] = []
        for id_ in ids:
            if id_ in self.guilty:
                statuses.append({"status": self.status, "error": f"{id_} is not valid"})
            else:
                self.stored.append(id_)
                statuses.append(200)
        return Answer(207, body=json.dumps(statuses).encode())


def sometimes(seed: int, share: float = 0.15) -> Callable[[Arrival], Answer | None]:
    """A share of all requests fails, in many ways."""
    chance = random.Random(seed)  # noqa: S311
    faults: list[tuple[int, Fault | Literal["none"]]] = [
        *((status, "none") for status in (500, 503, 429, 408, 502, 504)),
        *((200, fault) for fault in ("reset", "close", "cut_headers", "reset_headers")),
    ]

    def fault(arrival: Arrival) -> Answer | None:
        if chance.random() >= share:
            return None
        status, kind = chance.choice(faults)
        stored = chance.random() < 0.5 if kind != "none" or status in (502, 504) else None
        return Answer(status, fault=kind, stored=stored)

    return fault
