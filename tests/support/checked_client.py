"""A client of the registry that holds every answer against what the service's OpenAPI says of it."""

import re
from typing import Any

import jsonschema_rs
from fastapi.testclient import TestClient

_WITH_DOCUMENTS = ("Forwarder", "ForwarderConnection", "ForwarderEdit")
"""Schemas of answers that hold documents. One that is not active may hold fields of any type (docs/registry.md)."""


class CheckedClient(TestClient):
    """As its base. An answer that is not as the OpenAPI describes it fails the test."""

    def request(self, method: str, url: Any, **given: Any) -> Any:
        answer = super().request(method, url, **given)
        path = answer.request.url.path.rstrip("/")
        schema = _schemas(self.app).get_for(answer.request.method, path, answer.status_code)
        if schema is not None and answer.headers.get("content-type") == "application/json":
            schema.validate(answer.json())
        return answer


class _Schemas:
    def __init__(self, description: dict[str, Any]) -> None:
        self._components = description["components"]
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), operation["responses"])
            for path, operations in description["paths"].items()
            for method, operation in operations.items()
        ]
        self._validators: dict[str, Any] = {}

    def get_for(self, method: str, path: str, status: int) -> Any:
        """The validator of an answer; None where nothing is said of it."""
        for known, pattern, responses in self._operations:
            if known == method and pattern.fullmatch(path):
                assert str(status) in responses, f"{method} {path} answers {status}, which the OpenAPI does not name"
                schema = responses[str(status)].get("content", {}).get("application/json", {}).get("schema")
                return None if schema is None else self._validator(schema)
        return None

    def _validator(self, schema: dict[str, Any]) -> Any:
        name = schema.get("items", schema)["$ref"].rpartition("/")[2]
        if name in _WITH_DOCUMENTS:
            return None
        key = f"{name} {'items' in schema}"
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.validator_for({**schema, "components": self._components})
        return self._validators[key]


_ALL: dict[int, _Schemas] = {}


def _schemas(app: Any) -> _Schemas:
    """Of an application. Those of all registries say the same, and to make it takes long."""
    routes = len(app.routes)
    if routes not in _ALL:
        _ALL[routes] = _Schemas(app.openapi())
    return _ALL[routes]
