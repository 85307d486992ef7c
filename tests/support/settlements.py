"""Records of every kind with the messages of the contract, and how they were settled: what receipts are written of."""

import uuid
from typing import Any

import msgspec

from schemas import DerivedKind, Kind, Record
from schemas.times import rfc3339
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

MESSAGES: dict[DerivedKind, dict[str, Any]] = {
    "event": {
        "event": "session-started",
        "session_id": "s-1",
        "activity_id": "a-1",
        "user_id": "u-1",
        "time": "2020-02-17 15:03:23",
    },
    "status": {
        "user_id": "u-1",
        "activity_id": "a-1",
        "num_attempted": 9,
        "num_questions": 10,
        "session_id": "s-1",
        "session_duration": 8,
        "status": "Completed",
        "dt_started": "2020-02-17T15:03:23Z",
        "dt_completed": "2020-02-17T15:11:43Z",
    },
    "score": {
        "user_id": "u-1",
        "activity_id": "a-1",
        "session_id": "s-1",
        "score": 8.5,
        "max_score": 10,
        "subscores": [
            {
                "id": "subscore-1",
                "title": "Informational Text",
                "num_questions": 5,
                "num_attempted": 4,
                "score": 4,
                "max_score": 5,
                "attempted_max_score": 4,
                "items": ["293486384", "293481468"],
            }
        ],
        "status": "Completed",
    },
}


def documented_record(
    name: str = "1",
    *,
    user: str = "u-1",
    kind: Kind = "event",
    timestamp: int = 1_581_951_803_123,
    place: int = 0,
    session: str = "s-1",
) -> Record:
    if kind == "statement":
        return _statement(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), user, timestamp, place)
    message = {**MESSAGES[kind], "user_id": user, "session_id": session}
    return Record(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        kind=kind,
        organisation="org",
        lrs_id=None,
        user_id=user,
        timestamp=timestamp,
        record_id=f"activity {name}",
        place=place,
        message=message,
        body=msgspec.json.encode(message),
        metadata={"grade": 5},
    )


def _statement(record_id: str, user: str, timestamp: int, place: int) -> Record:
    account = {"homePage": "https://lms.example.org", "name": user}
    statement = {
        "id": record_id,
        "actor": {"account": account},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/answered"},
        "object": {"id": "https://lms.example.org/question/1"},
        "timestamp": rfc3339(timestamp),
    }
    body = msgspec.json.encode(statement)
    return Record(record_id, "statement", "org", None, user, timestamp, record_id, place, {}, body, {})


def delivered(name: str = "1", forwarder: str = "f-1", **record: Any) -> Settlement:
    item = Item(forwarder, documented_record(name, **record), b'{"payload":1}', "record", 0, 1, 1_700_000_000_000)
    return Settlement(item, AttemptResult(Verdict.DELIVERED, status=200))


def given_up(name: str = "1", forwarder: str = "f-1", reason: str = "http_400", **record: Any) -> Settlement:
    item = Item(
        forwarder,
        documented_record(name, **record),
        b'{"payload":1}',
        "record",
        2,
        3,
        1_700_000_000_000,
        ambiguous=True,
    )
    return Settlement(item, AttemptResult(Verdict.GIVE_UP, reason, status=400, response="no"))
