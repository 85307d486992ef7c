"""What the statements of a session are together: which is its start, which completes it, whose score is its own."""

from collections.abc import Iterable

import msgspec

from schemas import Activity
from schemas.activity import Action

_OPENINGS = ("LAUNCH", "START_OR_RESUME", "START", "RESUME")


def resolve_session(activities: Iterable[Activity]) -> list[Activity]:
    """Decide what single statements leave open (docs/spec/records.md section 1).

    - Every activity gets the activity_id of the first START or RESUME, else of the first statement about an activity.
    - LAUNCH and START_OR_RESUME are START the first time, RESUME after that. A START_OR_RESUME after a LAUNCH is the
      same opening, and RESPOND.
    - COMPLETE is SUBMIT of the session's activity, and of what was opened after that had ended. Of a part it is
      RESPOND, and sorts so.
    - A score stays with a statement about the session's activity alone.

    Args:
        activities: of one session from `StatementDecoder`, in the order of docs/spec/records.md section 2. In that
            order START_OR_RESUME and LAUNCH stand where START does, COMPLETE where SUBMIT does.
    """
    ordered = list(activities)
    about = [activity for activity in ordered if activity.activity_id]
    opening = next((activity for activity in about if activity.action in _OPENINGS), about[0] if about else None)
    if opening is None:
        return ordered
    activity_id = opening.activity_id
    deciding = _Deciding(activity_id, about[0].activity_id)
    decided: list[Activity] = []
    parts_completed = False
    for activity in ordered:
        action = deciding.action(activity)
        parts_completed |= activity.action == "COMPLETE" and action == "RESPOND"
        changes: dict[str, object] = {}
        if action != activity.action:
            changes["action"] = action
        if activity.activity_id != activity_id:
            changes["activity_id"] = activity_id
            if activity.statement is not None and activity.statement.score is not None:
                changes["statement"] = msgspec.structs.replace(activity.statement, score=None, max_score=None)
        decided.append(msgspec.structs.replace(activity, **changes) if changes else activity)
    return _in_order(ordered, decided) if parts_completed else decided


class _Deciding:
    """What the actions of a session are, told one after the other.

    Args:
        activity_id: of the session.
        first: the object of its first statement. It stands for the session until something is opened.
    """

    def __init__(self, activity_id: str, first: str) -> None:
        self._first = first
        self._started = False
        self._launched = False
        self._opened = False
        self._open: str | None = None
        self._whole = {activity_id}

    def action(self, activity: Activity) -> Action:
        action, thing = activity.action, activity.activity_id
        if action in _OPENINGS:
            self._open_up(thing)
            if action == "START_OR_RESUME" and self._launched:
                self._launched = False
                return "RESPOND"
            self._launched = action == "LAUNCH"
            if action in ("LAUNCH", "START_OR_RESUME"):
                action = "RESUME" if self._started else "START"
                self._started = True
        elif action == "SAVE":
            if thing == self._open:
                self._open = None
        elif action == "COMPLETE":
            stands_for_it = thing == self._first and not self._opened
            return "SUBMIT" if thing in self._whole or stands_for_it else "RESPOND"
        return action

    def _open_up(self, thing: str) -> None:
        self._opened = True
        if self._open is None:
            self._open = thing
            self._whole.add(thing)


def _in_order(ordered: list[Activity], decided: list[Activity]) -> list[Activity]:
    """`decided` with the completions of parts where a RESPOND of their instant sorts. ordered: the same, undecided."""

    def key(place: int) -> tuple[int, int, str]:
        activity = decided[place]
        if ordered[place].action in _OPENINGS:
            return activity.occurred_at, 0, ""
        if activity.action in ("SUBMIT", "SCORE"):
            return activity.occurred_at, 2, ""
        return activity.occurred_at, 1, activity.record_id

    return [decided[place] for place in sorted(range(len(decided)), key=key)]
