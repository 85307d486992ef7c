"""The console's pages for operators, in a real browser: health, records, history, jobs, and many at a time."""

import json
from collections.abc import Iterator

import msgspec
import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_ALL, VIEW_ALL
from registry.jobs import Jobs, JobsConfig
from registry.rest import PATH
from tests.registry.test_jobs import write_config
from tests.support.activity import sessions
from tests.support.browser import MISSING, Visit
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import ORGANISATION, House, create
from tests.support.workshop import Workshop

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

MINUTES = 120_000.0


@pytest.fixture
def ran(house: House, workshop: Workshop, receiver: Receiver) -> TestClient:
    """A client of a service whose job has run: `a` got everything, and `b` was refused everything."""
    client = house.client(EDIT_ALL, user="ann")
    target = {"protocol": "http", "url": receiver.url("in"), "maxRetries": 0}
    create(client, _id="a", description="Scores <b>of</b> one school", configuration={**target, "authType": "no auth"})
    create(client, _id="b", description="Marks", configuration={**target, "authType": "token", "secret": "bad"})
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200, body=b"<i>gone</i>")
    workshop.write_activity(msgspec.structs.replace(each, organisation=ORGANISATION) for each in sessions(3))
    documents = client.get(PATH).json()
    documents[1]["configuration"]["secret"] = "bad"
    workshop.write_forwarders(*documents)
    assert workshop.run() == 3
    assert house.registry.health is not None
    house.registry.health.look()
    return client


@pytest.fixture
def jobs(house: House, workshop: Workshop) -> Iterator[Jobs]:
    made = Jobs(JobsConfig.read(str(write_config(workshop)), str(workshop.output)), workshop.path / "jobs")
    object.__setattr__(house.registry, "jobs", made)
    yield made
    made.close()


