"""The example forwarders: one of each kind, and the contract's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.examples import (
    CONTRACT_EXAMPLE,
    DOCUMENTS,
    EXAMPLES,
    Credentials,
    Places,
    data_stream,
    delivery_stream,
    render,
)
from tests.support.paths import SHARED, needs_shared

PLACES = Places("run-1", "127.0.0.1:8000", "127.0.0.1:8443", Path("/ca.pem"))
RENDERED = {example.id: render(example, PLACES) for example in EXAMPLES}


@needs_shared
def test_the_contracts_example_is_there_word_for_word() -> None:
    contract = (SHARED / "contract" / "learning-locker-statement-forwarding.txt").read_text()
    assert (DOCUMENTS / f"{CONTRACT_EXAMPLE}.json").read_text().strip() in contract


def test_what_is_changed_in_the_contracts_example() -> None:
    original = json.loads((DOCUMENTS / f"{CONTRACT_EXAMPLE}.json").read_text())
    changed = RENDERED[CONTRACT_EXAMPLE]
    assert {**changed, "configuration": None} == {**original, "configuration": None}
    assert changed["configuration"] == {
        **original["configuration"],
        "url": "127.0.0.1:8443/endpoint",
        "caFile": "/ca.pem",
    }


def test_every_document_is_an_example_and_has_nothing_left_to_fill_in() -> None:
    assert {f"{example.id}.json" for example in EXAMPLES} == {file.name for file in DOCUMENTS.iterdir()}
    assert "@" not in json.dumps(RENDERED)


def test_every_protocol_authorisation_and_payload_is_among_them() -> None:
    configurations: list[dict[str, Any]] = [document["configuration"] for document in RENDERED.values()]
    assert {one["protocol"] for one in configurations} == {"http", "https", "Kinesis"}
    assert {one["authType"] for one in configurations} == {"no auth", "token", "basic auth"}
    assert {example.payload for example in EXAMPLES} == {"record", "statement", "document"}
    assert len(list(filter(None, map(data_stream, RENDERED.values())))) == 2
    assert len(list(filter(None, map(delivery_stream, RENDERED.values())))) == 1


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.http_path], ids=lambda one: one.id)
def test_the_receiver_knows_the_path_and_the_document_names_the_secret(example: Any) -> None:
    credentials = Credentials("the token", "the password")
    asked = credentials.authorization()[example.http_path]
    configuration = RENDERED[example.id]["configuration"]
    named = [value[4:] for value in configuration.values() if isinstance(value, str) and value.startswith("env:")]
    assert bool(asked) == bool(named)
    assert set(named) <= credentials.environment().keys()
    assert configuration["url"].partition("/")[2].split("?")[0] == example.http_path.strip("/")
