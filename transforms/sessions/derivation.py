"""The fold that turns the activity of a session into events and snapshots (docs/spec/records.md sections 2 and 3).

It is pure: no Beam, no clock, no randomness. A session is folded activity by activity, in its order. In batch all of it
is there. Where activity arrives in parts, what comes after all that was folded is folded on to that, at a cost that
does not depend on what came before. What does not, needs the whole session again (`transforms.sessions.kept`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha1, sha256
from operator import attrgetter
from typing import Any, Literal

import msgspec
import orjson

from schemas import Activity, DerivedKind, Record
from schemas.activity import Number
from schemas.record import NAMESPACE
from schemas.times import event_time, snapshot_time
from transforms.reading.activity import canonical
from transforms.reading.xapi_session import Resolved
from transforms.sessions.score_snapshots import ScoreSnapshots
from transforms.sessions.session import Folded, Reached, Session

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
# To copy one that was begun takes two thirds of the time of beginning another.
_SHA256 = sha256()
_SHA1_OF_NAMESPACE = sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


NO_STATUS = "none"
"""The outcome of a session that was only looked at, or of which no activity sets a status."""


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
        outcomes: sessions by the status that they were left with; NO_STATUS for those that have none.
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
    outcomes: dict[str, int] = {}

    def add(self, other: "Counts") -> None:
        """Add `other`, which is left as it was."""
        for name in self.__struct_fields__:
            if name != "outcomes":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count


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
        resolve_session: Callable[[list[Activity]], Resolved] | None = None,
        on_session: Callable[[Session], None] | None = None,
        on_conflict: Callable[[Activity, Activity], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self._seconds_per_unit = SECONDS_PER_UNIT[duration_unit]
        self._resolve_session = resolve_session
        self._on_session = on_session
        self._on_conflict = on_conflict
        self._snapshots: ScoreSnapshots | None = None

    def user(self, activities: Iterable[Activity]) -> list[Record]:
        """All records of one user, in the order in which they have to leave: by time, then place, then session.

        Args:
            activities: all of the user, in any order and with duplicates.
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
        self.count_home_pages(key[3] for key in sessions)
        if len(sessions) == 1:
            return self.session(next(iter(sessions.values())))
        return in_leaving_order({key: self.session(of_session) for key, of_session in sessions.items()})

    def count_home_pages(self, home_pages: Iterable[str | None]) -> None:
        """Count the user if it stands for accounts of several home pages.

        Args:
            home_pages: of the accounts in the user's sessions.
        """
        if len(set(home_pages) - {None}) > 1:
            self.counts.users_of_several_home_pages += 1

    def session(self, activities: Sequence[Activity]) -> list[Record]:
        """The records of one session, in their order.

        Args:
            activities: all of the session, in any order and with duplicates.
        """
        records: list[Record] = []
        self.fold_whole(activities, records)
        self._snapshots = None
        return records

    def fold_whole(self, activities: Sequence[Activity], records: list[Record]) -> Folded:
        """Fold a session from its beginning.

        Args:
            activities: as for `session`.
            records: what they cause is appended, in its order.

        Returns:
            What later activity can be folded on to.
        """
        ordered = in_session_order(self._without_duplicates(activities))
        first = ordered[0]
        session = Session(first.organisation, first.lrs_id, first.session_id, first.user_id)
        folded = Folded(session, 0, _reached(ordered))
        if self._resolve_session is not None:
            scores = _scores(ordered)
            ordered, folded.resolution = self._resolve_session(ordered)
            self.counts.part_scores += scores - _scores(ordered)
        self.counts.activities += len(activities)
        self._fold_each(folded, ordered, records)
        return folded

    def fold_on(self, folded: Folded, activities: Iterable[Activity], records: list[Record]) -> bool:
        """Fold further activity on to a session, if it comes after all that was folded.

        Args:
            folded: is changed, and is of no use after False.
            activities: of the session, in its order, all with record ids that are new to it.
            records: what they cause is appended, in its order.

        Returns:
            False if the session has to be folded whole, since the activity changes what was made of earlier activity.
            Then nothing was appended.
        """
        ordered: list[Activity] = []
        part_scores = 0
        for activity in activities:
            reached = _beyond(folded.reached, activity, self._resolve_session is not None)
            if reached is None:
                return False
            folded.reached = reached
            if self._resolve_session is None:
                ordered.append(activity)
            elif folded.resolution is None or not folded.resolution.goes_on_with(activity):
                return False
            else:
                ordered.append(folded.resolution.resolve(activity))
                part_scores += _scores([activity]) - _scores(ordered[-1:])
        self.counts.activities += len(ordered)
        self.counts.part_scores += part_scores
        self._fold_each(folded, ordered, records)
        return True

    def _fold_each(self, folded: Folded, ordered: Iterable[Activity], records: list[Record]) -> None:
        session, place = folded.session, folded.place
        for activity in ordered:
            self.fold(session, activity, place, records)
            place += 1
        folded.place = place
        self.counts.sessions += 1
        outcomes, status = self.counts.outcomes, session.status or NO_STATUS
        outcomes[status] = outcomes.get(status, 0) + 1
        if self._on_session is not None:
            self._on_session(session)

    def start_anew(self) -> None:
        """Let go of what is kept of the session that was folded last. To be called before sessions are put away."""
        self._snapshots = None

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
                self._score_if_changed(session, _Cause(session, activity, place, records))
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
                    self._score(session, cause)
            elif session.status == "Completed":
                self._score_if_changed(session, cause)
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
            self._score_if_changed(session, cause)

    def _set_status(self, session: Session, activity: Activity, cause: "_Cause") -> None:
        session.status = activity.status
        if session.status == "Completed":
            completed = activity.occurred_at if session.submitted is None else session.submitted
            self._status_snapshot(session, cause, completed)
            self._score(session, cause)
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
                "num_attempted": session.num_attempted,
                "num_questions": len(session.answers) if session.num_questions is None else session.num_questions,
                "session_id": session.session_id,
                "session_duration": duration,
                "status": session.status,
                "dt_started": snapshot_time(started),
                "dt_completed": snapshot_time(completed),
            },
        )

    def _score(self, session: Session, cause: "_Cause") -> None:
        """A score snapshot, if a score is known."""
        if session.scores_known:
            message, body = self._snapshots_of(session).snapshot()
            session.sent_score = body
            cause.score(message, body)

    def _score_if_changed(self, session: Session, cause: "_Cause") -> None:
        """A score snapshot, if a score is known and the last snapshot does not say the same."""
        if session.scores_touched and session.scores_known:
            message, body = self._snapshots_of(session).snapshot()
            if body != session.sent_score:
                session.sent_score = body
                cause.score(message, body)
            session.scores_touched = False

    def _snapshots_of(self, session: Session) -> ScoreSnapshots:
        # Those of the session that is being folded are kept, so that its next snapshot need not begin anew.
        if self._snapshots is None or self._snapshots.session is not session:
            self._snapshots = ScoreSnapshots(session)
        return self._snapshots

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
        self.counts.duplicates += len(same) - 1
        if len(set(map(_spelling, same))) == 1:
            return same[0]
        by_content: dict[bytes, Activity] = {}
        for activity in sorted(same, key=_spelling):  # equal contents may be spelled in two ways, as 1 and 1.0
            by_content.setdefault(canonical(activity), activity)
        contents = sorted(by_content, key=lambda content: (by_content[content].occurred_at, content))
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
            session.take_metadata(activity.metadata)
        for response in activity.responses:
            session.take_response(response)
        if activity.statement is not None and activity.statement.score is not None:
            session.own_score = activity.statement.score, activity.statement.max_score
            session.scores_touched = True
        if activity.subscores:
            session.subscores = activity.subscores
            session.scores_touched = True
        if activity.item_tags:
            session.take_tags(activity.item_tags)


