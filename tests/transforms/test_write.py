"""Records, rejects and the summary as files."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import pyarrow.parquet as pq
import pytest

from schemas import KINDS, Record, Reject
from schemas.record import RecordFormat
from tests.support.avro_parts import read_parts
from tests.support.settlements import documented_record
from transforms.accounting.summary import Summary
from transforms.write import (
    WriteRecords,
    WriteRejects,
    WriteStreamingRejects,
    WriteSummary,
    read_summary,
    remove_records,
)

REJECT = Reject("in/a.jsonl", 7, "not JSON", b"{", 1)


def rows(directory: Path, kind: str, record_format: RecordFormat) -> list[dict[str, Any]]:
    """What any reader of the format finds in the files of a kind."""
    found: list[dict[str, Any]] = []
    for path in sorted((directory / "records").glob(f"{kind}-*.{record_format}")):
        if record_format == "jsonl":
            found += [json.loads(line) for line in path.read_bytes().splitlines()]
        elif record_format == "avro":
            with path.open("rb") as file:
                found += [row for row in fastavro.reader(file) if isinstance(row, dict)]
        else:
            found += pq.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize("record_format", ["jsonl", "avro", "parquet"])
def test_records_are_written_by_kind_in_batches_or_out(tmp_path: Path, record_format: RecordFormat) -> None:
    records = [documented_record(str(number), kind=KINDS[number % 4]) for number in range(12)]
    batches: list[list[Record]] = [records[:5], [], records[5:]]
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create(batches) | WriteRecords(str(tmp_path), record_format)
    for kind in KINDS:
        found = rows(tmp_path, kind, record_format)
        assert {row["id"] for row in found} == {record.id for record in records if record.kind == kind}
        assert {row["user_id"] for row in found} == {"u-1"}


def test_only_the_kinds_that_are_asked_for_are_written(tmp_path: Path) -> None:
    with beam.Pipeline() as pipeline:
        batch = [documented_record(kind=kind) for kind in KINDS]
        _ = pipeline | beam.Create([batch]) | WriteRecords(str(tmp_path), "jsonl", ("score",))
    assert {path.name.partition("-")[0] for path in (tmp_path / "records").iterdir()} == {"score"}


def test_what_an_earlier_run_wrote_is_removed_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "records"
    directory.mkdir()
    for name in ("event-00000-of-00002.jsonl", "score-00001-of-00002.parquet", "notes.txt", "event-mine.jsonl"):
        (directory / name).write_text("")
    remove_records(str(tmp_path))
    assert {path.name for path in directory.iterdir()} == {"notes.txt", "event-mine.jsonl"}


def test_rejects_are_written_with_where_and_why(tmp_path: Path) -> None:
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create([REJECT]) | WriteRejects(str(tmp_path / "rejects" / "run"))
    (row,) = read_parts(tmp_path / "rejects")
    assert Reject(**row) == REJECT


def test_a_bundle_s_rejects_are_one_file_and_none_is_none(tmp_path: Path) -> None:
    writer = WriteStreamingRejects(str(tmp_path), "run")
    for bundle in ([REJECT, REJECT], [], [REJECT]):
        writer.start_bundle()
        for reject in bundle:
            writer.process(reject)
        writer.finish_bundle()
    files = list((tmp_path / "rejects").iterdir())
    assert len(files) == 2
    assert all(path.name.startswith("run-") for path in files)
    assert [Reject(**row) for row in read_parts(tmp_path / "rejects")] == [REJECT] * 3


def test_the_summary_comes_back_as_it_was(tmp_path: Path) -> None:
    summary = Summary(records={"event": 3}, stopped=True)
    summary.books.account("f").matched = 3
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create([summary]) | WriteSummary(str(tmp_path / "summary"))
    assert read_summary(str(tmp_path / "summary")) == summary
