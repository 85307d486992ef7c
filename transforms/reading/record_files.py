"""The files of `--write_records`, read back: for whoever looks at records, not for the job, which never reads them."""

import re
from collections.abc import Iterator
from typing import BinaryIO

import fastavro

from schemas import KINDS, Record
from schemas.record import decode_record, record_of_row

RECORDS = "records"
"""The directory of an output that they are in."""

RECORD_FILE = re.compile(rf"({'|'.join(KINDS)})-\d{{5}}-of-\d{{5}}\.(jsonl|avro|parquet)")
"""Their names: the kind of their records, and their format."""

_ROWS = 256
"""Of a parquet file that are read together."""


def read_records(stream: BinaryIO, record_format: str) -> Iterator[Record]:
    """The records of a file, as they are asked for: what is behind the last of them is not read.

    Args:
        stream: the file. One of parquet must be able to seek.
        record_format: `jsonl`, `avro` or `parquet`.

    Raises:
        ValueError, KeyError, TypeError: it is not as `--write_records` writes it. Other errors come from the libraries.
    """
    if record_format == "jsonl":
        yield from (decode_record(line) for line in stream if line.strip())
    elif record_format == "avro":
        for row in fastavro.reader(stream):
            assert isinstance(row, dict)  # noqa: S101 - the schemas are records
            yield record_of_row(row)
    else:
        # It takes long to import, and a service that reads no such file does without.
        import pyarrow.parquet as parquet

        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=_ROWS):
            yield from (record_of_row(row) for row in batch.to_pylist())
