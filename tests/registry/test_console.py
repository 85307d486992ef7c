"""The page's frame in a real browser: addresses, sessions, focus, keys, a service that is gone, and how it looks."""

import re
from datetime import timedelta
from typing import Any

import pytest

from registry.access import EDIT_ALL, VIEW_ALL
from registry.rest import PATH
from tests.support.browser import MISSING, Visit
from tests.support.registry_house import ORGANISATION, House, create, served
from tests.support.waiting import until

playwright = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

VIEWS = {
    "list": ("/forwarders", "Forwarders"),
    "none-found": ("/forwarders?text=nothing+like+that", "Forwarders"),
    "new": ("/forwarders/new", "New forwarder"),
    "overview": ("/forwarders/gradebook/overview", "Gradebook of Springfield · Overview"),
    "edit": ("/forwarders/gradebook/edit", "Gradebook of Springfield · Edit"),
    "records": ("/forwarders/gradebook/records", "Gradebook of Springfield · Records"),
    "history": ("/forwarders/gradebook/history", "Gradebook of Springfield · History"),
    "tester": ("/tester", "Query tester"),
    "jobs": ("/jobs", "Jobs"),
    "job": ("/jobs/none", "Not shown"),
    "not-there": ("/forwarders/unknown/overview", "Not shown"),
}
"""Every view, with its address and the beginning of its title."""


@pytest.fixture
def forwarders(house: House) -> None:
    editor = house.client(EDIT_ALL)
    create(
        editor,
        _id="gradebook",
        description="Gradebook of Springfield",
        query={"kind": "score", "statement.result.score.scaled": {"$gte": 0.5}},
        configuration={"url": "gradebook.springfield.example/in/scores", "authType": "token", "secret": "t0p"},
    )
    kinesis = {"service": "streams", "streamName": "session-records", "awsClientKey": "AKIA", "awsClientSecret": "x"}
    create(
        editor, _id="warehouse", description="Warehouse", configuration={"protocol": "Kinesis"}, kinesisOptions=kinesis
    )
    create(editor, _id="badges", description="Badge service", active=False)
    house.store.name_organisation(ORGANISATION, "Springfield School District")


@pytest.fixture
def signed_in(visit: Visit, house: House, forwarders: None) -> Visit:
    """The list, with three forwarders, as somebody sees it who has signed in."""
    visit.sign_in(house.add_client(EDIT_ALL, user="ann"))
    visit.page.wait_for_selector("#rows .row")
    return visit


def title(visit: Visit) -> str:
    text: str = visit.page.title()
    return text.removesuffix(" · Forwarders")


def focused(visit: Visit) -> str:
    """The text, or the name, of what has the focus."""
    text: str = visit.page.evaluate(
        "document.activeElement.ariaLabel || document.activeElement.name || document.activeElement.textContent.trim()"
    )
    return text


def text_of(visit: Visit) -> str:
    """What the view says, but how long ago something was."""
    return re.sub(r"just now|\d+ \w+ ago", "", visit.page.inner_text("main"))


# Addresses


def test_every_view_has_an_address_that_a_bookmark_and_a_reload_show(signed_in: Visit) -> None:
    for path, name in VIEWS.values():
        signed_in.go(path)
        assert title(signed_in) == name
        shown = text_of(signed_in)
        signed_in.page.reload()
        signed_in.settled()
        assert title(signed_in) == name
        assert text_of(signed_in) == shown
        assert signed_in.page.url == signed_in.address + path


def test_short_addresses_lead_to_views(signed_in: Visit) -> None:
    signed_in.go("/")
    assert signed_in.page.url == signed_in.address + "/forwarders"
    signed_in.go("/forwarders/gradebook")
    assert signed_in.page.url == signed_in.address + "/forwarders/gradebook/overview"


def test_an_id_of_any_letters_has_an_address(signed_in: Visit, house: House) -> None:
    odd = "a b?c#d%e&ü"
    create(house.client(EDIT_ALL), _id=odd, description="Odd one")
    signed_in.go("/forwarders")
    signed_in.page.click("text=Odd one")
    playwright.expect(signed_in.page.locator("h1")).to_have_text("Odd one")
    signed_in.page.reload()
    signed_in.settled()
    playwright.expect(signed_in.page.locator("h1")).to_have_text("Odd one")
    assert odd in signed_in.page.inner_text(".facts")


