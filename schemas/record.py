"""Derived records: the documented message and what travels with it."""

from typing import Any, Literal

import msgspec

from schemas.activity import Scalar

Kind = Literal["event", "status", "score"]
KINDS: tuple[Kind, ...] = ("event", "status", "score")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One derived message (records.md section 3). Shared between steps: never change one.

    `message` is the documented message, its keys in the documented order; `body` the same as compact UTF-8
    JSON; `timestamp` the `occurred_at` (epoch ms) of the activity that caused it, `record_id` that activity's
    key and `place` its index in the session's order.
    """

    id: str
    kind: Kind
    organisation: str | None
    lrs_id: str | None
    user_id: str
    timestamp: int
    record_id: str
    place: int
    message: dict[str, Any]
    body: bytes
    metadata: dict[str, Scalar]
