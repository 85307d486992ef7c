"""Activity as it arrives: in order, late, again, and in conflict with what has arrived; statements, too."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson
from hypothesis import strategies as st

from schemas import Activity, Record
from tests.support.activity import START_OF_DAY
from tests.transforms.sessions import statement_oracle
from tests.transforms.sessions.strategies import ACTIVITY_OF_ONE_USER
from transforms.reading.voids import Void, without_voided
from transforms.reading.xapi import PassedOverError, StatementDecoder
from transforms.reading.xapi_session import resolve_session
from transforms.sessions.derivation import Derivation

_WAYS = ("next", "next", "next", "next", "at once", "late", "again", "conflict")


@st.composite
def arriving_activity(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Activity]:
    """Activity of one user, in the order in which it arrives."""
    arrived: list[Activity] = []
    for number, one in enumerate(draw(ACTIVITY_OF_ONE_USER) + draw(ACTIVITY_OF_ONE_USER)):
        way, earlier = draw(st.sampled_from(_WAYS)), draw(st.sampled_from(arrived)) if arrived else one
        at = {
            "at once": arrived[-1].occurred_at if arrived else START_OF_DAY,
            "late": START_OF_DAY + 1000 * draw(st.integers(0, number)),
        }.get(way, START_OF_DAY + 1000 * number)
        record_id = earlier.record_id if way == "conflict" else f"r{number}"
        activity = msgspec.structs.replace(one, occurred_at=at, record_id=record_id)
        if way == "conflict":
            activity = msgspec.structs.replace(activity, session_id=earlier.session_id)
        arrived.append(earlier if way == "again" else activity)
    return arrived


@st.composite
def arriving_statements(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[dict[str, Any]]:
    """Statements of one name, some of which void others, in the order in which they arrive."""
    statements = draw(statement_oracle.statements_of_one_name())
    if draw(st.booleans()):
        statements = [{**each, "timestamp": f"2026-03-01T09:01:{number:02}Z"} for number, each in enumerate(statements)]
    moved = draw(st.integers(0, 2))
    for _ in range(moved if statements else 0):
        late = statements.pop(draw(st.integers(0, len(statements) - 1)))
        statements.insert(draw(st.integers(0, len(statements))), late)
    again = draw(st.sampled_from(statements)) if statements else None
    return [*statements, again] if again is not None and draw(st.booleans()) else statements


def read(statements: Iterable[dict[str, Any]]) -> tuple[list[Activity], set[Void]]:
    """The activity in statements, and what they void."""
    activities: list[Activity] = []
    voids: set[Void | None] = set()
    for each in statements:
        try:
            activities.append(StatementDecoder().decode(orjson.dumps(each)))
        except PassedOverError as passed_over:
            voids.add(passed_over.voids)
    return activities, {void for void in voids if void is not None}


def batch(statements: Iterable[dict[str, Any]]) -> tuple[list[Record], dict[str, Any]]:
    """The records of one fold over all of them, and what was counted."""
    derivation = Derivation(resolve_session=resolve_session)
    activities, used = without_voided(*read(statements))
    derivation.counts.voided = len(used)
    records = derivation.user(activities)
    return records, msgspec.to_builtins(derivation.counts)
