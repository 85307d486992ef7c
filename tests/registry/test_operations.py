"""The console's own requests: what was changed and by whom, copies, and many forwarders at a time."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.access import DELIVER, EDIT_ALL, EDIT_PUBLIC, VIEW_ALL, VIEW_PUBLIC
from registry.console.operations import PATH as CONSOLE
from registry.rest import PATH
from tests.support.registry_house import House, create, forwarder_body

TOKEN = {"authType": "token", "secret": "hunter2"}


def history(client: TestClient, forwarder_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"{CONSOLE}/forwarders/{forwarder_id}/history")
    assert answer.status_code == 200, answer.text
    edits: list[dict[str, Any]] = answer.json()
    return edits


def secret_of(house: House, forwarder_id: str) -> str:
    document = house.client(EDIT_ALL, DELIVER).get(f"{PATH}/{forwarder_id}", params={"secrets": "full"}).json()
    secret: str = document["configuration"]["secret"]
    return secret


# History


def test_the_history_says_who_changed_what_and_holds_no_secret(house: House, editor: TestClient) -> None:
    other = house.client(EDIT_ALL)
    create(editor, _id="a", configuration=TOKEN)
    other.patch(f"{PATH}/a", json={"description": "Marks", "configuration": {"secret": "hunter3"}})
    edits = history(editor, "a")
    assert [(edit["action"], edit["by"]) for edit in edits] == [("update", "client-1"), ("create", "ann")]
    assert edits[0]["content"]["description"] == "Marks"
    assert "description" not in edits[1]["content"]
    assert edits[0]["at"] >= edits[1]["at"]
    assert "hunter" not in json.dumps(edits)


def test_an_earlier_state_is_restored_whole_with_the_secret_of_now(house: House, editor: TestClient) -> None:
    create(editor, _id="a", configuration=TOKEN, query={"kind": "score"})
    editor.patch(f"{PATH}/a", json={"query": {"kind": "event"}, "more": 1, "configuration": {"secret": "hunter3"}})
    first = history(editor, "a")[-1]["version"]
    answer = editor.post(f"{CONSOLE}/forwarders/a/restore", json={"version": first})
    assert answer.status_code == 200, answer.text
    assert answer.json()["query"] == {"kind": "score"}
    assert "more" not in answer.json()
    assert answer.headers["ETag"] == editor.get(f"{PATH}/a").headers["ETag"]
    assert secret_of(house, "a") == "hunter3"
    assert [edit["action"] for edit in history(editor, "a")] == ["update", "update", "create"]


def test_a_secret_is_not_sent_to_an_earlier_host(editor: TestClient) -> None:
    create(editor, _id="a", configuration={**TOKEN, "url": "old.example/in"})
    moved = {"configuration": {"url": "new.example/in", "secret": "for the new host"}}
    assert editor.patch(f"{PATH}/a", json=moved).status_code == 200
    first = history(editor, "a")[-1]["version"]
    refused = editor.post(f"{CONSOLE}/forwarders/a/restore", json={"version": first})
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["field"] == "configuration.secret"


def test_a_secret_that_is_gone_has_to_be_written(editor: TestClient) -> None:
    create(editor, _id="a", configuration=TOKEN)
    editor.patch(f"{PATH}/a", json={"configuration": {"authType": "no auth", "secret": None}})
    first = history(editor, "a")[-1]["version"]
    refused = editor.post(f"{CONSOLE}/forwarders/a/restore", json={"version": first})
    assert refused.status_code == 422
    assert "write the secret" in refused.json()["faults"][0]["message"]


def test_who_was_faster_is_not_overwritten_by_a_restoration(editor: TestClient) -> None:
    create(editor, _id="a")
    seen = editor.get(f"{PATH}/a").headers["ETag"]
    editor.patch(f"{PATH}/a", json={"description": "faster"})
    first = history(editor, "a")[-1]["version"]
    answer = editor.post(f"{CONSOLE}/forwarders/a/restore", json={"version": first}, headers={"If-Match": seen})
    assert answer.status_code == 412
    assert editor.post(f"{CONSOLE}/forwarders/a/restore", json={"version": "no"}).status_code == 404


def test_a_history_is_for_those_who_may_view_what_it_shows(house: House, editor: TestClient) -> None:
    create(editor, _id="a", description="private so far")
    viewer, stranger = house.client(VIEW_PUBLIC), house.client(EDIT_ALL, organisation="other")
    assert viewer.get(f"{CONSOLE}/forwarders/a/history").status_code == 404
    editor.patch(f"{PATH}/a", json={"isPublic": True, "description": "for all"})
    assert [edit["content"] and edit["content"]["description"] for edit in history(viewer, "a")] == ["for all", None]
    first = history(editor, "a")[-1]["version"]
    assert viewer.post(f"{CONSOLE}/forwarders/a/restore", json={"version": first}).status_code == 404
    assert house.client(VIEW_ALL).post(f"{CONSOLE}/forwarders/a/restore", json={"version": first}).status_code == 403
    assert stranger.get(f"{CONSOLE}/forwarders/a/history").status_code == 404


# New ones, copies, and many at a time


def test_what_is_made_on_the_page_is_judged_as_active_and_is_not(editor: TestClient) -> None:
    refused = editor.post(f"{CONSOLE}/forwarders", json={"configuration": {"protocol": "https"}})
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["field"] == "configuration.url"
    made = editor.post(f"{CONSOLE}/forwarders", json=forwarder_body())
    assert made.status_code == 201
    assert made.json()["active"] is False
    assert made.headers["ETag"] == editor.get(f"{PATH}/{made.json()['_id']}").headers["ETag"]


def test_a_copy_is_not_active_and_has_the_secrets(house: House, editor: TestClient) -> None:
    create(editor, _id="a", description="Marks", configuration=TOKEN)
    answer = editor.post(f"{CONSOLE}/forwarders/a/duplicate", json={})
    assert answer.status_code == 201, answer.text
    copy = answer.json()
    assert copy["_id"] != "a"
    assert (copy["description"], copy["active"]) == ("Copy of Marks", False)
    assert copy["configuration"]["secret"] == "[redacted]"
    assert secret_of(house, copy["_id"]) == "hunter2"
    # The copy is no way to have the secret sent elsewhere.
    moved = editor.patch(f"{PATH}/{copy['_id']}", json={"configuration": {"url": "mine.example/in"}})
    assert moved.status_code == 422
    assert house.client(VIEW_ALL).post(f"{CONSOLE}/forwarders/a/duplicate", json={}).status_code == 403


def test_of_many_each_is_changed_by_itself(house: House, editor: TestClient) -> None:
    for name in ("a", "b"):
        create(editor, _id=name)
    house.client(EDIT_ALL, organisation="other").post(PATH, json=forwarder_body(_id="theirs"))
    body = {"action": "disable", "ids": ["a", "theirs", "b", "a", "none"]}
    answer = editor.post(f"{CONSOLE}/forwarders/bulk", json=body).json()
    assert [(result["_id"], result["status"]) for result in answer["results"]] == [
        ("a", 200),
        ("theirs", 404),
        ("b", 200),
        ("none", 404),
    ]
    assert (answer["done"], answer["refused"]) == (2, 2)
    assert [editor.get(f"{PATH}/{name}").json()["active"] for name in ("a", "b")] == [False, False]
    assert editor.post(f"{CONSOLE}/forwarders/bulk", json={"action": "enable", "ids": ["a"]}).json()["done"] == 1
    assert editor.get(f"{PATH}/a").json()["active"] is True
    assert editor.post(f"{CONSOLE}/forwarders/bulk", json={"action": "delete", "ids": ["b"]}).json()["done"] == 1
    assert editor.get(f"{PATH}/b").status_code == 404
    viewer = house.client(VIEW_ALL)
    refused = viewer.post(f"{CONSOLE}/forwarders/bulk", json={"action": "disable", "ids": ["a"]}).json()
    assert refused["results"][0]["status"] == 403


def test_a_forwarder_that_is_faulty_is_not_enabled(editor: TestClient) -> None:
    create(editor, _id="a", active=False, configuration={"url": None})
    (result,) = editor.post(f"{CONSOLE}/forwarders/bulk", json={"action": "enable", "ids": ["a"]}).json()["results"]
    assert result["status"] == 422
    assert result["faults"][0]["field"] == "configuration.url"


def test_what_is_imported_is_not_active(editor: TestClient) -> None:
    create(editor, _id="a", description="here")
    exported = editor.get(f"{PATH}/a").json()
    sent = [exported, forwarder_body(_id="b", configuration=TOKEN), {"_id": "c", "active": True, "query": 1}, 5]
    answer = editor.post(f"{CONSOLE}/forwarders/import", json={"forwarders": sent}).json()
    assert [result["status"] for result in answer["results"]][:2] == [409, 201]
    assert (answer["done"], answer["results"][3]["status"]) == (answer["done"], 422)
    made = editor.get(f"{PATH}/b").json()
    assert (made["active"], made["configuration"]["secret"]) == (False, "[redacted]")
    again = editor.post(f"{CONSOLE}/forwarders/import", json={"forwarders": [exported], "new_ids": True}).json()
    assert again["done"] == 1
    copy = editor.get(f"{PATH}/{again['results'][0]['_id']}").json()
    assert (copy["description"], copy["active"]) == ("here", False)


def test_a_copied_redaction_is_no_secret(editor: TestClient) -> None:
    create(editor, _id="a", configuration=TOKEN)
    exported = editor.get(f"{PATH}/a").json()
    answer = editor.post(f"{CONSOLE}/forwarders/import", json={"forwarders": [exported], "new_ids": True}).json()
    assert answer["results"][0]["status"] == 422
    assert "write the secret" in answer["results"][0]["faults"][0]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bulk", {"action": "burn", "ids": []}),
        ("bulk", {"action": "delete"}),
        ("bulk", {"action": "delete", "ids": ["a"] * 1001}),
        ("import", {"forwarders": {}}),
        ("import", {"forwarders": [{}] * 1001}),
    ],
)
def test_what_cannot_be_read_changes_nothing(editor: TestClient, path: str, body: object) -> None:
    create(editor, _id="a")
    assert editor.post(f"{CONSOLE}/forwarders/{path}", json=body).status_code == 400
    assert editor.get(f"{PATH}/a").status_code == 200


def test_a_client_of_public_forwarders_copies_no_others(house: House, editor: TestClient) -> None:
    create(editor, _id="a")
    create(editor, _id="b", isPublic=True)
    client = house.client(EDIT_PUBLIC)
    assert client.post(f"{CONSOLE}/forwarders/a/duplicate", json={}).status_code == 404
    assert client.post(f"{CONSOLE}/forwarders/b/duplicate", json={}).status_code == 201
