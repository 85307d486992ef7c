"""What a query document holds: the names that a forwarder's query may ask for.

For derived records that is docs/spec/records.md section 4, for statements docs/spec/statements.md section 2.
`transforms.matching.document` builds the documents, the queries' parser reads ids and dates by this table,
`transforms.query.never` finds by it what no document can match, and a forwarder document is warned of both.
"""

from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from schemas.record import Kind

QueryType = Literal["id", "string", "date", "number", "boolean", "object", "map", "array", "any"]
"""What stands under a name.

- `id`: a string, for which a query may also give an ObjectId.
- `date`: a date in UTC, which a query may give as text.
- `object`: an object whose members are names of the table.
- `map`: an object with members of any name and value.
- `any`: anything.
"""

Shape = Literal["session-started", "session-resumed", "session-completed", "status", "score", "statement"]
"""Which query document: that of an event, by its name, that of a snapshot, or that of a statement."""

EVENTS: tuple[Shape, ...] = ("session-started", "session-resumed", "session-completed")
DERIVED_SHAPES: tuple[Shape, ...] = (*EVENTS, "status", "score")


class QueryField(NamedTuple):
    """A name that a query document may hold.

    Attributes:
        name: dotted inside `statement` and `subscores`.
        type: what stands under the name.
        meaning: what that is, in words for whoever writes queries.
        shapes: the documents that have the name.
        nullable: whether null may stand under it.
        sometimes: whether some documents of these shapes lack it.
        values: by shape, all values that it can have there. A shape that is not listed can have any value.
    """

    name: str
    type: QueryType
    meaning: str
    shapes: tuple[Shape, ...] = DERIVED_SHAPES
    nullable: bool = False
    sometimes: bool = False
    values: Mapping[Shape, tuple[str | bool | int, ...]] = MappingProxyType({})


_VERBS: dict[Shape, str] = {
    "session-started": "initialized",
    "session-resumed": "resumed",
    "session-completed": "completed",
    "status": "progressed",
    "score": "scored",
}


def _always(value: str | int) -> dict[Shape, tuple[str | bool | int, ...]]:
    return dict.fromkeys(DERIVED_SHAPES, (value,))


_WITH_RESULT: tuple[Shape, ...] = ("session-completed", "status", "score")
_STATUS: tuple[Shape, ...] = ("status",)
_SCORE: tuple[Shape, ...] = ("score",)

