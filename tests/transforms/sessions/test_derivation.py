"""The fold of a session, sentence by sentence of docs/spec/records.md sections 2 and 3."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest

from schemas import Activity, Record, Response, SubscoreDefinition, avro_schema
from schemas.record import NAMESPACE
from tests.support.activity import (
    DOCUMENTED_EVENT,
    DOCUMENTED_SCORE,
    DOCUMENTED_STATUS,
    activity,
    by_items,
    by_tags,
    documented_session,
    names,
    response,
    tags,
)
from transforms.reading.xapi_session import Resolved
from transforms.sessions.derivation import Counts, Derivation
from transforms.sessions.session import Session

STARTED, RESUMED, COMPLETED = "session-started", "session-resumed", "session-completed"
REVISED = [response("q1", 1, 1)]
"""Makes scores known, or changes them."""


def derive(*activities: Activity, **options: Any) -> list[Record]:
    return Derivation(**options).user(activities)


def counted(*activities: Activity) -> dict[str, int]:
    """What was counted besides activity, sessions and their outcomes; only what is not zero."""
    derivation = Derivation()
    derivation.user(activities)
    counts: dict[str, int] = msgspec.to_builtins(derivation.counts)
    return {name: n for name, n in counts.items() if n and name not in ("activities", "sessions", "outcomes")}


def messages(kind: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    return [json.loads(record.body) for record in records if record.kind == kind]


def status_of(*activities: Activity) -> dict[str, Any]:
    """The last status snapshot."""
    return messages("status", derive(*activities))[-1]


def score_of(*activities: Activity) -> dict[str, Any]:
    """The last score snapshot."""
    return messages("score", derive(*activities))[-1]


def caused_by(*activities: Activity) -> tuple[list[str], str | None]:
    """What the last activity emits, and the session's status after it."""
    derivation, session = Derivation(), Session(None, None, "s", "u")
    records: list[Record] = []
    for place, one in enumerate(activities):
        records = []
        derivation.fold(session, one, place, records)
    return names(records), session.status


# The documented messages


def test_the_three_documented_messages_come_out_byte_for_byte() -> None:
    records = derive(*documented_session())
    assert [record.body for record in records if record.message.get("event") != COMPLETED] == [
        DOCUMENTED_EVENT,
        DOCUMENTED_STATUS,
        DOCUMENTED_SCORE,
    ]
    assert names(records) == [STARTED, COMPLETED, "status", "score"]


def test_a_message_is_its_bytes_and_has_the_keys_of_its_schema_in_that_order() -> None:
    for record in derive(*documented_session()):
        assert orjson.dumps(record.message) == record.body
        of_schema = [field["name"] for field in avro_schema(record.kind)["fields"]]
        assert of_schema[: len(record.message)] == list(record.message)


def test_a_message_is_utf_8_and_not_escaped() -> None:
    (record,) = derive(activity("START", user_id="søren 🦉", session_id="é"))
    assert '"session_id":"é"'.encode() in record.body
    assert '"user_id":"søren 🦉"'.encode() in record.body


# The table: what the status becomes and what is emitted

START = activity("START", 0)
ANSWER = activity("RESPOND", 10, responses=[response("q1", 0, 1)])
UNSCORED = activity("RESPOND", 11, responses=[response("q2")])
SUBMIT = activity("SUBMIT", 20)
PENDING = activity("SUBMIT", 20, pending_scoring=True)
DISCARD = activity("DISCARD", 30)


def set_status(status: str, at: float, **given: Any) -> Activity:
    return activity("SET_STATUS", at, status=status, **given)


