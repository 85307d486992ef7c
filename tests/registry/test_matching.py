"""Who would get a record: the service says what the job does, whatever both are told about statements."""

import json
from typing import Any

import msgspec
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.access import EDIT_ALL, Client
from registry.command import main
from registry.credentials import StoredClient, hash_secret
from registry.keyring import KEYS, new_key
from registry.matching import MatchPreview, RecordError
from registry.rest import PATH
from registry.stores.open import open_store
from schemas import Kind, Record
from schemas.record import encode_record
from tests.support.activity import sessions
from tests.support.receiver import Receiver
from tests.support.statements import statement, text
from tests.support.workshop import Workshop
from transforms.forwarders import Rules, documents_from, load_forwarders
from transforms.matching.explanation import explain
from transforms.matching.matcher import Matcher
from transforms.matching.statement import StatementBuilder
from transforms.query import compile_query
from transforms.sessions.derivation import DurationUnit

HOME_PAGES = ("https://learner.invalid", "https://school.example", "https://school.example/moodle")
OF_HOME_PAGE = "statement.actor.account.homePage"
OF_DURATION = "statement.result.duration"
ORGANISATION = "school"

VALUES: dict[str, st.SearchStrategy[Any]] = {
    OF_HOME_PAGE: st.sampled_from(HOME_PAGES),
    OF_DURATION: st.sampled_from(["PT0S", "PT8S", "PT60S", "PT480S"]),
    "statement.object.id": st.sampled_from([f"{page}/activities/a" for page in HOME_PAGES]),
    "session_duration": st.sampled_from([0, 1, 8]),
    "kind": st.sampled_from(["event", "status", "score"]),
    "user_id": st.sampled_from(["u", "v"]),
    "organisation": st.sampled_from([ORGANISATION, "another"]),
    "score": st.integers(0, 3),
}
CONDITIONS = st.one_of(
    [
        st.builds(
            lambda operator, value, path=path: {path: value if operator == "$eq" else {operator: value}},
            st.sampled_from(["$eq", "$ne", "$gte", "$lt"]),
            values,
        )
        for path, values in VALUES.items()
    ]
)
QUERIES = st.recursive(
    CONDITIONS,
    lambda inner: st.builds(
        lambda operator, parts: {operator: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
DOCUMENTS = st.lists(
    st.fixed_dictionaries(
        {"query": QUERIES, "active": st.booleans()}, optional={"lrs_id": st.sampled_from(["store", "other"])}
    ),
    max_size=6,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind: Kind = draw(st.sampled_from(["event", "status", "score"]))
    message: dict[str, Any] = {"user_id": draw(st.sampled_from(["u", "v"])), "activity_id": "a", "session_id": "s"}
    if kind == "event":
        message |= {"event": "session-completed", "time": "2020-02-17 15:11:43"}
    elif kind == "status":
        duration = draw(st.sampled_from([0, 1, 8]))
        message |= {"num_attempted": 1, "num_questions": 2, "session_duration": duration, "status": "Completed"}
    else:
        message |= {"score": draw(st.integers(0, 3)), "max_score": 3, "subscores": [], "status": "Completed"}
    body = msgspec.json.encode(message)
    lrs_id = draw(st.sampled_from([None, "store"]))
    return Record("id", kind, ORGANISATION, lrs_id, message["user_id"], 0, "cause", 0, message, body, {})


@settings(max_examples=100)
@given(
    record=records(),
    documents=DOCUMENTS,
    home_page=st.sampled_from(HOME_PAGES),
    unit=st.sampled_from(["minutes", "seconds"]),
)
def test_the_service_answers_what_the_job_does_and_why(
    record: Record, documents: list[dict[str, Any]], home_page: str, unit: DurationUnit
) -> None:
    stored = [
        {"_id": f"f{number}", "organisation": ORGANISATION, "configuration": {"url": "receiver.example"}, **document}
        for number, document in enumerate(documents)
    ]
    rules = Rules(compile_query, trusted=False, require_organisation=True)
    statements = StatementBuilder(home_page, unit)
    forwarders = load_forwarders(documents_from(stored, "the service"), rules).forwarders
    match = Matcher(forwarders, statements).match(record)
    _, *lines = explain(record, forwarders, statements)

    service = MatchPreview(rules, statements)
    line = encode_record(record)
    answers = service.matching(service.read_record(json.loads(line), ORGANISATION, line), stored)

    assert [answer["_id"] for answer in answers if answer["reached"]] == list(match.forwarders if match else ())
    assert [f"  {answer['_id']}: {answer['reason']}" for answer in answers if answer["active"]] == lines


STATEMENTS = [
    '{"x": 1.0, ' + text(statement(1))[1:],
    text(statement(2, verb={"id": "http://adlnet.gov/expapi/verbs/passed"}, result={"score": {"raw": 7}})),
]
OF_STATEMENTS = {
    "answered": {"statement.verb.id": "http://adlnet.gov/expapi/verbs/answered"},
    "high": {"statement.result.score.raw": {"$gt": 5}},
    "derived": {"kind": {"$in": ["event", "score"]}},
    "early": {"timestamp": {"$lt": "2026-03-01T09:01:30Z"}},
}


def test_of_a_statement_a_service_and_a_job_agree(workshop: Workshop, receiver: Receiver) -> None:
    documents = [
        {"_id": name, "active": True, "organisation": ORGANISATION, "query": json.dumps(query),
         "configuration": {"protocol": "http", "url": receiver.url(name)}}
        for name, query in OF_STATEMENTS.items()
    ]  # fmt: skip
    documents.append({**documents[0], "_id": "no statements", "kinds": ["event"]})
    workshop.write_lines([line.encode() for line in STATEMENTS])
    workshop.write_forwarders(*documents)
    run = ("--input_format=xapi", "--organisation", ORGANISATION, "--write_records", "jsonl")
    assert workshop.run(*run) == 0
    by_job = {(receipt["forwarder_id"], receipt["id"]) for receipt in workshop.avro("receipts")}
    service = MatchPreview(Rules(compile_query, trusted=False), StatementBuilder())
    lines = [json.dumps(line) for line in workshop.records("statement")]
    in_document = [f'{{"statement":{line},"lrs_id":"store"}}' for line in STATEMENTS]
    for given_as in (STATEMENTS, lines, in_document):
        by_service = set()
        for line in given_as:
            record = service.read_record(json.loads(line), ORGANISATION, line.encode())
            answers = service.matching(record, documents)
            by_service |= {(answer["_id"], record.id) for answer in answers if answer["reached"]}
        assert by_service == by_job
    assert len({name for name, _ in by_job}) == 3


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"verb":{"id":"v"}}', "is no record: actor: missing"),
        ('{"statement":{}}', "is no record: actor: missing"),
        ('{"kind":"statement","statement":{}}', "is no record: Object missing required field"),
        ('{"kind":"statement"}', "is no record: Object missing required field"),
    ],
)
def test_what_is_no_statement_is_no_record(line: str, why: str) -> None:
    service = MatchPreview(Rules(compile_query, trusted=False), StatementBuilder())
    with pytest.raises(RecordError, match=why):
        service.read_record(json.loads(line), ORGANISATION, line.encode())


@pytest.mark.parametrize("flags", [[], ["--actor_home_page", HOME_PAGES[1], "--session_duration_unit", "seconds"]])
def test_a_service_and_a_job_with_the_same_flags_agree(
    workshop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    queries = {
        "default-page": {OF_HOME_PAGE: HOME_PAGES[0]},
        "schools-page": {OF_HOME_PAGE: HOME_PAGES[1]},
        "two-minutes": {OF_DURATION: "PT120S"},
        "not-two-minutes": {"kind": "status", OF_DURATION: {"$ne": "PT120S"}},
    }
    documents = [
        {"_id": name, "active": True, "organisation": ORGANISATION, "query": query, "payload": "record",
         "configuration": {"protocol": "http", "url": receiver.url(name)}}
        for name, query in queries.items()
    ]  # fmt: skip
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(*documents)
    assert workshop.run("--organisation", ORGANISATION, "--write_records", "jsonl", *flags) == 0
    by_job = {(receipt["forwarder_id"], receipt["id"]) for receipt in workshop.avro("receipts")}

    store = f"sqlite:///{workshop.path / 'forwarders.db'}"
    opened = open_store(store)
    opened.add_client(StoredClient(Client("ann", ORGANISATION, None, frozenset([EDIT_ALL])), hash_secret("secret")))
    opened.close()
    by_service: set[tuple[str, str]] = set()

    def ask(app: Any) -> None:
        client = TestClient(app)
        client.auth = ("ann", "secret")
        for document in documents:
            assert client.post(PATH, json=document).status_code == 201
        for kind in ("event", "status", "score"):
            for record in workshop.records(kind):
                answer = client.post(f"{PATH}/match", json=record).json()
                by_service.update((one["_id"], answer["id"]) for one in answer["forwarders"] if one["reached"])

    monkeypatch.setenv(KEYS, new_key())
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: ask(server.config.app))
    assert main(["serve", "--store", store, *flags]) == 0
    assert by_service == by_job
    assert len({name for name, _ in by_job}) == 2
