"""`compact`: few files, nothing lost, and what goes is old and of no use."""

import logging
from pathlib import Path

import boto3
import pytest

from commands.command import main
from pipeline.compact import compact_output
from pipeline.lock import OutputLock
from schemas.times import now_ms
from tests.support.activity import sessions
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import scripted
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

DAY = 86_400.0
IN_A_YEAR = now_ms() + round(365 * DAY * 1000)


def files(output: Path, directory: str) -> list[str]:
    return sorted(path.name for path in (output / directory).rglob("*") if path.is_file())


def test_after_a_year_a_rerun_sends_nothing_and_a_redrive_what_is_open(workshop: Workshop, receiver: Receiver) -> None:
    """Two runs and a redrive, which leaves some dead letters; then all of it is old."""
    workshop.write_activity(sessions(6))
    workshop.write_lines([b"no activity"], "none.jsonl")
    workshop.write_forwarders(http_document(receiver, configuration={"maxRetries": 0}))
    receiver.script = scripted(default=[400] * 1000)
    assert workshop.run("--write_records=jsonl") == 3
    letters = workshop.account("http")["dead_lettered"]
    refused = sorted({row["id"] for row in workshop.avro("dead_letters")})[:2]
    receiver.script = scripted(by_key={id_: [400] * 9 for id_ in refused})
    assert workshop.redrive() == 3
    assert workshop.run() == 3
    removed = compact_output(str(workshop.output), 90 * DAY, lambda: IN_A_YEAR)
    assert (removed.rejects, removed.runs, removed.records) == (2, 2, 3)
    assert removed.merged.dead_letters == letters, "of two records the first and the last are kept"
    assert files(workshop.output, "records") == []
    assert len(files(workshop.output, "runs")) == 2, "report and page of the latest run"
    assert len(files(workshop.output, "receipts")) == 3, "merged, the last run's, and what is known of the merged"
    before = len(receiver.log)
    receiver.script = scripted()
    assert workshop.redrive() == 0
    assert sorted(arrival.key for arrival in receiver.log[before:]) == refused
    assert workshop.run() == 3
    assert workshop.account("http")["already_delivered"] == workshop.account("http")["matched"] == letters
    assert len(receiver.log) == before + 2


def test_a_place_with_no_output_is_a_mistake(
    aws: boto3.Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="outputs")
    outputs = ["killed/runs/r1/report.json", "out/report.json"]
    for name in outputs:
        s3.put_object(Bucket="outputs", Key=name, Body=b"{}")
        assert main(["compact", f"s3://outputs/{name.partition('/')[0]}"]) == 0
    for place in (f"{tmp_path}/ouy", f"file://{tmp_path}/ouy", "s3://outputs/ouy", "s3://no-such-bucket/out"):
        caplog.clear()
        assert main(["compact", place]) == 2
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith(f"{place}: ")
    assert [found["Key"] for found in s3.list_objects_v2(Bucket="outputs")["Contents"]] == outputs


def test_what_is_young_stays(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(3))
    workshop.write_lines([b"no activity"], "none.jsonl")
    workshop.write_forwarders(http_document(receiver))
    for _ in range(2):
        assert workshop.run("--write_records=jsonl") == 3
    kept = {name: files(workshop.output, name) for name in ("rejects", "runs", "records", "receipts")}
    removed = compact_output(str(workshop.output), 90 * DAY)
    assert (removed.rejects, removed.runs, removed.records, removed.merged.receipts) == (0, 0, 0, 0)
    assert {name: files(workshop.output, name) for name in kept} == kept


def test_it_refuses_while_a_job_runs(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    with OutputLock(str(workshop.output)), caplog.at_level(logging.ERROR):
        assert main(["compact", str(workshop.output)]) == 1
    assert "is in use by another run" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name one output"),
        (["nowhere"], "nowhere: there is no such directory"),
        (["nowhere", "--keep", "90"], "'90' is not a length of time: use 30s, 5m, 12h, 30d or 8w"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], told: str, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["compact", *arguments]) == 2
    assert told in caplog.text


def test_an_empty_output_has_nothing_to_compact(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    workshop.output.mkdir()
    assert main(["compact", str(workshop.output), "--keep", "1d"]) == 0
    assert capsys.readouterr().out == "receipts and dead letters: 0 files before, 0 now\n"
