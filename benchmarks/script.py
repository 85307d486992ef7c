"""The script a user would write instead: json, a dict per session, boto3 and requests.

Written as such scripts are: everything in memory, plain dicts, the standard library, one function a task. It makes the
same records (the benchmark checks that) and knows no retries, no receipts, no rejects. `one_by_one` sends each record
when it is made; `in_batches` collects 500 for put_records and keeps a requests session.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import requests

from benchmarks.workload import REGION, Wish

NAMESPACE = uuid.UUID("9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24")
HOME_PAGE = "https://learner.invalid"
EXTENSIONS = "https://session-forwarder.invalid/extensions"
BATCH = 500
RANK = {"START": 0, "RESUME": 1, "SUBMIT": 3, "SCORE": 4, "RESCORE": 4, "SET_STATUS": 5, "DISCARD": 5}
VERBS = {
    "session-started": "initialized",
    "session-resumed": "resumed",
    "session-completed": "completed",
    "status": "progressed",
    "score": "scored",
}

Fields = dict[str, Any]


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def records_of(path: Path) -> Iterable[Fields]:
    """All records of the file, a session after the other, users one by one."""
    users: dict[str, dict[tuple[Any, ...], list[Fields]]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            activity = json.loads(line)
            key = (activity.get("organisation"), activity.get("lrs_id"), activity["session_id"])
            users.setdefault(activity["user_id"], {}).setdefault(key, []).append(activity)
    for sessions in users.values():
        records = [record for activities in sessions.values() for record in session_records(activities)]
        records.sort(key=lambda r: (r["timestamp"], r["place"], r["message"]["session_id"]))
        yield from records


def session_records(activities: list[Fields]) -> list[Fields]:
    """The messages of one session."""
    session: Fields = {
        "status": None, "started": None, "submitted": None, "duration": None, "questions": None, "activity_id": None,
        "answers": {}, "items": {}, "subscores": [], "tags": {}, "metadata": {}, "sent": None,
    }  # fmt: skip
    records: list[Fields] = []
    for place, activity in enumerate(in_order(activities)):
        if activity.get("state") in ("review", "preview"):
            continue
        merge(session, activity)
        for name, message in caused(session, activity):
            if name == "score":
                session["sent"] = message
            records.append(record(session, activity, place, name, message))
    return records


def in_order(activities: list[Fields]) -> list[Fields]:
    """Each activity once, by time; at one time by seq if all have one, else by what is done."""
    unique: dict[str, Fields] = {}
    for activity in activities:
        known = unique.get(activity["record_id"])
        if known is None or (activity["occurred_at"], dumps(activity)) < (known["occurred_at"], dumps(known)):
            unique[activity["record_id"]] = activity
    times: dict[int, list[Fields]] = {}
    for activity in unique.values():
        times.setdefault(activity["occurred_at"], []).append(activity)
    ordered: list[Fields] = []
    for time in sorted(times):
        same = times[time]
        numbered = all(activity.get("seq") is not None for activity in same)
        same.sort(key=lambda a: (a["seq"] if numbered else 0, RANK.get(a["action"], 2), a["record_id"]))
        ordered += same
    return ordered


def merge(session: Fields, activity: Fields) -> None:
    if session["activity_id"] is None:
        session["activity_id"], session["earliest"] = activity["activity_id"], activity["occurred_at"]
    if activity.get("session_duration") is not None:
        session["duration"] = int(activity["session_duration"])
    if activity.get("num_questions") is not None:
        session["questions"] = int(activity["num_questions"])
    session["metadata"] = dict(sorted({**session["metadata"], **activity.get("metadata", {})}.items()))
    for response in activity.get("responses", []):
        session["items"].setdefault(response["item_reference"])
        answer = session["answers"].setdefault(response["response_id"], {})
        if (response.get("revision") or 0) < (answer.get("revision") or 0):
            continue
        answer.update({name: value for name, value in response.items() if value is not None})
    if activity.get("subscores"):
        session["subscores"] = activity["subscores"]
    for item, tags in sorted(activity.get("item_tags", {}).items()):
        session["tags"][item] = tags
        session["items"].setdefault(item)


def caused(session: Fields, activity: Fields) -> Iterable[tuple[str, Fields]]:
    """What the activity gives rise to; moves the session's status on."""
    action, state = activity["action"], activity.get("state", "initial")
    before = session["status"]
    if action in ("START", "RESUME", "RESPOND", "SAVE", "AUTOSAVE"):
        session["status"] = before or "Incomplete"
    if action == "START" and state != "resume":
        if session["started"] is None:
            session["started"] = activity["occurred_at"]
            yield "session-started", event("session-started", activity)
    elif action in ("START", "RESUME"):
        yield "session-resumed", event("session-resumed", activity)
    elif action in ("RESPOND", "SAVE", "AUTOSAVE") and before == "Completed":
        yield from changed_score(session, activity)
    elif action == "SUBMIT":
        session["status"] = "PendingScoring" if activity.get("pending_scoring") else "Completed"
        session["submitted"] = activity["occurred_at"]
        yield "session-completed", event("session-completed", activity)
        yield "status", snapshot(session, activity, activity["occurred_at"])
        if session["status"] == "Completed":
            yield from changed_score(session, activity)
    elif action in ("SCORE", "RESCORE") and before == "Completed":
        yield from changed_score(session, activity)
    elif action in ("SCORE", "RESCORE") and before == "PendingScoring":
        if all(answer.get("score") is not None for answer in session["answers"].values() if answer.get("attempted")):
            session["status"] = "Completed"
            if scored(session):
                yield "score", score(session, activity)
    elif action == "DISCARD":
        session["status"] = "Discarded"
    elif action == "SET_STATUS":
        session["status"] = activity["status"]
        if session["status"] == "Completed":
            yield "status", snapshot(session, activity, session["submitted"] or activity["occurred_at"])
            if scored(session):
                yield "score", score(session, activity)
        elif session["status"] == "Incomplete":
            session["submitted"] = None


