"""Activity of one user that says little and repeats itself, so that rules meet."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas import Activity, Response, SubscoreDefinition, Tag
from tests.support.activity import START_OF_DAY

_tag = st.sampled_from([Tag("t", "x"), Tag("t", "y"), Tag("u", "x")])
_item = st.sampled_from(["i1", "i2", "ï3"])
_score = st.none() | st.sampled_from([0, 1, 2, 1.0, 0.1, 0.2, 2.5, -0.5])
_response = st.builds(
    Response,
    response_id=st.sampled_from(["r1", "r2", "r3"]),
    item_reference=_item,
    attempted=st.sampled_from([None, True, True, False]),
    score=_score,
    max_score=_score,
    revision=st.none() | st.integers(0, 2),
)
_definition = st.builds(
    SubscoreDefinition,
    id=st.sampled_from(["d1", "d2"]),
    title=st.just("T"),
    items=st.none() | st.lists(_item, max_size=2),
    tags=st.none() | st.lists(_tag, max_size=2),
)
_tenant = st.sampled_from([(None, None)] * 9 + [("", None), ("o", None), ("o", "l")])
_action = st.sampled_from(
    ["START"] * 3
    + ["RESUME", "RESPOND", "SAVE", "AUTOSAVE", "PAUSE", "UNPAUSE"]
    + ["SUBMIT", "SCORE", "SET_STATUS"] * 2
    + ["RESCORE"]
    + ["DISCARD"] * 2
)


@st.composite
def _activity(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Activity:
    organisation, lrs_id = draw(_tenant)
    action = draw(_action)
    return Activity(
        record_id=f"r{draw(st.integers(0, 30))}",
        user_id="u",
        session_id=draw(st.sampled_from(["s1", "s1", "s1", "s2"])),
        activity_id=draw(st.sampled_from(["a", "a", "a", "b"])),
        action=action,
        occurred_at=START_OF_DAY + draw(st.sampled_from([0, 400, 1000, 59_999, 60_000, 60_400, 500_000, 500_900])),
        organisation=organisation,
        lrs_id=lrs_id,
        state=draw(st.sampled_from(["initial"] * 6 + ["resume", "review", "preview"])),
        seq=draw(st.none() | st.integers(0, 2)),
        session_duration=draw(st.sampled_from([None] * 5 + [7, 0, 2.9, -0.5, -3])),
        num_questions=draw(st.sampled_from([None] * 5 + [10, 3.7, 0])),
        status=draw(st.sampled_from(["Incomplete", "Completed", "Discarded", "PendingScoring"]))
        if action == "SET_STATUS"
        else None,
        pending_scoring=draw(st.sampled_from([False, False, True])),
        responses=draw(st.lists(_response, max_size=2)),
        subscores=draw(st.lists(_definition, max_size=2)),
        item_tags=draw(st.dictionaries(_item, st.lists(_tag, max_size=2), max_size=2)),
        metadata=draw(st.dictionaries(st.sampled_from(["k", "l", "m"]), st.sampled_from([None, True, 1, 1.0, "v"]))),
    )


ACTIVITY_OF_ONE_USER = st.lists(_activity(), max_size=4) | st.lists(_activity(), min_size=6, max_size=14)

ACTIVITY_OF_ONE_SESSION = st.lists(_activity(), min_size=1, max_size=10).map(
    lambda some: [msgspec.structs.replace(a, session_id="s1", organisation=None, lrs_id=None) for a in some]
)
