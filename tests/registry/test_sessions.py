"""Signing in on the page: the cookie, what ends it, and who may use it."""

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, EDIT_ALL, VIEW_ALL
from registry.console.session import PATH as SESSION
from registry.rest import PATH
from registry.sessions import LONGEST
from registry.stores.base import Store, StoreFullError
from tests.support.registry_house import ORGANISATION, House, create, forwarder_body

HERE = {"Origin": "http://service"}
"""What a browser says of a request that this service's own page makes, over plain HTTP."""


def signed_in(
    house: House, *scopes: str, user: str | None = None, base_url: str = "http://service"
) -> tuple[TestClient, str]:
    """A browser in which somebody has signed in, and the key that they did it with."""
    key, secret = house.add_client(*scopes, user=user)
    browser = house.visitor(base_url=base_url)
    browser.headers["Origin"] = base_url
    answer = browser.post(SESSION, json={"key": key, "secret": secret})
    assert answer.status_code == 201, answer.text
    return browser, key


def later(house: House, time: timedelta) -> None:
    house.service.now.time += time  # type: ignore[attr-defined]


def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_do_not_get(house: House) -> None:
    key, secret = house.add_client(EDIT_ALL)
    over_http = house.visitor().post(SESSION, json={"key": key, "secret": secret}, headers=HERE)
    cookie = over_http.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    visitor = house.visitor(base_url="https://service")
    over_tls = visitor.post(SESSION, json={"key": key, "secret": secret}, headers={"Sec-Fetch-Site": "same-origin"})
    cookie = over_tls.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Secure"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert "Expires" not in cookie
    assert "Max-Age" not in cookie


def test_who_has_signed_in_is_told_by_name(house: House) -> None:
    browser, key = signed_in(house, EDIT_ALL, user="ann")
    assert browser.get(SESSION).json() == {
        "client": key,
        "user": "ann",
        "name": "ann",
        "organisation": {"id": ORGANISATION, "name": ORGANISATION},
        "may_create": True,
    }
    house.store.name_organisation(ORGANISATION, "Springfield School District")
    assert browser.get(SESSION).json()["organisation"]["name"] == "Springfield School District"


def test_a_session_sees_and_changes_what_its_client_does(house: House) -> None:
    browser, _ = signed_in(house, VIEW_ALL, user="ann")
    theirs = create(house.client(EDIT_ALL, user="bob"), description="theirs")
    assert browser.get(PATH).json()[0]["description"] == "theirs"
    assert browser.patch(f"{PATH}/{theirs['_id']}", json={"description": "mine"}).status_code == 403
    own = browser.post(PATH, json=forwarder_body(description="own"))
    assert own.status_code == 201
    assert own.json()["owner"] == "ann"


def test_a_session_reads_no_secrets_even_if_its_client_may(house: House) -> None:
    browser, _ = signed_in(house, ALL, DELIVER)
    document = create(house.client(EDIT_ALL), configuration={"authType": "token", "secret": "t0p"})
    answer = browser.get(f"{PATH}/{document['_id']}", params={"secrets": "full"})
    assert answer.status_code == 403
    assert "t0p" not in answer.text


