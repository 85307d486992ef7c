"""The words the sending side shares: what is to be sent, what became of an attempt, how it was settled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec

from schemas import Record
from transforms.forwarders import Payload


class Item(msgspec.Struct, gc=False):
    """One record due to one forwarder.

    `payload` is what goes over the wire (shared between forwarders: never change it), without any framing a
    sink adds. `attempts` counts those that spend one of `max_retries` + 1; times are epoch ms.
    """

    forwarder_id: str
    record: Record
    payload: bytes
    payload_kind: Payload
    hops: int = 0
    attempts: int = 0
    first_attempt: int | None = None
    last_attempt: int | None = None
    ambiguous: bool = False


class Verdict(Enum):
    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt at one item (forwarders.md sections 2 and 3).

    `reason` is a word of the dead-letter taxonomy (`http_400`, `timeout`, `tls`, `address_refused`, `oversize`,
    `unavailable`, ...). `ambiguous`: the receiver may have it though it was not acknowledged. `spends_attempt`
    is false for throttling on Kinesis and for the one free resend on a stale connection. `failure` says that it
    counts towards opening the forwarder's breaker, `opens_breaker` that it opens it at once (a bad certificate).
    `retry_after` is in seconds. `response` is bounded and scrubbed.
    """

    verdict: Verdict
    reason: str = ""
    status: int | None = None
    response: str | None = None
    retry_after: float | None = None
    ambiguous: bool = False
    spends_attempt: bool = True
    failure: bool = False
    opens_breaker: bool = False
    shard: str | None = None
    sequence_number: str | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an item: delivered, or given up and due in the dead letters with `outcome.reason`."""

    item: Item
    outcome: Outcome

    @property
    def delivered(self) -> bool:
        return self.outcome.verdict is Verdict.DELIVERED


Settle = Callable[[Sequence[Settlement]], None]
"""Called from any thread as items end, and back only when that is durable: the user's next item goes after it."""


class HttpSink(Protocol):
    """Sends one item a request; lives on the engine's asyncio loop."""

    async def open(self) -> None: ...
    async def send(self, item: Item) -> Outcome: ...
    async def close(self) -> None: ...


class BatchSink(Protocol):
    """Sends many items a call (PutRecords, PutRecordBatch); called from the lane's own threads."""

    max_items: int
    max_bytes: int

    def open(self) -> None: ...
    def size(self, item: Item) -> int: ...
    def send(self, items: Sequence[Item]) -> list[Outcome]: ...
    def close(self) -> None: ...
