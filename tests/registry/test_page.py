"""The page as people use it, in a real browser. Set SCREENSHOTS to a directory to have a look."""

import json
from typing import Any

import pytest

from registry.access import DELIVER, EDIT_ALL, VIEW_ALL
from registry.rest import PATH
from tests.support.activity import sessions
from tests.support.browser import MISSING, Visit
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import House, create
from tests.support.workshop import Workshop

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_who_is_not_known_is_told(visit: Visit) -> None:
    visit.sign_in(("nobody", "x"))
    answer = visit.page.locator("#sign-in .answer.bad")
    playwright.expect(answer).to_have_text("no client has this key and secret")
    assert answer.get_attribute("role") == "alert"
    assert visit.page.locator("#rows").count() == 0
    assert visit.page.url.endswith("/sign-in?to=%2Fforwarders")


def test_the_list_shows_state_target_and_last_delivery(
    visit: Visit, house: House, workshop: Workshop, receiver: Receiver
) -> None:
    editor = house.client(EDIT_ALL)
    configuration = {"protocol": "http", "url": receiver.url("in")}
    create(editor, _id="good", description="Scores <b>of</b> one school", configuration=configuration)
    create(editor, _id="bad", query='{"kind": "score"}', configuration=configuration)
    create(editor, _id="off", active=False, description="Switched off")
    workshop.write_activity(sessions(2))
    documents = [{"_id": name, "active": True, "query": "", "configuration": configuration} for name in ("good", "bad")]
    documents[1]["configuration"] = {**configuration, "url": receiver.url("gone"), "authType": "token", "secret": "bad"}
    workshop.write_forwarders(*documents)
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200)
    assert workshop.run() == 3

    visit.sign_in(house.add_client(EDIT_ALL))

    visit.page.wait_for_selector("#rows .row:nth-child(3)")
    text = visit.page.inner_text("#rows")
    assert "Scores <b>of</b> one school" in text
    assert "given up: http_410" in text
    assert "delivered" in text
    states = visit.page.locator("#rows .state").all_inner_texts()
    assert states == ["Failing", "Delivering", "Inactive"]
    assert visit.page.inner_text("#count") == "3 forwarders"
    visit.look("list")
    visit.page.fill("#search", '{"active": false}')
    playwright.expect(visit.page.locator("#rows .row")).to_have_count(1)
    assert "Switched off" in visit.page.inner_text("#rows")
    assert visit.page.inner_text("#count") == "1 of 3 forwarders"
    visit.page.fill("#search", "{")
    playwright.expect(visit.page.locator("#count[role=alert] .bad")).to_contain_text("text is not JSON")
    visit.page.fill("#search", "")
    visit.page.click("text=Scores <b>of</b> one school")
    visit.page.click(".tabs >> text=Records")
    visit.page.wait_for_selector("#deliveries")
    assert visit.page.locator("#deliveries tbody tr:not(.opened)").count() == 8
    visit.look("deliveries")


def test_a_forwarder_is_created_with_faults_beside_the_fields_then_edited_tried_and_deleted(
    visit: Visit, house: House, receiver: Receiver
) -> None:
    page = visit.page
    visit.sign_in(house.add_client(EDIT_ALL))
    page.click("#new")
    visit.field("description").fill("Gradebook")
    visit.field("query").fill('{"score": {"$gte": ')
    visit.field("configuration.protocol").select_option("http")
    visit.field("configuration.url").fill("https://receiver.example")
    visit.field("configuration.authType").select_option("token")
    page.click("#requests summary")
    visit.field("configuration.maxRetries").fill("many")
    visit.field("configuration.headers").fill('{"Content-Type": "x"}')
    page.click("#save")
    page.wait_for_selector("#form .fault")
    assert "starts with a scheme" in visit.fault("configuration.url")
    assert "is absent" in visit.fault("configuration.secret")
    assert "whole number" in visit.fault("configuration.maxRetries")
    assert "reserved header" in visit.fault("configuration.headers")
    assert "is refused" in visit.fault("query")
    visit.look("faults")
    editor = house.client(EDIT_ALL)
    assert editor.get(f"{PATH}/count").json() == {"count": 0}

    visit.field("query").fill('{"score": {"$gte": 5}}')
    visit.field("configuration.url").fill(receiver.url("in"))
    visit.field("configuration.secret").fill("hunter-token")
    visit.field("configuration.maxRetries").fill("3")
    visit.field("configuration.headers").fill('{"X-School": "one"}')
    page.click("#save")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Created at")
    assert page.locator(".fault").count() == 0
    assert visit.field("configuration.secret").input_value() == "[redacted]"
    (document,) = editor.get(PATH).json()
    assert (document["description"], document["configuration"]["maxRetries"]) == ("Gradebook", 3)

    visit.field("description").fill("Gradebook of one school")
    page.click("#save")
    playwright.expect(page.locator("h1")).to_have_text("Gradebook of one school")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")
    page.click("#test")
    page.wait_for_selector("#receipt")
    assert "delivered" in page.inner_text("#receipt")
    (arrival,) = receiver.log
    assert arrival.headers["authorization"] == "Bearer hunter-token"
    assert json.loads(arrival.body)["verb"]["id"] == "http://adlnet.gov/expapi/verbs/scored"
    visit.look("tested")
    editor.patch(f"{PATH}/{document['_id']}", json={"active": True})
    page.reload()
    visit.settled()

    # What is wrong is in view, whatever part of the form that is in; and nothing says any longer that it was saved.
    visit.field("query").fill("{")
    page.click("#save")
    playwright.expect(visit.field("query")).to_be_focused()
    playwright.expect(visit.field("query")).to_be_in_viewport()
    playwright.expect(page.locator("#save + .answer.bad")).to_have_text("Not saved: 1 field is not right")
    visit.field("query").fill('{"score": {"$gte": 5}}')
    visit.field("configuration.url").fill("another.example/in")
    page.click("#save")
    playwright.expect(visit.field("configuration.secret")).to_be_focused()
    assert "write the secret anew" in visit.fault("configuration.secret")
    visit.field("configuration.url").fill(receiver.url("in"))
    page.click("#save")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")

    # Somebody else was faster: nothing of theirs is overwritten.
    editor.patch(f"{PATH}/{document['_id']}", json={"description": "theirs"})
    visit.field("description").fill("ours")
    page.click("#save")
    playwright.expect(page.locator("#save + .answer.bad")).to_have_text("Not saved: somebody else was faster")
    playwright.expect(page.locator(".conflict")).to_be_in_viewport()
    assert visit.field("description").input_value() == "ours"
    (row,) = page.locator(".conflict tbody tr").all()
    told = row.locator("th, td").all_inner_texts()
    assert [text.strip() for text in told] == ["Description", "Gradebook of one school", "theirs", "ours"]
    visit.look("conflict")
    assert editor.get(f"{PATH}/{document['_id']}").json()["description"] == "theirs"

    page.click("#discard")
    playwright.expect(visit.field("description")).to_have_value("theirs")
    page.click("#delete")
    page.click("dialog button.danger")
    playwright.expect(page.locator("#nothing h2")).to_have_text("No forwarders yet")
    assert editor.get(f"{PATH}/count").json() == {"count": 0}


