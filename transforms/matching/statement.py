"""A record as an xAPI statement: derived ones in version 1.0.3 (docs/spec/records.md section 4), others as they are."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, assert_never
from urllib.parse import quote
from uuid import uuid5

from schemas import Record
from schemas.record import NAMESPACE
from schemas.times import rfc3339
from transforms.reading.exact_json import loads
from transforms.sessions.derivation import SECONDS_PER_UNIT, DurationUnit

DEFAULT_HOME_PAGE = "https://learner.invalid"
EXTENSIONS = "https://session-forwarder.invalid/extensions"
"""What the IRIs of the extensions in `result` and `context` begin with."""

_VERBS = {
    "session-started": ("http://adlnet.gov/expapi/verbs/initialized", "initialized"),
    "session-resumed": ("http://adlnet.gov/expapi/verbs/resumed", "resumed"),
    "session-completed": ("http://adlnet.gov/expapi/verbs/completed", "completed"),
    "status": ("http://adlnet.gov/expapi/verbs/progressed", "progressed"),
    "score": ("http://adlnet.gov/expapi/verbs/scored", "scored"),
}
_LONGEST_DURATION = 10**12
"""Seconds. A player may report anything, and an LRS that reads durations into a type of its own refuses absurd ones."""
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ASSESSMENT = "http://adlnet.gov/expapi/activities/assessment"

_BEYOND_ASCII = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef" + "".join(
    f"{chr(plane << 16)}-{chr((plane << 16) + 0xFFFD)}" for plane in range(1, 15)
)
_PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_PLAIN = rf"A-Za-z0-9\-._~!$&'()*+,;={_BEYOND_ASCII}"
_PCT = "%[0-9A-Fa-f]{2}"
_PATH = rf"(?:[{_PLAIN}:@/]|{_PCT})"
_HOST = rf"(?:(?:[{_PLAIN}:]|{_PCT})*@)?(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?:[{_PLAIN}]|{_PCT})+)(?::[0-9]*)?"
_IRI = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.\-]*:(?://{_HOST}(?:/{_PATH}*)?|///{_PATH}*|(?!//){_PATH}+)"
    rf"(?:\?(?:[{_PLAIN}:@/?{_PRIVATE}]|{_PCT})*)?(?:\#(?:[{_PLAIN}:@/?]|{_PCT})*)?"
)


class StatementBuilder:
    """Builds the statement of a record.

    Args:
        home_page: of the actor's account, an absolute IRI (`--actor_home_page`).
        duration_unit: the unit of a snapshot's `session_duration` (`--session_duration_unit`).
    """

    def __init__(self, home_page: str = DEFAULT_HOME_PAGE, duration_unit: DurationUnit = "minutes") -> None:
        self._home_page = home_page
        self._activities = home_page.rstrip("/") + "/activities/"
        self._seconds_per_unit = SECONDS_PER_UNIT[duration_unit]

    def statement(self, record: Record) -> dict[str, Any]:
        """The statement, in values of JSON: its dates are text, and in a derived one RFC 3339 with milliseconds.

        Raises:
            RecursionError: the record is a statement that is nested deeper than can be read.
        """
        if record.kind == "statement":
            read: dict[str, Any] = loads(record.body)
            return read
        message = record.message
        verb, display = _VERBS[message["event"] if record.kind == "event" else record.kind]
        time = rfc3339(record.timestamp)
        statement: dict[str, Any] = {
            "id": record.id,
            "actor": {
                "objectType": "Agent",
                "account": {"homePage": self._home_page, "name": record.user_id},
            },
            "verb": {"id": verb, "display": {"en": display}},
            "object": {
                "objectType": "Activity",
                "id": _activity_iri(self._activities, message["activity_id"]),
                "definition": {"type": _ASSESSMENT},
            },
            "context": _context(message["session_id"]),
            "timestamp": time,
            "stored": time,
        }
        result = self._result(record)
        if result:
            statement["result"] = result
        return statement

    def _result(self, record: Record) -> dict[str, Any]:
        message = record.message
        if record.kind == "event":
            return {"completion": True} if message["event"] == "session-completed" else {}
        if record.kind == "status":
            result: dict[str, Any] = {"completion": message["status"] == "Completed"}
            duration = message["session_duration"] * self._seconds_per_unit
            if duration <= _LONGEST_DURATION:
                result["duration"] = f"PT{duration}S"
            result["extensions"] = {
                f"{EXTENSIONS}/num_attempted": message["num_attempted"],
                f"{EXTENSIONS}/num_questions": message["num_questions"],
            }
            return result
        if record.kind == "score":
            result = {"extensions": {f"{EXTENSIONS}/subscores": message["subscores"]}}
            score = _score(message["score"], message["max_score"])
            if score:
                result["score"] = score
            return result
        if record.kind == "statement":
            raise ValueError("a statement is not made of its record")
        assert_never(record.kind)


def _score(raw: float | None, maximum: float | None) -> dict[str, Any]:
    """`result.score` without the parts that xAPI forbids: raw in [min, max], min below max, scaled in [-1, 1]."""
    score: dict[str, Any] = {}
    if raw is not None:
        score["raw"] = raw
    if raw is None or raw >= 0:
        score["min"] = 0
    if maximum is not None and maximum > 0 and (raw is None or raw <= maximum):
        score["max"] = maximum
        if raw is not None and raw >= 0:
            score["scaled"] = raw / maximum
    return score


@lru_cache(maxsize=4096)
def _activity_iri(activities: str, activity_id: str) -> str:
    return activity_id if is_absolute_iri(activity_id) else activities + quote(activity_id, safe="")


@lru_cache(maxsize=4096)
def _context(session_id: str) -> dict[str, Any]:
    registration = _uuid(session_id)
    if registration is not None:
        return {"registration": registration}
    return {
        "registration": str(uuid5(NAMESPACE, session_id)),
        "extensions": {f"{EXTENSIONS}/session_id": session_id},
    }


def _uuid(text: str) -> str | None:
    """`text` if it is a UUID in its usual form of 8-4-4-4-12 digits, else None."""
    return text if _UUID.fullmatch(text) else None


def is_absolute_iri(text: str) -> bool:
    """Whether xAPI takes the text as the id of an activity: an IRI of RFC 3987, with something behind its scheme."""
    iri = _IRI.fullmatch(text)
    if iri is None:
        return False
    try:
        return iri["ipv6"] is None or bool(IPv6Address(iri["ipv6"]))
    except ValueError:
        return False