def test_a_session_ends_when_somebody_signs_out_everywhere_it_was_copied_to(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    token = browser.cookies["forwarders"]
    answer = browser.delete(SESSION)
    assert answer.status_code == 204
    assert "forwarders" not in browser.cookies
    copied = house.visitor()
    copied.cookies["forwarders"] = token
    assert copied.get(PATH).status_code == 401
    # To sign out twice is no mistake.
    assert browser.delete(SESSION).status_code == 204


def test_a_session_ends_after_idle_time_and_is_kept_by_use(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    for _ in range(3):
        later(house, timedelta(minutes=110))
        assert browser.get(PATH).status_code == 200
    later(house, timedelta(minutes=121))
    assert browser.get(PATH).status_code == 401


def test_a_session_ends_after_a_day_however_much_it_is_used(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    for _ in range(int(LONGEST / timedelta(hours=1)) - 1):
        later(house, timedelta(hours=1))
        assert browser.get(PATH).status_code == 200
    later(house, timedelta(hours=1, minutes=1))
    assert browser.get(PATH).status_code == 401


def test_a_session_ends_when_its_client_is_removed(house: House) -> None:
    browser, key = signed_in(house, EDIT_ALL)
    assert browser.get(PATH).status_code == 200
    assert house.store.remove_client(key)
    assert browser.get(PATH).status_code == 401


def test_signing_in_anew_ends_the_session_before_and_old_ones_are_forgotten(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    first = browser.cookies["forwarders"]
    key, secret = house.add_client(EDIT_ALL)
    assert browser.post(SESSION, json={"key": key, "secret": secret}).status_code == 201
    copied = house.visitor()
    copied.cookies["forwarders"] = first
    assert copied.get(PATH).status_code == 401
    assert browser.get(SESSION).json()["client"] == key


def test_the_store_keeps_no_token(house: House, sqlite_path: Path) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    token = browser.cookies["forwarders"].encode()
    kept = b"".join(path.read_bytes() for path in sqlite_path.parent.glob("forwarders.db*"))
    assert b"session" in kept
    assert token not in kept


@pytest.mark.parametrize("body", [{}, {"key": 1, "secret": "x"}, {"key": "x"}, {"key": None, "secret": None}])
def test_a_body_without_key_and_secret_is_told_so(house: House, body: dict[str, object]) -> None:
    answer = house.visitor().post(SESSION, json=body, headers=HERE)
    assert answer.status_code == 400
    assert answer.json()["message"] == "the body names no key and secret: two texts"


def test_failed_attempts_to_sign_in_count_as_failed_logins(house: House) -> None:
    key, secret = house.add_client(EDIT_ALL)
    visitor = house.visitor()
    for _ in range(5):
        assert visitor.post(SESSION, json={"key": key, "secret": "x"}, headers=HERE).status_code == 401
        assert visitor.get(PATH, auth=(key, "x")).status_code == 401
    refused = visitor.post(SESSION, json={"key": key, "secret": secret}, headers=HERE)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60


SITES = [
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "same-site", "Origin": "http://service"}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Origin": "http://other.example"}, False),
    ({"Origin": "http://service.other.example"}, False),
    ({"Origin": "http://service:8081"}, False),
    ({"Origin": "null"}, False),
    ({}, False),
    ({"Origin": "http://service"}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
]
"""What a browser says of where a request comes from, and whether it may change something by cookie."""


@pytest.mark.parametrize(("headers", "is_ours"), SITES)
def test_no_other_site_changes_anything_through_somebodys_browser(
    house: House, headers: dict[str, str], is_ours: bool
) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    document = create(house.client(EDIT_ALL), description="as it was")
    place = f"{PATH}/{document['_id']}"
    del browser.headers["Origin"]
    asked = [
        browser.patch(place, json={"description": "another"}, headers=headers),
        browser.post(PATH, json=forwarder_body(), headers=headers),
        browser.delete(place, headers=headers),
        browser.delete(SESSION, headers=headers),
    ]
    assert [answer.status_code < 300 for answer in asked] == [is_ours] * 4, [answer.text for answer in asked]
    documents = house.client(VIEW_ALL).get(PATH).json()
    assert (document in documents) is not is_ours


@pytest.mark.parametrize(("headers", "is_ours"), [site for site in SITES if site[0]])
def test_no_other_site_signs_anybody_in(house: House, headers: dict[str, str], is_ours: bool) -> None:
    key, secret = house.add_client(EDIT_ALL)
    answer = house.visitor().post(SESSION, json={"key": key, "secret": secret}, headers=headers)
    assert (answer.status_code == 201) is is_ours
    assert ("Set-Cookie" in answer.headers) is is_ours


def test_no_other_site_reads_through_somebodys_browser(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    del browser.headers["Origin"]
    assert browser.get(PATH, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert browser.get(PATH, headers={"Sec-Fetch-Site": "none"}).status_code == 200


def test_forms_of_other_sites_are_refused_by_their_type(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    answer = browser.post(PATH, content=b'{"active": true}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_basic_auth_counts_before_a_cookie_and_needs_no_origin(house: House) -> None:
    browser, _ = signed_in(house, EDIT_ALL)
    assert browser.get(PATH, auth=("nobody", "x")).status_code == 401
    assert create(house.client(EDIT_ALL))["_id"]


def test_a_browser_asks_for_no_password_of_its_own_over_the_page(house: House) -> None:
    visitor = house.visitor()
    assert "WWW-Authenticate" in visitor.get(PATH).headers
    refused = visitor.get(PATH, headers={"X-Requested-With": "XMLHttpRequest"})
    assert refused.status_code == 401
    assert "WWW-Authenticate" not in refused.headers


def test_with_a_store_that_is_full_what_is_there_can_be_looked_at(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, _ = signed_in(house, EDIT_ALL)

    def full(store: Store, *given: object) -> None:
        raise StoreFullError("there is no room")

    monkeypatch.setattr(type(house.store), "touch_session", full)
    monkeypatch.setattr(type(house.store), "add_session", full)
    later(house, timedelta(minutes=30))
    assert browser.get(PATH).status_code == 200
    key, secret = house.add_client(EDIT_ALL)
    assert house.visitor().post(SESSION, json={"key": key, "secret": secret}, headers=HERE).status_code == 503


@pytest.mark.parametrize("path", ["/", "/sign-in", "/forwarders", "/forwarders/x/edit", "/tester", "/jobs/1"])
def test_the_page_is_framed_by_nobody_and_runs_its_own_scripts_only(house: House, path: str) -> None:
    answer = house.visitor().get(path)
    assert answer.status_code == 200
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_files_of_the_page_are_kept_until_they_change(house: House) -> None:
    visitor = house.visitor()
    script = visitor.get("/page/app.js")
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert script.headers["Cache-Control"] == "no-cache"
    again = visitor.get("/page/app.js", headers={"If-None-Match": script.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert visitor.get("/page/views/forwarders.js").status_code == 200
    for other in ("/page/page.html", "/page/../pages.py", "/page/%2e%2e/pages.py", "/page/none.js", "/page/"):
        assert visitor.get(other).status_code == 404
