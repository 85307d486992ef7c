"""The query tester on the page: live, with rows that write JSON and read it back, in a real browser."""

import json

import pytest

from registry.access import EDIT_ALL
from registry.rest import PATH
from tests.support.browser import MISSING, Visit
from tests.support.registry_house import House, create

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def opened(visit: Visit, house: House, path: str = "/tester") -> None:
    visit.sign_in(house.add_client(EDIT_ALL))
    visit.page.wait_for_selector("main h1")
    visit.settled()
    visit.go(path)


def test_what_each_clause_says_is_shown_while_one_types(visit: Visit, house: House) -> None:
    opened(visit, house)
    page, expect = visit.page, playwright.expect
    page.select_option("#pick-record", label="score")
    page.fill("#query", '{"kind": "score", "score": {"$gte": 10}}')
    expect(page.locator(".verdict")).to_have_text("This record does not match")
    deciding = page.locator(".clauses .decides")
    expect(deciding).to_contain_text("score $gte 10")
    expect(deciding).to_contain_text("found 9")
    expect(page.locator(".condition")).to_have_count(2)
    assert page.locator("[aria-label='Value of condition 2']").input_value() == "10"

    page.fill("[aria-label='Value of condition 2']", "5")
    expect(page.locator(".verdict")).to_have_text("This record matches")
    assert json.loads(page.input_value("#query")) == {"kind": "score", "score": {"$gte": 5}}
    visit.look("tester")

    page.fill("#query", '{"scores": {"$gte": "5"}}')
    expect(page.locator(".judged .warnings")).to_contain_text("did you mean score?")
    page.fill("#query", '{"score": {"$greater": 5}}')
    expect(page.locator(".verdict")).to_have_text("The query is refused")
    expect(page.locator(".judged .fault")).to_contain_text("unknown operator: $greater")
    page.fill("#query", '{"score": {"$mod": [2, 1]}}')
    expect(page.locator(".builder")).to_be_hidden()
    expect(page.locator(".verdict")).to_have_text("This record matches")


def test_conditions_are_built_by_keyboard_and_written_as_json(visit: Visit, house: House) -> None:
    opened(visit, house)
    page, expect = visit.page, playwright.expect
    page.focus("#add-condition")
    page.keyboard.press("Enter")
    page.keyboard.type("score")
    page.keyboard.press("Tab")
    page.keyboard.type("is at most")
    page.keyboard.press("Tab")
    # The field's own type was chosen for it.
    assert page.evaluate("document.activeElement.value") == "number"
    page.keyboard.press("Tab")
    page.keyboard.type("nine")
    expect(page.locator(".condition .fault")).to_contain_text("is not a number")
    page.keyboard.press("Control+A")
    page.keyboard.type("9")
    expect(page.locator("#query")).to_have_value('{"score": {"$lte": 9}}')
    # A reload and Back find what was typed.
    page.reload()
    visit.settled()
    expect(page.locator("#query")).to_have_value('{"score": {"$lte": 9}}')
    assert page.locator("[aria-label='Comparison of condition 1']").input_value() == "is at most"


def test_all_forwarders_are_asked_by_name_and_recent_records_counted(visit: Visit, house: House) -> None:
    client = house.client(EDIT_ALL)
    create(client, _id="gradebook", description="The <i>gradebook</i>", query='{"kind": "score"}')
    create(client, _id="other", query='{"kind": "event"}')
    opened(visit, house)
    page, expect = visit.page, playwright.expect
    page.select_option("#pick-record", label="score")
    page.click("#ask-all")
    expect(page.locator(".action:has(#ask-all) .answer")).to_have_text("It would reach 1 forwarder of 2")
    rows = page.locator("#reached tbody tr").all_inner_texts()
    assert "The <i>gradebook</i>" in rows[0]
    assert "yes" in rows[0]
    assert "other" in rows[1]
    page.click("#count-records")
    expect(page.locator(".action:has(#count-records) .answer")).to_have_text("There is nothing to count")
    expect(page.locator(".counted-records")).to_contain_text("--write_records")


def test_a_forwarders_query_is_built_in_its_form(visit: Visit, house: House) -> None:
    client = house.client(EDIT_ALL)
    create(client, _id="gradebook", query='{"kind": "score"}')
    opened(visit, house, "/forwarders/gradebook/edit")
    page, expect = visit.page, playwright.expect
    page.click("#try-query summary")
    page.fill("[aria-label='Value of condition 1']", "event")
    page.keyboard.press("Enter")
    expect(visit.field("query")).to_have_value('{"kind": "event"}')
    expect(page.locator(".verdict")).to_have_text("This record matches")
    visit.look("tester-in-form")
    assert client.get(f"{PATH}/gradebook").json()["query"] == '{"kind": "score"}'
    page.click("#save")
    expect(page.locator(".action:has(#save) .answer")).to_contain_text("Saved")
    assert client.get(f"{PATH}/gradebook").json()["query"] == '{"kind": "event"}'


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 375])
def test_everybody_can_use_the_tester(visit: Visit, house: House, scheme: str, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    visit.page.emulate_media(color_scheme=scheme)
    opened(visit, house)
    page = visit.page
    page.fill(
        "#query", '{"kind": "score", "score": {"$gte": 10}, "scores": 5, "$or": [{"user_id": "a"}, {"user_id": "b"}]}'
    )
    page.wait_for_selector(".judged .warnings")
    assert visit.violations() == []
    page.fill(
        "#query",
        '{"kind": {"$in": ["score", "event"]}, "score": {"$gte": 10}, "metadata.course": null, '
        '"user_id": {"$exists": true}}',
    )
    page.wait_for_selector(".condition:nth-child(4)")
    assert visit.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    visit.look(f"tester-{scheme}-{width}")
