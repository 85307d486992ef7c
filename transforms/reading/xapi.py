"""xAPI statements, read as session activity (docs/spec/records.md section 1, the table of statements)."""

import re
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from schemas import Activity, Response
from schemas.activity import Action, Number
from schemas.numbers import spelled
from transforms.reading.activity import ActivityError, encode, numbers_alike, parse_object, parse_time
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.reasons import guess_of_statement

# Never to be changed: the record ids of statements without an id depend on it.
_STATEMENTS = uuid.UUID("6f1f0f3c-6c1e-5b0a-9d0e-7c1f5b1f7a55")

_INTERACTION = "http://adlnet.gov/expapi/activities/cmi.interaction"
_LIFECYCLE: dict[str, Action] = {
    "initialized": "START_OR_RESUME",
    "launched": "START_OR_RESUME",
    "start": "START_OR_RESUME",
    "resumed": "RESUME",
    "suspended": "SAVE",
    "terminated": "SAVE",
    "completed": "SUBMIT",
}
_SESSION_NAMES = frozenset({"session-id", "session_id", "sessionid"})
_JUDGED = frozenset({"scored", "passed", "failed"})


class StatementDecoder:
    """Reads xAPI statements.

    Args:
        organisation: of every activity, since statements carry none (`--organisation`).
        lrs_id: the store of every activity (`--lrs_id`).
        leniency: what is read beyond the rules.
    """

    def __init__(self, organisation: str | None = None, lrs_id: str | None = None, leniency: Leniency = STRICT) -> None:
        self.organisation = organisation
        self.lrs_id = lrs_id
        self.leniency = leniency

    def decode(self, line: bytes) -> Activity:
        """The activity that the statement on a line describes.

        Two things cannot be known yet, and `resolve_session` decides them when the whole session is there. The action
        may be START_OR_RESUME. The activity_id is that of the statement's own object.

        Raises:
            ActivityError: it is no statement, or none that is of a learner's session.
        """
        statement = parse_object(line)
        verb = _verb(statement)
        object_ = _part(statement, "object")
        interaction = _is_interaction(object_)
        result = _part(statement, "result")
        activity_id = _text(object_.get("id"), "object.id")
        return Activity(
            record_id=_record_id(statement),
            user_id=_user_id(statement),
            session_id=_session_id(statement),
            activity_id=activity_id,
            action=_action(verb, interaction, "score" in result),
            occurred_at=_occurred_at(statement, self.leniency),
            organisation=self.organisation,
            lrs_id=self.lrs_id,
            responses=[_response(activity_id, verb, result)] if interaction else [],
        )

    def admit(self, line: bytes) -> tuple[str, bytes]:
        """As `decode`, but the activity stays a line.

        Returns:
            The user id, and the line that `decode_admitted` reads.

        Raises:
            ActivityError: as `decode`.
        """
        activity = self.decode(line)
        return activity.user_id, encode(activity)

    def guess(self, content: bytes) -> str | None:
        """What `content`, which was refused, looks like (see `transforms.reading.reasons`)."""
        return guess_of_statement(content)

    def admit_row(self, row: Mapping[str, Any]) -> tuple[str, bytes]:
        """Always raises ActivityError: statements are read from JSON alone."""
        raise ActivityError("xAPI statements are read from JSON")


def resolve_session(activities: Iterable[Activity]) -> list[Activity]:
    """Decide what single statements leave open: START or RESUME, and the activity_id of the session.

    START_OR_RESUME becomes START the first time and RESUME after that. Every activity gets the activity_id of the first
    START or RESUME, or of the first activity if there is neither.

    Args:
        activities: of one session from `StatementDecoder`, in the order of docs/spec/records.md section 2. In that
            order START_OR_RESUME stands where START does.
    """
    decided: list[Activity] = []
    started = False
    for activity in activities:
        if activity.action == "START_OR_RESUME":
            action: Action = "RESUME" if started else "START"
            activity = msgspec.structs.replace(activity, action=action)
            started = True
        decided.append(activity)
    opening = next((activity for activity in decided if activity.action in ("START", "RESUME")), None)
    if opening is None and not decided:
        return []
    activity_id = (opening or decided[0]).activity_id
    return [
        activity if activity.activity_id == activity_id else msgspec.structs.replace(activity, activity_id=activity_id)
        for activity in decided
    ]


