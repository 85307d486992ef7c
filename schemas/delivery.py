"""What is written about deliveries: `receipt.avsc` and `dead_letter.avsc` as types."""

from typing import Literal

import msgspec

SettledAs = Literal["delivered", "dead_lettered"]
PayloadKind = Literal["statement", "record", "document"]


class Receipt(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How one record's delivery to one forwarder was settled (docs/spec/forwarders.md section 4). Times in epoch ms."""

    forwarder_id: str
    id: str
    user_id: str
    kind: str
    outcome: SettledAs
    attempts: int
    status: int | None = None
    shard: str | None = None
    sequence_number: str | None = None
    ambiguous: bool = False
    first_attempt: int | None = None
    last_attempt: int | None = None
    settled_at: int
    run_id: str
    remarks: tuple[str, ...] = ()


class DeadLetter(Receipt, frozen=True, gc=False, kw_only=True):
    """A receipt's fields, why the record was given up, and all that a redrive needs.

    `record` is the record as `--write_records jsonl` writes it; `hops` how many forwarders it had come through;
    `failed_runs` in how many runs it was tried again by itself and failed, though its forwarder took others.
    """

    reason: str
    response: str | None = None
    payload: bytes | None = None
    payload_kind: PayloadKind
    record: bytes
    hops: int = 0
    failed_runs: int = 0