def test_back_and_forward_go_through_views_and_focus_and_title_follow(signed_in: Visit) -> None:
    page = signed_in.page
    page.click("text=Gradebook of Springfield")
    playwright.expect(page.locator("h1")).to_have_text("Gradebook of Springfield")
    playwright.expect(page.locator("h1")).to_be_focused()
    page.click(".tabs >> text=Edit")
    page.wait_for_selector("#form")
    # Whoever goes through the tabs by keyboard stays there.
    playwright.expect(page.locator(".tabs >> text=Edit")).to_be_focused()
    assert title(signed_in) == "Gradebook of Springfield · Edit"
    page.go_back()
    page.wait_for_selector(".tabs [aria-current]:has-text('Overview')")
    assert title(signed_in) == "Gradebook of Springfield · Overview"
    page.go_back()
    page.wait_for_selector("#rows .row")
    assert title(signed_in) == "Forwarders"
    page.go_forward()
    page.wait_for_selector(".tabs")
    assert title(signed_in) == "Gradebook of Springfield · Overview"


def test_what_is_searched_and_filtered_is_in_the_address(signed_in: Visit) -> None:
    page = signed_in.page
    page.fill("#search", "example")
    playwright.expect(page.locator("#count")).to_have_text("2 of 3 forwarders")
    page.click(".segments >> text=Inactive")
    playwright.expect(page.locator("#rows .name")).to_have_text(["Badge service"])
    page.select_option("#target", "https")
    page.wait_for_url("**/forwarders?text=example&state=inactive&target=https")
    page.reload()
    playwright.expect(page.locator("#rows .name")).to_have_text(["Badge service"])
    assert page.input_value("#search") == "example"
    assert page.get_attribute(".segments .inactive", "aria-pressed") == "true"
    page.go_back()
    page.go_back()
    playwright.expect(page.locator("#rows .name")).to_have_count(2)
    assert page.get_attribute(".segments .inactive", "aria-pressed") == "false"
    page.fill("#search", "no such thing")
    playwright.expect(page.locator("#nothing h2")).to_have_text("Nothing matches “no such thing”")
    page.click("text=Show all")
    playwright.expect(page.locator("#rows .name")).to_have_count(3)


def test_columns_sort_and_say_so(signed_in: Visit) -> None:
    page = signed_in.page
    names = page.locator("#rows .name")
    playwright.expect(names).to_have_text(["Gradebook of Springfield", "Warehouse", "Badge service"])
    page.click(".heads >> text=Forwarder")
    playwright.expect(names).to_have_text(["Badge service", "Gradebook of Springfield", "Warehouse"])
    page.click(".heads >> text=Forwarder")
    playwright.expect(names).to_have_text(["Warehouse", "Gradebook of Springfield", "Badge service"])
    assert page.get_attribute("[role=columnheader]:has-text('Forwarder')", "aria-sort") == "descending"
    assert page.url.endswith("?sort=-name")


def test_many_forwarders_scroll_without_a_click_and_back_finds_the_place(signed_in: Visit, house: House) -> None:
    page = signed_in.page
    house.store._writer.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]
    editor = house.client(EDIT_ALL)
    for number in range(430):
        create(editor, _id=f"n{number:03}", description=f"Number {number:03}")
    signed_in.go("/forwarders?sort=name")
    playwright.expect(page.locator("#count")).to_have_text("433 forwarders")
    assert page.locator("#rows .row").count() < 433
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/console/forwarders?" in request.url else None)
    while page.locator("#rows .row").count() < 433:
        before = page.locator("#rows .row").count()
        page.mouse.wheel(0, 20_000)
        page.wait_for_selector(f"#rows .row:nth-child({before + 1})", state="attached")
    # As many again each time, or ten thousand were a hundred requests.
    assert len(asked) <= 3
    shown = page.locator("#rows .name").all_text_contents()
    assert len(set(shown)) == 433
    assert shown == sorted(shown, key=str.casefold)
    page.locator("text=Number 420").scroll_into_view_if_needed()
    until(lambda: page.evaluate("history.state.remembered.at > 350"))
    page.click("text=Number 420")
    page.wait_for_selector(".tabs")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    playwright.expect(page.locator("#rows .row")).to_have_count(433)
    playwright.expect(page.locator("text=Number 420")).to_be_in_viewport()
    page.reload()
    playwright.expect(page.locator("text=Number 420")).to_be_in_viewport()


