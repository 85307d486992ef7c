"""The forwarders that a run takes, and what it says of the others, before anything is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.options import Job
from pipeline.preflight import Chosen, choose_forwarders
from pipeline.usage import UsageError
from tests.support.forwarder_documents import HTTP, KINESIS, changed


def choose(directory: Path, *documents: dict[str, Any], **job: Any) -> Chosen:
    """As a dry run does: nothing is looked up."""
    path = directory / "forwarders.json"
    path.write_text(json.dumps(documents))
    return choose_forwarders(Job(forwarders=str(path), dry_run=True, **job), on_this_machine=True)


def test_all_that_are_active_take_part(tmp_path: Path) -> None:
    chosen = choose(tmp_path, HTTP, KINESIS, changed(HTTP, {"_id": "off", "active": False}))
    assert [forwarder.id for forwarder in chosen.forwarders] == ["h", "k"]
    assert chosen.inactive == ("off",)
    assert chosen.source is not None


def test_a_run_without_forwarders_chooses_none() -> None:
    assert choose_forwarders(Job(), on_this_machine=True) == Chosen()


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    bad = [
        changed(HTTP, {"_id": "retries", "configuration.maxRetries": 11}),
        changed(HTTP, {"_id": "query", "query": '{"a": {"$foo": 1}}'}),
    ]
    with pytest.raises(UsageError) as refused:
        choose(tmp_path, HTTP, *bad)
    text = str(refused.value)
    assert "retries" in text
    assert "configuration.maxRetries" in text
    assert "$foo" in text


def test_faulty_ones_are_left_out_if_asked_unless_nothing_is_left(tmp_path: Path) -> None:
    bad = changed(HTTP, {"_id": "bad", "configuration.maxRetries": 11})
    chosen = choose(tmp_path, HTTP, bad, skip_invalid_forwarders=True)
    assert [forwarder.id for forwarder in chosen.forwarders] == ["h"]
    assert any(warning.startswith("left out: ") and "bad" in warning for warning in chosen.warnings)
    with pytest.raises(UsageError, match="no active, valid forwarder is left"):
        choose(tmp_path, bad, skip_invalid_forwarders=True)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("streem", "--forwarder streem: there is no such forwarder; the nearest id is stream"),
        ("xyz", "--forwarder xyz: there is no such forwarder"),
        ("off", "--forwarder off: this forwarder is not active"),
    ],
)
def test_a_forwarder_that_cannot_be_chosen(tmp_path: Path, wanted: str, message: str) -> None:
    documents = [changed(KINESIS, {"_id": "stream"}), changed(HTTP, {"_id": "off", "active": False})]
    with pytest.raises(UsageError) as refused:
        choose(tmp_path, *documents, only_forwarders=(wanted,))
    assert str(refused.value) == message


def test_only_those_that_are_named(tmp_path: Path) -> None:
    assert [forwarder.id for forwarder in choose(tmp_path, HTTP, KINESIS, only_forwarders=("k",)).forwarders] == ["k"]


NESTED = (
    '{"$and": [' * 500 + "{}" + "]}" * 500,
    '{"a": ' * 500 + "1" + "}" * 500,
    '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}",
)


@pytest.mark.parametrize("query", NESTED, ids=["operators", "objects", "arrays"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_query_that_is_nested_too_deeply_is_a_fault_of_its_document(
    tmp_path: Path, query: str, as_text: bool
) -> None:
    path = tmp_path / "forwarders.json"
    # By hand: Python does not write JSON that is so deep either.
    deep = json.dumps(changed(HTTP, {"_id": "deep"}) | {"query": "HERE"}).replace(
        '"HERE"', json.dumps(query) if as_text else query
    )
    path.write_text(f"[{json.dumps(HTTP)}, {deep}]")
    job = Job(forwarders=str(path), dry_run=True)
    with pytest.raises(UsageError, match=r"forwarders\.json.* nested ") as refused:
        choose_forwarders(job, on_this_machine=True)
    assert "Traceback" not in str(refused.value)
    # The others are not to blame.
    chosen = choose_forwarders(
        Job(forwarders=str(path), dry_run=True, skip_invalid_forwarders=True), on_this_machine=True
    )
    assert [forwarder.id for forwarder in chosen.forwarders] == ["h"]
