"""The one workload of all programs that are compared: activity, ten forwarders, and what it means to be delivered.

Ten forwarders as operators write them: most of what is delivered goes to Kinesis and Firehose in batches, some over
HTTP, one request each; payloads of all three kinds; two queries look into the statement, four forwarders have a scope.
A forwarder's stream, or the path of its url, is its id, so that a sink knows whose records it gets.

Another ten are for statements that are forwarded as they are: HTTP all of them, one request for each statement.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import orjson

from pipeline.sample import sample_activities, write_sample, write_statements

Document = Mapping[str, Any]
Ends = Literal["all", "kinesis", "http", "documents", "statements"]

REGION = "us-east-1"
ACTIVITIES_PER_SESSION = 13.55
"""Of the default sample, for a file of about as many activities as were asked for."""

STATEMENTS_PER_SESSION = 15.38
ACTIVITY_SIZE = 598
"""Bytes of an activity and its line end, on average."""

_COMPLETED = "http://adlnet.gov/expapi/verbs/completed"


@dataclass(frozen=True)
class Wish:
    """A forwarder, and the same query as a Python predicate for those who have no query language."""

    id: str
    service: Literal["streams", "firehose", "http"]
    payload: Literal["record", "statement", "document"]
    query: Mapping[str, Any]
    predicate: Callable[[Document], bool]
    organisation: str | None = None
    lrs_id: str | None = None

    def wants(self, document: Document) -> bool:
        """Scope and query, by the predicate."""
        if self.organisation is not None and document.get("organisation") != self.organisation:
            return False
        if self.lrs_id is not None and document.get("lrs_id") != self.lrs_id:
            return False
        return self.predicate(document)

    def forwarder(self, port: int) -> dict[str, Any]:
        """The forwarder document, sent to the sinks on `port` of this machine."""
        document: dict[str, Any] = {
            "_id": self.id,
            "active": True,
            "query": json.dumps(self.query),
            "payload": self.payload,
        }
        if self.organisation is not None:
            document["organisation"] = self.organisation
        if self.lrs_id is not None:
            document["lrs_id"] = self.lrs_id
        if self.service == "http":
            document["configuration"] = {"protocol": "http", "url": f"127.0.0.1:{port}/{self.id}", "maxRetries": 3}
        else:
            document["configuration"] = {"protocol": "Kinesis"}
            document["kinesisOptions"] = {"service": self.service, "streamName": self.id, "awsRegion": REGION}
        return document


def _completed(document: Document) -> bool:
    return bool(document["statement"]["verb"]["id"] == _COMPLETED)


def _good_score(document: Document) -> bool:
    return document["kind"] == "score" and document["score"] is not None and document["score"] >= 5


WISHES: tuple[Wish, ...] = (
    Wish("everything", "streams", "record", {}, lambda document: True),
    Wish("events", "streams", "record", {"kind": "event"}, lambda document: document["kind"] == "event"),
    Wish("good-scores", "streams", "record", {"kind": "score", "score": {"$gte": 5}}, _good_score),
    Wish("completions", "streams", "statement", {"statement.verb.id": _COMPLETED}, _completed),
    Wish(
        "district",
        "streams",
        "document",
        {"kind": {"$in": ["status", "score"]}},
        lambda document: document["kind"] in ("status", "score"),
        organisation="district-7",
    ),
    Wish(
        "completed-status",
        "firehose",
        "record",
        {"kind": "status", "status": "Completed"},
        lambda document: document["kind"] == "status" and document["status"] == "Completed",
    ),
    Wish(
        "ipads",
        "firehose",
        "record",
        {"metadata.device": "ipad"},
        lambda document: document["metadata"].get("device") == "ipad",
    ),
    Wish(
        "gradebook",
        "http",
        "record",
        {"kind": "score", "score": {"$gte": 5}},
        _good_score,
        organisation="district-7",
    ),
    Wish("lrs", "http", "statement", {"statement.verb.id": _COMPLETED}, _completed, organisation="uni-南京"),
    Wish(
        "starts",
        "http",
        "record",
        {"event": "session-started"},
        lambda document: document.get("event") == "session-started",
        organisation="école-lumière",
        lrs_id="store-1-0",
    ),
)


_VERBS = "http://adlnet.gov/expapi/verbs"
_VIDEO = "https://w3id.org/xapi/video"
_COURSE = "https://courses.example.org/courses/17"
_SINCE = datetime(2024, 1, 8, 6, 30, tzinfo=UTC)


def _part(document: Document, *names: str) -> Any:
    """What lies under `names` in the statement; None where nothing does."""
    value = document["statement"]
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _below_half(document: Document) -> bool:
    scaled = _part(document, "result", "score", "scaled")
    return scaled is not None and scaled < 0.5


def _questions_of_moodle(document: Document) -> bool:
    asks = _part(document, "object", "definition", "interactionType") is not None
    return asks and (_part(document, "context", "platform") or "").startswith("Moodle")


def _long_video(document: Document) -> bool:
    length = _part(document, "context", "extensions", f"{_VIDEO}/extensions/length")
    return length is not None and length >= 300


def _late_comment(document: Document) -> bool:
    stored = datetime.fromisoformat(document["statement"]["stored"])
    return document["statement"]["verb"]["id"] == f"{_VERBS}/commented" and stored >= _SINCE


def _statement_wish(name: str, query: Mapping[str, Any], predicate: Callable[[Document], bool]) -> Wish:
    return Wish(name, "http", "statement", query, predicate)


_ENDS = [f"{_VERBS}/{verb}" for verb in ("completed", "passed", "failed")]
_LEARNERS = [f"learner-{user:08d}" for user in (1, 2, 3, 5)]

STATEMENT_WISHES: tuple[Wish, ...] = (
    _statement_wish(
        "answers",
        {"statement.verb.id": f"{_VERBS}/answered"},
        lambda document: document["statement"]["verb"]["id"] == f"{_VERBS}/answered",
    ),
    _statement_wish(
        "ends",
        {"statement.verb.id": {"$in": _ENDS}},
        lambda document: document["statement"]["verb"]["id"] in _ENDS,
    ),
    _statement_wish("below-half", {"statement.result.score.scaled": {"$lt": 0.5}}, _below_half),
    _statement_wish(
        "videos",
        {"statement.object.definition.type": f"{_VIDEO}/activity-type/video"},
        lambda document: _part(document, "object", "definition", "type") == f"{_VIDEO}/activity-type/video",
    ),
    _statement_wish(
        "course",
        {"statement.context.contextActivities.parent.id": _COURSE},
        lambda document: any(
            each["id"] == _COURSE for each in _part(document, "context", "contextActivities", "parent")
        ),
    ),
    _statement_wish(
        "teacher",
        {"statement.context.instructor.mbox": "mailto:teacher-3@courses.example.org"},
        lambda document: _part(document, "context", "instructor", "mbox") == "mailto:teacher-3@courses.example.org",
    ),
    _statement_wish(
        "questions-of-moodle",
        {
            "statement.context.platform": {"$regex": "^Moodle"},
            "statement.object.definition.interactionType": {"$exists": True},
        },
        _questions_of_moodle,
    ),
    _statement_wish(
        "long-videos",
        {f"statement.context.extensions.{_VIDEO.replace('.', '&46;')}/extensions/length": {"$gte": 300}},
        _long_video,
    ),
    _statement_wish(
        "learners",
        {"statement.actor.account.name": {"$in": _LEARNERS}},
        lambda document: _part(document, "actor", "account", "name") in _LEARNERS,
    ),
    _statement_wish(
        "late-comments",
        {
            "statement.verb.id": f"{_VERBS}/commented",
            "statement.stored": {"$gte": {"$date": _SINCE.isoformat()}},
        },
        _late_comment,
    ),
)


def wishes(ends: Ends = "all") -> tuple[Wish, ...]:
    """All ten; those of one kind of sink; or all, each sent the whole document. Or the ten for statements."""
    if ends == "statements":
        return STATEMENT_WISHES
    if ends == "kinesis":
        return tuple(wish for wish in WISHES if wish.service == "streams")
    if ends == "http":
        return tuple(wish for wish in WISHES if wish.service == "http")
    if ends == "documents":
        return tuple(Wish(w.id, w.service, "document", w.query, w.predicate, w.organisation, w.lrs_id) for w in WISHES)
    return WISHES


def many_forwarders(count: int) -> list[dict[str, Any]]:
    """The ten, and others up to `count`: tenants, learners and activities of their own, so that hits hardly grow."""
    others: tuple[Callable[[int], dict[str, Any]], ...] = (
        lambda number: {"query": {"user_id": f"learner-{number:08d}-{(number * 2654435761) % 2**32:08x}"}},
        lambda number: {"query": {"kind": "score", "score": {"$gte": number % 10}}, "organisation": f"school-{number}"},
        lambda number: {"query": {"statement.object.id": f"https://activities.example/{number}"}},
        lambda number: {"query": {"session_id": {"$in": [f"sess:1:{number}", f"sess:2:{number}"]}, "kind": "status"}},
    )
    documents = [wish.forwarder(1) for wish in WISHES]
    for number in range(count - len(documents)):
        own = others[number % len(others)](number)
        own["query"] = json.dumps(own["query"])
        documents.append({**WISHES[0].forwarder(1), "_id": f"other-{number}", **own})
    return documents[:count]


def write_forwarders(directory: Path, port: int, ends: Ends = "all") -> Path:
    path = directory / f"forwarders-{ends}.json"
    path.write_text(json.dumps([wish.forwarder(port) for wish in wishes(ends)]))
    return path


def sample_file(directory: Path, activities: int, seed: int = 0, hot_share: float | None = None) -> Path:
    """About `activities` activities of the generator's default mix, made once."""
    name = f"sample-{activities}-{seed}" + ("" if hot_share is None else f"-hot{hot_share}")
    path = directory / f"{name}.jsonl"
    if not path.exists():
        sessions = max(1, round(activities / ACTIVITIES_PER_SESSION))
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            write_sample(file, "jsonl", sessions, seed, hot_share=0.01 if hot_share is None else hot_share)
        unfinished.rename(path)
    return path


