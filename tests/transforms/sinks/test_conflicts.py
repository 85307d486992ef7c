"""A 409 to a statement: the receiver is asked for what it holds, and that is compared (docs/spec/statements.md)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.http_sink import outcomes, statement_item
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, Script
from tests.support.statements import STATEMENT_TEXTS, statement, text
from transforms.sinks import conflicts
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.conflicts import statement_in

SENT = statement(7, result={"score": {"raw": 1}})
TEXT = text(SENT).replace('"raw":1}', '"raw":1.00}').encode()
HELD = json.dumps({**SENT, "stored": "2026-03-02T00:00:00Z", "version": "1.0.0"}).encode()
OTHER = text({**SENT, "result": {"score": {"raw": 2}}}).encode()


def store(answer: Answer | int, voided: Answer | int = 404, posted: Answer | int = 409) -> Script:
    """Answers a POST, a request for a statement, and one for a voided statement."""

    def script(arrival: Arrival) -> Answer:
        method, target, _ = arrival.request_line.split()
        found = posted if method == "POST" else voided if "voidedStatementId=" in target else answer
        return Answer(found) if isinstance(found, int) else found

    return script


def one(script: Script, **options: Any) -> tuple[AttemptResult, FaultServer]:
    (outcome,), server = outcomes(script, statement_item(TEXT), **options)
    return outcome, server


def test_an_equal_statement_is_there_already() -> None:
    outcome, server = one(store(Answer(200, body=HELD)))
    assert outcome == AttemptResult(Verdict.DELIVERED, status=409, remarks=("already_there",))
    assert [arrival.request_line.split()[0] for arrival in server.log] == ["POST", "GET"]
    assert len({arrival.connection for arrival in server.log}) == 1


def test_another_statement_is_a_conflict_and_its_beginning_is_kept() -> None:
    outcome, _ = one(store(Answer(200, body=OTHER)))
    assert outcome == AttemptResult(Verdict.GIVE_UP, "conflict", status=409, response=OTHER.decode())


def test_a_number_in_an_answer_that_no_decimal_holds_makes_another_statement() -> None:
    held = TEXT.replace(b"1.00", b"1e99999999999999999999999")
    outcome, _ = one(store(Answer(200, body=held)))
    assert outcome == AttemptResult(Verdict.GIVE_UP, "conflict", status=409, response=held.decode())


def test_the_look_up_has_the_credentials_and_headers_of_the_forwarder_and_no_body() -> None:
    configuration = {
        "authType": "basic auth",
        "basicUsername": "ann",
        "basicPassword": "pass",
        "headers": '{"X-Tenant": "t1"}',
        "signingSecret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    _, server = one(store(Answer(200, body=HELD)), configuration=configuration)
    posted, asked = server.log
    assert asked.request_line == f"GET /in?statementId={SENT['id']} HTTP/1.1"
    assert asked.body == b""
    same = ("authorization", "x-tenant", "x-experience-api-version", "user-agent")
    assert [asked.headers[name] for name in same] == [posted.headers[name] for name in same]
    assert asked.headers["accept"] == "application/json"
    assert not {"content-type", "idempotency-key", "webhook-signature", "content-length"} & set(asked.headers)


def test_what_the_url_has_stays_and_the_id_is_asked_for_as_it_was_spelled() -> None:
    url = "https://lrs.example/xAPI/statements?key=a%2Bb%3D"
    assert conflicts.asking_url(url, "statementId", "AB/c") == (
        "https://lrs.example/xAPI/statements?key=a%2Bb%3D&statementId=AB%2Fc"
    )
    upper = TEXT.replace(SENT["id"].encode(), b"ABCDEF00-0000-4000-8000-000000000001")
    _, server = outcomes(store(404), statement_item(upper))
    assert server.log[1].request_line == "GET /in?statementId=ABCDEF00-0000-4000-8000-000000000001 HTTP/1.1"


def test_a_voided_statement_is_found_as_such() -> None:
    outcome, server = one(store(404, voided=Answer(200, body=HELD)))
    assert (outcome.verdict, outcome.remarks) == (Verdict.DELIVERED, ("already_there",))
    assert server.log[-1].request_line == f"GET /in?voidedStatementId={SENT['id']} HTTP/1.1"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 501])
def test_where_nobody_may_look_it_is_unknown(status: int) -> None:
    refused = Answer(409, body=b'{"error":"conflict"}')
    outcome, server = one(store(Answer(status, headers=(("Location", "/elsewhere"),)), posted=refused))
    assert (outcome.verdict, outcome.reason, outcome.status) == (Verdict.GIVE_UP, "conflict_unknown", 409)
    assert not outcome.failure
    assert f"GET ?statementId= answered {status}" in str(outcome.response)
    assert '{"error":"conflict"}' in str(outcome.response)
    assert not [arrival for arrival in server.log if "elsewhere" in arrival.request_line]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, body=b"no json"),
        Answer(200, body=b"[]"),
        Answer(200, body=b'{"statements":[]}'),
        Answer(200, body=b'{"statements":[{},{}]}'),
        Answer(200, body=b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),)),
        Answer(200, body=b'{"actor":' + b"[" * 50_000),
    ],
    ids=["no json", "no object", "empty page", "two", "encoded", "too deep"],
)
def test_an_answer_without_a_statement_is_unknown(answer: Answer) -> None:
    outcome, _ = one(store(answer))
    assert (outcome.verdict, outcome.reason) == (Verdict.GIVE_UP, "conflict_unknown")


def test_an_answer_beyond_all_bounds_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "STATEMENT_READ", 1000)
    outcome, _ = one(store(Answer(200, body=HELD + b" " * 1000)))
    assert outcome.reason == "conflict_unknown"
    outcome, _ = one(store(Answer(200, fault="endless_body")))
    assert outcome.reason == "conflict_unknown"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_look_up_that_meets_an_outage_is_tried_again_with_the_statement(status: int) -> None:
    outcome, _ = one(store(Answer(status, headers=(("Retry-After", "7"),))))
    assert outcome.verdict is Verdict.RETRY
    assert (outcome.reason, outcome.status, outcome.retry_after) == (f"http_{status}", status, 7.0)
    assert outcome.failure == (status >= 500)
    assert not outcome.ambiguous


@pytest.mark.parametrize(
    ("fault", "reason"), [("reset", "reset"), ("close", "closed"), ("hold", "timeout"), ("cut_body", "closed")]
)
def test_a_look_up_without_an_answer_is_tried_again(fault: Any, reason: str) -> None:
    outcome, _ = one(store(Answer(200, body=HELD, fault=fault)), configuration={"timeout": 0.3})
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, reason)
    assert outcome.failure
    assert not outcome.ambiguous


@pytest.mark.parametrize("fault", ["huge_header", "extra_bytes"])
def test_a_409_counts_though_the_rest_of_it_cannot_be_read(fault: Any) -> None:
    outcome, _ = one(store(Answer(200, body=HELD), posted=Answer(409, fault=fault, extra=b"junk")))
    assert (outcome.verdict, outcome.remarks) == (Verdict.DELIVERED, ("already_there",))


def test_a_forwarder_may_take_or_refuse_it_without_a_look() -> None:
    accepted, server = one(store(Answer(200, body=OTHER)), configuration={"onConflict": "accept"})
    assert accepted == AttemptResult(Verdict.DELIVERED, status=409, remarks=("conflict_accepted",))
    assert len(server.log) == 1
    refused, server = one(store(Answer(200, body=HELD)), configuration={"onConflict": "refuse"})
    assert (refused.verdict, refused.reason, refused.status) == (Verdict.GIVE_UP, "conflict", 409)
    assert len(server.log) == 1


def test_the_response_holds_no_secret() -> None:
    configuration = {"authType": "token", "secret": "s3cret-token"}
    held = text({**SENT, "extra": "s3cret-token"}).encode()
    outcome, _ = one(store(Answer(200, body=held)), configuration=configuration)
    assert outcome.reason == "conflict"
    assert "s3cret" not in str(outcome.response)


@given(STATEMENT_TEXTS, st.booleans())
def test_the_statement_in_an_answer_is_its_own_text(held: str, page: bool) -> None:
    body = f'{{ "more": "", "statements" : [{held}] }}' if page else held
    found = statement_in(body.encode())
    assert found is not None
    assert found.strip() == held.strip().encode()