@pytest.mark.parametrize(
    ("before", "one", "emitted", "status"),
    [
        # START, state initial, the session's first
        ([], START, [STARTED], "Incomplete"),
        ([activity("SUBMIT", 0)], activity("START", 1), [STARTED], "Completed"),
        ([DISCARD], activity("START", 31), [STARTED], "Discarded"),
        ([activity("RESUME", 0)], activity("START", 1), [STARTED], "Incomplete"),
        ([activity("START", 0, state="resume")], activity("START", 1), [STARTED], "Incomplete"),
        ([activity("START", 0, state="preview")], activity("START", 1), [STARTED], "Incomplete"),
        # START again
        ([START], activity("START", 1), [], "Incomplete"),
        ([START, SUBMIT], activity("START", 21), [], "Completed"),
        # RESUME, or START with state resume
        ([], activity("RESUME", 0), [RESUMED], "Incomplete"),
        ([], activity("START", 0, state="resume"), [RESUMED], "Incomplete"),
        ([START, activity("RESUME", 5)], activity("RESUME", 6), [RESUMED], "Incomplete"),
        ([START], activity("START", 6, state="resume"), [RESUMED], "Incomplete"),
        ([START, SUBMIT], activity("RESUME", 21), [RESUMED], "Completed"),
        ([START, PENDING], activity("RESUME", 21), [RESUMED], "PendingScoring"),
        ([START, DISCARD], activity("RESUME", 31), [RESUMED], "Discarded"),
        # RESPOND SAVE AUTOSAVE
        *[
            row
            for action in ("RESPOND", "SAVE", "AUTOSAVE")
            for row in [
                ([], activity(action, 0, responses=REVISED), [], "Incomplete"),
                ([START, ANSWER], activity(action, 12, responses=REVISED), [], "Incomplete"),
                ([START, ANSWER, SUBMIT], activity(action, 21, responses=REVISED), ["score"], "Completed"),
                ([START, ANSWER, SUBMIT], activity(action, 21, responses=[response("q1", 0, 1)]), [], "Completed"),
                ([START, ANSWER, SUBMIT], activity(action, 21), [], "Completed"),
                ([START, SUBMIT], activity(action, 21, responses=REVISED), ["score"], "Completed"),
                ([START, SUBMIT], activity(action, 21, responses=[response("q1")]), [], "Completed"),
                ([START, ANSWER, PENDING], activity(action, 21, responses=REVISED), [], "PendingScoring"),
                ([START, ANSWER, DISCARD], activity(action, 31, responses=REVISED), [], "Discarded"),
            ]
        ],
        # PAUSE UNPAUSE
        *[([], activity(action, 0), [], None) for action in ("PAUSE", "UNPAUSE")],
        *[
            ([START, ANSWER, SUBMIT], activity(action, 21, responses=REVISED), [], "Completed")
            for action in ("PAUSE", "UNPAUSE")
        ],
        # SUBMIT
        ([], SUBMIT, [COMPLETED, "status"], "Completed"),
        ([START, ANSWER], SUBMIT, [COMPLETED, "status", "score"], "Completed"),
        ([START, ANSWER, SUBMIT], activity("SUBMIT", 21), [COMPLETED, "status"], "Completed"),
        (
            [START, ANSWER, SUBMIT],
            activity("SUBMIT", 21, responses=REVISED),
            [COMPLETED, "status", "score"],
            "Completed",
        ),
        ([START, UNSCORED], SUBMIT, [COMPLETED, "status"], "Completed"),
        ([START, ANSWER, DISCARD], activity("SUBMIT", 31), [COMPLETED, "status", "score"], "Completed"),
        # SUBMIT with pending_scoring
        ([START, ANSWER], PENDING, [COMPLETED, "status"], "PendingScoring"),
        (
            [START, ANSWER, SUBMIT],
            activity("SUBMIT", 21, pending_scoring=True),
            [COMPLETED, "status"],
            "PendingScoring",
        ),
        # SCORE RESCORE
        *[
            row
            for action in ("SCORE", "RESCORE")
            for row in [
                ([], activity(action, 0, responses=REVISED), [], None),
                ([START, ANSWER], activity(action, 12, responses=REVISED), [], "Incomplete"),
                ([START, ANSWER, DISCARD], activity(action, 31, responses=REVISED), [], "Discarded"),
                ([START, ANSWER, UNSCORED, PENDING], activity(action, 21), [], "PendingScoring"),
                (
                    [START, ANSWER, UNSCORED, PENDING],
                    activity(action, 21, responses=[response("q2", 1, 1)]),
                    ["score"],
                    "Completed",
                ),
                ([START, ANSWER, SUBMIT], activity(action, 21), [], "Completed"),
                ([START, ANSWER, SUBMIT], activity(action, 21, responses=REVISED), ["score"], "Completed"),
            ]
        ],
        # SET_STATUS Completed: a documented re-push, also when unchanged
        ([START], set_status("Completed", 12), ["status"], "Completed"),
        ([START, ANSWER], set_status("Completed", 12), ["status", "score"], "Completed"),
        ([START, ANSWER, SUBMIT], set_status("Completed", 21), ["status", "score"], "Completed"),
        ([START, ANSWER, DISCARD], set_status("Completed", 31), ["status", "score"], "Completed"),
        ([START, ANSWER, UNSCORED, PENDING], set_status("Completed", 31), ["status", "score"], "Completed"),
        # SET_STATUS of the others, DISCARD
        ([START, ANSWER, SUBMIT], set_status("Incomplete", 21), [], "Incomplete"),
        ([START, ANSWER, DISCARD], set_status("Incomplete", 31), [], "Incomplete"),
        ([START, ANSWER], set_status("PendingScoring", 21), [], "PendingScoring"),
        ([START, ANSWER], set_status("Discarded", 21), [], "Discarded"),
        ([START, ANSWER, SUBMIT], DISCARD, [], "Discarded"),
        ([], DISCARD, [], "Discarded"),
    ],
    ids=lambda value: value.action if isinstance(value, Activity) else None,
)
def test_a_row_of_the_table(before: list[Activity], one: Activity, emitted: list[str], status: str | None) -> None:
    assert caused_by(*before, one) == (emitted, status)


@pytest.mark.parametrize("state", ["review", "preview"])
@pytest.mark.parametrize(
    "action", ["START", "RESUME", "RESPOND", "SAVE", "PAUSE", "SUBMIT", "SCORE", "DISCARD", "SET_STATUS"]
)
def test_nothing_is_merged_from_review_or_preview(action: str, state: str) -> None:
    seen = activity(
        action,
        15,
        state=state,
        status="Completed",
        activity_id="other",
        responses=[response("q1", 1, 1), response("q9", 1, 1)],
        subscores=[by_items("d", "q1")],
        item_tags={"q1": tags(("t", "x"))},
        metadata={"k": 1},
        session_duration=99,
        num_questions=99,
    )
    first = msgspec.structs.replace(seen, occurred_at=START.occurred_at - 1, record_id="first")
    without = derive(START, ANSWER, SUBMIT)
    with_it = derive(first, START, ANSWER, seen, SUBMIT)
    assert [record.body for record in with_it] == [record.body for record in without]
    assert [record.id for record in with_it] == [record.id for record in without]
    assert with_it[-1].metadata == {}


