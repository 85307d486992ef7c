"""The table of fields: a document's every field is judged as its kind in the table says."""

import json
from typing import Any

import pytest

from tests.support.forwarder_documents import HTTP, KINESIS, changed, load, said
from transforms.forwarders.fields import FIELDS, Field, FieldKind

NO_KIND_TAKES: dict[FieldKind, Any] = {
    "id": 7,
    "flag": "yes",
    "choice": "something else",
    "choices": ["something else"],
    "scope": "",
    "query": 5,
    "text": 5,
    "number": -1,
    "count": -1,
    "url": "https://receiver.example",
    "endpoint": "login.example/token",
    "headers": "{",
    "secret": 5,
    "secrets": [],
    "file": "",
}
"""A value for each kind that has one which no field of that kind takes."""

OAUTH2 = {"tokenUrl": "https://login.example/token", "clientId": "c", "clientSecret": "s"}


def document_with(field: Field, value: Any) -> dict[str, Any]:
    """An active document in which the field counts."""
    document = KINESIS if "Kinesis" in field.protocols else HTTP
    changes: dict[str, Any] = {} if field.auth_type is None else {"configuration.authType": field.auth_type}
    if field.auth_type == "basic auth":
        changes |= {"configuration.basicUsername": "u", "configuration.basicPassword": "p"}
    if field.auth_type == "oauth2":
        changes |= {f"configuration.{name}": value for name, value in OAUTH2.items()}
    return changed(document, {**changes, field.path: value})


@pytest.mark.parametrize("field", FIELDS.fields, ids=lambda field: field.path)
def test_a_field_takes_what_its_kind_is_and_nothing_else(field: Field) -> None:
    wrong = NO_KIND_TAKES.get(field.kind)
    loaded = load(document_with(field, wrong))
    if field.kind == "any":
        assert (said(loaded.faults), said(loaded.warnings)) == ([], [])
    elif field.kind == "active":
        assert [path for path, _ in said(loaded.warnings)] == [field.path]
    else:
        assert [path.partition("[")[0] for path, _ in said(loaded.faults)] == [field.path]


def test_no_path_is_there_twice_and_every_object_is_known() -> None:
    assert len({field.path for field in FIELDS}) == len(FIELDS.fields)
    assert {path.partition(".")[0] for path in FIELDS.objects} <= FIELDS.names()
    assert all(field.name in FIELDS.names(field.parent) for field in FIELDS)


@pytest.mark.parametrize("field", [field for field in FIELDS if field.allowed], ids=lambda field: field.path)
def test_every_value_that_a_choice_allows_is_taken(field: Field) -> None:
    for value in field.allowed:
        faults = load(document_with(field, [value] if field.kind == "choices" else value)).faults
        assert field.path not in [path for path, _ in said(faults)], json.dumps(value)
