"""The derivation a second time, slowly: every fact computed anew from the activity before it.

Written from docs/spec/records.md sections 2 and 3, sentence by sentence, not from the code; where the text leaves a
choice the comment says "chosen". Only for small inputs: it is cubic in the length of a session.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import Any, NamedTuple

import msgspec

from schemas import Activity

NAMESPACE = uuid.UUID("9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24")  # published, never changed
RANKS = [["START"], ["RESUME"], [], ["SUBMIT"], ["SCORE", "RESCORE"], ["SET_STATUS", "DISCARD"]]


class Line(NamedTuple):
    id: str
    kind: str
    organisation: str | None
    lrs_id: str | None
    user_id: str
    timestamp: int
    record_id: str
    place: int
    body: str
    metadata: dict[str, Any]


class Key(NamedTuple):
    organisation: str | None
    lrs_id: str | None
    session_id: str
    user_id: str


def derive(activities: Sequence[Activity], minutes: bool = True) -> tuple[list[Line], Counter[str]]:
    """All records, each (organisation, lrs_id, user_id) in its leaving order, and what was counted."""
    counts: Counter[str] = Counter()
    keys = dict.fromkeys(Key(a.organisation, a.lrs_id, a.session_id, a.user_id) for a in activities)
    lines = []
    for key in keys:
        mine = [a for a in activities if Key(a.organisation, a.lrs_id, a.session_id, a.user_id) == key]
        lines += _Session(key, in_order(without_duplicates(mine, counts)), minutes, counts).lines()
    lines.sort(key=lambda line: (line.timestamp, line.place, json.loads(line.body)["session_id"]))
    return lines, counts


def outcomes(activities: Sequence[Activity]) -> Counter[str]:
    """Sessions by the status that all their activity leaves them with."""
    found: Counter[str] = Counter()
    for key in dict.fromkeys(Key(a.organisation, a.lrs_id, a.session_id, a.user_id) for a in activities):
        mine = [a for a in activities if Key(a.organisation, a.lrs_id, a.session_id, a.user_id) == key]
        ordered = in_order(without_duplicates(mine, Counter()))
        # "Any in state review or preview: as it was". So a session that was only looked at has none.
        looked_at = [a for a in ordered if a.state not in ("review", "preview")]
        status = _Session(key, ordered, minutes=True, counts=Counter()).status(looked_at)
        found["none" if status is None else status] += 1
    return found


def canonical(activity: Activity) -> bytes:
    """Compact JSON, keys sorted, defaults left out; 1.0 and 1 are one number."""

    def alike(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: alike(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [alike(inner) for inner in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    plain = alike(msgspec.to_builtins(activity))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def without_duplicates(activities: Sequence[Activity], counts: Counter[str]) -> list[Activity]:
    """ "The same record_id is one activity; if contents differ, the smallest (occurred_at, canonical bytes) counts"."""
    kept = []
    for record_id in dict.fromkeys(a.record_id for a in activities):
        copies = [a for a in activities if a.record_id == record_id]
        contents = sorted({(a.occurred_at, canonical(a)) for a in copies})
        counts["duplicates"] += len(copies) - 1
        counts["conflicting_duplicates"] += len(contents) - 1  # chosen: contents, not copies
        kept.append(next(a for a in copies if canonical(a) == contents[0][1]))
    return kept


def in_order(activities: Sequence[Activity]) -> list[Activity]:
    def rank(a: Activity) -> int:
        return next((n for n, actions in enumerate(RANKS) if a.action in actions), 2)

    ordered: list[Activity] = []
    for _, group in groupby(sorted(activities, key=lambda a: a.occurred_at), key=lambda a: a.occurred_at):
        instant = list(group)
        numbered = all(a.seq is not None for a in instant)
        ordered += sorted(instant, key=lambda a: (a.seq if numbered else 0, rank(a), a.record_id))
    return ordered


class _Session:
    """One session. `seen` is always the merged activity up to and including the one looked at."""

    def __init__(self, key: Key, ordered: list[Activity], minutes: bool, counts: Counter[str]) -> None:
        self.key = key
        self.ordered = ordered
        self.minutes = minutes
        self.counts = counts
        self.sent: list[Line] = []

    def lines(self) -> list[Line]:
        seen: list[Activity] = []
        for place, activity in enumerate(self.ordered):
            if activity.state in ("review", "preview"):
                continue
            seen = [*seen, activity]
            if activity.activity_id != seen[0].activity_id:
                self.counts["activity_id_disagreements"] += 1  # chosen: once an activity
            for name, message in self.caused(seen):
                self.sent.append(self.line(name, message, activity, place, seen))
        return self.sent

    def line(self, name: str, message: dict[str, Any], cause: Activity, place: int, seen: list[Activity]) -> Line:
        body = compact(message)
        identity = [*self.key, name, cause.record_id, hashlib.sha256(body.encode()).hexdigest()]
        metadata = {name: value for a in seen for name, value in a.metadata.items()}
        kind = name if name in ("status", "score") else "event"
        identifier = str(uuid.uuid5(NAMESPACE, compact(identity)))
        organisation, lrs_id, _, user_id = self.key
        return Line(
            identifier, kind, organisation, lrs_id, user_id, cause.occurred_at, cause.record_id, place, body, metadata
        )

    def caused(self, seen: list[Activity]) -> list[tuple[str, dict[str, Any]]]:
        """The rows of the table."""
        activity, before = seen[-1], self.status(seen[:-1])
        status = self.status(seen)
        score = [("score", self.score(seen))] if self.known(seen) else []
        changed = score if self.differs(score) else []
        match activity.action:
            case "START" if activity.state == "initial":
                if any(starts(a) for a in seen[:-1]):
                    self.counts["repeated_starts"] += 1
                    return []
                return [self.event("session-started", activity)]
            case "START" | "RESUME":
                return [self.event("session-resumed", activity)]
            case "RESPOND" | "SAVE" | "AUTOSAVE":
                return changed if status == "Completed" else []
            case "SUBMIT":
                if before == "Discarded":
                    self.counts["submits_after_discard"] += 1
                both = [self.event("session-completed", activity), ("status", self.snapshot(seen))]
                return both if activity.pending_scoring else both + changed
            case "SCORE" | "RESCORE" if before == "PendingScoring":
                return score if status == "Completed" else []
            case "SCORE" | "RESCORE" if before == "Completed":
                return changed
            case "SET_STATUS" if status == "Completed":
                return [("status", self.snapshot(seen)), *score]
        return []

    def differs(self, score: list[tuple[str, dict[str, Any]]]) -> bool:
        last = next((line.body for line in reversed(self.sent) if line.kind == "score"), None)
        return bool(score) and compact(score[0][1]) != last

    def status(self, seen: list[Activity]) -> str | None:
        status: str | None = None
        for upto, a in enumerate(seen, 1):
            if a.action in ("START", "RESUME", "RESPOND", "SAVE", "AUTOSAVE"):
                status = status or "Incomplete"
            elif a.action == "SUBMIT":
                status = "PendingScoring" if a.pending_scoring else "Completed"
            elif a.action in ("SCORE", "RESCORE") and status == "PendingScoring":
                answers = self.answers(seen[:upto]).values()
                if not any(answer["attempted"] and answer["score"] is None for answer in answers):
                    status = "Completed"
            elif a.action == "DISCARD":
                status = "Discarded"
            elif a.action == "SET_STATUS":
                status = a.status
        return status

    def answers(self, seen: list[Activity]) -> dict[str, dict[str, Any]]:
        """ "Responses merge by response_id, field by field"."""
        merged: dict[str, dict[str, Any]] = {}
        for update in (r for a in seen for r in a.responses):
            answer = merged.setdefault(
                update.response_id, dict.fromkeys(["item", "attempted", "score", "max_score", "revision"])
            )
            both = update.revision is not None and answer["revision"] is not None
            if both and update.revision < answer["revision"]:
                continue
            answer["item"] = update.item_reference
            if update.attempted is not None:
                answer["attempted"] = update.attempted
            if update.revision is not None:
                answer["revision"] = update.revision
            if not (update.score is None and update.max_score is None):  # "move together": one pair
                answer["score"], answer["max_score"] = update.score, update.max_score
        return merged

    def known(self, seen: list[Activity]) -> bool:
        return any(answer["score"] is not None for answer in self.answers(seen).values())

    def event(self, name: str, cause: Activity) -> tuple[str, dict[str, Any]]:
        return name, {
            "event": name,
            "session_id": self.key.session_id,
            "activity_id": cause.activity_id,  # "events carry their own, snapshots the first"
            "user_id": self.key.user_id,
            "time": second(cause).strftime("%Y-%m-%d %H:%M:%S"),
        }

    def snapshot(self, seen: list[Activity]) -> dict[str, Any]:
        answers = self.answers(seen).values()
        started = next((a for a in seen if starts(a)), seen[0])
        reopened = max(
            (n for n, a in enumerate(seen) if a.action == "SET_STATUS" and a.status == "Incomplete"), default=0
        )
        submits = [a for a in seen[reopened:] if a.action == "SUBMIT"]
        completed = submits[-1] if submits else seen[-1]
        declared = [floor(a.num_questions) for a in seen if a.num_questions is not None]
        reported = [floor(a.session_duration) for a in seen if a.session_duration is not None]
        seconds = int((second(completed) - second(started)).total_seconds())
        duration = reported[-1] if reported else floor(Fraction(seconds, 60 if self.minutes else 1))
        if duration < 0:
            self.counts["negative_durations"] += 1
            duration = 0
        return {
            "user_id": self.key.user_id,
            "activity_id": seen[0].activity_id,
            "num_attempted": len([answer for answer in answers if answer["attempted"]]),
            "num_questions": declared[-1] if declared else len(answers),
            "session_id": self.key.session_id,
            "session_duration": duration,
            "status": self.status(seen),
            "dt_started": second(started).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "dt_completed": second(completed).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def score(self, seen: list[Activity]) -> dict[str, Any]:
        answers = list(self.answers(seen).values())
        definitions = next((a.subscores for a in reversed(seen) if a.subscores), [])
        tags = {item: tags for a in seen for item, tags in a.item_tags.items()}
        # Chosen: an item is seen in a response or in item_tags; of one activity responses come first, then
        # item_tags in order of reference, as a map has none.
        mentions = ([*(r.item_reference for r in a.responses), *sorted(a.item_tags)] for a in seen)
        items = list(dict.fromkeys(item for mention in mentions for item in mention))
        subscores = []
        for definition in definitions:
            group = definition.items or [
                item for item in items if any(tag in tags.get(item, []) for tag in definition.tags or [])
            ]
            members = [answer for answer in answers if answer["item"] in group]
            attempted = [answer for answer in members if answer["attempted"]]
            subscores.append(
                {
                    "id": definition.id,
                    "title": definition.title,
                    "num_questions": len(members),
                    "num_attempted": len(attempted),
                    "score": total(members, "score") or 0,
                    "max_score": total(members, "max_score") or 0,
                    "attempted_max_score": total(attempted, "max_score") or 0,
                    "items": group,
                }
            )
        return {
            "user_id": self.key.user_id,
            "activity_id": seen[0].activity_id,
            "session_id": self.key.session_id,
            "score": total(answers, "score"),
            "max_score": total(answers, "max_score"),
            "subscores": subscores,
            "status": self.status(seen),
        }


def starts(activity: Activity) -> bool:
    return activity.action == "START" and activity.state == "initial"


def second(activity: Activity) -> datetime:
    return datetime.fromtimestamp(activity.occurred_at // 1000, UTC)


def total(answers: list[dict[str, Any]], field: str) -> int | float | None:
    values = [Fraction(repr(answer[field])) for answer in answers if answer[field] is not None]
    if not values:
        return None
    return int(sum(values)) if sum(values).denominator == 1 else float(sum(values))


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
