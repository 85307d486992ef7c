"""One table of a document's fields: what the service redacts, publishes and shows in its form goes by it."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.rest import PATH
from tests.support.registry_house import House
from transforms.forwarders import fields
from transforms.forwarders.fields import FIELDS, HTTP, Field, FieldTable
from transforms.forwarders.secrets import REDACTED


def document_of(values: dict[str, Any]) -> dict[str, Any]:
    """A document with values by path. It is not active, so that the rules let any value pass."""
    document: dict[str, Any] = {"active": False}
    for path, value in values.items():
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return document


def value_at(document: dict[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value[name]
    return value


def published(house: House) -> dict[str, Any]:
    """The fields that the OpenAPI describes, by path."""
    properties = house.visitor().get("/openapi.json").json()["components"]["schemas"]["Forwarder"]["properties"]
    return described_in(properties)


def described_in(properties: dict[str, Any], outer: str = "") -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name, schema in properties.items():
        if "properties" in schema:
            described |= described_in(schema["properties"], f"{outer}{name}.")
        else:
            described[outer + name] = schema
    return described


@pytest.mark.parametrize("field", FIELDS.fields, ids=lambda field: field.path)
def test_a_secret_field_is_redacted_and_no_other(editor: TestClient, field: Field) -> None:
    if field.path in ("_id", "_invalid", "organisation", "owner", "active", "createdAt", "updatedAt"):
        assert not field.secret
        return
    values = {"url": "hunter.example/?a=hunter", "endpoint": "https://hunter.example/?a=hunter"}
    value = {**values, "headers": '{"X-A":"hunter"}'}.get(field.kind, "hunter")
    answer = editor.post(PATH, json=document_of({field.path: value}))
    assert answer.status_code == 201, answer.text
    shown = value_at(answer.json(), field.path)
    if field.secret:
        assert shown == REDACTED
    elif field.kind in ("url", "endpoint"):
        assert shown == value.replace("=hunter", f"={REDACTED}")
    elif field.kind == "headers":
        assert json.loads(shown) == {"X-A": REDACTED}
    else:
        assert shown == "hunter"


def test_the_openapi_describes_every_field_and_no_other(house: House) -> None:
    described = published(house)
    assert described.keys() == {field.path for field in FIELDS}
    for field in FIELDS:
        assert field.description in described[field.path]["description"]
        described_values = described[field.path].get("items", described[field.path]).get("enum", ())
        assert tuple(described_values) == field.allowed


def test_every_change_of_a_document_is_described_by_its_fields(house: House) -> None:
    paths = house.visitor().get("/openapi.json").json()["paths"]
    writing = [(PATH, "post"), *((f"{PATH}/{{id}}", method) for method in ("put", "post", "patch"))]
    for path, method in writing:
        schema = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Forwarder"}


def test_the_form_has_every_field_that_an_editor_can_do_something_with(house: House) -> None:
    page = house.visitor().get("/").text
    in_form = [field for field in FIELDS if f'name="{field.path}"' in page]
    assert in_form == [field for field in FIELDS if field.label]
    left_out = {field.path: field.kind for field in FIELDS if not field.label}
    assert {path for path, kind in left_out.items() if kind != "any"} == {"_id", "organisation"}


def test_a_field_that_is_added_to_the_table_is_everywhere(
    house: House, editor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Field(
        "configuration.charset",
        "choice",
        "How bodies are encoded.",
        label="Character set",
        protocols=HTTP,
        allowed=("utf-8", "utf-16"),
    )
    secret = Field("webhookKey", "secret", "Opens the webhook.", label="Key of the webhook", secret=True)
    monkeypatch.setattr(fields, "FIELDS", FieldTable((*FIELDS, plain, secret)))

    document = {
        "active": True,
        "query": "{}",
        "configuration": {"url": "receiver.example", "maxRetries": 3, "charset": "ebcdic"},
    }
    refused = editor.post(PATH, json={**document, "webhookKey": 5}).json()["faults"]
    assert refused == [
        {"field": "configuration.charset", "message": 'is "ebcdic": it must be one of utf-8, utf-16'},
        {"field": "webhookKey", "message": "is not a string"},
    ]
    document["configuration"] = {"url": "receiver.example", "maxRetries": 3, "charset": "utf-8"}
    answer = editor.post(PATH, json={**document, "webhookKey": "hunter"})
    assert answer.status_code == 201
    assert "Forwarder-Warnings" not in answer.headers
    assert answer.json()["configuration"]["charset"] == "utf-8"
    assert answer.json()["webhookKey"] == REDACTED
    assert published(house)["configuration.charset"]["enum"] == ["utf-8", "utf-16"]
    assert published(house)["webhookKey"]["format"] == "password"
    page = house.visitor().get("/").text
    assert "<option>utf-16</option>" in page
    assert 'name="webhookKey"' in page