QUERY_FIELDS = (
    QueryField("_id", "id", "the record's id"),
    QueryField(
        "kind",
        "string",
        "event, status or score",
        values={**dict.fromkeys(EVENTS, ("event",)), "status": ("status",), "score": ("score",)},
    ),
    QueryField("organisation", "id", "of the activity", nullable=True),
    QueryField("lrs_id", "id", "the store of the activity", nullable=True),
    QueryField("timestamp", "date", "when the activity occurred that caused the record"),
    QueryField("metadata", "map", "what the session's activities brought along, up to that one"),
    QueryField("user_id", "string", "the learner"),
    QueryField("session_id", "string", "the session"),
    QueryField("activity_id", "string", "the assessment"),
    QueryField(
        "event",
        "string",
        "of an event: session-started, session-resumed or session-completed",
        shapes=EVENTS,
        values={shape: (shape,) for shape in EVENTS},
    ),
    QueryField("time", "string", "of an event: as 2020-02-17 15:03:23", shapes=EVENTS),
    QueryField(
        "status",
        "string",
        "of a snapshot: Completed or PendingScoring",
        shapes=("status", "score"),
        values={"status": ("Completed", "PendingScoring"), "score": ("Completed",)},
    ),
    QueryField("num_attempted", "number", "of a status: questions", shapes=_STATUS),
    QueryField("num_questions", "number", "of a status: questions", shapes=_STATUS),
    QueryField(
        "session_duration",
        "number",
        "of a status: as the player counts it, or as --session_duration_unit says",
        shapes=_STATUS,
    ),
    QueryField("dt_started", "string", "of a status: as 2020-02-17T15:03:23Z", shapes=_STATUS),
    QueryField("dt_completed", "string", "of a status: as 2020-02-17T15:03:23Z", shapes=_STATUS),
    QueryField("score", "number", "of a score", shapes=_SCORE, nullable=True),
    QueryField("max_score", "number", "of a score", shapes=_SCORE, nullable=True),
    QueryField("subscores", "array", "of a score: an object for each subscore", shapes=_SCORE),
    QueryField("subscores.id", "string", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField("subscores.title", "string", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField("subscores.num_questions", "number", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField("subscores.num_attempted", "number", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField("subscores.score", "number", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField("subscores.max_score", "number", "of a subscore", shapes=_SCORE, sometimes=True),
    QueryField(
        "subscores.attempted_max_score",
        "number",
        "of a subscore: of its attempted items",
        shapes=_SCORE,
        sometimes=True,
    ),
    QueryField("subscores.items", "array", "of a subscore: item references", shapes=_SCORE, sometimes=True),
    QueryField("statement", "object", "the record as an xAPI statement"),
    QueryField("statement.id", "string", "the record's id"),
    QueryField("statement.actor", "object", "an Agent with an account"),
    QueryField("statement.actor.objectType", "string", "Agent", values=_always("Agent")),
    QueryField("statement.actor.account", "object", "the learner"),
    QueryField("statement.actor.account.name", "string", "the user_id"),
    QueryField("statement.actor.account.homePage", "string", "as --actor_home_page says"),
    QueryField("statement.verb", "object", "what was done"),
    QueryField(
        "statement.verb.id",
        "string",
        "one of ADL's verbs",
        values={shape: (f"http://adlnet.gov/expapi/verbs/{verb}",) for shape, verb in _VERBS.items()},
    ),
    QueryField("statement.verb.display", "object", "the verb's name"),
    QueryField(
        "statement.verb.display.en", "string", "in English", values={shape: (verb,) for shape, verb in _VERBS.items()}
    ),
    QueryField("statement.object", "object", "the assessment, as an Activity"),
    QueryField("statement.object.objectType", "string", "Activity", values=_always("Activity")),
    QueryField("statement.object.id", "string", "the activity_id, as an IRI"),
    QueryField("statement.object.definition", "object", "what the Activity is"),
    QueryField(
        "statement.object.definition.type",
        "string",
        "an assessment",
        values=_always("http://adlnet.gov/expapi/activities/assessment"),
    ),
    QueryField("statement.context", "object", "the session"),
    QueryField("statement.context.registration", "string", "the session_id, as a UUID"),
    QueryField("statement.context.extensions", "map", "the session_id where it is no UUID", sometimes=True),
    QueryField("statement.timestamp", "date", "as timestamp"),
    QueryField("statement.stored", "date", "as timestamp"),
    QueryField("statement.result", "object", "what came of it", shapes=_WITH_RESULT),
    QueryField(
        "statement.result.completion",
        "boolean",
        "whether the session is completed",
        shapes=("session-completed", "status"),
        values={"session-completed": (True,)},
    ),
    QueryField("statement.result.duration", "string", "as PT480S", shapes=_STATUS, sometimes=True),
    QueryField("statement.result.extensions", "map", "counts, or subscores", shapes=("status", "score")),
    QueryField("statement.result.score", "object", "as xAPI allows it", shapes=_SCORE, sometimes=True),
    QueryField("statement.result.score.raw", "number", "the score", shapes=_SCORE, sometimes=True),
    QueryField("statement.result.score.min", "number", "0", shapes=_SCORE, sometimes=True, values={"score": (0,)}),
    QueryField("statement.result.score.max", "number", "the max_score", shapes=_SCORE, sometimes=True),
    QueryField("statement.result.score.scaled", "number", "score by max_score", shapes=_SCORE, sometimes=True),
)
"""The names in the query document of a derived record."""


def _stored(name: str, type_: QueryType, meaning: str) -> QueryField:
    """A name that only a document of Learning Locker has."""
    return QueryField(name, type_, meaning, _STATEMENT, sometimes=True)


_STATEMENT: tuple[Shape, ...] = ("statement",)
_IN_LEARNING_LOCKER = "as Learning Locker's document has it"

STATEMENT_FIELDS = (
    QueryField("_id", "id", "the record's id", _STATEMENT),
    QueryField("kind", "string", "statement", _STATEMENT, values={"statement": ("statement",)}),
    QueryField("organisation", "id", "of the document, or as --organisation says", _STATEMENT, nullable=True),
    QueryField("lrs_id", "id", "the store of the document, or as --lrs_id says", _STATEMENT, nullable=True),
    QueryField("timestamp", "date", "the statement's timestamp, else its stored", _STATEMENT),
    QueryField("stored", "date", "when a store took the statement", _STATEMENT, sometimes=True),
    QueryField("voided", "boolean", "whether the document says that it was voided; false without one", _STATEMENT),
    QueryField("statement", "map", "the statement as it was read", _STATEMENT),
    QueryField("statement.timestamp", "date", "when it happened", _STATEMENT, sometimes=True),
    QueryField("statement.stored", "date", "when a store took the statement", _STATEMENT, sometimes=True),
    _stored("active", "boolean", _IN_LEARNING_LOCKER),
    _stored("person", "any", "the person whose statement it is: person._id is an ObjectId"),
    _stored("personaIdentifier", "any", "the identifier of the person: an ObjectId"),
    _stored("client", "any", "who sent the statement: an ObjectId"),
    _stored("refs", "any", "the ids of the statements that it refers to"),
    _stored("metadata", "any", _IN_LEARNING_LOCKER),
    _stored("hash", "any", _IN_LEARNING_LOCKER),
    _stored("hasGeneratedId", "any", "whether Learning Locker made the id"),
    _stored("agents", "any", "the identifiers of the statement's agents"),
    _stored("relatedAgents", "any", "the identifiers of all agents in it"),
    _stored("activities", "any", "the id of the statement's activity"),
    _stored("relatedActivities", "any", "the ids of all activities in it"),
    _stored("registrations", "any", "its registration"),
    _stored("verbs", "any", "the ids of the verbs"),
    _stored("personas", "any", _IN_LEARNING_LOCKER),
    _stored("completedForwardingQueue", "any", _IN_LEARNING_LOCKER),
    _stored("pendingForwardingQueue", "any", _IN_LEARNING_LOCKER),
    _stored("failedForwardingLog", "any", _IN_LEARNING_LOCKER),
    _stored("deadForwardingQueue", "any", _IN_LEARNING_LOCKER),
    _stored("completedQueues", "any", _IN_LEARNING_LOCKER),
    _stored("processingQueues", "any", _IN_LEARNING_LOCKER),
    _stored("createdAt", "date", _IN_LEARNING_LOCKER),
    _stored("updatedAt", "date", _IN_LEARNING_LOCKER),
    _stored("__v", "any", _IN_LEARNING_LOCKER),
)
"""The names in the query document of a statement. A document of Learning Locker may have others, which it keeps."""

_SHAPES_OF_KIND: Mapping[Kind, tuple[Shape, ...]] = {
    "event": EVENTS,
    "status": ("status",),
    "score": ("score",),
    "statement": ("statement",),
}


def shapes_of(kinds: Collection[Kind]) -> tuple[Shape, ...]:
    """The shapes of the query documents of records of these kinds."""
    return tuple(shape for kind, shapes in _SHAPES_OF_KIND.items() if kind in kinds for shape in shapes)


_TOP_LEVEL = tuple(field for field in (*QUERY_FIELDS, *STATEMENT_FIELDS) if "." not in field.name)


@cache
def names_of(shapes: tuple[Shape, ...]) -> frozenset[str]:
    """The top-level names that the documents of some of these shapes have. Every forwarder's query asks for them."""
    return frozenset(field.name for field in _TOP_LEVEL if not set(shapes).isdisjoint(field.shapes))


def paths_of(type_: QueryType) -> frozenset[tuple[str, ...]]:
    """The paths to what is of this type in some document, each as the names on the way to it."""
    fields = (*QUERY_FIELDS, *STATEMENT_FIELDS)
    return frozenset(tuple(field.name.split(".")) for field in fields if field.type == type_)
