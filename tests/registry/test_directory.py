"""The page's list of forwarders: search, filters, order and pages."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.access import EDIT_ALL, VIEW_PUBLIC
from registry.console.forwarders import PATH
from registry.directory import MOST, Directory, Known, Order, Wish
from registry.rest import PATH as REST
from registry.stores.base import Snapshot, StoredDocument
from tests.support.activity import sessions
from tests.support.laboratory.http_fault_server import Answer
from tests.support.receiver import Receiver
from tests.support.registry_house import ORGANISATION, House, create
from tests.support.workshop import Workshop


def names(client: TestClient, **parameters: Any) -> list[str]:
    """The names on a page of the list, which `parameters` ask for."""
    answer = client.get(PATH, params=parameters)
    assert answer.status_code == 200, answer.text
    return [forwarder["name"] for forwarder in answer.json()["forwarders"]]


def test_an_item_says_what_the_list_shows(editor: TestClient) -> None:
    document = create(editor, description="Gradebook", query={"kind": "score"}, configuration={"url": "a.example/in"})
    (item,) = editor.get(PATH).json()["forwarders"]
    assert item == {
        "id": document["_id"],
        "name": "Gradebook",
        "active": True,
        "target": "https",
        "address": "a.example/in",
        "query": '{"kind": "score"}',
        "updated_at": document["updatedAt"],
        "may_edit": True,
        "problem": None,
        "health": {"state": "quiet"},
        "last": None,
    }


def test_text_is_words_that_all_occur_in_name_id_target_or_query(editor: TestClient) -> None:
    create(editor, _id="one", description="Gradebook of Springfield", configuration={"url": "hooks.example/in"})
    create(editor, _id="two", description="Analytics", query='{"kind": "score"}')
    create(
        editor,
        _id="three",
        description="Warehouse",
        active=False,
        configuration={"protocol": "Kinesis"},
        kinesisOptions={"streamName": "Session-Records"},
    )
    assert names(editor, text="springfield GRADE") == ["Gradebook of Springfield"]
    assert names(editor, text="springfield analytics") == []
    assert names(editor, text="hooks.example") == ["Gradebook of Springfield"]
    assert names(editor, text='"kind": "score"') == ["Analytics"]
    assert names(editor, text="TWO") == ["Analytics"]
    assert names(editor, text="session-records") == ["Warehouse"]
    assert names(editor, text="firehose") == ["Warehouse"]
    assert len(names(editor, text=" ")) == 3


def test_text_that_begins_with_a_brace_is_a_mongodb_query(editor: TestClient) -> None:
    create(editor, description="on")
    create(editor, description="off", active=False)
    assert names(editor, text='{"active": false}') == ["off"]
    refused = editor.get(PATH, params={"text": '{"active": '})
    assert refused.status_code == 400
    assert refused.json()["faults"][0]["field"] == "text"


def test_a_forwarder_without_a_name_is_shown_by_its_id(editor: TestClient) -> None:
    create(editor, _id="plain")
    create(editor, _id="odd", description={"en": "An object"})
    create(editor, _id="blank", description=" ")
    assert sorted(names(editor)) == ["blank", "odd", "plain"]


def test_secrets_are_neither_shown_nor_found(editor: TestClient) -> None:
    create(editor, configuration={"url": "a.example/in?token=hunter", "authType": "token", "secret": "t0p-s3cret"})
    text = editor.get(PATH).text
    assert "hunter" not in text
    assert "t0p-s3cret" not in text
    assert names(editor, text="hunter") == []
    assert names(editor, text="t0p-s3cret") == []


def test_a_client_sees_what_its_scopes_and_organisation_allow(house: House, editor: TestClient) -> None:
    create(editor, description="public", isPublic=True)
    create(editor, description="private")
    create(house.client(EDIT_ALL, organisation="other"), description="of others")
    assert sorted(names(editor)) == ["private", "public"]
    viewer = house.client(VIEW_PUBLIC, user="bob")
    answer = viewer.get(PATH).json()
    assert [forwarder["name"] for forwarder in answer["forwarders"]] == ["public"]
    assert (answer["total"], answer["all"], answer["states"]) == (1, 1, {"quiet": 1})
    assert answer["forwarders"][0]["may_edit"] is False
    assert house.client().get(PATH).status_code == 403
    assert house.visitor().get(PATH).status_code == 401


def test_what_fails_is_first_and_filters_count(
    house: House, editor: TestClient, workshop: Workshop, receiver: Receiver
) -> None:
    configuration = {"protocol": "http", "url": receiver.url("in")}
    create(editor, _id="good", description="b good", configuration=configuration)
    create(editor, _id="bad", description="z bad", query='{"kind": "score"}', configuration=configuration)
    create(editor, _id="idle", description="a idle", configuration={"protocol": "https"})
    create(editor, _id="off", description="a off", active=False)
    workshop.write_activity(sessions(2))
    documents = [{"_id": name, "active": True, "query": "", "configuration": configuration} for name in ("good", "bad")]
    documents[1]["configuration"] = {**configuration, "url": receiver.url("gone"), "authType": "token", "secret": "bad"}
    workshop.write_forwarders(*documents)
    receiver.script = lambda arrival: Answer(410 if "authorization" in arrival.headers else 200)
    assert workshop.run() == 3

    answer = editor.get(PATH).json()
    shown = {forwarder["name"]: forwarder for forwarder in answer["forwarders"]}
    assert list(shown) == ["z bad", "a idle", "b good", "a off"]
    assert [item["health"]["state"] for item in shown.values()] == ["failing", "quiet", "ok", "inactive"]
    assert answer["states"] == {"failing": 1, "quiet": 1, "ok": 1, "inactive": 1}
    assert shown["z bad"]["last"]["reason"] == "http_410"
    assert answer["knows_deliveries"]
    assert names(editor, state="failing") == ["z bad"]
    assert names(editor, state="active") == ["z bad", "a idle", "b good"]
    assert names(editor, state="inactive") == ["a off"]
    assert names(editor, state="failing", text="good") == []
    assert names(editor, target="http", state="active") == ["z bad", "b good"]
    assert set(names(editor, sort="-last", limit=2)) == {"z bad", "b good"}
    # The counts are of what text and target leave, so that a filter says what it would show.
    assert editor.get(PATH, params={"target": "http", "state": "failing"}).json()["states"] == {"failing": 1, "ok": 1}


def test_a_document_that_cannot_be_given_back_is_failing_and_says_why(editor: TestClient, sqlite_path: Path) -> None:
    create(editor, _id="broken", description="broken")
    with sqlite3.connect(sqlite_path) as connection:
        connection.execute("UPDATE forwarder SET content = '[]' WHERE id = 'broken'")
    (item,) = editor.get(PATH).json()["forwarders"]
    assert item["health"] == {"state": "failing"}
    assert "no JSON object" in item["problem"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"sort": "owner"}, "sort"),
        ({"state": "broken"}, "state"),
        ({"target": "carrier pigeon"}, "target"),
        ({"after": "x"}, "after"),
        ({"after": "WyJuYW1lIixmYWxzZSwiYSIsImIiXQ"}, "after"),
        ({"limit": 0}, "limit"),
        ({"limit": MOST + 1}, "limit"),
        ({"text": "x" * 2001}, "text"),
    ],
)
def test_parameters_that_cannot_be_used_are_told(editor: TestClient, parameters: dict[str, Any], field: str) -> None:
    answer = editor.get(PATH, params=parameters)
    assert answer.status_code == 400
    assert answer.json()["faults"][0]["field"] == field


ORDERS: list[Order] = ["health", "name", "target", "updated", "last"]
documents = st.lists(
    st.fixed_dictionaries(
        {
            "description": st.sampled_from(["a", "A", "b", "", "ß"]),
            "active": st.booleans(),
            "updatedAt": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
            "configuration": st.fixed_dictionaries(
                {"protocol": st.sampled_from(["http", "https", "Kinesis"]), "url": st.sampled_from(["x", "y"])}
            ),
        }
    ),
    max_size=12,
)


def snapshot_of(contents: list[dict[str, Any]]) -> Snapshot:
    stored = [
        StoredDocument({"_id": f"{number:03}", "organisation": ORGANISATION, **content}, revision="1")
        for number, content in enumerate(contents)
    ]
    return Snapshot("1", stored)


@settings(max_examples=60, deadline=None)
@given(contents=documents, order=st.sampled_from(ORDERS), descends=st.booleans(), limit=st.integers(1, 5))
def test_pages_by_cursor_are_the_list_cut_in_pieces(
    contents: list[dict[str, Any]], order: Order, descends: bool, limit: int
) -> None:
    directory, snapshot = Directory(), snapshot_of(contents)
    wish = Wish(order=order, descends=descends)
    whole = directory.page(snapshot, Known(), wish, limit=MOST)
    assert whole.following is None
    pieces: list[str] = []
    after: str | None = None
    while True:
        page = directory.page(snapshot, Known(), wish, after, limit)
        assert page.total == len(contents)
        pieces += [card.stored.id for card, _ in page.cards]
        after = page.following
        if after is None:
            break
    assert pieces == [card.stored.id for card, _ in whole.cards]
    reverse = directory.page(snapshot, Known(), Wish(order=order, descends=not descends), limit=MOST)
    assert pieces == [card.stored.id for card, _ in reverse.cards][::-1]


@settings(max_examples=40, deadline=None)
@given(contents=documents, order=st.sampled_from(ORDERS), descends=st.booleans(), gone=st.integers(0, 11))
def test_a_cursor_keeps_its_place_while_others_come_and_go(
    contents: list[dict[str, Any]], order: Order, descends: bool, gone: int
) -> None:
    directory, snapshot = Directory(), snapshot_of(contents)
    wish = Wish(order=order, descends=descends)
    first = directory.page(snapshot, Known(), wish, limit=3)
    whole = [card.stored.id for card, _ in directory.page(snapshot, Known(), wish, limit=MOST).cards]
    if first.following is None:
        return
    left = Snapshot("2", [stored for stored in snapshot.documents if stored.id != f"{gone:03}"])
    rest = directory.page(left, Known(), wish, first.following, MOST)
    assert [card.stored.id for card, _ in rest.cards] == [name for name in whole[3:] if name != f"{gone:03}"]


def test_a_change_is_seen_at_once(editor: TestClient) -> None:
    document = create(editor, description="before")
    assert names(editor) == ["before"]
    editor.patch(f"{REST}/{document['_id']}", json={"description": "after"})
    assert names(editor) == ["after"]
    assert names(editor, text="before") == []
    editor.delete(f"{REST}/{document['_id']}")
    assert names(editor) == []