def test_what_is_folded_but_not_emitted_is_kept_for_the_next_snapshot() -> None:
    kept = activity("PAUSE", 12, responses=REVISED, session_duration=5, num_questions=7)
    assert score_of(START, ANSWER, kept, SUBMIT)["score"] == 1
    assert status_of(START, ANSWER, kept, SUBMIT)["session_duration"] == 5
    assert status_of(START, ANSWER, kept, SUBMIT)["num_questions"] == 7


def test_a_score_on_a_session_in_progress_is_kept_for_its_submit() -> None:
    assert score_of(START, activity("SCORE", 5, responses=REVISED), SUBMIT)["score"] == 1


def test_pending_scores_wait_for_every_attempted_response_and_for_no_other() -> None:
    unattempted = activity("RESPOND", 12, responses=[response("q3", None, 1, attempted=False)])
    half = activity("SCORE", 21, responses=[response("q1", 1, 1)])
    whole = activity("SCORE", 22, responses=[response("q2", 1, 1)])
    records = derive(START, ANSWER, UNSCORED, unattempted, PENDING, half, whole)
    assert names(records) == [STARTED, COMPLETED, "status", "score"]
    assert [m["status"] for m in messages("status", records)] == ["PendingScoring"]
    assert messages("score", records)[0]["status"] == "Completed"
    assert records[-1].record_id == whole.record_id


def test_pending_scores_are_sent_when_all_is_scored_also_when_they_are_those_sent_before() -> None:
    again = activity("SUBMIT", 21, pending_scoring=True)
    records = derive(START, ANSWER, SUBMIT, again, activity("SCORE", 22))
    assert names(records) == [STARTED, COMPLETED, "status", "score", COMPLETED, "status", "score"]


def test_nothing_scored_is_no_score_snapshot_though_nothing_is_left_to_score() -> None:
    emitted, status = caused_by(START, PENDING, activity("SCORE", 21))
    assert (emitted, status) == ([], "Completed")


def test_scores_do_go_down() -> None:
    regrade = activity("RESCORE", 21, responses=[response("q1", 0, 1)])
    records = derive(START, activity("RESPOND", 10, responses=REVISED), SUBMIT, regrade)
    assert [m["score"] for m in messages("score", records)] == [1, 0]


def test_a_score_snapshot_is_compared_with_the_last_one_sent_not_with_any_sent() -> None:
    def regrade(at: float, score: int) -> Activity:
        return activity("RESCORE", at, responses=[response("q1", score, 1)])

    records = derive(START, ANSWER, SUBMIT, regrade(21, 1), regrade(22, 0), regrade(23, 0))
    assert [m["score"] for m in messages("score", records)] == [0, 1, 0]


@pytest.mark.parametrize(
    "content",
    [
        {"subscores": [by_items("d", "q1")]},
        {"responses": [response("q1", 0, 2)]},
        {"responses": [response("q9", None, 3, attempted=False)]},
    ],
    ids=["subscores", "max_score", "another response"],
)
def test_every_part_of_the_score_content_counts_as_a_change(content: dict[str, Any]) -> None:
    assert caused_by(START, ANSWER, SUBMIT, activity("SCORE", 21, **content))[0] == ["score"]


def test_tags_that_change_a_subscore_change_the_score_content() -> None:
    submit = activity("SUBMIT", 20, subscores=[by_tags("d", ("t", "x"))])
    tagged = activity("SCORE", 21, item_tags={"q1": tags(("t", "x"))})
    assert caused_by(START, ANSWER, submit, tagged)[0] == ["score"]


@pytest.mark.parametrize(
    "content",
    [
        {"session_duration": 9, "num_questions": 9, "metadata": {"k": 1}},
        {"responses": [response("q1", revision=4)]},
        {"item_tags": {"q1": tags(("t", "x"))}},
    ],
    ids=["not of the score", "revision", "tags without a subscore"],
)
def test_what_the_score_snapshot_does_not_show_is_no_change_of_it(content: dict[str, Any]) -> None:
    assert caused_by(START, ANSWER, SUBMIT, activity("SCORE", 21, **content))[0] == []


def test_a_session_neither_submitted_nor_set_completed_gives_no_snapshot() -> None:
    unfinished = [
        START,
        ANSWER,
        activity("SCORE", 12, responses=REVISED),
        set_status("PendingScoring", 13),
        set_status("Incomplete", 14),
        activity("RESCORE", 15, responses=REVISED),
        DISCARD,
    ]
    assert names(derive(*unfinished)) == [STARTED]


def test_a_reopened_session_that_is_completed_again_is_sent_again_only_where_it_changed() -> None:
    reopened = [START, ANSWER, SUBMIT, set_status("Incomplete", 25), activity("RESUME", 26)]
    same = derive(*reopened, activity("SUBMIT", 40))
    other = derive(*reopened, activity("SUBMIT", 40, responses=REVISED))
    once = [STARTED, COMPLETED, "status", "score", RESUMED, COMPLETED, "status"]
    assert names(same) == once
    assert names(other) == [*once, "score"]


# Merging


@pytest.mark.parametrize(
    ("earlier", "update", "merged"),
    [
        # score, max_score
        ((1, 2), (None, None), (1, 2)),
        ((1, 2), (0, 2), (0, 2)),
        ((1, 2), (3, None), (3, None)),
        ((1, 2), (None, 4), (None, 4)),
        ((None, None), (1, 2), (1, 2)),
    ],
)
def test_score_and_max_score_are_replaced_as_a_pair_by_an_update_that_carries_either(
    earlier: tuple[Any, Any], update: tuple[Any, Any], merged: tuple[Any, Any]
) -> None:
    anchor = response("anchor", 100, 100)  # keeps scores known
    sent = score_of(
        activity("RESPOND", 1, responses=[anchor, response("q", *earlier)]),
        activity("SUBMIT", 2, responses=[response("q", *update)]),
    )
    assert (sent["score"], sent["max_score"]) == (100 + (merged[0] or 0), 100 + (merged[1] or 0))


