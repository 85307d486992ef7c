"""Session activity: `session_activity.avsc` as types."""

from typing import Annotated, Literal

import msgspec

# As in Avro: an integer of 64 bits; and that or a double.
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
# These come from xAPI alone, and are refused in session activity. What came before in their session decides what they
# are: START_OR_RESUME is one of the two, LAUNCH too, or the same as an `initialized` after it, COMPLETE a SUBMIT or
# a RESPOND.
StatementAction = Literal["START_OR_RESUME", "LAUNCH", "COMPLETE"]
Action = Literal[InputAction, StatementAction]
State = Literal["initial", "resume", "review", "preview"]


class Tag(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A tag of an item."""

    type: str
    name: str


class Response(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """The learner's answer to one question. None in a field means that the activity says nothing about it."""

    response_id: str
    item_reference: str
    attempted: bool | None = None
    automarkable: bool | None = None
    score: Number | None = None
    max_score: Number | None = None
    revision: Long | None = None


class SubscoreDefinition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A group of items for which a subscore is computed. The items are named (`items`) or found by their `tags`."""

    id: str
    title: str
    items: list[str] | None = None
    tags: list[Tag] | None = None


class StatementParts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What an xAPI statement says beyond session activity.

    Attributes:
        home_page: of the actor's account.
        score: of the object, if that is no question. It is the session's own if the object is the session's activity.
        max_score: of `score`.
    """

    home_page: str | None = None
    score: Number | None = None
    max_score: Number | None = None


class Activity(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that happened in one learner's session (docs/spec/records.md section 1).

    The values are within the ranges that are specified: `transforms.reading.activity` makes activity of input.

    Attributes:
        record_id: the key that the producer gave the activity.
        organisation: the tenant.
        lrs_id: the store of the tenant.
        occurred_at: epoch ms.
        seq: the order among activities of one instant.
        session_duration: as the player counts it.
        pending_scoring: of a SUBMIT: scores are still to come.
        item_tags: the tags of items, by the reference of the item.
        statement: set where the input is xAPI. It is no part of what comes in as activity.
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
    statement: StatementParts | None = None