def _action(verb: str, interaction: bool, scored: bool) -> Action:
    lifecycle = _LIFECYCLE.get(verb)
    if lifecycle:
        return lifecycle
    if interaction:
        return "RESPOND"
    if verb == "submit":
        return "SUBMIT"
    if verb in _JUDGED and scored:
        return "SCORE"
    return "RESPOND"


def _response(interaction_id: str, verb: str, result: dict[str, Any]) -> Response:
    score = _part(result, "score", "result.score")
    return Response(
        response_id=interaction_id,
        item_reference=interaction_id,
        # That a question was opened or left does not say whether it was answered.
        attempted=None if verb in _LIFECYCLE and verb != "completed" else verb != "skipped",
        score=_number(score.get("raw"), "result.score.raw"),
        max_score=_number(score.get("max"), "result.score.max"),
    )


def _record_id(statement: dict[str, Any]) -> str:
    own_id = statement.get("id")
    if own_id is None:
        canonical = orjson.dumps(spelled(numbers_alike(statement)), option=orjson.OPT_SORT_KEYS)
        return str(uuid.uuid5(_STATEMENTS, canonical.decode()))
    return _text(own_id, "id")


def _user_id(statement: dict[str, Any]) -> str:
    actor = statement.get("actor")
    if not isinstance(actor, dict):
        raise ActivityError("actor: missing or not an object; allowed: an identified Agent")
    if actor.get("objectType") == "Group" or "member" in actor:
        raise ActivityError("actor: a Group is not one learner; allowed: an identified Agent")
    account = actor.get("account")
    if account is not None:
        if not isinstance(account, dict):
            raise ActivityError("actor.account: not an object")
        field, user_id = "actor.account.name", account.get("name")
    else:
        field = next((name for name in ("mbox", "mbox_sha1sum", "openid") if actor.get(name) is not None), "")
        if not field:
            raise ActivityError("actor: not identified; allowed: account, mbox, mbox_sha1sum or openid")
        field, user_id = f"actor.{field}", actor[field]
    user_id = _text(user_id, field)
    if len(user_id) > 256:
        raise ActivityError(f"{field}: longer than 256 characters")
    return user_id


def _session_id(statement: dict[str, Any]) -> str:
    context = _part(statement, "context")
    registration = context.get("registration")
    if registration is not None:
        return _text(registration, "context.registration")
    extensions = _part(context, "extensions", "context.extensions")
    for name in sorted(extensions):
        if _last_segment(name) in _SESSION_NAMES and extensions[name] is not None:
            return _text(extensions[name], f"context.extensions[{name}]")
    raise ActivityError("no session; allowed: context.registration or a session-id extension of the context")


def _occurred_at(statement: dict[str, Any], leniency: Leniency) -> int:
    for name in ("timestamp", "stored"):
        if statement.get(name) is not None:
            text = statement[name]
            if not isinstance(text, str):
                raise ActivityError(f"{name}: not a string")
            return parse_time(text, name, naive_utc=leniency.naive_utc)
    raise ActivityError("timestamp: missing, and stored too")


def _verb(statement: dict[str, Any]) -> str:
    return _last_segment(_text(_part(statement, "verb").get("id"), "verb.id"))


def _is_interaction(object_: dict[str, Any]) -> bool:
    definition = _part(object_, "definition", "object.definition")
    return definition.get("type") == _INTERACTION or "interactionType" in definition


@lru_cache(maxsize=1024)  # a log has a few dozen verbs and extensions
def _last_segment(iri: str) -> str:
    return re.split(r"[/#]", iri.rstrip("/"))[-1].lower()


def _part(of: dict[str, Any], name: str, path: str = "") -> dict[str, Any]:
    """The object under `name`; {} if there is none. Raises ActivityError when it is something else."""
    part = of.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise ActivityError(f"{path or name}: not an object")
    return part


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise ActivityError(f"{path}: missing or not a string; allowed: a string that is not empty")
    return value


def _number(value: object, path: str) -> Number | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ActivityError(f"{path}: not a number")
    return value if -(2**63) <= value < 2**63 else float(value)
