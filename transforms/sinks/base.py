"""What all sinks share: an item to be sent, what became of an attempt, how an item was settled, and what a sink is."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Literal, NamedTuple, Protocol

import msgspec

from schemas import Record
from transforms.forwarders import Forwarder, PayloadKind

AwsClient = Literal["auto", "boto3"]
"""What makes the calls that put records to AWS (`--aws_client`): the carrier where it can, or boto3 in any case."""


class Item(msgspec.Struct, gc=False):
    """One record that is due to one forwarder, and how far its delivery is.

    Attributes:
        forwarder_id: whom it is due to.
        record: what is due.
        payload: what goes over the wire, without what a sink puts around it. Items share it, so never change it.
        payload_kind: what the payload is of the record.
        hops: how many forwarders the record has been through.
        attempts: those that spent one of the forwarder's `max_retries` + 1.
        first_attempt: when the first attempt was made, in epoch ms.
        last_attempt: when the last attempt was made, in epoch ms.
        ambiguous: whether an attempt that was not acknowledged may have been stored.
        behind: the user whose records it is to follow instead of those of its own user.
        is_letter: whether it is an open dead letter that is tried again by itself (`--catch_up`).
        failed_runs: of such a letter: runs in which it has failed though its forwarder took others.
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
    behind: str | None = None
    is_letter: bool = False
    failed_runs: int = 0

    @property
    def queue(self) -> str:
        """The user in whose order it leaves."""
        return self.record.user_id if self.behind is None else self.behind


class Verdict(Enum):
    """What follows from an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"
    SPLIT = "split"
    """Of all records of a batch: it is refused for what is in it, and is to be sent in parts."""


class AttemptResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one attempt at one item (docs/spec/forwarders.md sections 2 and 3).

    It is a Struct, as Settlement is, because one is made for each record: a frozen dataclass costs ten times as much.

    Attributes:
        verdict: what follows from it.
        reason: a word for dead letters, such as `http_400`, `timeout` or `address_refused`; empty if it was delivered.
        status: the HTTP status of the answer.
        response: what the receiver said, bounded and without secrets.
        retry_after: seconds that the receiver asks to wait.
        ambiguous: whether the receiver may have the record though it did not acknowledge it.
        spends_attempt: whether it counts against `max_retries`. Throttling by AWS does not.
        failure: whether it counts towards opening the forwarder's breaker.
        opens_breaker: whether it opens the breaker at once.
        shard: the shard of a data stream that took the record.
        sequence_number: the record's number in that shard.
        lack: whether it could not be made, since this machine lacks something. Then it says nothing of the receiver.
        remarks: what else a receipt says and a report counts of the record, such as `already_there`.
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
    lack: bool = False
    remarks: tuple[str, ...] = ()


DEFERRED = "deferred"
"""The reason of a dead letter that is still tried (`transforms.delivery.deferral`)."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """How an item ended: delivered, or given up and to be a dead letter with the reason of `outcome`."""

    item: Item
    outcome: AttemptResult

    @property
    def delivered(self) -> bool:
        """Whether it was delivered, and not given up."""
        return self.outcome.verdict is Verdict.DELIVERED


Settle = Callable[[Sequence[Settlement]], None]
"""Makes settlements durable before it returns. It is called from any thread; the user's next item is sent after it."""


class Runs(NamedTuple):
    """How many records of one user a call may hold, in their order: as many as these bounds allow.

    Attributes:
        bytes: that the `size`s of one user's items may add up to.
        crowded_bytes: the same, while more than that of other users' records wait.
        users: that a call may hold records of.
    """

    bytes: int
    crowded_bytes: int
    users: int = 1 << 31


class HttpSink(Protocol):
    """Sends one item a request. It lives on the engine's asyncio loop: open, send many at a time, close."""

    async def open(self) -> None: ...

    async def send(self, item: Item) -> AttemptResult:
        """Make one attempt. What it raises is a bug, and stops all deliveries."""
        ...

    async def close(self) -> None: ...


class HttpBatchSink(HttpSink, Protocol):
    """Sends many items a request. What it says of itself is read before each request, so a sink may change it.

    Attributes:
        max_items: items that a request may hold.
        max_bytes: bytes that the `size`s of a request's items may add up to. An item that is larger goes alone.
        is_atomic: whether the receiver takes all records of a request or none. Such a request may hold several of one
            user.
    """

    max_items: int
    max_bytes: int
    is_atomic: bool

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a request's body."""
        ...

    def group(self, item: Item) -> Hashable:
        """Items of different groups do not go in one request."""
        ...

    async def send_batch(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one attempt at each item; one outcome for each, in order; or SPLIT for all of them."""
        ...


class BatchSink(Protocol):
    """Sends many items a call. It is called from the threads of its lane: open, send in several of them, close.

    The three limits are read before each call, so a sink may change them.

    Attributes:
        max_items: items that a call may hold.
        max_bytes: bytes that the `size`s of a call's items may add up to. An item that is larger comes alone.
        calls_in_flight: calls that may be made at a time.
        runs: how many items of one user a call may hold; None: one.
    """

    @property
    def max_items(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...

    @property
    def calls_in_flight(self) -> int: ...

    @property
    def runs(self) -> Runs | None: ...

    @property
    def remarks(self) -> Mapping[str, int]:
        """What a report should mention, counted, such as hashed partition keys."""
        ...

    def open(self) -> None: ...

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call, at most."""
        ...

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one attempt at each item; one outcome for each, in order. What it raises is a bug, and stops all."""
        ...

    def close(self) -> None: ...


HttpSinkFactory = Callable[[Forwarder], HttpSink]
BatchSinkFactory = Callable[[Forwarder], BatchSink]
