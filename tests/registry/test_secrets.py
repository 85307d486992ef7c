"""Secrets: redacted on every answer, kept when the redaction is written back, sealed at rest, shown to the job."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.access import ALL, DELIVER, VIEW_ALL
from registry.connection import PATH as CONNECTION
from registry.keyring import Keyring, KeyringError, new_key, read_keyring
from registry.rest import PATH
from registry.stores.base import Store, reseal, whole
from tests.support.registry_house import KEY, House, create, forwarder_body
from transforms.forwarders.secrets import REDACTED

SIGNING = ["whsec_c2VjcmV0LW9uZQ==", "whsec_c2VjcmV0LXR3bw=="]
HIDDEN = ("hunter-token", "hunter-header", "hunter-query", *SIGNING, "hunter-key", "hunter-secret", "hunter-typo")
FULL: dict[str, Any] = {
    "_id": "gradebook",
    "active": True,
    "query": "{}",
    "configuration": {
        "protocol": "https",
        "url": "receiver.example/records?token=hunter-query&empty=",
        "authType": "token",
        "secret": "hunter-token",
        "headers": '{"X-Key":"hunter-header","X-Empty":""}',
        "signingSecret": SIGNING,
        "secert": "hunter-typo",
    },
    "kinesisOptions": {
        "streamName": "s",
        "awsRegion": "eu-west-1",
        "awsClientKey": "hunter-key",
        "awsClientSecret": "hunter-secret",
    },
}
SHOWN_CONFIGURATION = {
    **FULL["configuration"],
    "url": f"receiver.example/records?token={REDACTED}&empty=",
    "secret": REDACTED,
    "headers": f'{{"X-Key":"{REDACTED}","X-Empty":""}}',
    "signingSecret": [REDACTED, REDACTED],
    "secert": REDACTED,
}


@pytest.fixture
def stored(editor: TestClient) -> dict[str, Any]:
    return create_full(editor)


def create_full(editor: TestClient) -> dict[str, Any]:
    answer = editor.post(PATH, json=FULL)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def full(deliverer: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = deliverer.get(f"{PATH}/gradebook", params={"secrets": "full"}).json()
    return document


def test_no_answer_holds_a_secret(editor: TestClient, deliverer: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one = f"{PATH}/gradebook"
    answers = [
        editor.post(PATH, json=FULL),
        editor.post(PATH, json=FULL),
        editor.post(PATH, json={**FULL, "_id": "faulty", "query": 1, "configuration": {**FULL["configuration"],
                                "authType": "basic auth", "basicPassword": "hunter-token\n"}}),
        *(editor.request(method, one, json={"description": method}) for method in ("PUT", "POST", "PATCH")),
        editor.patch(one, json={"configuration": {"maxRetries": 99}}),
        *(client.get(path) for client in (editor, deliverer) for path in (PATH, one, CONNECTION, f"{PATH}/count")),
        editor.get(PATH, params={"select": "configuration", "sort": "configuration.secret"}),
        editor.get(CONNECTION, params={"sort": "configuration.secret,configuration.url,configuration.headers"}),
        editor.post(f"{PATH}/match", json={"event": "session-started", "user_id": "u", "session_id": "s",
                                           "activity_id": "a", "time": "2020-02-17 15:03:23"}),
        editor.post(f"{one}/test", json={}),
    ]  # fmt: skip
    assert answers[0].json()["configuration"] == SHOWN_CONFIGURATION
    for answer in answers:
        text = answer.text + str(answer.headers)
        assert not [secret for secret in HIDDEN if secret in text], (answer.request.method, answer.request.url)
    assert not [secret for secret in HIDDEN if secret in caplog.text]


@pytest.mark.parametrize(
    ("path", "secret"),
    [("configuration.secret", "hunter-token"), ("configuration.url", "hunter-query"),
     ("kinesisOptions.awsClientSecret", "hunter-secret")],
)  # fmt: skip
def test_a_filter_cannot_find_a_secret_out(editor: TestClient, stored: dict[str, Any], path: str, secret: str) -> None:
    def count(query: Any) -> int:
        number: int = editor.get(f"{PATH}/count", params={"query": json.dumps(query)}).json()["count"]
        return number

    assert count({path: {"$regex": secret}}) == 0
    assert count({path: {"$regex": "redacted"}}) == 1


def test_writing_the_redaction_back_keeps_the_secrets(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any]
) -> None:
    before = full(deliverer)
    assert before["configuration"] == FULL["configuration"]
    answer = editor.put(f"{PATH}/gradebook", json={**stored, "description": "edited"})
    assert answer.status_code == 200
    assert answer.json()["configuration"] == SHOWN_CONFIGURATION
    after = full(deliverer)
    assert after["description"] == "edited"
    assert after["configuration"] == FULL["configuration"]
    assert after["kinesisOptions"] == FULL["kinesisOptions"]


def test_a_change_that_does_not_name_a_secret_keeps_it(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any]
) -> None:
    editor.patch(f"{PATH}/gradebook", json={"configuration": {"maxRetries": 2}})
    assert full(deliverer)["configuration"] == {**FULL["configuration"], "maxRetries": 2}


def test_secrets_are_replaced_one_by_one_the_others_stay(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any]
) -> None:
    changes = {
        "url": f"receiver.example/new?more=1&token={REDACTED}",
        "headers": json.dumps({"X-New": "v", "x-key": REDACTED}),
        "secret": "another",
        "signingSecret": [SIGNING[1], REDACTED],
    }
    assert editor.patch(f"{PATH}/gradebook", json={"configuration": changes}).status_code == 200
    configuration = full(deliverer)["configuration"]
    assert configuration["url"] == "receiver.example/new?more=1&token=hunter-query"
    assert json.loads(configuration["headers"]) == {"X-New": "v", "x-key": "hunter-header"}
    assert configuration["secret"] == "another"
    assert configuration["signingSecret"] == [SIGNING[1], SIGNING[1]]


KEPT = ["configuration.url", "configuration.secret", "configuration.headers", "configuration.signingSecret.0",
        "configuration.signingSecret.1", "configuration.secert"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"url": f"mine.example/records?token={REDACTED}&empty="}, KEPT),
        ({"url": "receiver.example:8443/records"}, KEPT[1:]),
        ({"url": "receiver.example.mine.example/records"}, KEPT[1:]),
        ({"protocol": "http"}, KEPT),
        ({"protocol": None}, KEPT),
        ({"url": "mine.example", "secret": "theirs", "headers": None, "signingSecret": None}, ["configuration.secert"]),
    ],
)
def test_a_secret_is_not_kept_for_another_host(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any], change: dict[str, Any], fields: list[str]
) -> None:
    answer = editor.patch(f"{PATH}/gradebook", json={"configuration": change})
    assert answer.status_code == 422
    faults = answer.json()["faults"]
    assert sorted(fault["field"] for fault in faults) == sorted(fields)
    assert all("write the secret anew" in fault["message"] for fault in faults)
    assert full(deliverer)["configuration"] == FULL["configuration"]


def test_with_its_secrets_written_anew_a_forwarder_may_send_elsewhere(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any]
) -> None:
    changes = {
        "url": "other.example/records",
        "secret": "another",
        "headers": None,
        "signingSecret": None,
        "secert": None,
    }
    assert editor.patch(f"{PATH}/gradebook", json={"configuration": changes}).status_code == 200
    assert full(deliverer)["configuration"]["secret"] == "another"
    # What Amazon gets does not go by the url.
    assert full(deliverer)["kinesisOptions"] == FULL["kinesisOptions"]


def test_a_clients_secret_is_kept_for_its_token_endpoint_alone(editor: TestClient, deliverer: TestClient) -> None:
    configuration = {
        "url": "receiver.example",
        "authType": "oauth2",
        "tokenUrl": "https://login.example/token?key=hunter",
        "clientId": "us",
        "clientSecret": "hunter-secret",
    }
    one = f"{PATH}/gradebook"
    answer = editor.post(PATH, json={"_id": "gradebook", "active": True, "query": "{}", "configuration": configuration})
    shown = answer.json()["configuration"]
    assert (shown["tokenUrl"], shown["clientSecret"]) == (f"https://login.example/token?key={REDACTED}", REDACTED)
    for elsewhere in ("https://mine.example/token", "http://login.example/token", "https://login.example:8443/token"):
        refused = editor.patch(one, json={"configuration": {"tokenUrl": elsewhere}})
        assert [fault["field"] for fault in refused.json()["faults"]] == ["configuration.clientSecret"]
    assert editor.patch(one, json={"active": False, "configuration": {"tokenUrl": None}}).status_code == 200
    refused = editor.patch(one, json={"active": True, "configuration": {"tokenUrl": "https://mine.example/token"}})
    assert refused.status_code == 422
    back = {"tokenUrl": "https://login.example/other", "clientSecret": "hunter-2"}
    assert editor.patch(one, json={"active": True, "configuration": back}).status_code == 200
    assert full(deliverer)["configuration"]["clientSecret"] == "hunter-2"


def test_a_secret_gets_to_another_host_by_no_detour(
    editor: TestClient, deliverer: TestClient, stored: dict[str, Any]
) -> None:
    for detour, back in (
        ({"active": False, "configuration": {"url": None}}, {"url": "mine.example"}),
        ({"active": True, "configuration": {"protocol": "Kinesis", "url": "mine.example"}}, {"protocol": "https"}),
    ):
        assert editor.patch(f"{PATH}/gradebook", json=detour).status_code == 200
        answer = editor.patch(f"{PATH}/gradebook", json={"configuration": back})
        assert answer.status_code == 422
        assert "configuration.secret" in [fault["field"] for fault in answer.json()["faults"]]
        assert full(deliverer)["configuration"]["secret"] == "hunter-token"


def test_the_same_host_may_be_written_in_another_way(editor: TestClient, stored: dict[str, Any]) -> None:
    for url in ("RECEIVER.example:443/other", "receiver.example"):
        assert editor.patch(f"{PATH}/gradebook", json={"configuration": {"url": url}}).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"configuration": {"basicPassword": REDACTED}}, "configuration.basicPassword"),
        ({"configuration": {"url": f"receiver.example/?other={REDACTED}"}}, "configuration.url"),
        ({"configuration": {"headers": json.dumps({"X-Other": REDACTED})}}, "configuration.headers.X-Other"),
        ({"configuration": {"signingSecret": [REDACTED]}}, "configuration.signingSecret[0]"),
        ({"active": False, "configuration": {"basicPassword": "***"}}, "configuration.basicPassword"),
    ],
)
def test_a_redaction_of_nothing_is_refused(
    editor: TestClient, stored: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = editor.patch(f"{PATH}/gradebook", json=change)
    assert answer.status_code == 422
    assert field in [fault["field"] for fault in answer.json()["faults"]]


def test_a_secret_can_be_taken_away(editor: TestClient, deliverer: TestClient, stored: dict[str, Any]) -> None:
    editor.patch(f"{PATH}/gradebook", json={"configuration": {"authType": "no auth", "secret": None}})
    assert "secret" not in full(deliverer)["configuration"]


# Who may read them


def test_secrets_are_for_the_deliver_scope_alone(house: House, stored: dict[str, Any]) -> None:
    for scopes in ((ALL,), (VIEW_ALL,)):
        for path in (PATH, f"{PATH}/gradebook"):
            assert house.client(*scopes).get(path, params={"secrets": "full"}).status_code == 403
    job = house.client(VIEW_ALL, DELIVER)
    assert job.get(PATH, params={"secrets": "full"}).json()[0]["configuration"] == FULL["configuration"]
    assert job.get(PATH).json()[0]["configuration"] == SHOWN_CONFIGURATION


def test_secrets_are_shown_over_tls_or_loopback_only(house: House, stored: dict[str, Any]) -> None:
    def status(address: str, base_url: str = "http://service", **headers: str) -> int:
        client = house.client(ALL, DELIVER, address=address, base_url=base_url)
        return client.get(PATH, params={"secrets": "full"}, headers=headers).status_code

    assert status("127.0.0.1") == 200
    assert status("::1") == 200
    assert status("10.0.0.7") == 403
    assert status("10.0.0.7", "https://service") == 200
    # Through a proxy on this machine, which nobody named, everybody comes from loopback.
    assert status("127.0.0.1", **{"X-Forwarded-For": "10.0.0.7"}) == 403
    assert status("10.0.0.7", **{"X-Forwarded-Proto": "https"}) == 403


# Fields that nobody knows


SECRET_NAMES = [
    "awsClientKey", "aws_client_key", "AWSCLIENTKEY", "awsClientSecret", "accessKey", "access_key_id", "AccessKeyID",
    "ACCESS-KEY", "apiKey", "api_key", "x-api-key", "pwd", "PWD", "dbPwd", "password", "passwort", "Passwd", "db_pass",
    "userPass", "passphrase", "secret", "clientSecret", "token", "refresh_token", "credentials", "auth",
    "authorization", "basicAuth", "oauth", "private_key", "PrivateKey", "signingKey", "key", "sessionCookie", "jwt",
    "pin", "userPIN", "otp", "bearer", "hmac", "connectionString", "sas", "headers",
]  # fmt: skip
PLAIN_NAMES = [
    "label",
    "author",
    "authority",
    "note",
    "keyboard",
    "Labels",
    "compartment",
    "spinner",
    "passage",
    "pint",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_is_known_by_its_name_at_any_depth(
    editor: TestClient, deliverer: TestClient, sqlite_path: Path, name: str
) -> None:
    hidden: dict[str, Any] = {
        name: "hunter",
        "extra": {"more": [{name: "hunter"}, {name: 4711}], name: {"any": ["hunter"]}},
        "timezone": {name: "hunter"},
    }
    editor.post(PATH, json={**FULL, **hidden}).raise_for_status()
    one = editor.get(f"{PATH}/gradebook")
    assert "hunter" not in one.text
    assert "4711" not in one.text
    assert not any(b"hunter" in path.read_bytes() for path in sqlite_path.parent.glob("forwarders.db*"))
    # Whoever sends back what was shown keeps it all.
    assert editor.put(f"{PATH}/gradebook", json=one.json()).status_code == 200
    kept = full(deliverer)
    assert {field: kept[field] for field in hidden} == hidden


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_name_that_is_no_secret_is_shown(editor: TestClient, name: str) -> None:
    shown = create(editor, **{name: "plain", "extra": {name: ["plain", 5]}})
    assert (shown[name], shown["extra"]) == ("plain", {name: ["plain", 5]})


def test_urls_and_headers_are_known_by_their_names_too(editor: TestClient) -> None:
    shown = create(
        editor,
        webhookUrl="https://ann:hunter@receiver.example/in?token=hunter",
        config={"HEADERS": '{"X-Key": "hunter"}', "callback_uri": "receiver.example/?a=hunter"},
    )
    assert "hunter" not in json.dumps(shown)
    assert shown["webhookUrl"] == f"https://{REDACTED}@receiver.example/in?token={REDACTED}"
    assert shown["config"]["callback_uri"] == f"receiver.example/?a={REDACTED}"


def test_a_redaction_of_another_element_of_a_list_is_refused(editor: TestClient, deliverer: TestClient) -> None:
    create(editor, _id="gradebook", extra=[{"pwd": "first"}, {"pwd": "second"}])
    answer = editor.patch(f"{PATH}/gradebook", json={"extra": [{"pwd": REDACTED}]})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["faults"]] == ["extra.0.pwd"]
    assert full(deliverer)["extra"] == [{"pwd": "first"}, {"pwd": "second"}]


def test_secrets_that_an_earlier_version_kept_in_the_clear_are_hidden_and_sealed_by_rotate(
    house: House, editor: TestClient, deliverer: TestClient, sqlite_path: Path
) -> None:
    create(editor, _id="gradebook", note="mark")
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        connection.execute("""UPDATE forwarder SET content = replace(content, '"note":"mark"', '"pwd":"hunter"')""")
        connection.execute("INSERT INTO change (id, organisation, action, by, at) VALUES ('gradebook', '', '', '', '')")
    assert editor.get(f"{PATH}/gradebook").json()["pwd"] == REDACTED
    assert full(deliverer)["pwd"] == "hunter"
    assert reseal(house.store, house.service.keyring, "test") == 1
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert "hunter" not in connection.execute("SELECT content FROM forwarder").fetchone()[0]
    assert full(deliverer)["pwd"] == "hunter"


# At rest


def test_no_secret_is_in_the_stores_files(editor: TestClient, stored: dict[str, Any], sqlite_path: Path) -> None:
    files = [path.read_bytes() for path in sqlite_path.parent.glob("forwarders.db*")]
    assert any(b"gradebook" in content for content in files)
    assert not [secret for secret in HIDDEN if any(secret.encode() in content for content in files)]
    assert sqlite_path.stat().st_mode & 0o077 == 0


def whole_documents(store: Store, keyring: Keyring) -> list[dict[str, Any]]:
    return [whole(stored, keyring) for stored in store.snapshot(None).documents]


def test_keys_are_rotated(house: House, editor: TestClient, stored: dict[str, Any]) -> None:
    new = b"n" * 32
    create(editor, _id="without-secrets")
    assert reseal(house.store, Keyring([new, KEY]), "test") == 1
    assert reseal(house.store, Keyring([new, KEY]), "test") == 0
    contents = {content["_id"]: content for content in whole_documents(house.store, Keyring([new]))}
    assert contents["gradebook"]["configuration"] == FULL["configuration"]
    with pytest.raises(KeyringError, match="not given: set REGISTRY_KEYS"):
        whole_documents(house.store, Keyring([KEY]))


def test_sealed_secrets_cannot_be_moved_to_another_document_nor_altered() -> None:
    keyring = Keyring([KEY])
    sealed = keyring.seal("hunter", "mine")
    assert keyring.open(sealed, "mine") == "hunter"
    with pytest.raises(KeyringError, match="do not open"):
        keyring.open(sealed, "yours")
    with pytest.raises(KeyringError, match="do not open"):
        keyring.open(sealed[:-6] + "AAAAA=", "mine")
    assert "hunter" not in repr(keyring) + sealed


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    sealed = read_keyring({"REGISTRY_KEYS": old}).seal("text", "id")
    file = tmp_path / "keys"
    file.write_text(f"{new}\n{old}\n")
    assert read_keyring({"REGISTRY_KEY_FILE": str(file)}).open(sealed, "id") == "text"
    assert not read_keyring({})
    for environment, said in (
        ({"REGISTRY_KEYS": old, "REGISTRY_KEY_FILE": str(file)}, "both"),
        ({"REGISTRY_KEYS": "c2hvcnQ="}, "not 32 bytes"),
        ({"REGISTRY_KEY_FILE": str(tmp_path / "absent")}, "cannot be read"),
    ):
        with pytest.raises(KeyringError, match=said) as raised:
            read_keyring(environment)
        assert old not in str(raised.value)


def test_without_a_key_nothing_secret_is_stored(house: House) -> None:
    object.__setattr__(house.service, "keyring", Keyring())
    client = house.client(ALL)
    assert client.post(PATH, json=FULL).status_code == 503
    assert client.post(PATH, json=forwarder_body()).status_code == 201
    assert client.get("/health").status_code == 503
