"""The fold that turns the activity of a session into events and snapshots (docs/spec/records.md sections 2 and 3).

It is pure: no Beam, no clock, no randomness. In batch it folds whole sessions. In streaming it folds a session again,
from its kept activity, whenever more of it arrives (`transforms.sessions.state.fold_on`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha1, sha256
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

import msgspec
import orjson

from schemas import Activity, Kind, Record, SubscoreDefinition, Tag
from schemas.activity import Number, Response, Scalar
from schemas.numbers import spelled, spelled_alike
from schemas.times import event_time, snapshot_time
from transforms.reading.activity import canonical
from transforms.sessions.scores import exact_sum

NAMESPACE = UUID("9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24")
"""The namespace of every derived id. If it changed, every receiver would see every record as a new one."""

DurationUnit = Literal["minutes", "seconds"]
SECONDS_PER_UNIT: dict[DurationUnit, int] = {"minutes": 60, "seconds": 1}
"""What one unit of a `session_duration` is (`--session_duration_unit`)."""

StateKey = tuple[str | None, str | None, str, str | None]
"""What identifies a session among those of one user: (organisation, lrs_id, session_id, home page of the account)."""

_RANK = {
    "LAUNCH": -1,
    "START": 0,
    "START_OR_RESUME": 0,
    "RESUME": 1,
    "SUBMIT": 3,
    "COMPLETE": 3,
    "SCORE": 4,
    "RESCORE": 4,
    "SET_STATUS": 5,
    "DISCARD": 5,
}
_OTHER = 2
_LARGEST_LONG = 2**63 - 1
_spelling = msgspec.json.Encoder(order="deterministic").encode
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Counts(msgspec.Struct):
    """What was met while deriving, for the report. It adds up over users, buckets and workers.

    Attributes:
        activities: that were folded, with their duplicates.
        sessions: that were folded.
        duplicates: activities that were there already.
        conflicting_duplicates: activities with the `record_id` of another, but other contents.
        repeated_starts: STARTs of a session that has started before.
        submits_after_discard: SUBMITs of a session that was discarded before.
        activity_id_disagreements: activities with another `activity_id` than the first of their session.
        negative_durations: durations that came out below 0, and were sent as 0.
        voided: activities that count as never read.
        part_scores: scores of parts of a session that are no questions. They are part of no score of the session.
        users_of_several_home_pages: user ids that stand for accounts of several home pages.
    """

    activities: int = 0
    sessions: int = 0
    duplicates: int = 0
    conflicting_duplicates: int = 0
    repeated_starts: int = 0
    submits_after_discard: int = 0
    activity_id_disagreements: int = 0
    negative_durations: int = 0
    voided: int = 0
    part_scores: int = 0
    users_of_several_home_pages: int = 0

    def add(self, other: "Counts") -> None:
        """Add `other`, which is left as it was."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Answer(msgspec.Struct):
    """What is known of one response at one moment of the session."""

    item_reference: str
    attempted: bool | None = None
    score: Number | None = None
    max_score: Number | None = None
    revision: int | None = None


class Session(msgspec.Struct):
    """The state of one session: all that the fold remembers between two activities. It can be serialised.

    Attributes:
        earliest: epoch ms of the first activity.
        started: epoch ms of the first START.
        submitted: epoch ms of the last SUBMIT that still counts.
        session_duration: in the unit of the player.
        answers: by `response_id`.
        items: the references of the items, in the order in which they were met; a dict that serves as an ordered set.
        sent_score: the body of the last score snapshot.
        scores_touched: whether scores may have changed since that was last looked at.
    """

    organisation: str | None
    lrs_id: str | None
    session_id: str
    user_id: str
    activity_id: str | None = None
    status: str | None = None
    earliest: int = 0
    started: int | None = None
    submitted: int | None = None
    session_duration: int | None = None
    num_questions: int | None = None
    answers: dict[str, Answer] = {}
    items: dict[str, None] = {}
    subscores: list[SubscoreDefinition] = []
    item_tags: dict[str, list[Tag]] = {}
    metadata: dict[str, Scalar] = {}
    own_score: tuple[Number, Number | None] | None = None
    """The session's own score and its maximum, in place of the sums of the responses."""
    sent_score: bytes | None = None
    scores_touched: bool = False

    @property
    def scores_known(self) -> bool:
        """Whether the session has a score of its own, or some answer has one."""
        return self.own_score is not None or any(answer.score is not None for answer in self.answers.values())

    @property
    def all_scored(self) -> bool:
        """Whether no answer that was attempted lacks its score."""
        return not any(answer.attempted and answer.score is None for answer in self.answers.values())


