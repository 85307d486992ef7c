"""Every statement is accepted by a real LRS and read back as it was sent."""

import json
import subprocess
from functools import partial
from typing import Any

import pytest

from schemas import Record, Response
from tests.support.activity import activity, by_items, by_tags, documented_session, names, response, tags
from tests.support.lrs_server import Lrs
from transforms.matching.document import encode_payload
from transforms.matching.statement import StatementBuilder
from transforms.sessions.derivation import Derivation

BUILDER = StatementBuilder("https://school.example/moodle")

# Ralph's API looks at actor, verb and object only; this model of its own holds all of a statement to xAPI 1.0.3.
STRICT = """
import json, sys
from pydantic import ValidationError
from ralph.models.xapi.base.statements import BaseXapiStatement

faults = {}
for statement in json.load(sys.stdin):
    try:
        BaseXapiStatement.model_validate(statement)
    except ValidationError as error:
        faults[statement["id"]] = str(error)
json.dump(faults, sys.stdout)
"""


def _session(number: int, responses: list[Response], **given: Any) -> list[Record]:
    """All kinds of record of one session of these responses."""
    of_session: dict[str, Any] = {"session_id": f"session {number}", "user_id": f"user {number}", **given}
    duration = of_session.pop("session_duration", None)
    subscores = [by_items("d", "q1", "q2"), by_tags("t", ("skill", "reading")), by_items("none")]
    item_tags = {"q1": tags(("skill", "reading"))}
    return Derivation().user(
        [
            activity("START", 0.001, **of_session),
            activity("RESUME", 1, **of_session),
            activity("RESPOND", 2, responses=responses, subscores=subscores, item_tags=item_tags, **of_session),
            activity("SUBMIT", 3, pending_scoring=True, **of_session),
            activity("SET_STATUS", 4, status="Completed", session_duration=duration, **of_session),
        ]
    )


def _varied() -> list[Record]:
    right = [response("q1", 1, 1), response("q2", 0, 1)]
    scores: list[tuple[Any, Any]] = [
        (-1, 10),
        (-1, None),
        (0, 0),
        (3, 0),
        (11, 10),
        (3, None),
        (0.1, 0.3),
        (1e300, 1e308),
        (2**62, 2**63),
        (5e-324, 1),
    ]
    strings: list[dict[str, Any]] = [
        {"session_id": 'séance 🦉 \u2028\x01"\\'},
        {"session_id": "F4E854F4-3324-4395-BEEC-1650B522007A"},
        {"session_id": "00000000-0000-0000-0000-000000000000"},
        {"session_id": "f4e854f43324439 5beec1650b522007a"},
        {"user_id": "søren 🦉 <\x7f> \u202e"},
        {"user_id": "1"},
        {"user_id": "u" * 256},
        {"activity_id": "https://exämple.org/ü?q=🦉#f"},
        {"activity_id": "urn:isbn:0451450523"},
        {"activity_id": "file:///quiz"},
        {"activity_id": "http://example.org/%zz"},
        {"activity_id": "http://example.org/a#b#c"},
        {"activity_id": "http://example.org/a b"},
        {"activity_id": "\x01http://example.org/"},
        {"activity_id": "50%: a/quiz?#"},
        {"activity_id": "prüfung 🦉"},
        {"activity_id": "."},
        {"session_duration": 0},
        {"session_duration": 1e7},
        {"record_id": "one for all"},
    ]
    sessions = [Derivation().user(documented_session())]
    sessions += [_session(n, [response("q1", *pair)]) for n, pair in enumerate(scores)]
    sessions += [_session(100 + n, right, **one) for n, one in enumerate(strings)]
    return [record for session in sessions for record in session]


@pytest.fixture(scope="module")
def sent() -> dict[str, bytes]:
    """Payloads as a forwarder sends them, by id."""
    return {r.id: encode_payload(r, "statement", partial(BUILDER.statement, r)) for r in _varied()}


def _strict_faults(lrs: Lrs, statements: list[Any]) -> dict[str, str]:
    done = subprocess.run(  # noqa: S603
        [lrs.python, "-c", STRICT], input=json.dumps(statements), capture_output=True, text=True, check=True
    )
    faults: dict[str, str] = json.loads(done.stdout)
    return faults


def test_the_set_is_varied(sent: dict[str, bytes]) -> None:
    assert {*names(_varied())} == {"session-started", "session-resumed", "session-completed", "status", "score"}
    assert len(sent) > 150


def test_every_statement_is_accepted_and_read_back(lrs: Lrs, sent: dict[str, bytes]) -> None:
    for identifier, body in sent.items():
        answer = lrs.post(body)
        assert (answer.status, json.loads(answer.body)) == (200, [identifier]), (answer, body)
    held = lrs.statements()
    assert held.keys() >= sent.keys()
    for identifier, body in sent.items():
        own = json.loads(body)
        own["stored"] = held[identifier]["stored"]  # the LRS's own clock, as xAPI has it
        read_back = {name: value for name, value in held[identifier].items() if name not in ("authority", "version")}
        assert read_back == own


def test_every_statement_keeps_xapi_strictly(lrs: Lrs, sent: dict[str, bytes]) -> None:
    assert _strict_faults(lrs, [json.loads(body) for body in sent.values()]) == {}


def test_the_same_statement_again_is_welcome_and_another_of_its_id_is_not(lrs: Lrs) -> None:
    (record,) = Derivation().user([activity("START", session_id="again")])
    statement = BUILDER.statement(record)
    other = {**statement, "verb": {"id": "http://adlnet.gov/expapi/verbs/voided"}}
    assert [lrs.post(json.dumps(one).encode()).status for one in (statement, statement, other)] == [200, 204, 409]
    assert lrs.statements()[record.id]["verb"] == statement["verb"]


def test_the_lrs_refuses_what_it_should(lrs: Lrs) -> None:
    (record,) = Derivation().user([activity("START", session_id="refused")])
    statement = BUILDER.statement(record)
    nobody = {**statement, "actor": {"account": {"homePage": "https://school.example"}}}
    forbidden = {**statement, "result": {"score": {"raw": 2, "max": 1}}}
    assert lrs.post(json.dumps(nobody).encode()).status == 422
    assert lrs.request("POST", json.dumps(statement).encode(), password="wrong").status == 401
    assert _strict_faults(lrs, [statement]) == {}
    assert record.id in _strict_faults(lrs, [forbidden])
    assert record.id not in lrs.statements()