def statement_file(directory: Path, statements: int) -> Path:
    """About `statements` xAPI statements of the generator's default mix, made once."""
    path = directory / f"statements-{statements}.jsonl"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            write_statements(file, "jsonl", max(1, round(statements / STATEMENTS_PER_SESSION)))
        unfinished.rename(path)
    return path


def activity_as_large_as(path: Path) -> Path:
    """Activity of as many bytes as there are in the file at `path`, to a line; made once."""
    size = path.stat().st_size
    whole = path.with_name(f"{path.stem}-activity.jsonl")
    if not whole.exists():
        unfinished = whole.with_suffix(".part")
        with unfinished.open("wb") as file:
            for activity in sample_activities(max(1, round(1.2 * size / ACTIVITY_SIZE / ACTIVITIES_PER_SESSION))):
                file.write(orjson.dumps(activity) + b"\n")
                if file.tell() >= size:
                    break
        unfinished.rename(whole)
    return whole


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class Tally:
    """What was delivered, whatever the order: so many records, so many bytes, and a sum that tells them apart."""

    def __init__(self) -> None:
        self.count = self.size = self.digest = 0
        self._seeds: dict[str, int] = {}

    def add(self, forwarder_id: str, payload: bytes) -> None:
        seed = self._seeds.get(forwarder_id)
        if seed is None:
            seed = self._seeds[forwarder_id] = crc32(forwarder_id.encode())
        self.count += 1
        self.size += len(payload)
        self.digest += crc32(payload, seed) * len(payload)

    def as_json(self) -> dict[str, Any]:
        return {"count": self.count, "size": self.size, "digest": f"{self.digest:x}"}


def sum_of(tallies: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """What several workers delivered together."""
    whole = Tally()
    for tally in tallies:
        whole.count += tally["count"]
        whole.size += tally["size"]
        whole.digest += int(tally["digest"], 16)
    return whole.as_json()