@pytest.mark.parametrize(
    ("earlier", "update", "attempted"), [(True, None, 1), (True, False, 0), (False, True, 1), (None, None, 0)]
)
def test_what_an_update_says_nothing_about_is_kept(earlier: bool | None, update: bool | None, attempted: int) -> None:
    sent = status_of(
        activity("RESPOND", 1, responses=[response("q", attempted=earlier)]),
        activity("SUBMIT", 2, responses=[response("q", 1, 1, attempted=update)]),
    )
    assert sent["num_attempted"] == attempted


@pytest.mark.parametrize(
    ("revisions", "score"),
    [
        ([1, 2], 2),
        ([2, 2], 2),
        ([2, 1], 1),
        ([0, -1], 1),
        ([None, 1], 2),
        ([2, None], 2),
        ([2, None, 1], 2),  # the null kept the 2
        ([2, None, 2], 3),
        ([2, 1, 1], 1),  # the refused one left its revision behind nowhere
    ],
)
def test_a_lower_revision_changes_nothing_where_both_carry_one(revisions: list[int | None], score: int) -> None:
    updates = [
        activity("RESPOND", n, responses=[response("q", n, 9, revision=revision)])
        for n, revision in enumerate(revisions, 1)
    ]
    assert score_of(*updates, activity("SUBMIT", 9))["score"] == score


def test_a_lower_revision_changes_no_other_field_either() -> None:
    sent = derive(
        activity("RESPOND", 1, responses=[response("q", 1, 1, revision=2)], subscores=[by_items("d", "q")]),
        activity("RESPOND", 2, responses=[response("q", attempted=False, item_reference="i", revision=1)]),
        SUBMIT,
    )
    assert messages("status", sent)[0]["num_attempted"] == 1
    assert messages("score", sent)[0]["subscores"][0]["num_questions"] == 1


def test_two_mentions_in_one_activity_merge_in_their_order() -> None:
    assert score_of(activity("SUBMIT", responses=[response("q", 1, 1), response("q", 0, 1)]))["score"] == 0


def test_a_response_that_moves_to_another_item_counts_there() -> None:
    sent = score_of(
        activity("RESPOND", 1, responses=[response("q", 1, 1, item_reference="i")]),
        activity(
            "SUBMIT",
            2,
            responses=[response("q", item_reference="j")],
            subscores=[by_items("d", "i"), by_items("e", "j")],
        ),
    )
    assert [subscore["num_questions"] for subscore in sent["subscores"]] == [0, 1]


def test_a_non_empty_list_of_subscores_replaces_the_list_and_an_empty_one_does_not() -> None:
    first = activity("RESPOND", 1, responses=REVISED, subscores=[by_items("d", "q1"), by_items("e", "q1")])
    empty = activity("SAVE", 2)
    second = activity("SAVE", 3, subscores=[by_items("f", "q1")])
    assert [s["id"] for s in score_of(first, empty, SUBMIT)["subscores"]] == ["d", "e"]
    assert [s["id"] for s in score_of(first, empty, second, SUBMIT)["subscores"]] == ["f"]


def test_item_tags_and_metadata_merge_by_key() -> None:
    records = derive(
        activity(
            "RESPOND",
            1,
            responses=[response("i1", 1, 1), response("i2", 1, 1)],
            item_tags={"i1": tags(("t", "x")), "i2": tags(("t", "x"))},
            metadata={"kept": 1, "replaced": "old", "emptied": 2},
        ),
        activity(
            "SUBMIT",
            2,
            subscores=[by_tags("d", ("t", "x"))],
            item_tags={"i2": tags(("t", "other"))},
            metadata={"replaced": "new", "emptied": None, "added": True},
        ),
    )
    assert records[-1].message["subscores"][0]["items"] == ["i1"]
    assert records[-1].metadata == {"kept": 1, "replaced": "new", "emptied": None, "added": True}


def test_a_record_shows_the_metadata_of_its_place() -> None:
    records = derive(activity("START", 0, metadata={"k": 1}), activity("RESUME", 1, metadata={"k": 2, "l": 3}))
    assert [record.metadata for record in records] == [{"k": 1}, {"k": 2, "l": 3}]


def test_copies_that_differ_in_the_order_of_a_map_give_the_same_bytes() -> None:
    one = activity("START", metadata={"k": 1, "l": 2})
    other = activity("START", metadata={"l": 2, "k": 1})
    assert orjson.dumps(derive(one, other)[0].metadata) == orjson.dumps(derive(other, one)[0].metadata)
    assert counted(one, other) == {"duplicates": 1}


def test_a_number_spelled_in_two_ways_is_no_conflict() -> None:
    one = activity("START", session_duration=1, metadata={"k": 2})
    other = activity("START", session_duration=1.0, metadata={"k": 2.0})
    assert counted(one, other) == {"duplicates": 1}
    assert orjson.dumps(derive(one, other)[0].metadata) == orjson.dumps(derive(other, one)[0].metadata)


