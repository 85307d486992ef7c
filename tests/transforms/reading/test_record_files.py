"""What `--write_records` wrote is read back as the same records, whatever the format."""

import io
from typing import Any

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from registry.sample_delivery import sample_record
from schemas import KINDS, Kind, Record, avro_schema
from schemas.arrow import arrow_schema
from schemas.record import encode_record, parquet_row, record_row
from transforms.reading.record_files import read_records


def written(record: Record, record_format: str) -> io.BytesIO:
    """A file of one record, encoded as `transforms.write` does."""
    stream = io.BytesIO()
    if record_format == "jsonl":
        stream.write(encode_record(record) + b"\n")
    elif record_format == "avro":
        fastavro.writer(stream, avro_schema(record.kind), [record_row(record)])
    else:
        table: Any = pa.Table.from_pylist([parquet_row(record)], schema=arrow_schema(record.kind))
        parquet.write_table(table, stream)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("record_format", ["jsonl", "avro", "parquet"])
def test_a_record_comes_back(kind: Kind, record_format: str) -> None:
    record = sample_record(kind, "school", None)
    (read,) = read_records(written(record, record_format), record_format)
    # A column of numbers has doubles: the values are the same, and may be written otherwise.
    assert read == msgspec.structs.replace(record, body=read.body)
    assert msgspec.json.decode(read.body) == msgspec.json.decode(record.body)
