"""xAPI statements, read as session activity (docs/spec/records.md section 1, the tables of statements)."""

import re
import uuid
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from schemas import Activity, Response
from schemas.activity import Action, Number, StatementParts
from schemas.numbers import spelled as spelled_numbers
from transforms.reading import extended_json
from transforms.reading.activity import BOM, ActivityError, encode, numbers_alike, parse_object, parse_time
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.reasons import guess_of_statement
from transforms.reading.statement_exports import is_bulk_action, opened, parts_of
from transforms.reading.voids import NOTHING, Void

# Never to be changed: the record ids of statements without an id depend on it.
_STATEMENTS = uuid.UUID("6f1f0f3c-6c1e-5b0a-9d0e-7c1f5b1f7a55")

_INTERACTION = "http://adlnet.gov/expapi/activities/cmi.interaction"
_QUESTION = "http://adlnet.gov/expapi/activities/question"
_LIFECYCLE: dict[str, Action] = {
    "initialized": "START_OR_RESUME",
    "launched": "LAUNCH",
    "start": "START_OR_RESUME",
    "resumed": "RESUME",
    "suspended": "SAVE",
    "terminated": "SAVE",
    "completed": "COMPLETE",
}
_SESSION_NAMES = frozenset({"session-id", "session_id", "sessionid"})
_ATTEMPT_NAMES = frozenset({"attempt-id", "attempt_id", "attemptid"})
_JUDGED = frozenset({"scored", "passed", "failed"})
_NO_ACTIVITY = frozenset({"Agent", "Group", "StatementRef", "SubStatement"})
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)

NOT_A_NUMBER = "scores_not_a_number"
"""Counts results whose score has a part that would be used and is no number."""

SUCCESS_ONLY = "successes_without_score"
"""Counts results that say whether the learner succeeded, and give no score."""

VOIDING = "voiding_statements"
"""Counts statements that void another."""

VOIDED_DOCUMENTS = "voided_documents"
"""Counts statements whose document says that they were voided."""

BULK_ACTIONS = "bulk_actions"
"""Counts lines of Elasticsearch's bulk format that say where the document after them is to be put."""


class PassedOverError(ActivityError):
    """A statement is no activity, and nothing is wrong with it.

    Args:
        name: what to count it under.
        voids: the activity that counts as never read because of it, if there is any.
    """

    def __init__(self, name: str, voids: Void | None = None) -> None:
        super().__init__(f"passed over: {name}")
        self.name = name
        self.voids = voids