def test_events_carry_their_own_activity_id_and_snapshots_the_first() -> None:
    records = derive(
        activity("START", 0, activity_id="first"),
        activity("RESUME", 1, activity_id="second"),
        activity("SUBMIT", 2, activity_id="third", responses=REVISED),
    )
    assert [(name, record.message["activity_id"]) for name, record in zip(names(records), records, strict=True)] == [
        (STARTED, "first"),
        (RESUMED, "second"),
        (COMPLETED, "third"),
        ("status", "first"),
        ("score", "first"),
    ]
    assert counted(activity("START", 0), activity("RESUME", 1, activity_id="b")) == {"activity_id_disagreements": 1}


# Counts of a snapshot


@pytest.mark.parametrize(
    ("declared", "printed"), [([], 2), ([10], 10), ([10, None], 10), ([10, 3], 3), ([3.9], 3), ([0], 0)]
)
def test_num_questions_is_the_latest_declared_else_the_responses_known(declared: list[Any], printed: int) -> None:
    steps = [activity("SAVE", n, num_questions=number) for n, number in enumerate(declared)]
    both = activity("RESPOND", 5, responses=[response("q1"), response("q2", attempted=False)])
    sent = status_of(*steps, both, SUBMIT)
    assert sent["num_questions"] == printed
    assert isinstance(sent["num_questions"], int)


def test_num_attempted_counts_attempted_responses() -> None:
    given = [response("q1"), response("q2", attempted=False), response("q3", 1, 1, attempted=None)]
    assert status_of(activity("SUBMIT", responses=given))["num_attempted"] == 1


# Scores


def test_an_unattempted_response_with_a_max_counts_in_max_score() -> None:
    given = [response("q1", 1, 1), response("q2", None, 2, attempted=False, automarkable=True)]
    sent = score_of(activity("SUBMIT", responses=given, subscores=[by_items("d", "q1", "q2")]))
    assert (sent["score"], sent["max_score"]) == (1, 3)
    subscore = sent["subscores"][0]
    assert (subscore["score"], subscore["max_score"], subscore["attempted_max_score"]) == (1, 3, 1)


def test_a_sum_of_nothing_is_null_in_the_whole_and_zero_in_a_subscore() -> None:
    given = [response("q1", 1, None), response("q2", None, None)]
    sent = score_of(activity("SUBMIT", responses=given, subscores=[by_items("d", "q2"), by_items("none")]))
    assert (sent["score"], sent["max_score"]) == (1, None)
    for subscore in sent["subscores"]:
        assert (subscore["score"], subscore["max_score"], subscore["attempted_max_score"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "printed"),
    [([0.1, 0.2], b'"score":0.3,'), ([0.5, 0.5], b'"score":1,'), ([2.0], b'"score":2,'), ([1e308, 1e308], None)],
)
def test_sums_are_exact_and_integral_ones_print_as_integers(scores: list[float], printed: bytes | None) -> None:
    given = [response(f"q{n}", score, 5) for n, score in enumerate(scores)]
    subscores = [by_items("d", "q0", "q1")]
    body = derive(activity("SUBMIT", responses=given, subscores=subscores))[-1].body
    if printed is None:
        assert json.loads(body)["score"] == pytest.approx(1.797e308, rel=1e-3)  # the largest, not infinity
    else:
        assert body.count(printed) == 2


@pytest.mark.parametrize(
    ("score", "spelled"),
    [
        (1e-7, b"1e-7"),
        (0.000015, b"0.000015"),
        (2**53 + 2, b"9007199254740994"),
        (1e16, b"10000000000000000"),
        (1e20, b"1e20"),
        (1.5e21, b"1.5e21"),
    ],
)
def test_numbers_are_spelled_by_a_rule_that_is_not_the_encoder_s(score: float, spelled: bytes) -> None:
    given, subscores = [response("q0", score, score)], [by_items("d", "q0")]
    record = derive(activity("SUBMIT", responses=given, subscores=subscores))[-1]
    for name in (b"score", b"max_score"):
        assert record.body.count(b'"%b":%b,' % (name, spelled)) == 2
    assert b'"attempted_max_score":%b,' % spelled in record.body
    assert record.message["score"] == score
    assert json.loads(record.body) == record.message


def test_a_subscore_by_items_echoes_its_list_and_counts_every_response_once() -> None:
    listed = ["i2", "unknown", "i1", "i2"]
    given = [
        response("q1", 1, 2, item_reference="i1"),
        response("q2", 2, 2, item_reference="i2"),
        response("q3", 1, 2, item_reference="i2"),
        response("q4", 1, 2, item_reference="i3"),
    ]
    sent = score_of(activity("SUBMIT", responses=given, subscores=[by_items("d", *listed)]))
    assert sent["subscores"] == [
        {
            "id": "d",
            "title": "D",
            "num_questions": 3,
            "num_attempted": 3,
            "score": 4,
            "max_score": 6,
            "attempted_max_score": 6,
            "items": listed,
        }
    ]


def test_a_subscore_by_tags_takes_items_that_carry_any_of_them_as_first_seen() -> None:
    sent = score_of(
        activity("RESPOND", 1, responses=[response(i, 1, 1) for i in ("i3", "i1")]),
        activity("RESPOND", 2, responses=[response(i, 1, 1) for i in ("i2", "i1", "i4")]),
        activity(
            "SUBMIT",
            3,
            item_tags={
                "i1": tags(("t", "x"), ("t", "y")),
                "i2": tags(("u", "y")),
                "i3": tags(("u", "x"), ("t", "y")),
                "i4": tags(("t", "x")),
            },
            subscores=[by_tags("both", ("t", "x"), ("t", "y")), by_tags("none", ("x", "t"))],
        ),
    )
    assert [(s["id"], s["items"], s["score"]) for s in sent["subscores"]] == [
        ("both", ["i3", "i1", "i4"], 3),
        ("none", [], 0),
    ]