# Who has signed in


def test_a_bookmark_asks_to_sign_in_and_then_shows_the_view(visit: Visit, house: House, forwarders: None) -> None:
    visit.go("/forwarders/gradebook/edit")
    assert visit.page.url.startswith(f"{visit.address}/sign-in")
    assert title(visit) == "Sign in"
    assert focused(visit) == "key"
    visit.sign_in(house.add_client(EDIT_ALL, user="ann"))
    visit.page.wait_for_selector("#form")
    assert visit.page.url == f"{visit.address}/forwarders/gradebook/edit"
    assert visit.page.inner_text("#who") == "ann\nSpringfield School District"
    # Back does not end at signing in.
    visit.page.go_back()
    visit.page.wait_for_selector("#rows .row")
    assert visit.page.url == f"{visit.address}/forwarders"


@pytest.mark.parametrize("to", ["//other.example/", "https://other.example/", "/sign-in?to=%2Fsign-in", "javascript:1"])
def test_signing_in_leads_to_this_page_only(visit: Visit, house: House, forwarders: None, to: str) -> None:
    visit.page.goto(f"{visit.address}/sign-in?to={to.replace('/', '%2F').replace('?', '%3F')}")
    visit.sign_in(house.add_client(EDIT_ALL))
    visit.page.wait_for_selector("#rows .row")
    assert visit.page.url == f"{visit.address}/forwarders"


def test_signing_out_ends_the_session(signed_in: Visit) -> None:
    page = signed_in.page
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.click("#sign-out")
    page.wait_for_selector("#sign-in")
    assert page.context.cookies() == []
    assert page.is_hidden("#who")
    page.context.add_cookies([cookie])
    signed_in.go("/forwarders")
    assert "/sign-in" in page.url


def test_a_session_that_ends_while_somebody_types_loses_nothing(signed_in: Visit, house: House) -> None:
    page = signed_in.page
    credentials = house.add_client(EDIT_ALL, user="bob")
    page.click("#sign-out")
    signed_in.sign_in(credentials)
    page.wait_for_selector("#rows .row")
    signed_in.go("/forwarders/gradebook/edit")
    signed_in.field("description").fill("Typed for a long time")
    house.service.now.time += timedelta(hours=3)  # type: ignore[attr-defined]
    page.click("#save")
    page.wait_for_selector("dialog #sign-in")
    assert focused(signed_in) == "secret"
    assert page.input_value("dialog [name=key]") == credentials[0]
    signed_in.look("signed-out-meanwhile", whole=False)
    assert signed_in.violations() == []
    page.fill("dialog [name=secret]", credentials[1])
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")
    assert house.client(VIEW_ALL).get(f"{PATH}/gradebook").json()["description"] == "Typed for a long time"


def test_a_client_that_may_only_look_is_told_beside_the_button(visit: Visit, house: House, forwarders: None) -> None:
    visit.sign_in(house.add_client(VIEW_ALL))
    visit.page.wait_for_selector("#rows .row")
    assert visit.page.locator("#new").count() == 0
    visit.go("/forwarders/gradebook/edit")
    visit.field("description").fill("mine")
    visit.page.click("#save")
    playwright.expect(visit.page.locator("#save + .answer.bad")).to_contain_text("may view this forwarder")


# What was typed


def test_leaving_what_is_not_saved_is_asked_about(signed_in: Visit) -> None:
    page = signed_in.page
    page.click("text=Gradebook of Springfield")
    page.click(".tabs >> text=Edit")
    page.wait_for_selector("#form")
    signed_in.field("description").fill("typed")
    playwright.expect(page.locator("#save + .answer")).to_have_text("Not saved yet")
    page.click("text=All forwarders")
    playwright.expect(page.locator("dialog button:has-text('Stay')")).to_be_focused()
    assert signed_in.violations() == []
    page.keyboard.press("Escape")
    playwright.expect(page.locator("dialog")).to_have_count(0)
    assert signed_in.field("description").input_value() == "typed"
    page.go_back()
    page.click("dialog >> text=Stay")
    assert signed_in.field("description").input_value() == "typed"
    assert page.url.endswith("/forwarders/gradebook/edit")
    page.click("text=All forwarders")
    page.click("dialog >> text=Leave >> nth=-1")
    page.wait_for_selector("#rows .row")