def event(name: str, activity: Fields) -> Fields:
    time = datetime.fromtimestamp(activity["occurred_at"] // 1000, UTC)
    return {
        "event": name,
        "session_id": activity["session_id"],
        "activity_id": activity["activity_id"],
        "user_id": activity["user_id"],
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def snapshot(session: Fields, activity: Fields, completed: int) -> Fields:
    started = session["started"] if session["started"] is not None else session["earliest"]
    duration = session["duration"]
    if duration is None:
        duration = (completed // 1000 - started // 1000) // 60
    return {
        "user_id": activity["user_id"],
        "activity_id": session["activity_id"],
        "num_attempted": sum(answer.get("attempted") is True for answer in session["answers"].values()),
        "num_questions": len(session["answers"]) if session["questions"] is None else session["questions"],
        "session_id": activity["session_id"],
        "session_duration": max(duration, 0),
        "status": session["status"],
        "dt_started": second(started),
        "dt_completed": second(completed),
    }


def second(time: int) -> str:
    return datetime.fromtimestamp(time // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def scored(session: Fields) -> bool:
    return any(answer.get("score") is not None for answer in session["answers"].values())


def changed_score(session: Fields, activity: Fields) -> Iterable[tuple[str, Fields]]:
    if scored(session):
        message = score(session, activity)
        if message != session["sent"]:
            yield "score", message


def score(session: Fields, activity: Fields) -> Fields:
    answers = list(session["answers"].values())
    return {
        "user_id": activity["user_id"],
        "activity_id": session["activity_id"],
        "session_id": activity["session_id"],
        "score": total(answers, "score"),
        "max_score": total(answers, "max_score"),
        "subscores": [subscore(session, definition) for definition in session["subscores"]],
        "status": session["status"],
    }


def subscore(session: Fields, definition: Fields) -> Fields:
    items = definition.get("items")
    if not items:
        wanted = definition.get("tags") or []
        items = [item for item in session["items"] if any(tag in wanted for tag in session["tags"].get(item, []))]
    members = [answer for answer in session["answers"].values() if answer["item_reference"] in items]
    attempted = [answer for answer in members if answer.get("attempted")]
    return {
        "id": definition["id"],
        "title": definition["title"],
        "num_questions": len(members),
        "num_attempted": len(attempted),
        "score": total(members, "score") or 0,
        "max_score": total(members, "max_score") or 0,
        "attempted_max_score": total(attempted, "max_score") or 0,
        "items": items,
    }


def total(answers: list[Fields], field: str) -> float | None:
    values = [answer[field] for answer in answers if answer.get(field) is not None]
    if not values:
        return None
    exact = sum(values)  # halves and quarters: exact
    return int(exact) if exact == int(exact) else exact


def record(session: Fields, activity: Fields, place: int, name: str, message: Fields) -> Fields:
    organisation, lrs_id = activity.get("organisation"), activity.get("lrs_id")
    digest = hashlib.sha256(dumps(message).encode()).hexdigest()
    identity = [organisation, lrs_id, activity["session_id"], activity["user_id"], name, activity["record_id"], digest]
    return {
        "id": str(uuid.uuid5(NAMESPACE, dumps(identity))),
        "kind": name if name in ("status", "score") else "event",
        "name": name,
        "organisation": organisation,
        "lrs_id": lrs_id,
        "timestamp": activity["occurred_at"],
        "place": place,
        "message": message,
        "metadata": session["metadata"],
    }


def millisecond(time: int) -> str:
    return datetime.fromtimestamp(time // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time % 1000:03}Z"


def statement(made: Fields) -> Fields:
    message, time = made["message"], millisecond(made["timestamp"])
    activity_id, session_id = message["activity_id"], message["session_id"]
    verb = VERBS[made["name"]]
    if not activity_id.startswith(("http:", "https:", "urn:")):
        activity_id = f"{HOME_PAGE}/activities/{quote(activity_id, safe='')}"
    context: Fields = {"registration": session_id}
    try:
        uuid.UUID(session_id)
    except ValueError:
        context = {
            "registration": str(uuid.uuid5(NAMESPACE, session_id)),
            "extensions": {f"{EXTENSIONS}/session_id": session_id},
        }
    built: Fields = {
        "id": made["id"],
        "actor": {"objectType": "Agent", "account": {"homePage": HOME_PAGE, "name": message["user_id"]}},
        "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}", "display": {"en": verb}},
        "object": {
            "objectType": "Activity",
            "id": activity_id,
            "definition": {"type": "http://adlnet.gov/expapi/activities/assessment"},
        },
        "context": context,
        "timestamp": time,
        "stored": time,
    }
    result = statement_result(made["name"], message)
    if result:
        built["result"] = result
    return built


def statement_result(name: str, message: Fields) -> Fields:
    if name == "session-completed":
        return {"completion": True}
    if name == "status":
        return {
            "completion": message["status"] == "Completed",
            "duration": f"PT{message['session_duration'] * 60}S",
            "extensions": {
                f"{EXTENSIONS}/num_attempted": message["num_attempted"],
                f"{EXTENSIONS}/num_questions": message["num_questions"],
            },
        }
    if name != "score":
        return {}
    score: Fields = {}
    raw, maximum = message["score"], message["max_score"]
    if raw is not None:
        score["raw"] = raw
    if raw is None or raw >= 0:
        score["min"] = 0
    if maximum is not None and maximum > 0 and (raw is None or raw <= maximum):
        score["max"] = maximum
        if raw is not None and raw >= 0:
            score["scaled"] = raw / maximum
    return {"extensions": {f"{EXTENSIONS}/subscores": message["subscores"]}, "score": score}


def document(made: Fields) -> Fields:
    return {
        **made["message"],
        "_id": made["id"],
        "kind": made["kind"],
        "organisation": made["organisation"],
        "lrs_id": made["lrs_id"],
        "timestamp": millisecond(made["timestamp"]),
        "metadata": made["metadata"],
        "statement": statement(made),
    }


def payload(made: Fields, query_document: Fields, wish: Wish) -> bytes:
    if wish.payload == "record":
        return dumps(made["message"]).encode()
    return dumps(query_document["statement"] if wish.payload == "statement" else query_document).encode()


def one_by_one(path: Path, wishes: tuple[Wish, ...], url: str) -> None:
    """Each record as it is made: put_record, requests.post."""
    kinesis: Any = boto3.client("kinesis", region_name=REGION)
    firehose: Any = boto3.client("firehose", region_name=REGION)
    for made in records_of(path):
        query_document = document(made)
        for wish in wishes:
            if not wish.wants(query_document):
                continue
            data = payload(made, query_document, wish)
            if wish.service == "streams":
                kinesis.put_record(StreamName=wish.id, Data=data, PartitionKey=made["message"]["user_id"])
            elif wish.service == "firehose":
                firehose.put_record(DeliveryStreamName=wish.id, Record={"Data": data + b"\n"})
            else:
                requests.post(f"{url}/{wish.id}", data=data, headers=headers(made), timeout=10).raise_for_status()


def in_batches(path: Path, wishes: tuple[Wish, ...], url: str) -> None:
    """put_records and put_record_batch of 500, a requests session."""
    kinesis: Any = boto3.client("kinesis", region_name=REGION)
    firehose: Any = boto3.client("firehose", region_name=REGION)
    collected: dict[str, list[Fields]] = {wish.id: [] for wish in wishes}

    def put(wish: Wish) -> None:
        if collected[wish.id]:
            if wish.service == "streams":
                kinesis.put_records(StreamName=wish.id, Records=collected[wish.id])
            else:
                firehose.put_record_batch(DeliveryStreamName=wish.id, Records=collected[wish.id])
            collected[wish.id] = []

    with requests.Session() as session:
        for made in records_of(path):
            query_document = document(made)
            for wish in wishes:
                if not wish.wants(query_document):
                    continue
                data = payload(made, query_document, wish)
                if wish.service == "streams":
                    collected[wish.id].append({"Data": data, "PartitionKey": made["message"]["user_id"]})
                elif wish.service == "firehose":
                    collected[wish.id].append({"Data": data + b"\n"})
                else:
                    session.post(f"{url}/{wish.id}", data=data, headers=headers(made), timeout=10).raise_for_status()
                if len(collected[wish.id]) == BATCH:
                    put(wish)
        for wish in wishes:
            put(wish)


def headers(made: Fields) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": made["id"]}


def statements(path: Path, wishes: tuple[Wish, ...], url: str, *, in_session: bool) -> None:
    """Statements as they are: each line to everybody who wants it, one after the other.

    in_session: connections are kept, by a session of requests.
    """
    post = requests.Session().post if in_session else requests.post
    seen = set()
    with path.open(encoding="utf-8") as file:
        for line in file:
            statement = json.loads(line)
            if statement["id"] in seen:
                continue
            seen.add(statement["id"])
            for wish in wishes:
                if wish.wants({"statement": statement}):
                    response = post(
                        f"{url}/{wish.id}",
                        data=line.rstrip("\n").encode(),
                        headers={"Content-Type": "application/json", "X-Experience-API-Version": "1.0.3"},
                        timeout=10,
                    )
                    response.raise_for_status()
