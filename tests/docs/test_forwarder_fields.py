"""The fields of a forwarder document in docs/spec/forwarders.md section 1, against what the job says of them."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.command import main
from tests.docs.page import Section, sections, tables
from tests.support.paths import ROOT
from transforms.forwarders.fields import FIELDS

PAGE = ROOT / "docs/spec/forwarders.md"
ACTIVITY = {
    "record_id": "r",
    "user_id": "u",
    "session_id": "s",
    "activity_id": "a",
    "action": "START",
    "occurred_at": "2026-03-02T09:00:00Z",
}


def the_document() -> Section:
    (section,) = (section for section in sections(PAGE) if section.title == "1. The document")
    return section


def fields() -> dict[str, str]:
    """The paths of the table's fields, each with its type as the table has it."""
    (table,) = (table for table in tables(the_document()) if table[0] == ["field", "type", "rule"])
    return {path: row[1] for row in table[1:] for path in re.findall("`([^`]+)`", row[0])}


def choices() -> dict[str, list[str]]:
    """The fields of which the table lists every value."""
    listed = {path: re.fullmatch("`[^`]+`(, `[^`]+`)+", told) for path, told in fields().items()}
    return {path: re.findall("`([^`]+)`", found[0]) for path, found in listed.items() if found}


def forwarder(forwarder_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """An active document with `values` by path."""
    document: dict[str, Any] = {}
    for path, value in {**values, "_id": forwarder_id, "active": True, "configuration.url": "example.org"}.items():
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return document


class Job:
    """Dry runs over one activity; `lines` are what the last one logged."""

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
        self._directory = directory
        self._caplog = caplog

    def check(self, *documents: dict[str, Any]) -> int:
        (self._directory / "activity.jsonl").write_text(json.dumps(ACTIVITY))
        (self._directory / "forwarders.json").write_text(json.dumps(documents))
        inputs = ["--input", str(self._directory / "activity.jsonl")]
        return main([*inputs, "--forwarders", str(self._directory / "forwarders.json"), "--dry_run"])

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Job:
    return Job(tmp_path, caplog)


def test_every_field_of_the_table_is_one_that_the_job_knows(job: Job) -> None:
    names = fields()
    assert len(names) > 30
    assert job.check(forwarder("f", {**dict.fromkeys(names), "configuration.nothing": None})) == 0
    unknown = [line for line in job.lines if "is not a known field" in line]
    assert len(unknown) == 1
    assert "configuration.nothing" in unknown[0]


def test_every_field_that_the_job_knows_is_in_the_table() -> None:
    assert set(fields()) == {field.path for field in FIELDS}


def test_the_values_that_the_table_lists_are_those_that_the_job_takes(job: Job) -> None:
    listed = choices()
    assert set(listed) == {
        "payload",
        "configuration.protocol",
        "configuration.authType",
        "configuration.clientAuth",
        "configuration.batch.format",
        "configuration.batch.outcome",
        "configuration.compression",
        "configuration.onConflict",
        "configuration.xapiVersion",
        "kinesisOptions.service",
    }
    protocols = {path: "Kinesis" if path.startswith("kinesisOptions") else "http" for path in listed}
    auth = {"configuration.clientAuth": {"configuration.authType": "oauth2"}}
    documents = [
        forwarder(path, {"configuration.protocol": protocols[path], **auth.get(path, {}), path: "?"}) for path in listed
    ]
    assert job.check(*documents) == 2
    for path, values in listed.items():
        (told,) = (line for line in job.lines if f'{path} is "?": it must be one of ' in line)
        assert sorted(told.rpartition(" one of ")[2].split(", ")) == sorted(values)


def test_the_headers_that_the_page_calls_reserved_are_refused(job: Job) -> None:
    text = " ".join(the_document().lines)
    told = re.search(r"These names are reserved, in any case: `([^`]+)`, and all that begin with (.*?)\.", text)
    assert told is not None
    headers = [*told[1].split(), *(f"{beginning}anything" for beginning in re.findall("`([^`]+)`", told[2]))]
    assert len(headers) > 20
    values = json.dumps({header.upper(): "x" for header in headers})
    assert job.check(forwarder("f", {"configuration.headers": values})) == 2
    assert len([line for line in job.lines if "is a reserved header" in line]) == len(headers)