def test_a_conflict_shows_both_versions_and_saves_what_is_chosen(signed_in: Visit, house: House) -> None:
    page = signed_in.page
    signed_in.go("/forwarders/gradebook/edit")
    signed_in.field("description").fill("ours")
    signed_in.field("lrs_id").fill("our-store")
    page.click("#requests summary")
    signed_in.field("configuration.timeout").fill("7")
    other = house.client(EDIT_ALL)
    other.patch(
        f"{PATH}/gradebook",
        json={"description": "theirs", "lrs_id": "their-store", "configuration": {"concurrency": 3}},
    )
    page.click("#save")
    playwright.expect(page.locator("#save + .answer.bad")).to_have_text("Not saved: somebody else was faster")
    playwright.expect(page.locator(".conflict")).to_be_focused()
    told = {
        row.locator("th").inner_text(): [text.strip() for text in row.locator("td").all_inner_texts()]
        for row in page.locator(".conflict tbody tr").all()
    }
    assert told == {
        "Description": ["Gradebook of Springfield", "theirs", "ours"],
        "Store": ["empty", "their-store", "our-store"],
        "Seconds an attempt may take": ["empty", "not changed", "7"],
        "Requests at a time": ["empty", "3", "not changed"],
    }
    assert signed_in.field("description").input_value() == "ours"
    assert signed_in.violations() == []
    signed_in.look("conflict-both")
    page.check("[name='keep lrs_id'][value=theirs]")
    page.click("#keep")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")
    playwright.expect(page.locator("#save")).to_be_focused()
    document = other.get(f"{PATH}/gradebook").json()
    assert (document["description"], document["lrs_id"]) == ("ours", "their-store")
    assert document["configuration"]["concurrency"] == 3
    assert document["configuration"]["timeout"] == 7


def test_a_new_form_that_nobody_wrote_in_is_left_without_a_question(signed_in: Visit) -> None:
    signed_in.page.click("#new")
    signed_in.page.wait_for_selector("#form")
    signed_in.page.click(".brand")
    signed_in.page.wait_for_selector("#rows .row")


# The service is gone


def test_a_service_that_is_gone_is_told_and_what_was_typed_is_saved_once_it_is_back(
    browser: Any, house: House, forwarders: None
) -> None:
    credentials = house.add_client(EDIT_ALL)
    context = browser.new_context()
    with served(house.registry) as address:
        visit = Visit(context.new_page(), address)
        visit.go("/")
        visit.sign_in(credentials)
        visit.page.wait_for_selector("#rows .row")
        visit.go("/forwarders/gradebook/edit")
    page = visit.page
    visit.field("description").fill("typed while it was gone")
    page.click("#save")
    playwright.expect(page.locator("#gone")).to_be_visible()
    playwright.expect(page.locator("#save + .answer.bad")).to_contain_text("does not answer")
    assert visit.violations() == []
    visit.look("gone", whole=False)
    port = int(address.rpartition(":")[2])
    with served(house.registry, port=port):
        playwright.expect(page.locator("#gone")).to_be_hidden()
        page.click("#save")
        playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")
    # A view that cannot be read says so, and is shown as soon as it can.
    page.click("text=All forwarders")
    playwright.expect(page.locator("main .empty h2")).to_contain_text("does not answer")
    assert page.evaluate("location.pathname") == "/forwarders"
    with served(house.registry, port=port):
        page.wait_for_selector("#rows .row")
    context.close()
    assert visit.wrong == []


# Keys


