import gzip
import json
import uuid
from collections import Counter, defaultdict
from typing import Any

import msgspec
import orjson
import pytest

from schemas import Activity, Response
from schemas.activity import StatementParts
from tests.support.paths import SHARED, needs_shared
from transforms.reading.activity import ActivityError, decode_admitted
from transforms.reading.leniency import Leniency
from transforms.reading.voids import Void
from transforms.reading.xapi import PassedOverError, StatementDecoder
from transforms.reading.xapi_session import resolve_session

INTERACTION = "http://adlnet.gov/expapi/activities/cmi.interaction"
LEAST: dict[str, Any] = {
    "id": "8f1c0b1e-0000-4000-8000-000000000001",
    "actor": {"mbox": "mailto:ada@example.org"},
    "verb": {"id": "http://adlnet.gov/expapi/verbs/initialized"},
    "object": {"id": "https://example.org/quiz"},
    "context": {"registration": "5389ed44-e618-4a66-9a43-7a0b282fd837"},
    "timestamp": "2020-02-17T15:03:23.000Z",
}


def statement(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in (LEAST | parts).items() if part is not None}


def decode(**parts: Any) -> Activity:
    return StatementDecoder().decode(orjson.dumps(statement(**parts)))


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
PROBLEM = {"id": "https://example.org/p1", "definition": {"type": "http://adlnet.gov/expapi/activities/question"}}
SCORE = {"score": {"raw": 1, "max": 2}}


