import gzip
import json
import uuid
from collections import Counter, defaultdict
from typing import Any

import msgspec
import orjson
import pytest

from schemas import Activity, Response
from tests.support.paths import SHARED, needs_shared
from transforms.reading.activity import ActivityError, decode_admitted
from transforms.reading.xapi import StatementDecoder, resolve_session

INTERACTION = "http://adlnet.gov/expapi/activities/cmi.interaction"
LEAST: dict[str, Any] = {
    "id": "8f1c0b1e-0000-4000-8000-000000000001",
    "actor": {"mbox": "mailto:ada@example.org"},
    "verb": {"id": "http://adlnet.gov/expapi/verbs/initialized"},
    "object": {"id": "https://example.org/quiz"},
    "context": {"registration": "5389ed44-e618-4a66-9a43-7a0b282fd837"},
    "timestamp": "2020-02-17T15:03:23.000Z",
}


def decode(**parts: Any) -> Activity:
    statement = {name: part for name, part in (LEAST | parts).items() if part is not None}
    return StatementDecoder().decode(orjson.dumps(statement))


def verb(name: str) -> dict[str, Any]:
    return {"id": f"http://adlnet.gov/expapi/verbs/{name}"}


def test_the_least_statement() -> None:
    assert decode() == Activity(
        "8f1c0b1e-0000-4000-8000-000000000001",
        "mailto:ada@example.org",
        "5389ed44-e618-4a66-9a43-7a0b282fd837",
        "https://example.org/quiz",
        "START_OR_RESUME",
        1581951803000,
    )


QUIZ = {"id": "https://example.org/quiz", "definition": {"type": "http://adlnet.gov/expapi/activities/assessment"}}
QUESTION = {"id": "https://example.org/quiz#1", "definition": {"type": INTERACTION, "interactionType": "choice"}}
SCORE = {"score": {"raw": 1, "max": 2}}


