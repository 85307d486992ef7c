"""Redrives and replays that users ask for: what a plan shows is what is sent, by real processes of the job."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_ALL, EDIT_PUBLIC, VIEW_ALL
from registry.console.operations import PATH as CONSOLE
from registry.jobs import Job, JobRefusedError, Jobs, JobsBusyError, JobsConfig, Selection
from registry.rest import PATH
from registry.usage import CommandError
from schemas.times import now_ms
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import ORGANISATION, House, create, forwarder_body
from tests.support.waiting import until
from tests.support.workshop import Workshop

JOBS = f"{CONSOLE}/jobs"
SECRET = "the-token-of-b"
MINUTES = 120.0


def write_config(workshop: Workshop, **more: Any) -> Path:
    flags = {
        "forwarders": str(workshop.path / "forwarders.json"),
        "output": str(workshop.output),
        "input": [str(workshop.path / "in" / "*")],
        "allow_network": ["127.0.0.0/8"],
        "max_backoff": 0.01,
        **more,
    }
    path = workshop.path / "jobs.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in flags.items() if value is not None))
    return path


@pytest.fixture
def jobs(house: House, workshop: Workshop) -> Iterator[Jobs]:
    """The jobs of a service that lets users start some."""
    config = JobsConfig.read(str(write_config(workshop)), str(workshop.output))
    made = Jobs(config, workshop.path / "jobs")
    object.__setattr__(house.registry, "jobs", made)
    yield made
    for job in made.listed():
        if job.state in ("planning", "sending"):
            made.stop(job.id)
    until(lambda: all(job.state not in ("planning", "sending") for job in made.listed()), MINUTES)
    made.close()


@pytest.fixture
def ran(house: House, workshop: Workshop, receiver: Receiver) -> TestClient:
    """A client of a service whose job has run: `a` got everything, and `b` was refused everything."""
    client = house.client(EDIT_ALL, user="ann")
    target = {"protocol": "http", "url": receiver.url("in"), "maxRetries": 0}
    create(client, _id="a", configuration={**target, "authType": "no auth"})
    create(client, _id="b", description="Marks", configuration={**target, "authType": "token", "secret": SECRET})
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200)
    workshop.write_activity(msgspec.structs.replace(each, organisation=ORGANISATION) for each in sessions(2))
    documents = client.get(PATH).json()
    documents[1]["configuration"]["secret"] = SECRET
    workshop.write_forwarders(*documents)
    assert workshop.run() == 3
    return client


def plan(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer = client.post(JOBS, json={"what": "redrive", "forwarders": ["b"], **asked})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def edit(workshop: Workshop, id_: str) -> None:
    """Edit a forwarder's document."""
    documents = json.loads((workshop.path / "forwarders.json").read_text())
    for document in documents:
        if document["_id"] == id_:
            document["description"] = "edited since"
    workshop.write_forwarders(*documents)


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    """The job, once no process of it runs."""
    job: dict[str, Any] = {}

    def is_over() -> bool:
        nonlocal job
        job = client.get(f"{JOBS}/{job_id}").json()
        return job["state"] not in ("planning", "sending")

    until(is_over, MINUTES)
    return job


