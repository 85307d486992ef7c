"""Session activity in one line, and records as a reader names them."""

from collections.abc import Iterable
from typing import Any

from schemas import Activity, Record, Response, SubscoreDefinition, Tag

START_OF_DAY = 1_581_897_600_000  # 2020-02-17T00:00:00Z
DOCUMENTED_START = 1_581_951_803_000  # 2020-02-17T15:03:23Z, of the contract's examples

DOCUMENTED_EVENT = (
    b'{"event":"session-started","session_id":"f4e854f4-3324-4395-beec-1650b522007a",'
    b'"activity_id":"activity_1234567890","user_id":"$ANONYMIZED_USER_ID","time":"2020-02-17 15:03:23"}'
)
DOCUMENTED_STATUS = (
    b'{"user_id":"$ANONYMIZED_USER_ID","activity_id":"activity_1234567890","num_attempted":9,"num_questions":10,'
    b'"session_id":"f4e854f4-3324-4395-beec-1650b522007a","session_duration":8,"status":"Completed",'
    b'"dt_started":"2020-02-17T15:03:23Z","dt_completed":"2020-02-17T15:11:43Z"}'
)
DOCUMENTED_SCORE = (
    b'{"user_id":"$ANONYMIZED_USER_ID","activity_id":"activity_1234567890",'
    b'"session_id":"f4e854f4-3324-4395-beec-1650b522007a","score":9,"max_score":10,'
    b'"subscores":[{"id":"subscore-1","title":"Informational Text","num_questions":5,"num_attempted":4,"score":4,'
    b'"max_score":5,"attempted_max_score":4,'
    b'"items":["293486384","293481468","293475858","293475234","292922805"]}],"status":"Completed"}'
)


def activity(action: str, at: float = 0, **given: Any) -> Activity:
    """One activity of session `s` of user `u`, `at` seconds into 2020-02-17; `record_id` says which one it is."""
    fields: dict[str, Any] = {
        "record_id": f"{action}@{at:g}",
        "user_id": "u",
        "session_id": "s",
        "activity_id": "a",
        "occurred_at": START_OF_DAY + round(at * 1000),
        **given,
    }
    return Activity(action=action, **fields)  # type: ignore[arg-type]


def response(response_id: str, score: Any = None, max_score: Any = None, **given: Any) -> Response:
    """An answer to the question `response_id` on the item of the same name, attempted unless told otherwise."""
    fields = {"item_reference": response_id, "attempted": True, **given}
    return Response(response_id=response_id, score=score, max_score=max_score, **fields)


def by_items(identifier: str, *items: str) -> SubscoreDefinition:
    return SubscoreDefinition(identifier, identifier.title(), items=list(items))


def by_tags(identifier: str, *tags: tuple[str, str]) -> SubscoreDefinition:
    return SubscoreDefinition(identifier, identifier.title(), tags=[Tag(*tag) for tag in tags])


def tags(*pairs: tuple[str, str]) -> list[Tag]:
    return [Tag(*pair) for pair in pairs]


def names(records: Iterable[Record]) -> list[str]:
    """What each record is: the event's name, else the kind of the snapshot."""
    return [str(record.message.get("event", record.kind)) for record in records]


def documented_session() -> list[Activity]:
    """Activity that describes the session of the contract's three examples."""
    items = ["293486384", "293481468", "293475858", "293475234", "292922805", "i6", "i7", "i8", "i9", "i10"]
    unattempted = "292922805"
    of_session = {
        "user_id": "$ANONYMIZED_USER_ID",
        "session_id": "f4e854f4-3324-4395-beec-1650b522007a",
        "activity_id": "activity_1234567890",
    }
    start = (DOCUMENTED_START - START_OF_DAY) / 1000
    return [
        activity("START", start, num_questions=10, **of_session),
        activity(
            "RESPOND", start + 60, responses=[response(i, attempted=i != unattempted) for i in items], **of_session
        ),
        activity(
            "SUBMIT",
            start + 500,
            responses=[response(i, None if i == unattempted else 1, 1, attempted=None) for i in items],
            subscores=[SubscoreDefinition("subscore-1", "Informational Text", items=items[:5])],
            **of_session,
        ),
    ]


def sessions(users: int) -> list[Activity]:
    """A started, scored and submitted session for each user, which gives four records each."""
    return [
        step
        for number in range(users)
        for step in (
            of_user(number, "START", 0),
            of_user(number, "RESPOND", 60, responses=[response("q", 1, 2)]),
            of_user(number, "SUBMIT", 120),
        )
    ]


def of_user(number: int, action: str, at: float, **given: Any) -> Activity:
    name = f"u{number}"
    return activity(action, at, user_id=name, session_id=f"s{number}", record_id=f"{name}-{action}-{at:g}", **given)
