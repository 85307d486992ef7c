"""Write: derived records, rejects and what was counted, as files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import uuid4

import apache_beam as beam
import fastavro
import msgspec
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.io import WriteToAvro, WriteToParquetBatched, WriteToText
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection

from schemas import KINDS, Kind, Record, Reject, avro_schema
from schemas.arrow import arrow_schema
from schemas.record import RecordFormat, encode_record, parquet_row, record_row
from transforms import durability
from transforms.accounting.summary import Summary
from transforms.reading.record_files import RECORD_FILE, RECORDS
from transforms.receipts.journal import DEAD_LETTERS, RECEIPTS
from transforms.statements.attachment_files import FOLDER
from transforms.storage import local_path, storage_at, writing

REJECTS = "rejects"
"""The directory of an output that rejects are in."""


@dataclass(eq=False)
class WriteRecords(beam.PTransform[PCollection[list[Record]], None]):
    """Writes records as files: PCollection[list[Record]] -> files `<output>/records/<kind>-*.<format>`.

    A record is one line or row. The fields of its message come first, in the documented order, then its envelope
    (`schemas/*.avsc`).

    Attributes:
        output: the directory of the run.
        record_format: of the files.
        kinds: of the records that are written.
    """

    output: str
    record_format: RecordFormat
    kinds: tuple[Kind, ...] = KINDS

    def expand(self, records: PCollection[list[Record]]) -> None:
        for kind in self.kinds:
            prefix, suffix = f"{self.output}/{RECORDS}/{kind}", f".{self.record_format}"
            rows = records | f"Only {kind}" >> beam.FlatMap(_of_kind, kind, self.record_format)
            write: beam.PTransform[Any, Any]
            if self.record_format == "jsonl":
                write = WriteToText(prefix, suffix, coder=BytesCoder())
            elif self.record_format == "avro":
                rows = rows | f"Rows of {kind}" >> beam.FlatMap(lambda rows: rows)
                write = WriteToAvro(prefix, avro_schema(kind), file_name_suffix=suffix)
            else:
                write = WriteToParquetBatched(prefix, arrow_schema(kind), file_name_suffix=suffix)
            _ = rows | f"Write {kind}" >> write


def _of_kind(batch: list[Record], kind: Kind, record_format: RecordFormat) -> Iterator[Any]:
    records = [record for record in batch if record.kind == kind]
    if not records:
        return
    if record_format == "jsonl":
        yield b"\n".join([encode_record(record) for record in records])
    elif record_format == "avro":
        yield [record_row(record) for record in records]
    else:
        yield pa.Table.from_pylist([parquet_row(record) for record in records], schema=arrow_schema(kind))


def remove_records(output: str) -> None:
    """Remove the files that an earlier run's `WriteRecords` left in `output`.

    A run overwrites only as many as it writes itself, so others of the earlier run would stay among its own.
    """
    storage = storage_at(output)
    for name in storage.list(RECORDS):
        if RECORD_FILE.fullmatch(name):
            storage.remove(f"{RECORDS}/{name}")


def remove_unfinished(output: str) -> None:
    """Remove what a run that failed or was killed left half written in an output on a local disk.

    Beam writes files in directories of its own beside their places, and removes these when all are written. In an
    object store an unfinished file is not there. To be called by who holds the lock.
    """
    directory = local_path(output)
    if directory is None:
        return
    for folder in ("", RECEIPTS, DEAD_LETTERS, RECORDS, REJECTS, FOLDER):
        durability.remove_unfinished(directory / folder)
    for kind in (RECORDS, REJECTS):
        for unfinished in (directory / kind).glob("beam-temp-*"):
            shutil.rmtree(unfinished, ignore_errors=True)


@dataclass(eq=False)
class WriteRejects(beam.PTransform[PCollection[Reject], None]):
    """Writes rejects as files: PCollection[Reject] -> Avro files `<prefix>-*.avro` (`schemas/reject.avsc`).

    Attributes:
        prefix: what the paths of the files begin with.
    """

    prefix: str

    def expand(self, rejects: PCollection[Reject]) -> None:
        _ = (
            rejects
            | "Reject rows" >> beam.Map(msgspec.structs.asdict)
            | "Write rejects" >> WriteToAvro(self.prefix, avro_schema("reject"), file_name_suffix=".avro")
        )


class WriteStreamingRejects(beam.DoFn):
    """PCollection[Reject] -> Avro files `<output>/rejects/<run_id>-*.avro`, one for each bundle that has rejects.

    Beam's own writer of Avro needs windows in a streaming job, and shards in each of them. A bundle that is tried again
    writes another file. With `durable` a file is on the disk before its bundle is committed.
    """

    def __init__(self, output: str, run_id: str, durable: bool = True) -> None:
        self._output = output
        self._run_id = run_id
        self._durable = durable

    def start_bundle(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def process(self, reject: Reject) -> None:
        self._rows.append(msgspec.structs.asdict(reject))

    def finish_bundle(self) -> None:
        if self._rows:
            content = BytesIO()
            fastavro.writer(content, avro_schema("reject"), self._rows, codec="deflate")
            name = f"{REJECTS}/{self._run_id}-{uuid4().hex[:12]}.avro"
            storage_at(self._output).write(name, [content.getvalue()], durable=self._durable)
            self._rows = []


@dataclass(eq=False)
class WriteSummary(beam.PTransform[PCollection[Summary], None]):
    """Writes what was counted: PCollection[Summary] of one element -> one file of JSON.

    So the launcher learns what the workers counted.

    Attributes:
        path: of the file. Workers and launcher both have to reach it.
    """

    path: str

    def expand(self, summary: PCollection[Summary]) -> None:
        _ = summary | "Write summary" >> beam.Map(_write_summary, self.path)


def _write_summary(summary: Summary, path: str) -> None:
    with writing(path), FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(msgspec.json.encode(summary))


def read_summary(path: str) -> Summary:
    """What `WriteSummary` wrote to `path`."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return msgspec.json.decode(file.read(), type=Summary)
