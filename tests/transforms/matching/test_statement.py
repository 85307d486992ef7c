"""The xAPI statement of a record, the query document and the three payloads (docs/spec/records.md section 4)."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Record
from schemas.record import NAMESPACE
from tests.support.activity import DOCUMENTED_SCORE, activity, by_items, documented_session, names, response
from transforms.matching.document import encode_payload, query_document
from transforms.matching.statement import StatementBuilder, is_absolute_iri
from transforms.sessions.derivation import Derivation, DurationUnit

SESSION = "f4e854f4-3324-4395-beec-1650b522007a"
EXTENSIONS = "https://session-forwarder.invalid/extensions"


def documented() -> dict[str, Record]:
    """The records of the documented session by what they are."""
    records = Derivation().user(documented_session())
    return dict(zip(names(records), records, strict=True))


def one(kind: str, **changed: Any) -> Record:
    """A documented record, some keys of its message replaced."""
    record = documented()[kind]
    message = {**record.message, **changed}
    return msgspec.structs.replace(record, message=message, body=orjson.dumps(message))


def statement(kind: str, **changed: Any) -> dict[str, Any]:
    return StatementBuilder().statement(one(kind, **changed))


# One statement of every kind


def test_the_statement_of_an_event() -> None:
    assert statement("session-started") == {
        "id": documented()["session-started"].id,
        "actor": {
            "objectType": "Agent",
            "account": {"homePage": "https://learner.invalid", "name": "$ANONYMIZED_USER_ID"},
        },
        "verb": {"id": "http://adlnet.gov/expapi/verbs/initialized", "display": {"en": "initialized"}},
        "object": {
            "objectType": "Activity",
            "id": "https://learner.invalid/activities/activity_1234567890",
            "definition": {"type": "http://adlnet.gov/expapi/activities/assessment"},
        },
        "context": {"registration": SESSION},
        "timestamp": "2020-02-17T15:03:23.000Z",
        "stored": "2020-02-17T15:03:23.000Z",
    }


@pytest.mark.parametrize(
    ("kind", "event", "verb", "result"),
    [
        ("session-started", "session-started", "initialized", None),
        ("session-started", "session-resumed", "resumed", None),
        ("session-completed", "session-completed", "completed", {"completion": True}),
        (
            "status",
            None,
            "progressed",
            {
                "completion": True,
                "duration": "PT480S",
                "extensions": {f"{EXTENSIONS}/num_attempted": 9, f"{EXTENSIONS}/num_questions": 10},
            },
        ),
        (
            "score",
            None,
            "scored",
            {
                "score": {"raw": 9, "min": 0, "max": 10, "scaled": 0.9},
                "extensions": {f"{EXTENSIONS}/subscores": json.loads(DOCUMENTED_SCORE)["subscores"]},
            },
        ),
    ],
)
def test_verb_and_result_of_every_kind(kind: str, event: str | None, verb: str, result: dict[str, Any] | None) -> None:
    built = statement(kind, **({"event": event} if event else {}))
    assert built["verb"] == {"id": f"http://adlnet.gov/expapi/verbs/{verb}", "display": {"en": verb}}
    assert built.get("result") == result


@pytest.mark.parametrize(
    ("duration", "unit", "printed"), [(8, "minutes", "PT480S"), (500, "seconds", "PT500S"), (0, "minutes", "PT0S")]
)
def test_the_duration_is_in_the_unit_of_the_snapshot(duration: int, unit: DurationUnit, printed: str) -> None:
    builder = StatementBuilder(duration_unit=unit)
    assert builder.statement(one("status", session_duration=duration))["result"]["duration"] == printed


def test_a_session_whose_scores_are_pending_is_not_complete() -> None:
    assert statement("status", status="PendingScoring")["result"]["completion"] is False


# result.score


@pytest.mark.parametrize(
    ("raw", "maximum", "score"),
    [
        (9, 10, {"raw": 9, "min": 0, "max": 10, "scaled": 0.9}),
        (0, 10, {"raw": 0, "min": 0, "max": 10, "scaled": 0}),
        (10, 10, {"raw": 10, "min": 0, "max": 10, "scaled": 1}),
        (0.3, 0.5, {"raw": 0.3, "min": 0, "max": 0.5, "scaled": 0.6}),
        (11, 10, {"raw": 11, "min": 0}),
        (0, 0, {"raw": 0, "min": 0}),
        (3, 0, {"raw": 3, "min": 0}),
        (3, None, {"raw": 3, "min": 0}),
        (3, -1, {"raw": 3, "min": 0}),
        (-1, 10, {"raw": -1, "max": 10}),
        (-1, 0, {"raw": -1}),
        (-1, None, {"raw": -1}),
        (-3, -2, {"raw": -3}),
        (5e-324, 1.7e308, {"raw": 5e-324, "min": 0, "max": 1.7e308, "scaled": 0}),
    ],
)
def test_parts_of_the_score_that_xapi_forbids_are_left_out(raw: Any, maximum: Any, score: dict[str, Any]) -> None:
    assert statement("score", score=raw, max_score=maximum)["result"]["score"] == score


_number = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)


@given(_number, st.none() | _number)
def test_whatever_the_score_its_parts_agree(raw: Any, maximum: Any) -> None:
    score = statement_of_score(raw, maximum)["result"]["score"]
    assert score["raw"] == raw
    assert set(score) <= {"raw", "min", "max", "scaled"}
    assert score.get("min", raw) <= raw <= score.get("max", raw)
    assert score.get("max", 1) > score.get("min", 0)
    assert -1 <= score.get("scaled", 0) <= 1


_SCORE = documented()["score"]


def statement_of_score(raw: Any, maximum: Any) -> dict[str, Any]:
    message = {**_SCORE.message, "score": raw, "max_score": maximum}
    return StatementBuilder().statement(msgspec.structs.replace(_SCORE, message=message))


# IRIs


@pytest.mark.parametrize(
    ("activity_id", "iri"),
    [
        # absolute IRIs stay as they are
        ("http://example.org/a", None),
        ("https://example.org:8443/a?b=c#d", None),
        ("HTTP://EXAMPLE.ORG", None),
        ("http://user@[::1]:80/", None),
        ("https://exämple.org/ü/🦉?q=é", None),
        ("urn:uuid:f4e854f4-3324-4395-beec-1650b522007a", None),
        ("tag:example.org,2020:quiz", None),
        ("mailto:a@example.org", None),
        ("file:///quiz", None),
        ("item:7%20b", None),
        # everything else is percent-encoded below the home page
        ("activity_1234567890", "activity_1234567890"),
        ("a b/c", "a%20b%2Fc"),
        ("//example.org/a", "%2F%2Fexample.org%2Fa"),
        ("/a", "%2Fa"),
        ("example.org/a", "example.org%2Fa"),
        ("http://", "http%3A%2F%2F"),
        ("http:", "http%3A"),
        ("http://example.org/a b", "http%3A%2F%2Fexample.org%2Fa%20b"),
        ("http://example.org/a\n", "http%3A%2F%2Fexample.org%2Fa%0A"),
        ("\x01http://example.org/", "%01http%3A%2F%2Fexample.org%2F"),
        ("http://example.org/\x7f", "http%3A%2F%2Fexample.org%2F%7F"),
        ("http://example.org/%zz", "http%3A%2F%2Fexample.org%2F%25zz"),
        ("http://example.org/a#b#c", "http%3A%2F%2Fexample.org%2Fa%23b%23c"),
        ("http://example.org/{a}", "http%3A%2F%2Fexample.org%2F%7Ba%7D"),
        ("http://example.org/[a]", "http%3A%2F%2Fexample.org%2F%5Ba%5D"),
        ("http://[1:2]/", "http%3A%2F%2F%5B1%3A2%5D%2F"),
        ("http://example.org:port/", "http%3A%2F%2Fexample.org%3Aport%2F"),
        ("1:2", "1%3A2"),
        ("50%: a quiz", "50%25%3A%20a%20quiz"),
        ("prüfung 🦉", "pr%C3%BCfung%20%F0%9F%A6%89"),
        ("a?b#c&d", "a%3Fb%23c%26d"),
        ("..", ".."),
    ],
)
def test_the_object_is_the_activity_when_that_is_an_absolute_iri_else_below_the_home_page(
    activity_id: str, iri: str | None
) -> None:
    expected = activity_id if iri is None else f"https://learner.invalid/activities/{iri}"
    assert statement("score", activity_id=activity_id)["object"]["id"] == expected
    assert is_absolute_iri(activity_id) is (iri is None)


@pytest.mark.parametrize("home_page", ["https://school.example/moodle", "https://school.example/moodle/"])
def test_the_home_page_names_the_account_and_the_activities(home_page: str) -> None:
    built = StatementBuilder(home_page).statement(one("status"))
    assert built["actor"]["account"]["homePage"] == home_page
    assert built["object"]["id"] == "https://school.example/moodle/activities/activity_1234567890"


@given(st.text(min_size=1, max_size=12) | st.text("http:/urn#?%[]@a1é ", min_size=1, max_size=12))
def test_whatever_the_activity_the_object_is_an_iri(activity_id: str) -> None:
    message = {**_SCORE.message, "activity_id": activity_id}
    built = StatementBuilder().statement(msgspec.structs.replace(_SCORE, message=message))
    assert is_absolute_iri(built["object"]["id"])


# context.registration


@pytest.mark.parametrize("session_id", [SESSION, SESSION.upper(), "00000000-0000-0000-0000-000000000000"])
def test_a_session_id_that_is_a_uuid_is_the_registration(session_id: str) -> None:
    assert statement("status", session_id=session_id)["context"] == {"registration": session_id}


@pytest.mark.parametrize(
    "session_id",
    [
        "s",
        "séance 🦉",
        SESSION.replace("-", ""),
        f"{{{SESSION}}}",
        f"urn:uuid:{SESSION}",
        SESSION[:-1] + "g",
        SESSION[:-1] + "\u0663",  # a digit to int(), not to a UUID
        SESSION + " ",
        "f4e854f43-324-4395-beec-1650b522007a",
    ],
)
def test_any_other_session_id_is_an_extension_beside_a_uuid5_of_it(session_id: str) -> None:
    assert statement("status", session_id=session_id)["context"] == {
        "registration": str(uuid.uuid5(NAMESPACE, session_id)),
        "extensions": {f"{EXTENSIONS}/session_id": session_id},
    }


# Any record against the rules of xAPI 1.0.3

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-5][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_DURATION = re.compile(r"PT\d+S")


def empties(value: Any, path: str = "") -> Iterator[str]:
    """Paths of what xAPI 2.2 forbids outside extensions: null and empty values."""
    if value is None or value in ("", {}, []):
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != "extensions":
                yield from empties(inner, f"{path}.{key}")


def check_xapi(built: dict[str, Any]) -> None:
    """The rules of xAPI 1.0.3, part two, for what these statements hold."""
    assert set(built) <= {"id", "actor", "verb", "object", "result", "context", "timestamp", "stored"}
    assert not list(empties(built))
    assert _UUID.fullmatch(built["id"])
    assert set(built["actor"]) == {"objectType", "account"}
    assert set(built["actor"]["account"]) == {"homePage", "name"}
    iris = [built["actor"]["account"]["homePage"], built["verb"]["id"], built["object"]["id"]]
    iris += [built["object"]["definition"]["type"]]
    result = built.get("result", {})
    assert set(result) <= {"completion", "duration", "score", "extensions"}
    assert isinstance(result.get("completion", True), bool)
    assert _DURATION.fullmatch(result.get("duration", "PT0S"))
    assert set(built["context"]) <= {"registration", "extensions"}
    assert _UUID.fullmatch(built["context"]["registration"])
    iris += [*result.get("extensions", {}), *built["context"].get("extensions", {})]
    assert all(is_absolute_iri(iri) for iri in iris)
    assert _TIMESTAMP.fullmatch(built["timestamp"])
    assert built["stored"] == built["timestamp"]
    score = result.get("score", {})
    assert all(isinstance(part, int | float) for part in score.values())
    assert -1 <= score.get("scaled", 0) <= 1


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
_points = st.none() | st.sampled_from([0, 1, 0.5, -1, 1e20])


@settings(max_examples=50)
@given(_text, _text, _text, st.lists(st.tuples(_points, _points), max_size=3))
def test_every_statement_of_any_session_keeps_the_rules(
    user: str, session: str, activity_id: str, points: list[tuple[Any, Any]]
) -> None:
    of_session = {"user_id": user, "session_id": session, "activity_id": activity_id}
    responses = [response(f"q{n}", *pair) for n, pair in enumerate(points)]
    records = Derivation().user(
        [
            activity("START", 0, **of_session),
            activity("RESUME", 1, **of_session),
            activity("SUBMIT", 2, responses=responses, subscores=[by_items("d", "q0")], **of_session),
            activity("SUBMIT", 3, pending_scoring=True, session_duration=-1, **of_session),
        ]
    )
    assert len(records) >= 6
    for record in records:
        built = StatementBuilder().statement(record)
        check_xapi(built)
        json.loads(orjson.dumps(built))


# The query document


def test_the_query_document_is_the_message_its_envelope_and_its_statement() -> None:
    record = msgspec.structs.replace(one("status"), organisation="o", metadata={"class": "7b", "year": 7})
    built = StatementBuilder().statement(record)
    time = datetime(2020, 2, 17, 15, 11, 43, tzinfo=UTC)
    assert query_document(record, built) == {
        **record.message,
        "_id": record.id,
        "kind": "status",
        "organisation": "o",
        "lrs_id": None,
        "timestamp": time,
        "metadata": {"class": "7b", "year": 7},
        "statement": {**built, "timestamp": time, "stored": time},
    }


def test_dates_are_dates_only_where_the_specification_says() -> None:
    def dates(value: Any, path: str = "") -> set[str]:
        if isinstance(value, dict):
            return {found for key, inner in value.items() for found in dates(inner, f"{path}.{key}" if path else key)}
        return {path} if isinstance(value, datetime) else set()

    for record in documented().values():
        document = query_document(record, StatementBuilder().statement(record))
        assert dates(document) == {"timestamp", "statement.timestamp", "statement.stored"}
        assert all(isinstance(document.get(name, ""), str) for name in ("time", "dt_started", "dt_completed"))


def test_a_date_keeps_the_milliseconds_that_the_message_does_not_print() -> None:
    (record,) = Derivation().user([activity("START", 0.987)])
    document = query_document(record, StatementBuilder().statement(record))
    assert document["timestamp"] == document["statement"]["timestamp"] == datetime(2020, 2, 17, 0, 0, 0, 987000, UTC)
    assert document["time"] == "2020-02-17 00:00:00"


def test_without_a_statement_the_document_has_none_and_the_statement_stays_as_it_was() -> None:
    record = one("score")
    assert "statement" not in query_document(record)
    built = StatementBuilder().statement(record)
    query_document(record, built)
    assert built == StatementBuilder().statement(record)


def test_the_contracts_own_query_selects_session_completions() -> None:
    documents = [query_document(r, StatementBuilder().statement(r)) for r in documented().values()]
    completed = [d for d in documents if d["statement"]["verb"]["id"] == "http://adlnet.gov/expapi/verbs/completed"]
    assert [d["event"] for d in completed] == ["session-completed"]


# Payloads


def refuse() -> dict[str, Any]:
    raise AssertionError("the payload does not hold the statement")


def test_the_record_payload_is_the_documented_message() -> None:
    assert encode_payload(documented()["score"], "record", refuse) == DOCUMENTED_SCORE


def test_the_statement_payload_is_the_statement_as_compact_json() -> None:
    record = one("score", activity_id="prüfung")
    build = partial(StatementBuilder().statement, record)
    text = json.dumps(build(), ensure_ascii=False, separators=(",", ":"))
    assert encode_payload(record, "statement", build) == text.encode()


def test_the_document_payload_is_the_query_document_with_its_dates_as_rfc_3339() -> None:
    record = msgspec.structs.replace(one("status", activity_id="prüfung"), metadata={"k": None, "é": 1.5})
    build = partial(StatementBuilder().statement, record)
    payload = encode_payload(record, "document", build)
    time = "2020-02-17T15:11:43.000Z"
    expected = {**query_document(record, build()), "timestamp": time, "statement": build()}
    assert expected["statement"]["timestamp"] == expected["statement"]["stored"] == time
    assert json.loads(payload) == expected
    assert payload == json.dumps(expected, ensure_ascii=False, separators=(",", ":")).encode()