@pytest.mark.parametrize(
    ("iri", "thing", "result", "action"),
    [
        ("http://adlnet.gov/expapi/verbs/initialized", QUIZ, None, "START_OR_RESUME"),
        ("http://adlnet.gov/expapi/verbs/launched", QUIZ, None, "START_OR_RESUME"),
        ("http://activitystrea.ms/start", QUIZ, None, "START_OR_RESUME"),
        ("http://adlnet.gov/expapi/verbs/resumed", QUIZ, None, "RESUME"),
        ("http://adlnet.gov/expapi/verbs/suspended", QUIZ, None, "SAVE"),
        ("http://adlnet.gov/expapi/verbs/terminated", QUIZ, SCORE, "SAVE"),
        ("http://adlnet.gov/expapi/verbs/completed", QUIZ, SCORE, "SUBMIT"),
        ("http://adlnet.gov/expapi/verbs/completed", QUESTION, None, "SUBMIT"),
        ("http://activitystrea.ms/submit", QUIZ, None, "SUBMIT"),
        ("http://activitystrea.ms/submit", QUESTION, SCORE, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/answered", QUESTION, SCORE, "RESPOND"),
        ("http://id.tincanapi.com/verb/skipped", QUESTION, SCORE, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/scored", QUIZ, SCORE, "SCORE"),
        ("http://adlnet.gov/expapi/verbs/passed", QUIZ, SCORE, "SCORE"),
        ("http://adlnet.gov/expapi/verbs/failed", QUIZ, SCORE, "SCORE"),
        ("http://adlnet.gov/expapi/verbs/passed", QUIZ, None, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/scored", QUESTION, SCORE, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/interacted", QUIZ, None, "RESPOND"),
        ("https://example.org/verbs#Completed/", QUIZ, None, "SUBMIT"),
    ],
)
def test_actions(iri: str, thing: dict[str, Any], result: dict[str, Any] | None, action: str) -> None:
    assert decode(verb={"id": iri}, object=thing, result=result).action == action


def test_a_statement_about_an_interaction_carries_a_response() -> None:
    name = "https://example.org/quiz#1"
    answered = decode(verb=verb("answered"), object=QUESTION, result={"score": {"raw": 0.5, "max": 2, "min": 0}})
    assert answered.responses == [Response(name, name, attempted=True, score=0.5, max_score=2)]
    skipped = decode(verb=verb("skipped"), object=QUESTION, result={"score": {"raw": 0}})
    assert skipped.responses == [Response(name, name, attempted=False, score=0)]
    opened = decode(verb=verb("initialized"), object=QUESTION)
    assert opened.responses == [Response(name, name)]
    assert decode(verb=verb("scored"), object=QUIZ, result=SCORE).responses == []


@pytest.mark.parametrize(
    ("actor", "user_id"),
    [
        ({"account": {"homePage": "https://a", "name": "ada"}, "mbox": "mailto:x@y"}, "ada"),
        ({"objectType": "Agent", "mbox": "mailto:x@y"}, "mailto:x@y"),
        ({"mbox_sha1sum": "abc"}, "abc"),
        ({"openid": "https://ada.example.org/"}, "https://ada.example.org/"),
    ],
)
def test_users(actor: dict[str, Any], user_id: str) -> None:
    assert decode(actor=actor).user_id == user_id


@pytest.mark.parametrize(
    "name",
    ["https://w3id.org/xapi/video/extensions/session-id", "https://w3id.org/xapi/cmi5/context/extensions/sessionid"],
)
def test_a_session_by_extension(name: str) -> None:
    assert decode(context={"extensions": {"https://x/other": 1, name: "s-1"}}).session_id == "s-1"


def test_registration_goes_before_an_extension() -> None:
    assert decode(context={"registration": "r-1", "extensions": {"https://x/session-id": "s-1"}}).session_id == "r-1"


def test_when() -> None:
    stored = {"timestamp": None, "stored": "2020-02-17T15:03:24.5Z"}
    assert decode(**stored).occurred_at == 1581951804500
    assert decode(stored="2021-01-01T00:00:00Z").occurred_at == 1581951803000


def test_a_statement_without_id_gets_one_from_its_content() -> None:
    one = decode(id=None, result={"score": {"raw": 1.0}}).record_id
    assert uuid.UUID(one).version == 5
    reordered = dict(reversed((LEAST | {"result": {"score": {"raw": 1}}}).items()))
    del reordered["id"]
    assert StatementDecoder().decode(json.dumps(reordered, indent=1).encode()).record_id == one
    assert decode(id=None).record_id != one


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"actor": None}, "actor: missing"),
        ({"actor": {"name": "Ada"}}, "actor: not identified; allowed: account, mbox, mbox_sha1sum or openid"),
        ({"actor": {"objectType": "Group", "mbox": "mailto:x@y"}}, "actor: a Group"),
        ({"actor": {"member": []}}, "actor: a Group"),
        ({"actor": {"account": {"homePage": "https://a"}}}, "actor.account.name: missing"),
        ({"actor": {"mbox": "m" * 257}}, "actor.mbox: longer than 256"),
        ({"actor": {"mbox": ""}}, "actor.mbox: missing or not a string"),
        ({"context": None}, "no session; allowed: context.registration or a session-id extension"),
        ({"context": {"registration": ""}}, "context.registration: missing or not a string"),
        ({"context": []}, "context: not an object"),
        ({"context": {"extensions": {"https://x/session-id": 5}}}, "context.extensions[https://x/session-id]"),
        ({"timestamp": None}, "timestamp: missing, and stored too"),
        ({"timestamp": "2020-02-17"}, "timestamp: '2020-02-17' is a date without a time of day"),
        ({"timestamp": 5}, "timestamp: not a string"),
        ({"verb": {}}, "verb.id: missing"),
        ({"object": {"objectType": "Agent"}}, "object.id: missing"),
        ({"id": 5}, "id: missing or not a string"),
        ({"object": QUESTION, "result": {"score": {"raw": "1"}}}, "result.score.raw: not a number"),
        ({"object": QUESTION, "result": {"score": 1}}, "result.score: not an object"),
    ],
)
def test_statements_that_are_refused(parts: dict[str, Any], expected: str) -> None:
    with pytest.raises(ActivityError) as caught:
        decode(**parts)
    assert str(caught.value).startswith(expected)


def test_bytes_are_checked_as_in_activity() -> None:
    with pytest.raises(ActivityError, match="not valid UTF-8"):
        StatementDecoder().decode(orjson.dumps(LEAST)[:-1] + b',"x":"\xff"}')


def test_admitted_and_stamped() -> None:
    decoder = StatementDecoder("org", "store")
    user_id, carried = decoder.admit(orjson.dumps(LEAST))
    activity = decode_admitted(carried)
    assert (user_id, activity.organisation, activity.lrs_id) == ("mailto:ada@example.org", "org", "store")
    assert activity == decoder.decode(orjson.dumps(LEAST))


