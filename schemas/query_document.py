"""What a query document holds: the names that a forwarder's query may ask for (docs/spec/records.md section 4).

`transforms.matching.document` builds the documents, the queries' parser reads ids and dates by this table, and a
forwarder document is warned of when its query asks for a name that is not in it.
"""

from typing import Literal, NamedTuple

QueryType = Literal["id", "string", "date", "number", "object", "array"]
"""What stands under a name.

id: a string, for which a query may also give an ObjectId. date: a date in UTC, which a query may give as text.
"""


class QueryField(NamedTuple):
    """A name, dotted inside `statement`; the type under it, unless it is null; and what that is."""

    name: str
    type: QueryType
    meaning: str


QUERY_FIELDS = (
    QueryField("_id", "id", "the record's id"),
    QueryField("kind", "string", "event, status or score"),
    QueryField("organisation", "id", "of the activity"),
    QueryField("lrs_id", "id", "the store of the activity"),
    QueryField("timestamp", "date", "when the activity occurred that caused the record"),
    QueryField("metadata", "object", "what the session's activities brought along, up to that one"),
    QueryField("statement", "object", "the record as an xAPI statement"),
    QueryField("statement.timestamp", "date", "as timestamp"),
    QueryField("statement.stored", "date", "as timestamp"),
    QueryField("user_id", "string", "the learner"),
    QueryField("session_id", "string", "the session"),
    QueryField("activity_id", "string", "the assessment"),
    QueryField("event", "string", "of an event: session-started, session-resumed or session-completed"),
    QueryField("time", "string", "of an event: as 2020-02-17 15:03:23"),
    QueryField("status", "string", "of a snapshot: Completed or PendingScoring"),
    QueryField("num_attempted", "number", "of a status: questions"),
    QueryField("num_questions", "number", "of a status: questions"),
    QueryField(
        "session_duration", "number", "of a status: as the player counts it, or as --session_duration_unit says"
    ),
    QueryField("dt_started", "string", "of a status: as 2020-02-17T15:03:23Z"),
    QueryField("dt_completed", "string", "of a status: as 2020-02-17T15:03:23Z"),
    QueryField("score", "number", "of a score"),
    QueryField("max_score", "number", "of a score"),
    QueryField("subscores", "array", "of a score: an object for each subscore"),
)

QUERY_NAMES = frozenset(field.name for field in QUERY_FIELDS if "." not in field.name)
"""The top-level names."""


def paths_of(type_: QueryType) -> frozenset[tuple[str, ...]]:
    """The paths to what is of this type, each as the names on the way to it."""
    return frozenset(tuple(field.name.split(".")) for field in QUERY_FIELDS if field.type == type_)
