"""The page at `/`, in a real browser: headless Chromium, the one on PATH or the program that CHROMIUM names.

Set SCREENSHOTS to a directory to have a look.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.access import DELIVER, EDIT_ALL, VIEW_ALL
from registry.rest import PATH
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import House, create, served
from tests.support.workshop import Workshop

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
# A browser that was named and is not there is a mistake, which its start tells.
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser on PATH: apt-get install chromium, or set CHROMIUM to the program"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that is open, and everything that went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if self._is_wrong(message) else None)

    @staticmethod
    def _is_wrong(message: Any) -> bool:
        # The browser itself notes every answer that is not a 2xx.
        return message.type == "error" and "Failed to load resource" not in message.text

    def look(self, name: str) -> None:
        directory = os.environ.get("SCREENSHOTS")
        if directory:
            self.page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)

    def field(self, name: str) -> Any:
        return self.page.locator(f'[name="{name}"]')

    def fault(self, name: str) -> str:
        text: str = self.page.locator(f'label:has([name="{name}"]) .fault').inner_text()
        return text


@pytest.fixture
def visit(browser: Any, house: House) -> Iterator[Visit]:
    with served(house.registry) as address:
        context = browser.new_context(viewport={"width": 1100, "height": 800})
        page = context.new_page()
        visit = Visit(page)
        page.goto(address)
        yield visit
        context.close()
    assert visit.wrong == []


def sign_in(visit: Visit, credentials: tuple[str, str]) -> None:
    visit.page.fill("#key", credentials[0])
    visit.page.fill("#secret", credentials[1])
    visit.page.click("#enter button")


def test_who_is_not_known_is_told(visit: Visit) -> None:
    sign_in(visit, ("nobody", "x"))
    visit.page.wait_for_selector("#enter .problem:not(:empty)")
    assert "no client of this key and secret" in visit.page.inner_text("#enter .problem")
    assert visit.page.is_hidden("#list")


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

    sign_in(visit, house.add_client(EDIT_ALL))

    visit.page.wait_for_selector("#rows tr:nth-child(3)")
    text = visit.page.inner_text("#rows")
    assert "Scores <b>of</b> one school" in text
    assert "given up: http_410" in text
    assert "delivered" in text
    assert "○ off" in text
    assert visit.page.inner_text("#count") == "3 of 3 forwarders"
    visit.look("list")
    visit.page.fill("#filter", '{"active": false}')
    visit.page.click("#search button:not([type])")
    playwright.expect(visit.page.locator("#rows tr")).to_have_count(1)
    assert "Switched off" in visit.page.inner_text("#rows")
    visit.page.fill("#filter", "{")
    visit.page.click("#search button:not([type])")
    visit.page.wait_for_selector("#list .problem:not(:empty)")
    visit.page.fill("#filter", "")
    visit.page.click("#search button:not([type])")
    visit.page.click("text=Scores <b>of</b> one school")
    visit.page.wait_for_selector("#deliveries:not([hidden])")
    assert visit.page.locator("#deliveries tbody tr").count() == 8
    visit.look("deliveries")


def test_a_forwarder_is_created_with_faults_beside_the_fields_then_edited_tried_and_deleted(
    visit: Visit, house: House, receiver: Receiver
) -> None:
    page = visit.page
    sign_in(visit, house.add_client(EDIT_ALL))
    page.click("#new")
    visit.field("description").fill("Gradebook")
    visit.field("query").fill('{"score": {"$gte": ')
    visit.field("configuration.protocol").select_option("http")
    visit.field("configuration.url").fill("https://receiver.example")
    visit.field("configuration.authType").select_option("token")
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
    playwright.expect(page.locator("#title")).to_have_text(re.compile("saved$"))
    assert page.locator(".fault").count() == 0
    assert visit.field("configuration.secret").input_value() == "[redacted]"
    (document,) = editor.get(PATH).json()
    assert (document["description"], document["configuration"]["maxRetries"]) == ("Gradebook", 3)

    visit.field("description").fill("Gradebook of one school")
    page.click("#save")
    playwright.expect(page.locator("#title")).to_have_text("Gradebook of one school — saved")
    page.click("#test")
    page.wait_for_selector("#receipt:not([hidden])")
    assert "delivered" in page.inner_text("#receipt")
    (arrival,) = receiver.log
    assert arrival.headers["authorization"] == "Bearer hunter-token"
    assert json.loads(arrival.body)["verb"]["id"] == "http://adlnet.gov/expapi/verbs/scored"
    visit.look("tested")

    # What is wrong is in view, whatever part of the form that is in; and nothing says any longer that it was saved.
    visit.field("query").fill("{")
    page.click("#save")
    playwright.expect(visit.field("query")).to_be_focused()
    playwright.expect(visit.field("query")).to_be_in_viewport()
    playwright.expect(page.locator("#title")).to_have_text("Gradebook of one school")
    visit.field("query").fill('{"score": {"$gte": 5}}')
    visit.field("configuration.url").fill("another.example/in")
    page.click("#save")
    playwright.expect(visit.field("configuration.secret")).to_be_focused()
    assert "write the secret anew" in visit.fault("configuration.secret")
    visit.field("configuration.url").fill(receiver.url("in"))
    page.click("#save")
    playwright.expect(page.locator("#title")).to_have_text(re.compile("saved$"))

    # Somebody else was faster: nothing of theirs is overwritten.
    editor.patch(f"{PATH}/{document['_id']}", json={"description": "theirs"})
    visit.field("description").fill("ours")
    page.click("#save")
    page.wait_for_selector("#edit .problem:not(:empty)")
    assert "changed since it was read" in page.inner_text("#edit .problem")
    assert editor.get(f"{PATH}/{document['_id']}").json()["description"] == "theirs"

    page.click("#back")
    page.click("text=theirs")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    playwright.expect(page.locator("#count")).to_have_text("0 of 0 forwarders")
    assert editor.get(f"{PATH}/count").json() == {"count": 0}


def test_a_kinesis_forwarder_has_its_own_fields(visit: Visit, house: House) -> None:
    page = visit.page
    sign_in(visit, house.add_client(EDIT_ALL))
    page.click("#new")
    visit.field("configuration.protocol").select_option("Kinesis")
    assert page.is_hidden("#http")
    visit.field("kinesisOptions.service").select_option("streams")
    visit.field("kinesisOptions.streamName").fill("records")
    visit.field("kinesisOptions.awsRegion").fill("eu-west-1")
    page.click("#save")
    page.wait_for_selector("#form .fault")
    assert "absent" in visit.fault("kinesisOptions.awsClientKey")
    visit.field("kinesisOptions.awsClientKey").fill("AKIA")
    visit.field("kinesisOptions.awsClientSecret").fill("hunter")
    page.click("#save")
    playwright.expect(page.locator("#title")).to_have_text(re.compile("saved$"))
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
    sign_in(visit, house.add_client(EDIT_ALL))
    page.click("#rows a")
    page.wait_for_selector("#edit:not([hidden])")
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
    page.set_viewport_size({"width": 360, "height": 700})
    create(
        house.client(EDIT_ALL),
        description="Scores of one school",
        configuration={"url": "receiver.example/" + 60 * "a"},
    )
    sign_in(visit, house.add_client(EDIT_ALL))
    page.wait_for_selector("#rows a")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.look("narrow-list")
    page.click("#rows a")
    page.wait_for_selector("#edit:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.look("narrow-form")


def test_the_documentation_is_there_without_the_internet(visit: Visit) -> None:
    visit.page.goto(visit.page.url + "docs")
    visit.page.wait_for_selector(".opblock")
    assert visit.page.locator(".opblock").count() == 15
    visit.look("docs")