def test_everything_is_reached_by_keys_alone(visit: Visit, house: House, forwarders: None) -> None:
    page = visit.page
    key, secret = house.add_client(EDIT_ALL)
    page.keyboard.type(key)
    page.keyboard.press("Tab")
    page.keyboard.type(secret)
    page.keyboard.press("Enter")
    page.wait_for_selector("#rows .row")
    page.keyboard.press("/")
    assert focused(visit) == "Search"
    page.keyboard.type("gradebook")
    playwright.expect(page.locator("#rows .name")).to_have_count(1)
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#rows .name")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert focused(visit) == "Warehouse"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("h1")).to_have_text("Gradebook of Springfield")
    while focused(visit) != "Edit":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#form")
    while focused(visit) != "description":
        page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("By keys")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#save + .answer.good")).to_contain_text("Saved at")


def test_the_focus_is_seen_and_the_content_can_be_skipped_to(signed_in: Visit) -> None:
    page = signed_in.page
    signed_in.go("/forwarders")
    page.keyboard.press("Tab")
    assert focused(signed_in) == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    unseen = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select")].filter((element) => {
            if (!element.checkVisibility()) return false;
            element.focus();
            const [own, after] = [getComputedStyle(element), getComputedStyle(element, "::after")];
            return own.outlineStyle === "none" && after.outlineStyle === "none";
        }).map((element) => element.outerHTML)"""
    )
    assert unseen == []


# How it looks


def test_no_view_breaks_a_rule_of_accessibility(signed_in: Visit) -> None:
    broken = {}
    for name, (path, _) in VIEWS.items():
        signed_in.follow(path)
        for scheme in ("dark", "light"):
            signed_in.page.emulate_media(color_scheme=scheme)
            signed_in.look(f"{name}-{scheme}", whole=False)
        broken[name] = signed_in.violations()
    signed_in.follow("/forwarders/gradebook/edit")
    signed_in.field("query").fill("{")
    signed_in.page.click("#save")
    signed_in.page.wait_for_selector(".fault")
    broken["faults"] = signed_in.violations()
    signed_in.page.click("#sign-out")
    signed_in.page.click("dialog >> text=Leave >> nth=-1")
    signed_in.page.wait_for_selector("#sign-in")
    signed_in.look("sign-in")
    broken["sign-in"] = signed_in.violations()
    assert {name: rules for name, rules in broken.items() if rules} == {}


def test_every_view_fits_a_window_of_375_pixels(signed_in: Visit, house: House) -> None:
    long = "a" * 120
    create(house.client(EDIT_ALL), _id=long, description=long, configuration={"url": f"{long}.example/{long}"})
    page = signed_in.page
    page.set_viewport_size({"width": 375, "height": 720})
    widths = {}
    for name, (path, _) in [*VIEWS.items(), ("long", (f"/forwarders/{long}/overview", ""))]:
        signed_in.follow(path)
        signed_in.look(f"{name}-375", whole=name != "edit")
        widths[name] = page.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in widths.items() if width > 375} == {}


def test_text_of_users_is_text(signed_in: Visit, house: House) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    create(house.client(EDIT_ALL), _id="attack", description=attack, query={"a": attack})
    asked: list[str] = []
    signed_in.page.on("dialog", lambda dialog: asked.append(dialog.message))
    signed_in.go("/forwarders?text=onerror")
    assert signed_in.page.inner_text("#rows .name") == attack
    signed_in.go("/forwarders/attack/overview")
    assert signed_in.page.inner_text("h1") == attack
    assert signed_in.page.locator("main img, main script").count() == 0
    # Even a script of the page's own cannot make markup of text.
    refused = signed_in.page.evaluate(
        "(() => { try { document.body.innerHTML = '<p>'; return 'done' } catch (error) { return error.name } })()"
    )
    assert refused == "TypeError"
    assert "TrustedHTML" in signed_in.wrong.pop()
    assert asked == []


def test_the_page_asks_nobody_else_for_anything(browser: Any, house: House, forwarders: None) -> None:
    with served(house.registry) as address:
        context = browser.new_context()
        visit = Visit(context.new_page(), address)
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.go("/")
        visit.sign_in(house.add_client(EDIT_ALL))
        visit.page.wait_for_selector("#rows .row")
        context.close()
    assert {re.sub(r"^(https?://[^/]+).*", r"\1", url) for url in asked} == {address}