def test_an_item_is_seen_in_a_response_or_in_item_tags_in_which_references_are_in_order() -> None:
    reading = tags(("skill", "reading"))
    sent = score_of(
        activity(
            "RESPOND", 1, item_tags={"i9": reading, "i2": reading, "i1": reading}, responses=[response("i2", 1, 1)]
        ),
        activity("SUBMIT", 2, responses=[response("i0", 1, 1)], item_tags={"i0": reading}),
        activity("SAVE", 3, subscores=[by_tags("d", ("skill", "reading"))]),
    )
    assert sent["subscores"][0]["items"] == ["i2", "i1", "i9", "i0"]
    assert sent["subscores"][0]["num_questions"] == 2


def test_two_subscores_of_one_id_are_both_there() -> None:
    given = [response("i1", 1, 1), response("i2", 2, 2)]
    sent = score_of(activity("SUBMIT", responses=given, subscores=[by_items("d", "i1"), by_items("d", "i2")]))
    assert [(s["id"], s["score"]) for s in sent["subscores"]] == [("d", 1), ("d", 2)]


def test_a_score_snapshot_without_definitions_has_an_empty_list() -> None:
    assert score_of(activity("SUBMIT", responses=REVISED))["subscores"] == []


# Times and durations


def test_dt_started_is_the_first_start_else_the_earliest_activity() -> None:
    assert status_of(ANSWER, activity("START", 12), SUBMIT)["dt_started"] == "2020-02-17T00:00:12Z"
    assert status_of(START, activity("START", 12), SUBMIT)["dt_started"] == "2020-02-17T00:00:00Z"
    assert status_of(ANSWER, activity("START", 12, state="resume"), SUBMIT)["dt_started"] == "2020-02-17T00:00:10Z"
    assert status_of(ANSWER, UNSCORED, SUBMIT)["dt_started"] == "2020-02-17T00:00:10Z"


def test_a_snapshot_shows_the_start_known_at_its_place() -> None:
    records = derive(ANSWER, SUBMIT, activity("START", 25), activity("SUBMIT", 30))
    assert [m["dt_started"] for m in messages("status", records)] == ["2020-02-17T00:00:10Z", "2020-02-17T00:00:25Z"]


@pytest.mark.parametrize(
    ("steps", "completed"),
    [
        ([SUBMIT], "00:00:20"),
        ([SUBMIT, activity("SUBMIT", 30)], "00:00:30"),
        ([SUBMIT, set_status("Completed", 40)], "00:00:20"),
        ([SUBMIT, activity("SUBMIT", 30), set_status("Completed", 40)], "00:00:30"),
        ([set_status("Completed", 40)], "00:00:40"),
        ([set_status("Completed", 40), set_status("Completed", 50)], "00:00:50"),
        ([SUBMIT, set_status("Incomplete", 30), set_status("Completed", 40)], "00:00:40"),
        ([SUBMIT, set_status("Incomplete", 30), activity("SUBMIT", 35), set_status("Completed", 40)], "00:00:35"),
        ([SUBMIT, DISCARD, set_status("Completed", 40)], "00:00:20"),
        ([PENDING, set_status("Completed", 40)], "00:00:20"),
    ],
)
def test_dt_completed_is_the_latest_submit_since_the_last_reopening_else_the_time_of_the_set_status(
    steps: list[Activity], completed: str
) -> None:
    assert status_of(START, *steps)["dt_completed"] == f"2020-02-17T{completed}Z"


def test_times_are_truncated_to_the_second() -> None:
    records = derive(activity("START", 1.999), activity("SUBMIT", 2.999))
    assert records[0].message["time"] == "2020-02-17 00:00:01"
    assert records[2].message["dt_completed"] == "2020-02-17T00:00:02Z"
    assert [record.timestamp % 1000 for record in records] == [999] * 3


@pytest.mark.parametrize(
    ("started", "completed", "minutes", "seconds"),
    [(0, 500, 8, 500), (0, 59.999, 0, 59), (0.999, 60, 1, 60), (0.999, 1, 0, 1), (0, 60, 1, 60), (0, 119, 1, 119)],
)
def test_a_duration_nobody_reported_comes_from_the_printed_times(
    started: float, completed: float, minutes: int, seconds: int
) -> None:
    session = [activity("START", started), activity("SUBMIT", completed)]
    for unit, duration in (("minutes", minutes), ("seconds", seconds)):
        (sent,) = messages("status", derive(*session, duration_unit=unit))
        assert sent["session_duration"] == duration


@pytest.mark.parametrize("unit", ["minutes", "seconds"])
@pytest.mark.parametrize(
    ("reported", "printed"), [([7], 7), ([7, None], 7), ([7, 3], 3), ([7.9], 7), ([0], 0), ([7, 0.5], 0)]
)
def test_the_latest_reported_duration_is_taken_as_it_is_in_either_unit(
    reported: list[Any], printed: int, unit: str
) -> None:
    steps = [activity("SAVE", n, session_duration=duration) for n, duration in enumerate(reported)]
    (sent,) = messages("status", derive(*steps, activity("SUBMIT", 600), duration_unit=unit))
    assert sent["session_duration"] == printed