@pytest.mark.parametrize(
    ("iri", "thing", "result", "action"),
    [
        ("http://adlnet.gov/expapi/verbs/initialized", QUIZ, None, "START_OR_RESUME"),
        ("http://adlnet.gov/expapi/verbs/launched", QUIZ, None, "LAUNCH"),
        ("http://activitystrea.ms/start", QUIZ, None, "START_OR_RESUME"),
        ("http://adlnet.gov/expapi/verbs/resumed", QUIZ, None, "RESUME"),
        ("http://adlnet.gov/expapi/verbs/suspended", QUIZ, None, "SAVE"),
        ("http://adlnet.gov/expapi/verbs/terminated", QUIZ, SCORE, "SAVE"),
        ("http://adlnet.gov/expapi/verbs/completed", QUIZ, SCORE, "COMPLETE"),
        ("http://adlnet.gov/expapi/verbs/completed", QUESTION, None, "COMPLETE"),
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
        ("https://example.org/verbs#Completed/", QUIZ, None, "COMPLETE"),
        ("http://adlnet.gov/expapi/verbs/passed", PROBLEM, SCORE, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/passed", PROBLEM, None, "RESPOND"),
        ("http://activitystrea.ms/submit", PROBLEM, None, "SUBMIT"),
        ("http://adlnet.gov/expapi/verbs/completed", {"objectType": "StatementRef", "id": "x"}, SCORE, "RESPOND"),
        ("http://adlnet.gov/expapi/verbs/initialized", {"objectType": "Agent", "mbox": "mailto:x@y"}, None, "RESPOND"),
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


def test_a_question_carries_a_response_with_its_score() -> None:
    name = "https://example.org/p1"
    graded = decode(verb=verb("passed"), object=PROBLEM, result={"score": {"raw": 3, "max": 4}, "success": True})
    assert (graded.responses, graded.statement) == ([Response(name, name, True, None, 3, 4)], None)
    assert decode(verb=verb("asked"), object=PROBLEM).responses == []
    unreadable = decode(verb=verb("evaluated"), object=PROBLEM, result={"score": "3 of 4"})
    assert unreadable.responses == [Response(name, name, True)]


@pytest.mark.parametrize(
    ("result", "score", "left_out"),
    [
        ({"score": {"raw": 16, "max": 20, "scaled": 0.8}}, (16, 20), {}),
        ({"score": {"raw": 16}}, (16, None), {}),
        ({"score": {"scaled": 0.6}, "success": True}, (0.6, 1), {}),
        ({"score": {"scaled": -1, "max": 20}}, (-1, 1), {}),
        ({"score": {"raw": None, "max": 20}}, (None, 20), {}),
        ({"score": {"raw": {"$numberDouble": "2.5"}, "max": {"$numberLong": "5"}}}, (2.5, 5), {}),
        ({"score": {}}, (None, None), {}),
        ({"success": True}, (None, None), {"successes_without_score": 1}),
        ({"score": {"max": 5}, "success": False}, (None, 5), {"successes_without_score": 1}),
        ({"success": "yes"}, (None, None), {}),
        ({"score": {"raw": "3", "max": 5}}, (None, None), {"scores_not_a_number": 1}),
        ({"score": {"raw": 3, "max": "5"}}, (None, None), {"scores_not_a_number": 1}),
        ({"score": {"raw": "", "scaled": 0.5}, "success": True}, (None, None), {"scores_not_a_number": 1}),
        ({"score": {"raw": True}}, (None, None), {"scores_not_a_number": 1}),
        ({"score": {"scaled": [0.5]}}, (None, None), {"scores_not_a_number": 1}),
        ({"score": 3}, (None, None), {"scores_not_a_number": 1}),
        ({"score": "3"}, (None, None), {"scores_not_a_number": 1}),
        ({"score": {"raw": 3, "max": 5, "min": "0"}}, (3, 5), {}),
    ],
)
def test_scores_of_a_question_and_of_anything_else(
    result: dict[str, Any], score: tuple[Any, Any], left_out: dict[str, int]
) -> None:
    decoder = StatementDecoder()
    answered = decoder.decode(orjson.dumps(statement(verb=verb("answered"), object=QUESTION, result=result)))
    (response,) = answered.responses
    assert (response.attempted, response.score, response.max_score) == (True, *score)
    assert answered.statement is None
    assert decoder.take_left_out() == left_out
    judged = decoder.decode(orjson.dumps(statement(verb=verb("passed"), object=QUIZ, result=result)))
    assert judged.statement == (None if score[0] is None else StatementParts(None, *score))
    assert decoder.take_left_out() == left_out
    assert decoder.take_left_out() == {}


@pytest.mark.parametrize(("raw", "read"), [("3", 3), ("-0.5", -0.5), ("1e2", 100.0), ("3,5", None), ("", None)])
def test_numbers_in_quotes_are_read_when_asked_for(raw: str, read: float | None) -> None:
    decoder = StatementDecoder(leniency=Leniency(lenient_numbers=True))
    result = {"score": {"raw": raw, "max": "5"}}
    (response,) = decoder.decode(orjson.dumps(statement(object=QUESTION, result=result))).responses
    assert (response.score, response.max_score) == ((None, None) if read is None else (read, 5))
    assert decoder.take_left_out() == ({"scores_not_a_number": 1} if read is None else {})
    named = statement(actor={"account": {"name": 1625378}}, id=5)
    activity = decoder.decode(orjson.dumps(named))
    assert (activity.user_id, activity.record_id) == ("1625378", "5")


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


def test_an_account_is_its_home_page_too() -> None:
    account = {"account": {"homePage": "https://a.example.org", "name": "5"}}
    assert decode(actor=account).statement == StatementParts("https://a.example.org")
    assert decode(actor={"account": {"name": "5"}}).statement is None
    qualifying = StatementDecoder(qualify_users=True)
    for actor, user_id in (
        (account, "https://a.example.org|5"),
        ({"account": {"name": "5"}}, "5"),
        ({"mbox": "mailto:x@y"}, "mailto:x@y"),
    ):
        assert qualifying.decode(orjson.dumps(statement(actor=actor))).user_id == user_id
    long = {"account": {"homePage": "https://a.example.org/" + "x" * 240, "name": "5" * 20}}
    assert decode(actor=long).user_id == "5" * 20
    with pytest.raises(ActivityError, match=r"actor\.account: the user id is longer than 256"):
        qualifying.decode(orjson.dumps(statement(actor=long)))


@pytest.mark.parametrize(
    "name",
    [
        "https://w3id.org/xapi/video/extensions/session-id",
        "https://w3id.org/xapi/cmi5/context/extensions/sessionid",
        "https://w3id.org/xapi/cmi5/results/extensions/session",
        "http://id.tincanapi.com/extension/attempt-id",
        "http://xapi.jisc.ac.uk/sessionId",
        "http://xapi&46;jisc&46;ac&46;uk/sessionId",
    ],
)
def test_a_session_by_extension(name: str) -> None:
    assert decode(context={"extensions": {"https://x/other": 1, name: "s-1"}}).session_id == "s-1"


@pytest.mark.parametrize(("value", "session_id"), [(32456892, "32456892"), (7.0, "7"), (7.5, "7.5"), ("A-b", "A-b")])
def test_a_session_id_that_is_a_number_is_its_text(value: Any, session_id: str) -> None:
    assert decode(context={"extensions": {"https://x/sessionId": value}}).session_id == session_id
    assert decode(context={"registration": value}).session_id == session_id.lower()


def test_of_several_session_extensions() -> None:
    extensions = {"https://a/extensions/session": "b", "https://a/attempt-id": "c", "https://z/session-id": "a"}
    assert decode(context={"extensions": extensions}).session_id == "a"
    del extensions["https://z/session-id"]
    assert decode(context={"extensions": extensions}).session_id == "b"
    assert decode(context={"extensions": extensions | {"https://a/extensions/session": {}}}).session_id == "c"


def test_registration_goes_before_an_extension_but_for_a_session_of_cmi5() -> None:
    assert decode(context={"registration": "r-1", "extensions": {"https://x/session-id": "s-1"}}).session_id == "r-1"
    cmi5 = {"https://w3id.org/xapi/cmi5/context/extensions/sessionid": "S-1"}
    assert decode(context={"registration": "R-1", "extensions": cmi5}).session_id == "r-1|S-1"
    assert decode(context={"registration": "R-1", "extensions": []}).session_id == "r-1"


def test_ids_are_compared_in_lower_case() -> None:
    upper = decode(id=LEAST["id"].upper(), context={"registration": LEAST["context"]["registration"].upper()})
    assert upper == decode()


REF = {"objectType": "StatementRef", "id": "AB"}


@pytest.mark.parametrize("kind", ["Agent", "Group", "StatementRef", "SubStatement"])
def test_what_is_about_no_activity_counts_in_its_session_alone(kind: str) -> None:
    about = {"objectType": kind, "id": "x", "mbox": "mailto:x@y"}
    activity = decode(verb=verb("asked"), object=about, result=SCORE)
    assert (activity.action, activity.activity_id, activity.responses) == ("RESPOND", "", [])
    with pytest.raises(PassedOverError) as caught:
        decode(verb=verb("asked"), object=about, context=None)
    assert caught.value.name == f"{kind.lower()}_objects_without_session"
    assert caught.value.voids is None


@pytest.mark.parametrize("context", [None, LEAST["context"], {"registration": 5}, []])
def test_a_statement_that_voids_is_no_activity(context: Any) -> None:
    line = orjson.dumps(statement(verb=verb("voided"), object=REF, context=context, actor={"name": "an admin"}))
    with pytest.raises(PassedOverError) as caught:
        StatementDecoder("org", None).admit(line)
    assert caught.value.name == "voiding_statements"
    assert caught.value.voids == ("org", None, "ab")


def test_only_a_statement_is_voided() -> None:
    assert decode(verb=verb("voided")).action == "RESPOND"
    with pytest.raises(ActivityError, match=r"object.id: missing"):
        decode(verb=verb("voided"), object={"objectType": "StatementRef"})


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
        ({"actor": {"mbox": "m" * 257}}, "actor.mbox: the user id is longer than 256"),
        ({"actor": {"mbox": ""}}, "actor.mbox: missing or not a string"),
        ({"context": None}, "no session; allowed: context.registration or a session-id extension"),
        ({"context": {"registration": ""}}, "context.registration: missing or not a string"),
        ({"context": []}, "context: not an object"),
        ({"context": {"extensions": {"https://x/session-id": ""}}}, "context.extensions[https://x/session-id]: empty"),
        ({"context": {"extensions": {"https://x/attempt-id": [5]}}}, "context.extensions[https://x/attempt-id]: empty"),
        ({"context": {"registration": True}}, "context.registration: missing or not a string (a boolean)"),
        ({"actor": {"account": {"name": 5}}}, "actor.account.name: missing or not a string (a number)"),
        ({"actor": {"account": {"homePage": 5, "name": "a"}}}, "actor.account.homePage: missing or not a string"),
        ({"actor": {"account": [{"accountName": "a"}]}}, "actor.account: not an object (an array)"),
        ({"actor": {"mbox": ["mailto:x@y"]}}, "actor.mbox: missing or not a string (an array)"),
        ({"timestamp": None}, "timestamp: missing, and stored too"),
        ({"timestamp": "2020-02-17"}, "timestamp: '2020-02-17' is a date without a time of day"),
        ({"timestamp": 5}, "timestamp: not a string"),
        ({"verb": {}}, "verb.id: missing"),
        ({"object": {"objectType": "Activity"}}, "object.id: missing"),
        ({"id": 5}, "id: missing or not a string"),
        ({"result": []}, "result: not an object"),
        ({"timestamp": {"$date": []}}, "timestamp: not a string ($date holds a time"),
    ],
)
def test_statements_that_are_refused(parts: dict[str, Any], expected: str) -> None:
    with pytest.raises(ActivityError) as caught:
        decode(**parts)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("odd", [{"$numberDouble": "NaN"}, {"$oid": 3}, {"$date": "x", "more": 1}])
def test_odd_extended_json_costs_nothing_where_it_is_not_used(odd: dict[str, Any]) -> None:
    assert decode(id="s", _id=odd, result={"extensions": {"https://x/y": odd}}) == decode(id="s")


@pytest.mark.parametrize("value", [{"$oid": "x"}, {"$numberInt": "1"}, {"$undefined": True}, {"$date": 1772355600000}])
def test_a_value_of_extended_json_is_no_statement(value: dict[str, Any]) -> None:
    with pytest.raises(ActivityError, match="a statement is needed"):
        StatementDecoder().decode(orjson.dumps(value))


def test_bytes_are_checked_as_in_activity() -> None:
    with pytest.raises(ActivityError, match="not valid UTF-8"):
        StatementDecoder().decode(orjson.dumps(LEAST)[:-1] + b',"x":"\xff"}')


def test_admitted_and_stamped() -> None:
    decoder = StatementDecoder("org", "store")
    user_id, carried = decoder.admit(orjson.dumps(LEAST))
    activity = decode_admitted(carried)
    assert (user_id, activity.organisation, activity.lrs_id) == ("mailto:ada@example.org", "org", "store")
    assert activity == decoder.decode(orjson.dumps(LEAST))


@pytest.mark.parametrize(
    "wrapped",
    [
        {"statement": LEAST},
        {"_index": "statements", "_id": "1", "_source": LEAST},
        {"_source": {"statement": LEAST, "@timestamp": "2026"}},
        {"_source": json.dumps({"statement": LEAST})},
        {"statement": json.dumps(LEAST)},
        {"statements": LEAST, "more": ""},
    ],
)
def test_a_statement_inside_of_something_is_the_statement(wrapped: dict[str, Any]) -> None:
    assert StatementDecoder().decode(orjson.dumps(wrapped)) == decode()


def dotted(value: Any) -> Any:
    """As Learning Locker stores it."""
    if isinstance(value, dict):
        return {name.replace(".", "&46;"): dotted(entry) for name, entry in value.items()}
    return value


def exported(told: dict[str, Any], **more: Any) -> bytes:
    """A document of Learning Locker, as mongoexport writes it."""
    document = {
        "_id": {"$oid": "65e1a0b2c3d4e5f607182930"},
        "organisation": {"$oid": "561a679c0c5d017e4004714f"},
        "lrs_id": {"$oid": "560a679c0c5d017e4004714f"},
        "voided": False,
        "timestamp": {"$date": {"$numberLong": "1581951803000"}},
        "statement": dotted(told),
    }
    return orjson.dumps(document | more)


def test_a_document_of_learning_locker_says_whose_its_statement_is() -> None:
    told = statement(id=None, context={"extensions": {"https://x.org/session-id": {"$numberLong": "5"}}})
    activity = StatementDecoder("other", "one").decode(exported(told))
    plain = decode(id=None, context={"extensions": {"https://x.org/session-id": 5}})
    whose = {"organisation": "561a679c0c5d017e4004714f", "lrs_id": "560a679c0c5d017e4004714f"}
    assert activity == msgspec.structs.replace(plain, **whose)
    stamped = StatementDecoder("org", None).decode(exported(LEAST, organisation=None, lrs_id=None))
    assert (stamped.organisation, stamped.lrs_id) == ("org", None)


def test_a_document_that_was_voided_is_passed_over_and_voids_what_is_known_of_it() -> None:
    with pytest.raises(PassedOverError) as caught:
        StatementDecoder().decode(exported(LEAST, voided=True))
    assert caught.value.name == "voided_documents"
    void: Void = ("561a679c0c5d017e4004714f", "560a679c0c5d017e4004714f", LEAST["id"])
    assert caught.value.voids == void


@pytest.mark.parametrize(
    "odd", [{"$binary": {"base64": "AA==", "subType": "00"}}, {"$numberDouble": "NaN"}, {"$numberLong": "x"}]
)
def test_an_odd_value_of_a_database_costs_what_it_is_needed_for(odd: dict[str, Any]) -> None:
    ignored = orjson.dumps(
        {"hash": odd, "statement": statement(context={**LEAST["context"], "extensions": {"x": odd}})}
    )
    assert StatementDecoder().decode(ignored) == decode()
    decoder = StatementDecoder()
    decoder.decode(orjson.dumps(statement(result={"score": {"raw": odd}})))
    assert decoder.take_left_out() == {"scores_not_a_number": 1}
    with pytest.raises(ActivityError, match="timestamp: not a string"):
        decode(timestamp=odd)


@pytest.mark.parametrize("action", ["index", "create"])
def test_where_elasticsearch_is_to_put_a_document_is_passed_over(action: str) -> None:
    with pytest.raises(PassedOverError) as caught:
        StatementDecoder().decode(orjson.dumps({action: {"_index": "statements", "_id": "a"}}))
    assert (caught.value.name, caught.value.voids) == ("bulk_actions", None)
    with pytest.raises(ActivityError) as refused:
        StatementDecoder().decode(orjson.dumps({"delete": {"_index": "statements", "_id": "a"}}))
    assert not isinstance(refused.value, PassedOverError)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ({"statements": [LEAST, 5], "more": "/x"}, 2),
        ({"statements": [], "more": ""}, 0),
        ([LEAST], 1),
        ({"_source": {"statements": [LEAST]}}, 1),
        ({"took": 3, "hits": {"total": {"value": 2}, "hits": [{"_id": "a", "_source": LEAST}, 5]}}, 2),
        ({"took": 3, "hits": {"hits": []}}, 0),
        (LEAST, None),
        ({"_source": LEAST}, None),
        ({"meta": {}, "data": []}, None),
        ({"statement": "x"}, None),
        (5, None),
    ],
)
def test_what_holds_several_statements(line: Any, count: int | None) -> None:
    decoder = StatementDecoder()
    parts = decoder.expand(orjson.dumps(line))
    assert (None if parts is None else len(parts)) == count
    if parts:
        assert decoder.decode(parts[0]) == decode()
        for part in parts[1:]:
            with pytest.raises(ActivityError, match="a JSON object is needed"):
                decoder.admit(part)


def test_what_is_too_deep_is_refused() -> None:
    deep = b'{"$a":' * 900 + b"1" + b"}" * 900
    with pytest.raises(ActivityError, match=r"nested too deep|missing"):
        StatementDecoder().decode(b'{"statement":' + deep + b"}")
    with pytest.raises(ActivityError):
        StatementDecoder().decode(orjson.dumps(statement(id=None))[:-1] + b',"x":' + deep.replace(b"$", b"") + b"}")


RANK = {"START_OR_RESUME": 0, "RESUME": 1, "SUBMIT": 3, "COMPLETE": 3, "SCORE": 4}


def resolved(lines: list[bytes]) -> Counter[str]:
    sessions = defaultdict(list)
    for line in lines:
        activity = StatementDecoder().decode(line)
        sessions[activity.session_id, activity.user_id].append(activity)
    counts = Counter(sessions=len(sessions))
    for activities in sessions.values():
        activities.sort(key=lambda one: (one.occurred_at, RANK.get(one.action, 2), one.record_id))
        resolved = resolve_session(activities).activities
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
