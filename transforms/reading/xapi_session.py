"""What the statements of a session are together: which is its start, which completes it, whose score is its own."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from schemas import Activity
from schemas.activity import Action

_OPENINGS = ("LAUNCH", "START_OR_RESUME", "START", "RESUME")


class Resolution(msgspec.Struct, array_like=True):
    """What the statements of a session so far decide about those to come. It can be serialised.

    Attributes:
        activity_id: of the session.
        first: the object of its first statement. It stands for the session until something is opened.
        has_opening: whether `activity_id` is that of a START or RESUME. Else the first one of these changes it.
        started: whether there was a START.
        launched: whether a LAUNCH was the last opening.
        opened: whether something was opened.
        open: the object that was opened, until it has ended.
        whole: the objects whose completion is that of the session.
    """

    activity_id: str
    first: str
    has_opening: bool
    started: bool = False
    launched: bool = False
    opened: bool = False
    open: str | None = None
    whole: set[str] = set()

    @classmethod
    def begin(cls, ordered: Iterable[Activity]) -> "Resolution | None":
        """What decides about the statements of a session, before the first of them; None if no object is an activity.

        Args:
            ordered: all of them.
        """
        about = [activity for activity in ordered if activity.activity_id]
        if not about:
            return None
        opening = next((activity for activity in about if activity.action in _OPENINGS), None)
        activity_id = about[0].activity_id if opening is None else opening.activity_id
        return cls(activity_id, about[0].activity_id, opening is not None, whole={activity_id})

    def goes_on_with(self, activity: Activity) -> bool:
        """Whether a statement after all others changes nothing that was decided of these."""
        if self.has_opening or not activity.activity_id or activity.action not in _OPENINGS:
            return True
        self.has_opening = activity.activity_id == self.activity_id
        return self.has_opening

    def resolve(self, activity: Activity) -> Activity:
        """The next statement, decided."""
        action = self._action(activity)
        changes: dict[str, object] = {}
        if action != activity.action:
            changes["action"] = action
        if activity.activity_id != self.activity_id:
            changes["activity_id"] = self.activity_id
            if activity.statement is not None and activity.statement.score is not None:
                changes["statement"] = msgspec.structs.replace(activity.statement, score=None, max_score=None)
        return msgspec.structs.replace(activity, **changes) if changes else activity

    def _action(self, activity: Activity) -> Action:
        action, thing = activity.action, activity.activity_id
        if action in _OPENINGS:
            self._open_up(thing)
            if action == "START_OR_RESUME" and self.launched:
                self.launched = False
                return "RESPOND"
            self.launched = action == "LAUNCH"
            if action in ("LAUNCH", "START_OR_RESUME"):
                action = "RESUME" if self.started else "START"
                self.started = True
        elif action == "SAVE":
            if thing == self.open:
                self.open = None
        elif action == "COMPLETE":
            stands_for_it = thing == self.first and not self.opened
            return "SUBMIT" if thing in self.whole or stands_for_it else "RESPOND"
        return action

    def _open_up(self, thing: str) -> None:
        self.opened = True
        if self.open is None:
            self.open = thing
            self.whole.add(thing)


class Resolved(NamedTuple):
    """The statements of a session, decided, and what they decide about those to come (None: nothing, yet)."""

    activities: list[Activity]
    resolution: Resolution | None


def resolve_session(activities: Iterable[Activity]) -> Resolved:
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
    resolution = Resolution.begin(ordered)
    if resolution is None:
        return Resolved(ordered, None)
    decided = [resolution.resolve(activity) for activity in ordered]
    parts_completed = any(
        before.action == "COMPLETE" and after.action == "RESPOND"
        for before, after in zip(ordered, decided, strict=True)
    )
    return Resolved(_in_order(ordered, decided) if parts_completed else decided, resolution)


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