def test_a_redrive_sends_what_its_plan_has_shown(
    ran: TestClient, house: House, jobs: Jobs, receiver: Receiver, workshop: Workshop
) -> None:
    letters = ran.get(f"{CONSOLE}/forwarders/b/records").json()["records"]
    chosen = [letter["id"] for letter in letters[:3]]
    before = len(receiver.log)
    asked = plan(ran, records=[id_.upper() for id_ in chosen], reasons=["http_410"])
    assert asked["state"] == "planning"
    assert ran.post(JOBS, json={"what": "redrive", "forwarders": ["a"]}).status_code == 409
    planned = ended(ran, asked["id"])
    assert (planned["state"], planned["problems"]) == ("planned", [])
    assert planned["plan"]["records"] == 3
    (account,) = planned["plan"]["forwarders"]
    by_reason = account["letters"]["by_reason"]["http_410"]
    assert (by_reason["open"], by_reason["sent"], by_reason["not_selected"]) == (len(letters), 3, len(letters) - 3)
    assert planned["forwarders"] == [{"_id": "b", "name": "Marks"}]
    assert len(receiver.log) == before

    # Another plan's digest starts nothing.
    assert ran.post(f"{JOBS}/{asked['id']}/confirm", json={"digest": "0" * 64}).status_code == 422
    receiver.script = lambda arrival: Answer(200)
    # What others do with their forwarders meanwhile makes no plan void.
    edit(workshop, "a")
    confirmed = ran.post(f"{JOBS}/{asked['id']}/confirm", json={"digest": planned["digest"]})
    assert confirmed.status_code == 202, confirmed.text
    done = ended(ran, asked["id"])
    assert (done["state"], done["problems"]) == ("done", [])
    assert [account["delivered"] for account in done["report"]["forwarders"]] == [3]
    assert sorted(arrival.key for arrival in receiver.log[before:]) == sorted(chosen)
    assert ran.post(f"{JOBS}/{asked['id']}/confirm", json={"digest": planned["digest"]}).status_code == 422

    # Who may only look sees it without learners' data, and starts nothing; others see nothing of it.
    viewer, stranger = house.client(VIEW_ALL), house.client(EDIT_ALL, organisation="other")
    assert viewer.get(JOBS).json()["jobs"][0]["state"] == "done"
    assert "sample" not in json.dumps(viewer.get(f"{JOBS}/{asked['id']}").json())
    assert viewer.post(JOBS, json={"what": "redrive", "forwarders": ["b"]}).status_code == 403
    assert stranger.get(JOBS).json()["jobs"] == []
    assert stranger.get(f"{JOBS}/{asked['id']}").status_code == 404
    # No secret, and no place of the operator's.
    kept = "".join(path.read_text() for path in (workshop.path / "jobs").glob("2*"))
    assert SECRET not in kept
    assert str(workshop.path) not in json.dumps(done)


def test_a_replay_is_of_a_time_and_of_records_and_of_changed_documents_nothing_is_sent(
    ran: TestClient, jobs: Jobs, receiver: Receiver, workshop: Workshop
) -> None:
    scores = ran.get(f"{CONSOLE}/forwarders/a/records", params={"kind": "score"}).json()["records"]
    chosen = [record["id"] for record in scores[:1]]
    asked = plan(ran, what="replay", forwarders=["a"], since="2020-01-01T00:00:00Z", kinds=["score"], records=chosen)
    planned = ended(ran, asked["id"])
    assert (planned["state"], planned["problems"]) == ("planned", [])
    assert (len(scores), planned["plan"]["records"]) == (2, 1)
    assert planned["plan"]["forwarders"][0]["sample"]
    before = len(receiver.log)
    edit(workshop, "a")
    ran.post(f"{JOBS}/{asked['id']}/confirm", json={"digest": planned["digest"]})
    failed = ended(ran, asked["id"])
    assert failed["state"] == "failed"
    assert failed["problems"] == ["the forwarders were changed since the plan was made: make a new plan"]
    assert len(receiver.log) == before


def test_a_failure_tells_nothing_of_the_forwarders_of_others(ran: TestClient, jobs: Jobs, workshop: Workshop) -> None:
    ours, theirs = ({**forwarder_body(_id=id_, query='{"$near": 1}'), "organisation": id_} for id_ in ("b", "theirs b"))
    workshop.write_forwarders(ours, theirs)
    failed = ended(ran, plan(ran)["id"])
    assert failed["state"] == "failed"
    first, second = failed["problems"]
    assert first == "none of these forwarders is active and without a fault by now"
    assert "forwarder b (" in second
    assert "$near" in second


def test_a_process_that_was_killed_is_noticed_after_a_restart(ran: TestClient, house: House, jobs: Jobs) -> None:
    asked = plan(ran)
    pid = jobs.get(asked["id"]).pid
    assert pid is not None
    # As when the service ends: nobody watches any more, and the process goes on.
    jobs.close()
    again = Jobs(jobs.config, jobs._directory)
    object.__setattr__(house.registry, "jobs", again)
    try:
        assert again.get(asked["id"]).state == "planning"
        with pytest.raises(JobsBusyError):
            again.plan(Selection("redrive", ("b",)), ORGANISATION, "ann")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed = ended(ran, asked["id"])
        assert killed["state"] == "killed"
        assert "ended from outside" in killed["problems"][0]
        assert ran.post(f"{JOBS}/{asked['id']}/stop", json={}).status_code == 422
    finally:
        again.close()
        jobs._held = os.open(os.devnull, os.O_RDONLY)  # The fixture closes it.
        jobs._jobs.clear()


