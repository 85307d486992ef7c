"""Raw session activity: `session_activity.avsc` as types."""

from typing import Annotated, Literal

import msgspec

# As in Avro: an integer of 64 bits, or a double.
Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Number = Long | float
Scalar = str | bool | Long | float | None

InputAction = Literal[
    "START",
    "RESUME",
    "RESPOND",
    "SAVE",
    "AUTOSAVE",
    "PAUSE",
    "UNPAUSE",
    "SUBMIT",
    "SCORE",
    "RESCORE",
    "DISCARD",
    "SET_STATUS",
]
# The last only from xAPI, never accepted as activity: START or RESUME, by what came before it in its session.
Action = Literal[InputAction, "START_OR_RESUME"]
State = Literal["initial", "resume", "review", "preview"]


class Tag(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    type: str
    name: str


class Response(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """The learner's answer to one question. None means 'says nothing about it'."""

    response_id: str
    item_reference: str
    attempted: bool | None = None
    automarkable: bool | None = None
    score: Number | None = None
    max_score: Number | None = None
    revision: Long | None = None


class SubscoreDefinition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A group of items, by reference (`items`) or by tag (`tags`)."""

    id: str
    title: str
    items: list[str] | None = None
    tags: list[Tag] | None = None


class Activity(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that happened in one learner's session (docs/spec/records.md section 1). `occurred_at` is epoch ms,
    UTC.

    Instances hold only values inside the specified ranges: `transforms.reading.activity` is what makes them from input.
    """

    record_id: str
    user_id: str
    session_id: str
    activity_id: str
    action: Action
    occurred_at: int
    organisation: str | None = None
    lrs_id: str | None = None
    state: State = "initial"
    seq: Long | None = None
    session_duration: Number | None = None
    num_questions: Number | None = None
    status: str | None = None
    pending_scoring: bool = False
    responses: list[Response] = []
    subscores: list[SubscoreDefinition] = []
    item_tags: dict[str, list[Tag]] = {}
    metadata: dict[str, Scalar] = {}
