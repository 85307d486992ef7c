"""The words the sending side shares: what is to be sent, what became of an attempt, how it was settled."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from schemas import Record
from transforms.forwarders import Forwarder, PayloadKind


class Item(msgspec.Struct, gc=False):
    """One record due to one forwarder.

    `payload` is what goes over the wire (shared between forwarders: never change it), without any framing a
    sink adds. `attempts` counts those that spend one of `max_retries` + 1; times are epoch ms.
    """

    forwarder_id: str
    record: Record
    payload: bytes
    payload_kind: PayloadKind
    hops: int = 0
    attempts: int = 0
    first_attempt: int | None = None
    last_attempt: int | None = None
    ambiguous: bool = False


class Verdict(Enum):
    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"


class AttemptResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one attempt at one item (forwarders.md sections 2 and 3).

    `reason` is a word of the dead-letter taxonomy (`http_400`, `timeout`, `tls`, `address_refused`, `oversize`,
    `unavailable`, ...). `ambiguous`: the receiver may have it though it was not acknowledged. `spends_attempt`
    is false for throttling on Kinesis and for the one free resend on a stale connection. `failure` says that it
    counts towards opening the forwarder's breaker, `opens_breaker` that it opens it at once (a bad certificate).
    `retry_after` is in seconds. `response` is bounded and scrubbed.

    A Struct, like Settlement, because one is made per record: a frozen dataclass of 12 fields costs ten times as much.
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


DEFERRED = "deferred"
"""The reason of a dead letter that is still tried (`Deferral`)."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """The end of an item: delivered, or given up and due in the dead letters with `outcome.reason`."""

    item: Item
    outcome: AttemptResult

    @property
    def delivered(self) -> bool:
        return self.outcome.verdict is Verdict.DELIVERED


Settle = Callable[[Sequence[Settlement]], None]
"""Called from any thread as items end, and back only when that is durable: the user's next item goes after it."""


class HttpSink(Protocol):
    """Sends one item a request; lives on the engine's asyncio loop."""

    async def open(self) -> None: ...
    async def send(self, item: Item) -> AttemptResult: ...
    async def close(self) -> None: ...


class BatchSink(Protocol):
    """Sends many items a call (PutRecords, PutRecordBatch); called from the lane's own threads, several at a time.

    A call is asked for at most `max_items` whose `size`s add up to at most `max_bytes` (one bigger item comes alone),
    and at most `calls_in_flight` run at a time; all three are read before each call, so they may change. `send`
    returns one outcome per item, in order; what it raises is a bug. `remarks` counts what a report should mention.
    """

    max_items: int
    max_bytes: int
    calls_in_flight: int

    @property
    def remarks(self) -> Mapping[str, int]: ...

    def open(self) -> None: ...
    def size(self, item: Item) -> int: ...
    def send(self, items: Sequence[Item]) -> list[AttemptResult]: ...
    def close(self) -> None: ...


HttpSinkFactory = Callable[[Forwarder], HttpSink]


BatchSinkFactory = Callable[[Forwarder], BatchSink]
