"""The OpenAPI is enough to make a client of: every request and answer has a named schema, and real answers obey it."""

import base64
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.access import EDIT_ALL
from registry.console.schemas import CONSOLE_SCHEMAS
from registry.openapi import schemas
from tests.support.receiver import Receiver
from tests.support.registry_house import House, served

CLIENT = "generated_forwarders_client"


def operations(house: House) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in house.visitor().get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def names_in(schema: dict[str, Any]) -> str:
    """The name of a schema, or of what it is an array of."""
    inner = schema.get("items", schema)
    prefix, _, name = inner.get("$ref", "").rpartition("/")
    assert prefix == "#/components/schemas", f"without a name: {schema}"
    return str(name)


def test_every_request_and_answer_has_a_schema_with_a_name(house: House) -> None:
    known = house.visitor().get("/openapi.json").json()["components"]["schemas"]
    used = set()
    for label, operation in operations(house):
        bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
        contents = [body["content"] for body in bodies if "content" in body]
        assert contents, label
        used |= {names_in(content["application/json"]["schema"]) for content in contents if "text/plain" not in content}
    assert used <= known.keys()
    assert known.keys() == schemas().keys() | CONSOLE_SCHEMAS.keys()
    assert set(json_references(known)) | used == known.keys(), "schemas that nothing refers to"


def json_references(value: object) -> Iterator[str]:
    """The names of the schemas that are referred to in a value."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for member in value.values():
            yield from json_references(member)
    elif isinstance(value, list):
        for item in value:
            yield from json_references(item)


@pytest.fixture
def generated(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client in Python, generated of what the service says of itself."""
    pytest.importorskip("openapi_python_client", reason="needs openapi-python-client (the extra `test`)")
    description = tmp_path / "openapi.json"
    description.write_text(house.visitor().get("/openapi.json").text)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"post_hooks": [], "package_name_override": CLIENT}))
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(description)]
    options = [
        "--config",
        str(settings),
        "--meta",
        "none",
        "--output-path",
        str(tmp_path / CLIENT),
        "--fail-on-warning",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(CLIENT)
    for name in [name for name in sys.modules if name.partition(".")[0] == CLIENT]:
        del sys.modules[name]


def test_a_generated_client_makes_a_round_trip(house: House, generated: Any, receiver: Receiver) -> None:
    models = importlib.import_module(f"{CLIENT}.models")
    rest = f"{CLIENT}.api.rest"

    def call(name: str, **given: Any) -> Any:
        answer = importlib.import_module(f"{rest}.{name}").sync_detailed(client=client, **given)
        return answer.parsed

    key, secret = house.add_client(EDIT_ALL, user="ann")
    token = base64.b64encode(f"{key}:{secret}".encode()).decode()
    with served(house.registry) as address:
        client = generated.AuthenticatedClient(base_url=address, token=token, prefix="Basic")

        wanted = models.Forwarder(
            field_id="gradebook",
            active=True,
            query='{"kind": "score"}',
            payload=models.ForwarderPayload.RECORD,
            configuration=models.ForwarderConfiguration(
                protocol=models.ForwarderConfigurationProtocol.HTTP, url=receiver.url("scores")
            ),
        )
        created = call("create_forwarder", body=wanted)
        assert isinstance(created, models.Forwarder)
        assert created.field_id == "gradebook"

        assert [forwarder.field_id for forwarder in call("list_forwarders")] == ["gradebook"]
        assert call("count_forwarders", query='{"active": true}').count == 1
        assert call("get_forwarder", id="gradebook") == created

        changed = call("change_forwarder_by_patch", id="gradebook", body=models.Forwarder(description="Scores"))
        assert changed.description == "Scores"
        assert changed.query == '{"kind": "score"}'
        outdated = call("change_forwarder_by_patch", id="gradebook", body=models.Forwarder(), if_match='"of before"')
        assert isinstance(outdated, models.Problem)
        assert "changed since" in outdated.message

        sent = call("test_forwarder", id="gradebook", body=models.SampleRequest())
        assert sent.matches is True
        assert sent.receipt.outcome == "delivered"
        assert json.loads(sent.receipt.payload) == json.loads(receiver.log[-1].body)

        record = models.RecordToMatch.from_dict(json.loads(sent.receipt.payload))
        matched = call("match_record", body=record)
        assert [(each.field_id, each.reached) for each in matched.forwarders] == [("gradebook", True)]

        call("delete_forwarder", id="gradebook")
        gone = call("get_forwarder", id="gradebook")
        assert isinstance(gone, models.Problem)
        assert call("list_forwarders") == []

        health = importlib.import_module(f"{CLIENT}.api.service.health").sync(client=client)
        assert health.status == "ok"