def state_key(activity: Activity) -> StateKey:
    """The session that the activity belongs to, among those of its user."""
    home_page = None if activity.statement is None else activity.statement.home_page
    return activity.organisation, activity.lrs_id, activity.session_id, home_page


def in_leaving_order(records: Mapping[StateKey, Iterable[Record]]) -> list[Record]:
    """The records of several sessions of a user, in the order in which they have to leave.

    Args:
        records: of each session, in their order.
    """
    # Two sessions may differ in the home page alone, which no record has.
    sessions = sorted(records.items(), key=lambda keyed: keyed[0][3] or "")
    return sorted((record for _, of_session in sessions for record in of_session), key=_leaving_order)


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


def _reached(ordered: Sequence[Activity]) -> Reached:
    """Where the last of the activities stands. They are in their order."""
    last = ordered[-1]
    has_seq = True
    for activity in reversed(ordered):
        if activity.occurred_at != last.occurred_at:
            break
        has_seq = has_seq and activity.seq is not None
    return Reached(last.occurred_at, has_seq, last.seq or 0, *_order_by_rank(last))


def _beyond(reached: Reached, activity: Activity, of_statements: bool) -> Reached | None:
    """Where the order has got to with `activity`; None if that does not come after all others for certain.

    Of statements of one instant the whole instant decides where each stands (`resolve_session`).
    """
    at, has_seq, seq = activity.occurred_at, activity.seq is not None, activity.seq or 0
    rank, record_id = _order_by_rank(activity)
    if at > reached.occurred_at:
        return Reached(at, has_seq, seq, rank, record_id)
    if at < reached.occurred_at or of_statements:
        return None
    if not reached.has_seq:
        is_after = (rank, record_id) > (reached.rank, reached.record_id)
    else:
        is_after = has_seq and (seq, rank, record_id) > (reached.seq, reached.rank, reached.record_id)
    return Reached(at, reached.has_seq and has_seq, seq, rank, record_id) if is_after else None


def _order_by_rank(activity: Activity) -> tuple[int, str]:
    return _RANK.get(activity.action, _OTHER), activity.record_id


def _order_by_seq(activity: Activity) -> tuple[int, tuple[int, str]]:
    return activity.seq or 0, _order_by_rank(activity)


def _floored(value: Number) -> int:
    """`value` rounded down. Beyond 64 bits it is the nearest number that they hold, since the schemas have a long."""
    if type(value) is int and -_LARGEST_LONG <= value <= _LARGEST_LONG:
        return value
    return max(-_LARGEST_LONG, min(_LARGEST_LONG, int(value // 1)))


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

    def score(self, message: dict[str, Any], body: bytes) -> None:
        self._emit("score", "score", message, body)

    def status(self, message: dict[str, Any]) -> None:
        self._emit("status", "status", message, orjson.dumps(message))

    def _emit(self, kind: DerivedKind, name: str, message: dict[str, Any], body: bytes) -> None:
        session, activity = self._session, self._activity
        body_digest = _SHA256.copy()
        body_digest.update(body)
        identity = [
            session.organisation,
            session.lrs_id,
            session.session_id,
            session.user_id,
            name,
            activity.record_id,
            body_digest.hexdigest(),
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
                session.sorted_metadata(),
            )
        )


def _uuid5(name: bytes) -> str:
    """The text of `uuid.uuid5(NAMESPACE, name)`, without making a UUID object."""
    sha1_of_both = _SHA1_OF_NAMESPACE.copy()
    sha1_of_both.update(name)
    digest = sha1_of_both.hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
