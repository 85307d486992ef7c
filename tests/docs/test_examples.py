"""The example in `examples/` gives exactly what its folder says: records, requests, receipts, dead letters, rejects."""

import json

import pytest

from tests.docs.example import expected, run_example
from tests.docs.shell_blocks import Ran
from tests.support.paths import ROOT

Outcome = tuple[list[Ran], dict[str, str]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_example(tmp_path_factory.mktemp("example"))


def test_it_leaves_what_is_expected(outcome: Outcome) -> None:
    assert outcome[1] == expected()


def test_it_prints_what_its_page_shows(outcome: Outcome) -> None:
    assert {one.block.command: (missing, one.output) for one in outcome[0] if (missing := one.missing())} == {}


def test_it_is_twenty_activities_and_every_forwarder_is_without_a_fault() -> None:
    lines = (ROOT / "examples" / "activity.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 21
    report = json.loads(expected()["report.json"])
    assert report["input"]["read"] - report["input"]["rejected"] == 20
    assert not [warning for warning in report["warnings"] if "organisation is absent" not in warning]
    assert {forwarder["id"] for forwarder in report["forwarders"]} | set(report["inactive_forwarders"]) == {
        document["_id"] for document in json.loads((ROOT / "examples" / "forwarders.json").read_text())
    }