@pytest.mark.parametrize(
    "session",
    [
        [START, activity("SUBMIT", 20, session_duration=-1)],
        [START, activity("SUBMIT", 20, session_duration=-0.5)],
        [SUBMIT, activity("START", 21), set_status("Completed", 22)],
    ],
    ids=["reported", "floored", "derived"],
)
def test_a_negative_duration_is_zero_and_counted(session: list[Activity]) -> None:
    assert status_of(*session)["session_duration"] == 0
    assert counted(*session) == {"negative_durations": 1}


@pytest.mark.parametrize("huge", [1e300, 2**64, -1e300])
def test_a_number_no_message_can_hold_stops_nothing(huge: float) -> None:
    sent = status_of(activity("SUBMIT", session_duration=huge, num_questions=huge))
    assert abs(sent["session_duration"]) < 2**63
    assert abs(sent["num_questions"]) < 2**63


# Order inside a session


def fold_order(*activities: Activity) -> list[str]:
    """The record ids in the order they are folded, whatever the order they come in."""
    orders = []
    for given in (activities, activities[::-1]):
        seen: list[str] = []

        def note(ordered: list[Activity], seen: list[str] = seen) -> Resolved:
            seen += [activity.record_id for activity in ordered]
            return Resolved(ordered, None)

        Derivation(resolve_session=note).session(given)
        orders.append(seen)
    assert orders[0] == orders[1]
    return orders[0]


def test_time_comes_before_all_else() -> None:
    assert fold_order(activity("SET_STATUS", 1, seq=9, status="Completed"), activity("START", 2, seq=1)) == [
        "SET_STATUS@1",
        "START@2",
    ]


def test_of_one_instant_seq_decides_when_every_activity_of_it_has_one() -> None:
    assert fold_order(activity("SUBMIT", seq=1), activity("START", seq=2)) == ["SUBMIT@0", "START@0"]
    assert fold_order(activity("SUBMIT", seq=0), activity("START", seq=-1)) == ["START@0", "SUBMIT@0"]


def test_of_one_instant_seq_decides_nothing_when_one_activity_has_none() -> None:
    order = fold_order(activity("SUBMIT", seq=1), activity("START", seq=2), activity("SAVE"))
    assert order == ["START@0", "SAVE@0", "SUBMIT@0"]


def test_an_activity_without_seq_at_another_instant_does_not_matter() -> None:
    assert fold_order(activity("SUBMIT", seq=1), activity("START", seq=2), activity("SAVE", 1))[:2] == [
        "SUBMIT@0",
        "START@0",
    ]


def test_of_one_instant_without_seq_the_action_decides_then_the_record_id() -> None:
    ranked = ["START", "RESUME", "AUTOSAVE", "PAUSE", "RESPOND", "SAVE", "UNPAUSE", "SUBMIT", "RESCORE", "SCORE"]
    order = [f"{action}@0" for action in [*ranked, "DISCARD", "SET_STATUS"]]
    given = [activity(action, status="Completed") for action in [*ranked, "DISCARD", "SET_STATUS"]]
    assert fold_order(*given) == order
    assert fold_order(*(msgspec.structs.replace(one, seq=4) for one in given)) == order


def test_of_one_instant_and_one_rank_the_record_id_decides_whatever_the_action() -> None:
    of_one_rank = [
        [activity("SAVE", record_id="1"), activity("AUTOSAVE", record_id="2")],
        [activity("SCORE", record_id="1"), activity("RESCORE", record_id="2")],
        [activity("SET_STATUS", record_id="1", status="Completed"), activity("DISCARD", record_id="2")],
    ]
    for pair in of_one_rank:
        assert fold_order(*pair) == ["1", "2"]


# Across sessions


def test_records_leave_by_time_then_place_then_session() -> None:
    def of(session_id: str, action: str, at: float) -> Activity:
        return activity(action, at, session_id=session_id, record_id=f"{session_id}{action}{at}")

    records = derive(
        of("b", "START", 0),
        of("b", "SUBMIT", 5),
        of("a", "START", 3),
        of("a", "RESUME", 5),
        of("c", "START", 5),
        of("d", "START", 5),
        of("a", "SUBMIT", 5),
    )
    assert [(record.message["session_id"], name) for record, name in zip(records, names(records), strict=True)] == [
        ("b", STARTED),
        ("a", STARTED),
        ("c", STARTED),  # place 0 of its session
        ("d", STARTED),
        ("a", RESUMED),  # place 1
        ("b", COMPLETED),
        ("b", "status"),
        ("a", COMPLETED),  # place 2
        ("a", "status"),
    ]


def test_sessions_of_one_name_in_two_stores_are_two() -> None:
    tenants: list[dict[str, Any]] = [{}, {"organisation": ""}, {"organisation": "o"}, {"lrs_id": "o"}]
    starts = [activity("START", **tenant) for tenant in tenants]
    records = derive(*starts)
    assert names(records) == [STARTED] * 4
    assert len({record.id for record in records}) == 4
    assert [record.id for record in derive(*reversed(starts))] == [record.id for record in records]


def test_a_user_without_activity_has_no_records() -> None:
    assert derive() == []


# Duplicates


def test_a_copy_changes_nothing_and_is_counted() -> None:
    session = [START, ANSWER, SUBMIT]
    assert derive(*session, ANSWER, START, START) == derive(*session)
    assert counted(*session, ANSWER, START, START) == {"duplicates": 3}