def test_a_kinesis_forwarder_has_its_own_fields(visit: Visit, house: House) -> None:
    page = visit.page
    visit.sign_in(house.add_client(EDIT_ALL))
    page.click("#new")
    visit.field("configuration.protocol").select_option("Kinesis")
    assert visit.field("configuration.url").is_hidden()
    assert page.is_hidden("#batches")
    visit.field("kinesisOptions.service").select_option("streams")
    visit.field("kinesisOptions.streamName").fill("records")
    visit.field("kinesisOptions.awsRegion").fill("eu-west-1")
    page.click("#save")
    page.wait_for_selector("#form .fault")
    assert "absent" in visit.fault("kinesisOptions.awsClientKey")
    visit.field("kinesisOptions.awsClientKey").fill("AKIA")
    visit.field("kinesisOptions.awsClientSecret").fill("hunter")
    page.click("#save")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Created at")
    visit.look("kinesis")
    (document,) = house.client(EDIT_ALL).get(PATH).json()
    assert document["kinesisOptions"]["streamName"] == "records"
    assert document["kinesisOptions"]["awsClientSecret"] == "[redacted]"


def test_what_is_not_edited_stays_and_what_is_becomes_the_value_of_its_kind(visit: Visit, house: House) -> None:
    page = visit.page
    signing = ["whsec_c2VjcmV0LW9uZQ==", "whsec_c2VjcmV0LXR3bw=="]
    configuration = {"timeout": 2.5, "concurrency": 3, "signingSecret": signing, "headers": '{"X-School":"one"}'}
    given = {"description": "two\nlines", "query": {"kind": "score"}, "fullDocument": True, "payload": "record"}
    given["kinds"] = ["score", "event"]
    document_id = create(house.client(EDIT_ALL), configuration=configuration, **given)["_id"]
    job = house.client(VIEW_ALL, DELIVER)

    def stored() -> dict[str, Any]:
        document: dict[str, Any] = job.get(f"{PATH}/{document_id}", params={"secrets": "full"}).json()
        return document

    def save() -> None:
        with page.expect_response(lambda response: response.request.method == "PATCH") as answer:
            page.click("#save")
        assert answer.value.ok

    before = stored()
    visit.sign_in(house.add_client(EDIT_ALL))
    page.click("#rows a")
    page.click(".tabs >> text=Edit")
    page.wait_for_selector("#form")
    assert visit.field("configuration.timeout").input_value() == "2.5"
    assert visit.field("configuration.signingSecret").input_value() == "[redacted]\n[redacted]"
    assert visit.field("fullDocument").is_checked()
    visit.field("lrs_id").fill("store")
    save()
    assert stored() == {**before, "lrs_id": "store", "updatedAt": stored()["updatedAt"]}

    visit.field("configuration.timeout").fill("0.5")
    visit.field("configuration.concurrency").fill("")
    visit.field("configuration.signingSecret").fill(f"{signing[1]}\n")
    visit.field("payload").select_option("")
    assert visit.field("kinds").input_value() == "score, event"
    visit.field("kinds").fill("statement,score")
    save()
    after = stored()
    assert after["configuration"]["timeout"] == 0.5
    assert "concurrency" not in after["configuration"]
    assert after["configuration"]["signingSecret"] == [signing[1]]
    assert "payload" not in after
    assert after["kinds"] == ["statement", "score"]


def test_it_fits_a_narrow_window(visit: Visit, house: House) -> None:
    page = visit.page
    page.set_viewport_size({"width": 375, "height": 700})
    create(
        house.client(EDIT_ALL),
        description="Scores of one school",
        configuration={"url": "receiver.example/" + 60 * "a"},
    )
    visit.sign_in(house.add_client(EDIT_ALL))
    page.wait_for_selector("#rows a")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    visit.look("narrow-list")
    page.click("#rows a")
    page.click(".tabs >> text=Edit")
    page.wait_for_selector("#form")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    visit.look("narrow-form")


def test_the_documentation_is_there_without_the_internet(visit: Visit, house: House) -> None:
    paths = house.visitor().get("/openapi.json").json()["paths"]
    visit.page.goto(visit.address + "/docs")
    visit.page.wait_for_selector(".opblock")
    assert visit.page.locator(".opblock").count() == sum(map(len, paths.values()))
    visit.look("docs")
