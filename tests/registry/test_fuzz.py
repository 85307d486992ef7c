"""Whatever is sent, as the service's own OpenAPI describes it or not, is answered without a 5xx, and as described."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from registry.access import ALL, DELIVER
from registry.app import build
from registry.stores.sqlite import SqliteStore
from tests.support.registry_house import House, create, house_on


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    path: Path = tmp_path_factory.mktemp("fuzz")
    store = SqliteStore(str(path / "forwarders.db"))
    yield house_on(store, path / "out")
    store.close()


@pytest.fixture(scope="module")
def operations(house: House) -> dict[str, Any]:
    """What the service says of itself, by method and path."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", build(house.registry))
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {operation.label: operation for operation in found}


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
"""Of each operation, as described and otherwise."""

TESTER = "/api/console/tester"
FORWARDERS = "/api/console/forwarders"
JOBS = "/api/console/jobs"
SESSION = "/api/console/session"
SIGN_IN = f"POST {SESSION}"
REST = "/api/v2/statementforwarding"
FUZZED = [
    "GET /health",
    "GET /metrics",
    f"GET {REST}",
    f"GET {REST}/count",
    f"GET {REST}/deliveries",
    f"POST {REST}/match",
    f"POST {REST}",
    f"DELETE {REST}",
    f"GET {REST}/{{id}}",
    f"PUT {REST}/{{id}}",
    f"POST {REST}/{{id}}",
    f"PATCH {REST}/{{id}}",
    f"DELETE {REST}/{{id}}",
    f"POST {REST}/{{id}}/test",
    f"GET {REST}/{{id}}/deliveries",
    "GET /api/connection/statementforwarding",
    f"GET {TESTER}",
    f"GET {TESTER}/records",
    f"POST {TESTER}",
    f"POST {TESTER}/count",
    f"POST {SESSION}",
    f"GET {SESSION}",
    f"DELETE {SESSION}",
    f"GET {FORWARDERS}",
    f"POST {FORWARDERS}",
    *(
        f"{method} {FORWARDERS}/{place}"
        for method, place in (
            ("GET", "{id}/history"),
            ("GET", "{id}/rights"),
            ("GET", "{id}/health"),
            ("GET", "{id}/records"),
            ("GET", "{id}/record"),
            ("POST", "{id}/restore"),
            ("POST", "{id}/duplicate"),
            ("POST", "bulk"),
            ("POST", "import"),
        )
    ),
    f"GET {JOBS}",
    f"POST {JOBS}",
    f"GET {JOBS}/{{id}}",
    f"POST {JOBS}/{{id}}/confirm",
    f"POST {JOBS}/{{id}}/stop",
]


def test_every_operation_is_fuzzed(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(FUZZED)


# There is nothing in these that could be sent otherwise than described.
UNSPOILABLE = frozenset(
    [
        "GET /health",
        "GET /metrics",
        f"GET {REST}/deliveries",
        f"DELETE {REST}",
        f"DELETE {REST}/{{id}}",
        f"GET {SESSION}",
        f"DELETE {SESSION}",
    ]
)
SHOWS_DOCUMENTS = frozenset(
    [f"GET {REST}", "GET /api/connection/statementforwarding", f"POST {REST}"]
    + [f"{method} {REST}/{{id}}" for method in ("GET", "PUT", "POST", "PATCH")]
    + [f"GET {FORWARDERS}/{{id}}/history", f"POST {FORWARDERS}/{{id}}/restore", f"POST {FORWARDERS}/{{id}}/duplicate"]
)
CASES = [(label, GenerationMode.POSITIVE) for label in FUZZED] + [
    (label, GenerationMode.NEGATIVE) for label in FUZZED if label not in UNSPOILABLE
]


@pytest.mark.parametrize(("label", "mode"), CASES, ids=[f"{label} {mode.value}" for label, mode in CASES])
def test_no_request_is_answered_with_a_5xx(
    house: House, operations: dict[str, Any], label: str, mode: GenerationMode
) -> None:
    credentials = house.add_client(ALL, DELIVER, user="ann")

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[label].as_strategy(generation_mode=mode), known=st.booleans())
    def fuzz(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "id" in case.path_parameters:
            # Of what is made up, next to nothing would get as far as a document.
            if house.store.get("known") is None:
                create(house.client(ALL), _id="known")
            case.path_parameters["id"] = "known"
        if known and label == SIGN_IN and isinstance(case.body, dict):
            case.body |= dict(zip(("key", "secret"), credentials, strict=True))
        # Whoever signs in says from where; it is as a request of the page.
        response = case.call(auth=credentials, headers={"Sec-Fetch-Site": "same-origin"})
        checks = [not_a_server_error, status_code_conformance, content_type_conformance]
        # A document that is not active keeps fields of any type, which were sent by what is made up against the rules.
        if response.status_code >= 400 or label not in SHOWS_DOCUMENTS:
            checks.append(response_schema_conformance)
        case.validate_response(response, checks=checks)
        assert response.status_code != 401 or label == SIGN_IN

    fuzz()