class StatementDecoder:
    """Reads xAPI statements.

    Args:
        organisation: of statements that are in no document with one of its own (`--organisation`).
        lrs_id: the store of such statements (`--lrs_id`).
        leniency: what is read beyond the rules.
        qualify_users: the user id of an account is `homePage|name`, and not `name` (`--qualify_users`).

    Attributes:
        left_out: by name, how many results were left out of activity that was read since `take_left_out`.
    """

    def __init__(
        self,
        organisation: str | None = None,
        lrs_id: str | None = None,
        leniency: Leniency = STRICT,
        *,
        qualify_users: bool = False,
    ) -> None:
        self.organisation = organisation
        self.lrs_id = lrs_id
        self.leniency = leniency
        self.qualify_users = qualify_users
        self.left_out: Counter[str] = Counter()

    def decode(self, line: bytes) -> Activity:
        """The activity that the statement on a line describes.

        Three things cannot be known yet, and `resolve_session` decides them when the whole session is there. The action
        may be one that only statements have. The activity_id is that of the statement's own object; it is empty if the
        object is no activity. The score may be that of a part of the session.

        Raises:
            PassedOverError: it is a statement that is no activity.
            ActivityError: it is no statement, or none that is of a learner's session.
        """
        statement = parse_object(line)
        odd: list[str] = []  # which does not matter, where nothing of the statement that is read is among it
        organisation, lrs_id, voided = self.organisation, self.lrs_id, False
        try:
            if b"$" in line and b'"$' in line:  # to look for one byte takes no time
                statement = extended_json.plain(statement, odd)
                if not isinstance(statement, dict):
                    raise ActivityError("a statement is needed, not a single value of Extended JSON")
            if "verb" not in statement:
                if is_bulk_action(statement):
                    raise PassedOverError(BULK_ACTIONS)
                document = opened(statement)
                statement, voided = document.statement, document.voided
                organisation, lrs_id = document.organisation or organisation, document.lrs_id or lrs_id
            if voided:
                raise PassedOverError(VOIDED_DOCUMENTS, (organisation, lrs_id, self._record_id(statement)))
            return self._activity(statement, organisation, lrs_id)
        except RecursionError:
            raise ActivityError("nested too deep") from None
        except ActivityError as error:
            if odd and not isinstance(error, PassedOverError):
                raise ActivityError(f"{error} ({odd[0]})") from None
            raise

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

    def expand(self, line: bytes) -> list[bytes] | None:
        """The statements on a line that was refused, as in an LRS's answer; None if it does not hold several."""
        return parts_of(line.removeprefix(BOM))

    def take_left_out(self) -> dict[str, int]:
        """What was left out of activity that was read since the last call, by name."""
        left_out, self.left_out = self.left_out, Counter()
        return dict(left_out)

    def take_voids(self) -> frozenset[Void]:
        """None: a statement that voids another is passed over, and `PassedOverError` says which."""
        return NOTHING

    def _activity(self, statement: dict[str, Any], organisation: str | None, lrs_id: str | None) -> Activity:
        verb = _verb(statement)
        thing = _part(statement, "object")
        result = _part(statement, "result")
        kind = thing.get("objectType")
        is_activity = not isinstance(kind, str) or kind not in _NO_ACTIVITY
        if verb == "voided" and kind == "StatementRef":
            voids = (organisation, lrs_id, _text(thing.get("id"), "object.id").lower())
            raise PassedOverError(VOIDING, voids)
        session_id = self._session_id(statement)
        if session_id is None:
            if not is_activity:
                raise PassedOverError(f"{str(kind).lower()}_objects_without_session")
            raise ActivityError("no session; allowed: context.registration or a session-id extension of the context")
        user_id, home_page = self._user(statement)
        action: Action = "RESPOND"
        activity_id = ""
        responses: list[Response] = []
        score: Number | None = None
        max_score: Number | None = None
        if is_activity:
            activity_id = _text(thing.get("id"), "object.id")
            definition = _part(thing, "definition", "object.definition")
            question = _is_question(definition, result)
            action = _action(verb, question, "score" in result)
            if result:
                score, max_score = self._score(result)
            if question:
                # To open or leave a question says nothing about whether it was answered.
                attempted = None if verb in _LIFECYCLE and verb != "completed" else verb != "skipped"
                responses = [Response(activity_id, activity_id, attempted, None, score, max_score)]
                score = None
        parts = None
        if score is not None:
            parts = StatementParts(home_page, score, max_score)
        elif home_page is not None:
            parts = _of_home_page(home_page)
        return Activity(
            record_id=self._record_id(statement),
            user_id=user_id,
            session_id=session_id,
            activity_id=activity_id,
            action=action,
            occurred_at=_occurred_at(statement, self.leniency),
            organisation=organisation,
            lrs_id=lrs_id,
            responses=responses,
            statement=parts,
        )

    def _score(self, result: dict[str, Any]) -> tuple[Number | None, Number | None]:
        """`raw` and `max`, else `scaled` of 1."""
        score = result.get("score")
        if score is None:
            if isinstance(result.get("success"), bool):
                self.left_out[SUCCESS_ONLY] += 1
            return None, None
        try:
            if not isinstance(score, dict):
                raise ValueError
            raw, highest = self._number(score.get("raw")), self._number(score.get("max"))
            if raw is None and (scaled := self._number(score.get("scaled"))) is not None:
                return scaled, 1
        except ValueError:
            self.left_out[NOT_A_NUMBER] += 1
            return None, None
        if raw is None and isinstance(result.get("success"), bool):
            self.left_out[SUCCESS_ONLY] += 1
        return raw, highest

    def _number(self, value: object) -> Number | None:
        """Raises ValueError for anything but a number or null."""
        if value is None:
            return None
        if self.leniency.lenient_numbers and isinstance(value, str) and _NUMBER.fullmatch(value):
            value = orjson.loads(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        return value if -(2**63) <= value < 2**63 else float(value)

    def _record_id(self, statement: dict[str, Any]) -> str:
        given = statement.get("id")
        if given is not None:
            return (given if isinstance(given, str) and given else self._id(given, "id")).lower()
        try:
            canonical = orjson.dumps(spelled_numbers(numbers_alike(statement)), option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise ActivityError(f"id: missing, and none can be made of the content ({error})") from None
        return str(uuid.uuid5(_STATEMENTS, canonical.decode()))

    def _user(self, statement: dict[str, Any]) -> tuple[str, str | None]:
        """The user id, and the home page of the account where there is one."""
        actor = statement.get("actor")
        if not isinstance(actor, dict):
            raise ActivityError("actor: missing or not an object; allowed: an identified Agent")
        if actor.get("objectType") == "Group" or "member" in actor:
            raise ActivityError("actor: a Group is not one learner; allowed: an identified Agent")
        account = actor.get("account")
        if account is not None:
            user_id, home_page = self._account(account)
        else:
            home_page = None
            name = next((name for name in ("mbox", "mbox_sha1sum", "openid") if actor.get(name) is not None), "")
            if not name:
                raise ActivityError("actor: not identified; allowed: account, mbox, mbox_sha1sum or openid")
            user_id = _text(actor[name], f"actor.{name}")
        if len(user_id) > 256:
            field = next(name for name in ("account", "mbox", "mbox_sha1sum", "openid") if actor.get(name) is not None)
            raise ActivityError(f"actor.{field}: the user id is longer than 256 characters")
        return user_id, home_page

    def _account(self, account: object) -> tuple[str, str | None]:
        if not isinstance(account, dict):
            told = f"actor.account: not an object ({_type(account)})"
            raise ActivityError(f"{told}; allowed: an object with homePage and name")
        name, home_page = account.get("name"), account.get("homePage")
        if not isinstance(name, str) or not name:
            name = self._id(name, "actor.account.name")
        if home_page is None:
            return name, None
        if not isinstance(home_page, str) or not home_page:
            home_page = _text(home_page, "actor.account.homePage")
        return (f"{home_page}|{name}" if self.qualify_users else name), home_page

    def _id(self, value: object, path: str) -> str:
        if self.leniency.lenient_numbers and (spelled := _spelled(value)):
            return spelled
        return _text(value, path)

    def _session_id(self, statement: dict[str, Any]) -> str | None:
        """The registration, with the session of cmi5 in it; else a session-id extension; None without any."""
        context = _part(statement, "context")
        registration = context.get("registration")
        if registration is not None:
            if not isinstance(registration, str) or not registration:
                registration = _spelled(registration) or _text(registration, "context.registration")
            extensions = context.get("extensions")
            if extensions and isinstance(extensions, dict):
                for name in extensions:
                    if "cmi5" in name and _is_cmi5_session(name) and (session := _spelled(extensions[name])):
                        return f"{registration.lower()}|{session}"
            return str(registration.lower())
        extensions = _part(context, "extensions", "context.extensions")
        named = [name for name in extensions if _session_rank(name) is not None]
        if len(named) > 1:
            named.sort(key=lambda name: (_session_rank(name), name))
        for name in named:
            if session := _spelled(extensions[name]):
                return session
        for name in named:
            if extensions[name] is not None:
                raise ActivityError(
                    f"context.extensions[{name}]: empty or not a string ({_type(extensions[name])}); "
                    "allowed: a string that is not empty, or a number"
                )
        return None


@lru_cache(maxsize=64)
def _of_home_page(home_page: str) -> StatementParts:
    return StatementParts(home_page)


def _action(verb: str, question: bool, scored: bool) -> Action:
    lifecycle = _LIFECYCLE.get(verb)
    if lifecycle:
        return lifecycle
    if question:
        return "RESPOND"
    if verb == "submit":
        return "SUBMIT"
    if verb in _JUDGED and scored:
        return "SCORE"
    return "RESPOND"


def _is_question(definition: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether the statement carries a response: about an interaction always, about a `question` with its score."""
    kind = definition.get("type")
    if kind == _INTERACTION or "interactionType" in definition:
        return True
    return kind == _QUESTION and result.get("score") is not None


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


@lru_cache(maxsize=1024)  # a log has a few dozen verbs and extensions
def _last_segment(iri: str) -> str:
    return re.split(r"[/#]", iri.rstrip("/"))[-1].lower()


@lru_cache(maxsize=1024)
def _session_rank(name: str) -> int | None:
    """Where an extension of this name stands among those that name the session; None if it is none of them."""
    last = _last_segment(name)
    if last in _SESSION_NAMES:
        return 0
    if re.search(r"/extensions?/session/*$", name, re.IGNORECASE):
        return 1
    return 2 if last in _ATTEMPT_NAMES else None


@lru_cache(maxsize=1024)
def _is_cmi5_session(name: str) -> bool:
    return "/cmi5/" in name and _session_rank(name) in (0, 1)


def _spelled(value: object) -> str | None:
    """An id that is text, or a number as its text; None if it is neither, or empty."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
        told = "" if value is None or value == "" else f" ({_type(value)})"
        raise ActivityError(f"{path}: missing or not a string{told}; allowed: a string that is not empty")
    return value


def _type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "an array", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), "null")