def session(*told: tuple[str, str]) -> list[tuple[str, str]]:
    """(action, activity_id) of each, before and after."""
    activities = [Activity(f"r{n}", "u", "s", thing, action, n) for n, (action, thing) in enumerate(told)]  # type: ignore[arg-type]
    return [(activity.action, activity.activity_id) for activity in resolve_session(activities)]


def test_start_or_resume_is_decided_by_what_came_before() -> None:
    told = [("START_OR_RESUME", "a"), ("RESPOND", "a"), ("START_OR_RESUME", "a"), ("START_OR_RESUME", "a")]
    assert [action for action, _ in session(*told)] == ["START", "RESPOND", "RESUME", "RESUME"]
    late = [("RESUME", "a"), ("START_OR_RESUME", "a"), ("START_OR_RESUME", "a")]
    assert [action for action, _ in session(*late)] == ["RESUME", "START", "RESUME"]


def test_the_activity_is_that_of_the_first_start_or_resume() -> None:
    assert session(("RESPOND", "q1"), ("RESUME", "quiz"), ("START_OR_RESUME", "other")) == [
        ("RESPOND", "quiz"),
        ("RESUME", "quiz"),
        ("START", "quiz"),
    ]
    assert session(("RESPOND", "q1"), ("SUBMIT", "quiz")) == [("RESPOND", "q1"), ("SUBMIT", "q1")]
    assert session() == []


RANK = {"START_OR_RESUME": 0, "RESUME": 1, "SUBMIT": 3, "SCORE": 4}


def resolved(lines: list[bytes]) -> Counter[str]:
    sessions = defaultdict(list)
    for line in lines:
        activity = StatementDecoder().decode(line)
        sessions[activity.session_id, activity.user_id].append(activity)
    counts = Counter(sessions=len(sessions))
    for activities in sessions.values():
        activities.sort(key=lambda one: (one.occurred_at, RANK.get(one.action, 2), one.record_id))
        resolved = resolve_session(activities)
        assert len({activity.activity_id for activity in resolved}) == 1
        counts.update(activity.action for activity in resolved)
    return counts


def plainly_counted(statements: list[dict[str, Any]]) -> Counter[str]:
    """The same counts by no code of the project: openings beyond a session's first are resumptions."""
    counts: Counter[str] = Counter()
    openings: Counter[str] = Counter()
    sessions = set()
    for statement in statements:
        context = statement["context"]
        key = context.get("registration") or context["extensions"]["https://w3id.org/xapi/video/extensions/session-id"]
        sessions.add(key)
        name = statement["verb"]["id"].rpartition("/")[2]
        about_question = "interactionType" in statement["object"].get("definition", {})
        if name in ("initialized", "start"):
            openings[key] += 1
        elif name == "completed" or (name == "submit" and not about_question):
            counts["SUBMIT"] += 1
    counts["sessions"] = len(sessions)
    counts["START"] = len(openings)
    counts["RESUME"] = sum(openings.values()) - len(openings)
    return counts


@needs_shared
def test_real_statements_of_tccc() -> None:
    statements = json.loads((SHARED / "data" / "tccc_dev.json").read_bytes())
    counts = resolved([orjson.dumps(statement) for statement in statements])
    assert len(statements) == 2814
    expected = {"sessions": 85, "START": 85, "RESUME": 74, "SUBMIT": 86}
    assert {name: counts[name] for name in expected} == expected == dict(plainly_counted(statements))


@pytest.mark.slow
@needs_shared
def test_real_statements_of_fun_mooc() -> None:
    with gzip.open(SHARED / "data" / "fun_mooc_statements.jsonl.gz") as file:
        lines = file.read().splitlines()
    counts = resolved(lines)
    assert len(lines) == 22_000
    expected = {"sessions": 3656, "START": 1228, "RESUME": 120, "SUBMIT": 636}
    assert {name: counts[name] for name in expected} == expected
    assert dict(plainly_counted([orjson.loads(line) for line in lines])) == expected


def test_nothing_of_a_session_is_lost() -> None:
    activities = [
        decode(id=f"r{number}", verb=verb(name))
        for number, name in enumerate(("initialized", "answered", "initialized"))
    ]
    for before, after in zip(activities, resolve_session(activities), strict=True):
        assert msgspec.structs.replace(after, action=before.action) == before