class Derivation:
    """Derives the records of sessions, and counts what it met.

    Args:
        duration_unit: the unit of a `session_duration` that the player did not report.
        resolve_session: completes the activity of a session, which is in its order, before it is folded
            (`InputFormat`).
        on_session: is called with every session after it was folded.
        on_conflict: is called with two activities that have one `record_id` and different contents; the first one
            counts.
    """

    def __init__(
        self,
        duration_unit: DurationUnit = "minutes",
        resolve_session: Callable[[list[Activity]], list[Activity]] | None = None,
        on_session: Callable[[Session], None] | None = None,
        on_conflict: Callable[[Activity, Activity], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self._seconds_per_unit = SECONDS_PER_UNIT[duration_unit]
        self._resolve_session = resolve_session
        self._on_session = on_session
        self._on_conflict = on_conflict

    def user(self, activities: Iterable[Activity], home_pages: Iterable[str | None] = ()) -> list[Record]:
        """All records of one user, in the order in which they have to leave: by time, then place, then session.

        Args:
            activities: all of the user, in any order and with duplicates.
            home_pages: of the accounts in other sessions of the user that are known.
        """
        sessions: dict[StateKey, list[Activity]] = {}
        for activity in activities:
            statement = activity.statement
            home_page = None if statement is None else statement.home_page
            key = (activity.organisation, activity.lrs_id, activity.session_id, home_page)
            session = sessions.get(key)
            if session is None:
                sessions[key] = [activity]
            else:
                session.append(activity)
        if len({key[3] for key in sessions}.union(home_pages) - {None}) > 1:
            self.counts.users_of_several_home_pages += 1
        if len(sessions) == 1:
            return self.session(next(iter(sessions.values())))
        # Two sessions may differ in the home page alone, which no record has.
        in_order = sorted(sessions.items(), key=lambda keyed: keyed[0][3] or "")
        records = [record for _, session in in_order for record in self.session(session)]
        records.sort(key=_leaving_order)
        return records

    def session(self, activities: Sequence[Activity]) -> list[Record]:
        """The records of one session, in their order.

        Args:
            activities: all of the session, in any order and with duplicates.
        """
        ordered = in_session_order(self._without_duplicates(activities))
        if self._resolve_session is not None:
            scores = _scores(ordered)
            ordered = self._resolve_session(ordered)
            self.counts.part_scores += scores - _scores(ordered)
        first = ordered[0]
        session = Session(first.organisation, first.lrs_id, first.session_id, first.user_id)
        self.counts.sessions += 1
        self.counts.activities += len(activities)
        records: list[Record] = []
        for place, activity in enumerate(ordered):
            self.fold(session, activity, place, records)
        if self._on_session is not None:
            self._on_session(session)
        return records

    def fold(self, session: Session, activity: Activity, place: int, records: list[Record]) -> None:
        """Bring a session forward by one activity.

        Args:
            session: is changed.
            activity: the next one in the session's order.
            place: its index in that order.
            records: what the activity causes is appended.
        """
        if activity.state == "review" or activity.state == "preview":
            return
        self._merge(session, activity)
        action = activity.action
        if action == "RESPOND" or action == "SAVE" or action == "AUTOSAVE":
            session.status = session.status or "Incomplete"
            if session.status == "Completed":
                _Cause(session, activity, place, records).score_if_changed()
            return
        cause = _Cause(session, activity, place, records)
        if action == "START" and activity.state != "resume":
            session.status = session.status or "Incomplete"
            if session.started is None:
                session.started = activity.occurred_at
                cause.event("session-started")
            else:
                self.counts.repeated_starts += 1
        elif action == "RESUME" or action == "START":
            session.status = session.status or "Incomplete"
            cause.event("session-resumed")
        elif action == "SUBMIT":
            self._submit(session, activity, cause)
        elif action == "SCORE" or action == "RESCORE":
            if session.status == "PendingScoring":
                if session.all_scored:
                    session.status = "Completed"
                    cause.score()
            elif session.status == "Completed":
                cause.score_if_changed()
        elif action == "DISCARD":
            session.status = "Discarded"
        elif action == "SET_STATUS":
            self._set_status(session, activity, cause)

    def _submit(self, session: Session, activity: Activity, cause: "_Cause") -> None:
        if session.status == "Discarded":
            self.counts.submits_after_discard += 1
        session.status = "PendingScoring" if activity.pending_scoring else "Completed"
        session.submitted = activity.occurred_at
        cause.event("session-completed")
        self._status_snapshot(session, cause, completed=activity.occurred_at)
        if session.status == "Completed":
            cause.score_if_changed()

    def _set_status(self, session: Session, activity: Activity, cause: "_Cause") -> None:
        session.status = activity.status
        if session.status == "Completed":
            completed = activity.occurred_at if session.submitted is None else session.submitted
            self._status_snapshot(session, cause, completed)
            cause.score()
        elif session.status == "Incomplete":
            session.submitted = None

    def _status_snapshot(self, session: Session, cause: "_Cause", completed: int) -> None:
        started = session.started if session.started is not None else session.earliest
        duration = session.session_duration
        if duration is None:
            duration = (completed // 1000 - started // 1000) // self._seconds_per_unit
        if duration < 0:
            self.counts.negative_durations += 1
            duration = 0
        cause.status(
            {
                "user_id": session.user_id,
                "activity_id": session.activity_id,
                "num_attempted": sum(answer.attempted is True for answer in session.answers.values()),
                "num_questions": len(session.answers) if session.num_questions is None else session.num_questions,
                "session_id": session.session_id,
                "session_duration": duration,
                "status": session.status,
                "dt_started": snapshot_time(started),
                "dt_completed": snapshot_time(completed),
            },
        )

    def _without_duplicates(self, activities: Sequence[Activity]) -> Sequence[Activity]:
        """One activity for each `record_id`.

        Of several with different contents it is the smallest by (occurred_at, canonical bytes), whatever the order they
        came in.
        """
        if len({activity.record_id for activity in activities}) == len(activities):
            return activities
        copies: dict[str, list[Activity]] = {}
        for activity in activities:
            copies.setdefault(activity.record_id, []).append(activity)
        return [same[0] if len(same) == 1 else self._one_of(same) for same in copies.values()]

    def _one_of(self, same: list[Activity]) -> Activity:
        by_content: dict[bytes, Activity] = {}
        for activity in sorted(same, key=_spelling):  # equal contents may be spelled in two ways, as 1 and 1.0
            by_content.setdefault(canonical(activity), activity)
        contents = sorted(by_content, key=lambda content: (by_content[content].occurred_at, content))
        self.counts.duplicates += len(same) - 1
        self.counts.conflicting_duplicates += len(contents) - 1
        kept = by_content[contents[0]]
        if len(contents) > 1 and self._on_conflict is not None:
            self._on_conflict(kept, by_content[contents[1]])
        return kept

    def _merge(self, session: Session, activity: Activity) -> None:
        """Take over what the activity says of the session."""
        if session.activity_id is None:
            session.activity_id = activity.activity_id
            session.earliest = activity.occurred_at
        elif session.activity_id != activity.activity_id:
            self.counts.activity_id_disagreements += 1
        if activity.session_duration is not None:
            session.session_duration = _floored(activity.session_duration)
        if activity.num_questions is not None:
            session.num_questions = _floored(activity.num_questions)
        if activity.metadata:
            # Sorted, since copies of one activity may differ in the order of a map, and a record's bytes must not.
            session.metadata = dict(sorted({**session.metadata, **activity.metadata}.items()))
        for response in activity.responses:
            _merge_response(session, response)
        if activity.statement is not None and activity.statement.score is not None:
            session.own_score = activity.statement.score, activity.statement.max_score
            session.scores_touched = True
        if activity.subscores:
            session.subscores = activity.subscores
            session.scores_touched = True
        if activity.item_tags:
            session.item_tags = {**session.item_tags, **activity.item_tags}
            session.items.update(dict.fromkeys(sorted(activity.item_tags)))
            session.scores_touched = True


def state_key(activity: Activity) -> StateKey:
    """The session that the activity belongs to, among those of its user."""
    home_page = None if activity.statement is None else activity.statement.home_page
    return activity.organisation, activity.lrs_id, activity.session_id, home_page


def _scores(activities: Iterable[Activity]) -> int:
    return sum(activity.statement is not None and activity.statement.score is not None for activity in activities)


def in_session_order(activities: Iterable[Activity]) -> list[Activity]:
    """The activities of a session in its order (docs/spec/records.md section 2).

    They are sorted by `occurred_at`. Those of one instant are sorted by `seq` if all of them have one, then by the rank
    of the action, then by `record_id`.
    """
    ordered = sorted(activities, key=attrgetter("occurred_at"))
    if len({activity.occurred_at for activity in ordered}) == len(ordered):
        return ordered
    start = 0
    for end in range(1, len(ordered) + 1):
        if end < len(ordered) and ordered[end].occurred_at == ordered[start].occurred_at:
            continue
        if end - start > 1:
            instant = ordered[start:end]
            has_seq = all(activity.seq is not None for activity in instant)
            ordered[start:end] = sorted(instant, key=_order_by_seq if has_seq else _order_by_rank)
        start = end
    return ordered


def _order_by_rank(activity: Activity) -> tuple[int, str]:
    return _RANK.get(activity.action, _OTHER), activity.record_id


def _order_by_seq(activity: Activity) -> tuple[int, tuple[int, str]]:
    return activity.seq or 0, _order_by_rank(activity)


def _floored(value: Number) -> int:
    """`value` rounded down. Beyond 64 bits it is the nearest number that they hold, since the schemas have a long."""
    return max(-_LARGEST_LONG, min(_LARGEST_LONG, int(value // 1)))


def _merge_response(session: Session, response: Response) -> None:
    answer = session.answers.get(response.response_id)
    if answer is None:
        answer = session.answers[response.response_id] = Answer(response.item_reference)
    elif response.revision is not None and answer.revision is not None and response.revision < answer.revision:
        return
    session.scores_touched = True
    session.items.setdefault(response.item_reference)
    answer.item_reference = response.item_reference
    if response.revision is not None:
        answer.revision = response.revision
    if response.attempted is not None:
        answer.attempted = response.attempted
    if response.score is not None or response.max_score is not None:
        answer.score, answer.max_score = response.score, response.max_score


class _Cause:
    """Makes the records that one activity causes, at its place in the session."""

    __slots__ = ("_activity", "_place", "_records", "_session")

    def __init__(self, session: Session, activity: Activity, place: int, records: list[Record]) -> None:
        self._session = session
        self._activity = activity
        self._place = place
        self._records = records

    def event(self, name: str) -> None:
        message = {
            "event": name,
            "session_id": self._session.session_id,
            "activity_id": self._activity.activity_id,
            "user_id": self._session.user_id,
            "time": event_time(self._activity.occurred_at),
        }
        self._emit("event", name, message, orjson.dumps(message))

    def score(self) -> None:
        """A score snapshot, if a score is known."""
        if self._session.scores_known:
            message = _score_message(self._session)
            self._send_score(message, _encode_score(message))

    def score_if_changed(self) -> None:
        """A score snapshot, if a score is known and the last snapshot does not say the same."""
        if self._session.scores_touched and self._session.scores_known:
            message = _score_message(self._session)
            body = _encode_score(message)
            if body != self._session.sent_score:
                self._send_score(message, body)
            self._session.scores_touched = False

    def _send_score(self, message: dict[str, Any], body: bytes) -> None:
        self._session.sent_score = body
        self._emit("score", "score", message, body)

    def status(self, message: dict[str, Any]) -> None:
        self._emit("status", "status", message, orjson.dumps(message))

    def _emit(self, kind: Kind, name: str, message: dict[str, Any], body: bytes) -> None:
        session, activity = self._session, self._activity
        identity = [
            session.organisation,
            session.lrs_id,
            session.session_id,
            session.user_id,
            name,
            activity.record_id,
            sha256(body).hexdigest(),
        ]
        self._records.append(
            Record(
                _uuid5(orjson.dumps(identity)),
                kind,
                session.organisation,
                session.lrs_id,
                session.user_id,
                activity.occurred_at,
                activity.record_id,
                self._place,
                message,
                body,
                session.metadata,
            )
        )


def _score_message(session: Session) -> dict[str, Any]:
    answers = session.answers.values()
    scores: Sequence[tuple[Number | None, Number | None]]
    if session.own_score is not None:
        scores = [session.own_score]
    else:
        scores = [(answer.score, answer.max_score) for answer in answers]
    # The sum of one number is the number as messages have it: 16.0 is 16.
    score = exact_sum([score for score, _ in scores])
    max_score = exact_sum([highest for _, highest in scores])
    by_item: dict[str, list[Answer]] = {}
    if session.subscores:
        for answer in answers:
            by_item.setdefault(answer.item_reference, []).append(answer)
    return {
        "user_id": session.user_id,
        "activity_id": session.activity_id,
        "session_id": session.session_id,
        "score": score,
        "max_score": max_score,
        "subscores": [_subscore(session, definition, by_item) for definition in session.subscores],
        "status": session.status,
    }


def _encode_score(message: dict[str, Any]) -> bytes:
    """A score snapshot as compact JSON. It alone of the messages has numbers that need not be integers."""
    numbers = [message["score"], message["max_score"]]
    for subscore in message["subscores"]:
        numbers += subscore["score"], subscore["max_score"], subscore["attempted_max_score"]
    return orjson.dumps(message if all(map(spelled_alike, numbers)) else spelled(message))


def _subscore(
    session: Session, definition: SubscoreDefinition, by_item: Mapping[str, Sequence[Answer]]
) -> dict[str, Any]:
    if definition.items:
        items = definition.items
    else:
        wanted = {(tag.type, tag.name) for tag in definition.tags or ()}
        tags_of = session.item_tags
        items = [item for item in session.items if any((tag.type, tag.name) in wanted for tag in tags_of.get(item, ()))]
    answers = [answer for item in dict.fromkeys(items) for answer in by_item.get(item, ())]
    attempted = [answer for answer in answers if answer.attempted]
    return {
        "id": definition.id,
        "title": definition.title,
        "num_questions": len(answers),
        "num_attempted": len(attempted),
        "score": exact_sum([answer.score for answer in answers]) or 0,
        "max_score": exact_sum([answer.max_score for answer in answers]) or 0,
        "attempted_max_score": exact_sum([answer.max_score for answer in attempted]) or 0,
        "items": items,
    }


def _leaving_order(record: Record) -> tuple[int, int, str, bool, str, bool, str]:
    organisation, lrs_id = record.organisation, record.lrs_id
    return (
        record.timestamp,
        record.place,
        record.message["session_id"],
        # None and "" are two tenants.
        organisation is not None,
        organisation or "",
        lrs_id is not None,
        lrs_id or "",
    )


def _uuid5(name: bytes) -> str:
    """The text of `uuid.uuid5(NAMESPACE, name)`, without making a UUID object."""
    digest = sha1(NAMESPACE.bytes + name, usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