# Who may, and what


def test_without_the_operators_leave_nothing_is_started(house: House) -> None:
    client = house.client(EDIT_ALL)
    create(client, _id="b")
    assert client.get(JOBS).json() == {"enabled": False, "replays": False, "jobs": []}
    refused = client.post(JOBS, json={"what": "redrive", "forwarders": ["b"]})
    assert refused.status_code == 404
    assert "--jobs" in refused.json()["message"]


def test_one_sends_to_forwarders_only_that_one_may_change(house: House, jobs: Jobs) -> None:
    editor, public = house.client(EDIT_ALL), house.client(EDIT_PUBLIC)
    create(editor, _id="mine")
    create(editor, _id="public", isPublic=True)
    create(editor, _id="off", active=False)
    for client, forwarders, status in (
        (public, ["public", "mine"], 404),
        (house.client(EDIT_ALL, organisation="other"), ["mine"], 404),
        (house.client(VIEW_ALL), ["mine"], 403),
        (editor, ["off"], 422),
        (editor, [], 422),
    ):
        answer = client.post(JOBS, json={"what": "redrive", "forwarders": forwarders})
        assert answer.status_code == status, answer.text
    assert jobs.listed() == []


@pytest.mark.parametrize(
    "given",
    [
        {"forwarders": ("f",) * 51},
        {"records": ("--input=/etc/passwd",) * 501},
        {"records": ("a b",)},
        {"reasons": ("--output=x",)},
        {"since": 2, "until": 1},
        {"what": "replay"},
        {"what": "replay", "since": 1, "reasons": ("http_500",)},
    ],
)
def test_a_selection_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(JobRefusedError):
        Selection(**{"what": "redrive", "forwarders": ("f",), **given}).check()


def test_what_users_choose_are_words_of_their_own(jobs: Jobs) -> None:
    selection = Selection("redrive", ("--output=/", "b c"), reasons=("not_reached",), since=0, until=now_ms())
    words = list(jobs._words("plan", selection))
    assert [word for word in words if word.startswith("--output")] == []
    assert "--forwarder=--output=/" in words
    assert "--forwarder=b c" in words
    assert {"--reason=dns", "--reason=address_refused"} <= set(words)
    assert "--since=1970-01-01T00:00:00.000Z" in words


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"output": "elsewhere"}, "is not that of --deliveries"),
        ({"forwarders": None}, "forwarders is missing"),
        ({"state": "s"}, "leave state out"),
        ({"forwarder": ["a"]}, "users choose"),
        ({"dry_run": True}, "users choose"),
    ],
)
def test_a_config_that_is_none_for_users_jobs_is_refused(
    workshop: Workshop, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        JobsConfig.read(str(write_config(workshop, **more)), str(workshop.output))


def test_a_directory_of_jobs_is_one_services(jobs: Jobs) -> None:
    with pytest.raises(CommandError, match="another service's"):
        Jobs(jobs.config, jobs._directory)


def test_what_is_wrong_is_told_without_what_concerns_others(jobs: Jobs, workshop: Workshop) -> None:
    log = workshop.path / "log"
    messages = [
        "forwarder theirs (file): query is no query",
        f"{workshop.output} is in use by another run (process 5 on host, started 2026): wait for its end",
        f"cannot write {workshop.output}/receipts: no space",
        "forwarder b (file): configuration.url 10.1.2.3 may not be reached",
    ]
    lines = [{"level": "error", "message": message, "run_id": None} for message in messages]
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"level": "info", "message": "secret place"}]))
    job = Job("20260101000000-00000000", ORGANISATION, "ann", Selection("redrive", ("b",)))
    assert list(jobs._problems(log, job)) == [
        "another run is under way on the output: wait for its end",
        "cannot write the output/receipts: no space",
        "a receiver was not reached, or may not be reached: whoever runs the service finds in the log which",
    ]
