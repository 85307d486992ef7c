"""Who is let in: keys and secrets, failed logins, and the command line that manages clients."""

import base64
import hmac
import re
import sqlite3
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from registry import credentials
from registry.access import ALL
from registry.command import main
from registry.connection import PATH as CONNECTION
from registry.credentials import LoginLimit, hash_secret, is_secret, new_secret
from registry.keyring import KEYS, new_key
from registry.rest import PATH
from registry.stores.open import open_store
from tests.support.registry_house import House, house_on


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("client-0:wrong"),
        basic("nobody:wrong"),
        basic("admin:admin"),
        basic(":"),
        basic(""),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic /w=="},
        {"Authorization": "Bearer x"},
    ],
)
def test_nobody_is_let_in_without_the_right_secret(house: House, editor: TestClient, headers: dict[str, str]) -> None:
    visitor = house.visitor()
    paths = [PATH, f"{PATH}/count", f"{PATH}/deliveries", f"{PATH}/x", f"{PATH}/x/deliveries", CONNECTION]
    answers = [visitor.get(path, headers=headers) for path in paths]
    answers += [
        visitor.request(method, path, headers=headers, json={})
        for method, path in (
            ("POST", PATH),
            ("PUT", f"{PATH}/x"),
            ("POST", f"{PATH}/match"),
            ("POST", f"{PATH}/x/test"),
        )
    ]
    answers += [visitor.delete(PATH, headers=headers), visitor.delete(f"{PATH}/x", headers=headers)]
    assert {answer.status_code for answer in answers} <= {401, 429}
    assert answers[0].status_code == 401
    assert answers[0].headers["WWW-Authenticate"].startswith("Basic ")


def test_a_secret_is_kept_as_a_hash_and_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    kept = hash_secret(secret)
    assert secret not in kept
    assert kept != hash_secret(secret)
    compared: list[int] = []

    def compare(left: str, right: str) -> bool:
        compared.append(len(left))
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert is_secret(secret, kept)
    assert not is_secret("", kept)
    # An unknown key is compared too.
    assert credentials.client_with("nobody", "x", lambda key: None) is None
    assert compared == [64, 64, 64]


def test_failed_logins_close_the_door_for_a_while(house: House) -> None:
    now = 0.0
    object.__setattr__(house.registry, "logins", LoginLimit(lambda: now))
    key, secret = house.add_client(ALL)
    right = basic(f"{key}:{secret}")
    guesser = house.visitor("10.0.0.7")
    statuses = [guesser.get(PATH, headers=basic(f"{key}:{guess}")).status_code for guess in range(12)]
    assert statuses == [401] * LoginLimit.MOST + [429] * 2
    refused = guesser.get(PATH, headers=right)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= LoginLimit.WINDOW + 1
    # Whoever has that key elsewhere is not locked out.
    assert house.visitor("10.0.0.8").get(PATH, headers=right).status_code == 200
    now = LoginLimit.WINDOW
    assert guesser.get(PATH, headers=right).status_code == 200


def test_nobody_locks_out_another_client_of_the_same_address_and_the_memory_of_it_is_bounded(house: House) -> None:
    key, secret = house.add_client(ALL)
    guesser = house.visitor("10.0.0.7")
    for guess in range(120):
        assert guesser.get(PATH, headers=basic(f"key-{guess}:x")).status_code == 401
    assert house.visitor("10.0.0.7").get(PATH, headers=basic(f"{key}:{secret}")).status_code == 200

    logins = LoginLimit(lambda: 0.0)
    for _ in range(LoginLimit.MOST):
        assert logins.wait("10.0.0.7", "key") == 0
        logins.failed("10.0.0.7", "key")
    assert logins.wait("10.0.0.7", "key") > 0
    assert logins.wait("10.0.0.7", "another") == logins.wait("10.0.0.8", "key") == 0
    for address in range(LoginLimit.REMEMBERED):
        logins.failed(f"address-{address}", "x" * 1000)
    # What failed longest ago is forgotten first.
    assert logins.wait("10.0.0.7", "key") == 0


# The command line


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    return ["--store", f"sqlite:///{tmp_path / 'forwarders.db'}"]


def test_clients_are_added_listed_and_removed(
    store: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["client", "add", *store, "--organisation", "school", "--user", "ann", "--scope", ALL]) == 0
    key, secret = re.findall(r"^(?:key|secret) +(\S+)$", capsys.readouterr().out, re.MULTILINE)
    house = house_on(open_store(store[1]))
    assert house.visitor().get(PATH, headers=basic(f"{key}:{secret}")).json() == []
    assert main(["client", "list", *store]) == 0
    listed = capsys.readouterr().out
    assert f"{key}  school  ann" in listed
    assert secret not in listed
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert main(["client", "remove", *store, key]) == 0
    assert house.visitor().get(PATH, headers=basic(f"{key}:{secret}")).status_code == 401
    assert main(["client", "remove", *store, key]) == 2
    house.store.close()


def test_there_is_no_default_client(store: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "list", *store]) == 0
    assert capsys.readouterr().out == ""


def test_serving_needs_a_key(
    store: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REGISTRY_KEYS", raising=False)
    assert main(["serve", *store]) == 2
    assert "REGISTRY_KEYS" in capsys.readouterr().err


def serve(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[uvicorn.Config]]:
    """The exit status of `serve`, and what uvicorn was to run instead of waiting for requests."""
    configs: list[uvicorn.Config] = []
    monkeypatch.setenv(KEYS, new_key())
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: configs.append(server.config))
    return main(["serve", *arguments]), configs


def test_the_service_is_for_this_machine_unless_told(store: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [config.host for config in serve(monkeypatch, *store)[1]] == ["127.0.0.1"]
    assert [config.host for config in serve(monkeypatch, *store, "--host", "0.0.0.0")[1]] == ["0.0.0.0"]  # noqa: S104


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_connections", "99999999"], "raise its limit of open files"),
        (["--tls_certificate", "absent.pem", "--tls_key", "absent.key"], "do not load: No such file"),
        (["--tls_key", "absent.key"], "go together"),
    ],
)
def test_what_cannot_be_served_is_told(
    store: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    assert serve(monkeypatch, *store, *flags) == (2, [])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgres://x", "none of sqlite"),
        ("sqlite:///", "names no file"),
        ("sqlite:////nowhere/at/all.db", "cannot be opened"),
        ("mongodb://ann:hunter@localhost/db", "holds a user"),
        ("mongodb://localhost", "names no database"),
        ("mongodb://[", "cannot be read"),
    ],
)
def test_a_store_that_cannot_be_opened_is_told(url: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "list", "--store", url]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "hunter" not in told


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "forwarders.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert main(["client", "list", "--store", f"sqlite:///{path}"]) == 2
    assert "newer version" in capsys.readouterr().err