def seen(visit: Visit, name: str) -> None:
    """Nothing is inaccessible in it, light and dark, and it fits a narrow window."""
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        assert visit.violations() == []
        visit.look(f"{name}-{scheme}")
    visit.page.emulate_media(color_scheme="light")
    visit.page.set_viewport_size({"width": 375, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
    visit.look(f"{name}-narrow")
    visit.page.set_viewport_size({"width": 1100, "height": 800})


def test_how_a_forwarder_does_what_it_got_and_sending_it_again(
    visit: Visit, house: House, ran: TestClient, jobs: Jobs, receiver: Receiver
) -> None:
    page, expect = visit.page, playwright.expect
    visit.sign_in(house.add_client(EDIT_ALL, user="ann"))
    page.wait_for_selector("#rows .row:nth-child(2)")
    assert page.locator("#rows .state").all_inner_texts() == ["Failing", "Delivering"]
    page.click("text=Marks")
    page.wait_for_selector("#health .plot")
    assert page.locator("#health .share").all_inner_texts() == ["0 % delivered"] * 3
    assert "http_410" in page.inner_text("#health .reasons >> nth=0")
    assert page.locator("#health .plot rect.bad").count() >= 3
    seen(visit, "overview")

    page.click("#health .reasons a >> nth=0")
    visit.settled()
    rows = page.locator("#deliveries tbody tr:not(.opened)")
    expect(rows).to_have_count(12)
    assert "reason=http_410" in page.url
    page.click("#deliveries .opens >> nth=0")
    expect(page.locator(".opened:not([hidden]) pre")).to_contain_text("session")
    assert "<i>gone</i>" in page.inner_text(".opened:not([hidden])")
    seen(visit, "records")

    for place in range(2):
        page.check(f"#deliveries tbody input >> nth={place}")
    before = len(receiver.log)
    page.click("#redrive-chosen")
    page.wait_for_url("**/jobs/*")
    page.wait_for_selector("#send", timeout=MINUTES)
    assert page.inner_text("#send") == "Send 2 records…"
    assert len(receiver.log) == before
    seen(visit, "plan")
    receiver.script = lambda arrival: Answer(200)
    page.click("#send")
    page.click("dialog button.primary")
    page.wait_for_selector("#sent", timeout=MINUTES)
    assert "Done" in page.inner_text("h1 + .facts")
    assert len(receiver.log) == before + 2
    seen(visit, "job")
    page.click("header nav >> text=Jobs")
    visit.settled()
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    assert "2 delivered records" in page.inner_text("#jobs")
    seen(visit, "jobs")


def test_a_job_that_nobody_took_anything_of_is_no_good_news(
    visit: Visit, house: House, ran: TestClient, jobs: Jobs
) -> None:
    page = visit.page
    visit.sign_in(house.add_client(EDIT_ALL, user="ann"))
    visit.go("/forwarders/b/records")
    page.check("#deliveries tbody input >> nth=0")
    page.click("#redrive-chosen")
    page.wait_for_selector("#send", timeout=MINUTES)
    page.click("#send")
    page.click("dialog button.primary")
    page.wait_for_selector("#sent", timeout=MINUTES)
    assert page.inner_text("h1 + .facts .state.failing") == "Done, 1 given up"
    visit.go("/jobs")
    assert page.inner_text("#jobs .state.failing") == "Done, 1 given up"


def test_a_change_is_seen_and_taken_back(visit: Visit, house: House) -> None:
    page, expect = visit.page, playwright.expect
    client = house.client(EDIT_ALL, user="ann")
    create(
        client,
        _id="a",
        description="Marks",
        query={"kind": "score"},
        configuration={"authType": "token", "secret": "x"},
    )
    client.patch(f"{PATH}/a", json={"query": {"kind": "event"}, "description": "<b>Marks</b>"})
    visit.sign_in(house.add_client(EDIT_ALL, user="bob"))
    page.click("text=<b>Marks</b>")
    page.click(".tabs >> text=History")
    visit.settled()
    edits = page.locator("#edits .edit")
    expect(edits).to_have_count(2)
    assert "ann changed it" in edits.first.inner_text()
    assert 'query: {"kind":"score"} → {"kind":"event"}' in edits.first.inner_text()
    assert page.locator("#edits button").count() == 1
    seen(visit, "history")
    page.click("#edits >> text=Restore this")
    page.click("dialog button.primary")
    expect(edits).to_have_count(3)
    expect(page.locator("h1")).to_have_text("Marks")
    assert client.get(f"{PATH}/a").json()["query"] == {"kind": "score"}
    page.reload()
    visit.settled()
    expect(edits).to_have_count(3)


def test_a_new_forwarder_is_tried_before_it_is_active(visit: Visit, house: House, receiver: Receiver) -> None:
    page, expect = visit.page, playwright.expect
    visit.sign_in(house.add_client(EDIT_ALL))
    page.click("#new")
    visit.field("description").fill("Gradebook")
    visit.field("configuration.protocol").select_option("http")
    visit.field("configuration.url").fill(receiver.url("in"))
    page.click("#save")
    page.click(".answer >> text=try it")
    visit.settled()
    assert "It is not active" in page.inner_text("#trial")
    seen(visit, "trial")
    receiver.script = lambda arrival: Answer(500)
    page.click("#try")
    expect(page.locator("#trial .answer.bad")).to_contain_text("Not delivered")
    receiver.script = lambda arrival: Answer(200)
    page.click("#try")
    page.click("#trial #enable.primary")
    expect(page.locator("#trial")).to_have_count(0)
    (document,) = house.client(EDIT_ALL).get(PATH).json()
    assert document["active"] is True
    page.click("#disable")
    expect(page.locator("#trial")).to_have_count(1)
    page.click("#duplicate")
    page.wait_for_url("**/edit")
    expect(page.locator("h1")).to_have_text("Copy of Gradebook")


def test_many_are_changed_at_once_and_imported(visit: Visit, house: House) -> None:
    page, expect = visit.page, playwright.expect
    client = house.client(EDIT_ALL)
    for number in range(3):
        create(client, _id=f"f-{number}", description=f"Forwarder {number}")
    create(client, _id="faulty", active=False, configuration={"url": None})
    visit.sign_in(house.add_client(EDIT_ALL))
    page.check('[aria-label="Choose Forwarder 0"]')
    page.check('[aria-label="Choose Forwarder 2"]')
    seen(visit, "chosen")
    page.click("#all-disable")
    expect(page.locator(".chosen-bar .answer.good")).to_have_text("2 forwarders disabled")
    assert [client.get(f"{PATH}/f-{number}").json()["active"] for number in range(3)] == [False, True, False]
    page.check('[aria-label="Choose faulty"]')
    page.click("#all-enable")
    expect(page.locator(".chosen-bar .answer.bad")).to_contain_text("2 enabled, 1 not: faulty: configuration.url")

    page.click("#to-import")
    visit.settled()
    exported = client.get(f"{PATH}/f-0").json()
    page.fill("#json", json.dumps([exported, {"_id": "new", "description": "New", "active": True}]))
    page.click("#import")
    expect(page.locator("#results li")).to_have_count(2)
    expect(page.locator("form .answer.bad")).to_contain_text("1 forwarder made, 1 refused")
    seen(visit, "import")
    assert client.get(f"{PATH}/new").json()["active"] is False

    visit.go("/forwarders")
    page.check('[aria-label="Choose New"]')
    page.focus("#all-delete")
    page.keyboard.press("Enter")
    page.click("dialog button.danger, dialog button.primary")
    expect(page.locator(".chosen-bar .answer.good")).to_have_text("1 forwarder deleted")
    expect(page.locator(".chosen-bar .answer.good")).to_be_visible()
    assert page.evaluate("document.activeElement.className") == "chosen-bar", "the keyboard goes on from there"


def test_who_may_only_look_is_offered_nothing_else(visit: Visit, house: House, ran: TestClient, jobs: Jobs) -> None:
    page = visit.page
    visit.sign_in(house.add_client(VIEW_ALL))
    page.click("text=Marks")
    page.wait_for_selector("#health .plot")
    assert page.locator("#disable, #duplicate").count() == 0
    visit.go("/forwarders/b/records")
    assert page.locator("#redrive, #deliveries input").count() == 0
    page.click("#deliveries .opens >> nth=0")
    page.wait_for_selector(".opened:not([hidden]) dl")
    assert "for those who may change the forwarder" in page.inner_text(".opened:not([hidden])")