@pytest.mark.parametrize(
    ("kept", "other"),
    [
        (activity("START", 1, record_id="r"), activity("RESUME", 2, record_id="r")),
        (activity("START", 2, record_id="r", activity_id="a"), activity("START", 2, record_id="r", activity_id="b")),
    ],
    ids=["the earlier", "the smaller bytes"],
)
def test_of_conflicting_copies_the_smallest_counts(kept: Activity, other: Activity) -> None:
    for given in ([kept, other], [other, kept], [other, kept, other]):
        met: list[tuple[Activity, Activity]] = []
        derivation = Derivation(on_conflict=lambda *pair, met=met: met.append(pair))
        assert derivation.user(given) == derive(kept)
        assert met == [(kept, other)]
        assert derivation.counts.conflicting_duplicates == 1


def test_one_record_id_in_two_sessions_is_two_activities() -> None:
    records = derive(activity("START", session_id="s1"), activity("START", session_id="s2"))
    assert names(records) == [STARTED, STARTED]
    assert counted(activity("START", session_id="s1"), activity("START", session_id="s2")) == {}


@pytest.mark.parametrize(
    ("session", "counts"),
    [
        ([START, activity("START", 1), activity("START", 2)], {"repeated_starts": 2}),
        ([START, DISCARD, activity("SUBMIT", 31)], {"submits_after_discard": 1}),
        ([START, DISCARD, activity("SUBMIT", 31, pending_scoring=True)], {"submits_after_discard": 1}),
        ([START, DISCARD, set_status("Incomplete", 31), activity("SUBMIT", 32)], {}),
        ([START, activity("START", 1, state="resume"), ANSWER, SUBMIT], {}),
    ],
)
def test_what_is_odd_is_counted(session: list[Activity], counts: dict[str, int]) -> None:
    assert counted(*session) == counts


def test_counts_add_up() -> None:
    derivation = Derivation()
    derivation.user([START, START, activity("START", 1), activity("START", session_id="t")])
    total = Counts(activities=10, repeated_starts=1)
    total.add(derivation.counts)
    outcomes = {"Incomplete": 2}
    assert total == Counts(activities=14, sessions=2, duplicates=1, repeated_starts=2, outcomes=outcomes)


# Ids


def test_an_id_is_a_uuid5_of_the_canonical_array() -> None:
    organisation = 'o"\\\n\x01/é'
    odd: dict[str, Any] = {
        "organisation": organisation,
        "lrs_id": None,
        "session_id": "s\u2028🦉",
        "user_id": "\x7f\t<u>",
    }
    records = derive(activity("START", **odd), activity("SUBMIT", 1, responses=REVISED, **odd))
    assert names(records) == [STARTED, COMPLETED, "status", "score"]
    for record, name in zip(records, names(records), strict=True):
        array = [*odd.values(), name, record.record_id, hashlib.sha256(record.body).hexdigest()]
        text = json.dumps(array, ensure_ascii=False, separators=(",", ":"))
        assert record.id == str(uuid.uuid5(uuid.UUID("9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24"), text))


def test_the_namespace_and_an_id_never_change() -> None:
    assert str(NAMESPACE) == "9b6f3c52-6f0e-4d0c-8f5e-6a3b8f1c7d24"
    assert [record.id for record in derive(*documented_session())] == [
        "b2352221-e6b0-5f59-b957-61c608c6d9ed",
        "f24a4233-a0e4-597b-b27f-bdadd3bae222",
        "a829e799-07f4-5adc-8b1f-840443b86712",
        "ec7a3122-0f7a-5a5b-8d82-139e24798e66",
    ]


def test_two_equal_submits_give_two_ids() -> None:
    records = derive(START, activity("SUBMIT", 20, record_id="1"), activity("SUBMIT", 20, record_id="2"))
    completions = [record for record in records if record.message.get("event") == COMPLETED]
    assert completions[0].body == completions[1].body
    assert completions[0].id != completions[1].id


def test_late_activity_gives_what_it_changes_a_new_id_and_nothing_else() -> None:
    early = derive(START, SUBMIT)
    late = derive(START, ANSWER, SUBMIT)
    assert [record.id for record in late[:2]] == [record.id for record in early[:2]]
    assert late[2].record_id == early[2].record_id
    assert late[2].id != early[2].id


def test_a_record_carries_the_time_and_the_key_of_its_cause() -> None:
    records = derive(START, ANSWER, SUBMIT)
    assert [(record.timestamp, record.record_id, record.place) for record in records] == [
        (START.occurred_at, START.record_id, 0),
        *[(SUBMIT.occurred_at, SUBMIT.record_id, 2)] * 3,
    ]


def test_a_response_needs_no_more_than_its_id_and_item() -> None:
    sent = status_of(activity("SUBMIT", responses=[Response("q", "i")]))
    assert (sent["num_attempted"], sent["num_questions"]) == (0, 1)


def test_a_subscore_of_nothing_takes_nothing() -> None:
    sent = score_of(activity("SUBMIT", responses=REVISED, subscores=[SubscoreDefinition("d", "D")]))
    assert (sent["subscores"][0]["items"], sent["subscores"][0]["num_questions"]) == ([], 0)


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (activity("START"), "Incomplete"),
        (activity("SUBMIT"), "Completed"),
        (activity("SUBMIT", pending_scoring=True), "PendingScoring"),
        (activity("DISCARD"), "Discarded"),
        (activity("START", state="review"), "none"),
    ],
)
def test_sessions_are_counted_by_what_became_of_them(last: Activity, outcome: str) -> None:
    derivation = Derivation()
    derivation.user([last])
    derivation.counts.add(derivation.counts)
    assert derivation.counts.outcomes == {outcome: 2}
