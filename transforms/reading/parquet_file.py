"""Parquet files, cut into blocks of rows."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Activity
from transforms.reading.blocks import CHUNK, Block, Broken, File


def parquet_rows(file: File) -> Iterator[Block | Broken]:
    """Blocks of dicts, with those columns of the file that activity has."""
    index = 0
    try:
        parquet = pq.ParquetFile(file, buffer_size=CHUNK, pre_buffer=False)
        columns = [name for name in parquet.schema_arrow.names if name in Activity.__struct_fields__]
        for batch in parquet.iter_batches(batch_size=2048, columns=columns):
            yield from _parquet_batch(index, _whole_milliseconds(batch))
            index += batch.num_rows
    except (pa.ArrowException, OSError, EOFError) as error:
        yield Broken(index, f"not readable as Parquet: {str(error)[:200]}", b"", 0)


def _parquet_batch(index: int, batch: Any) -> Iterator[Block | Broken]:
    """The rows of a batch that begins with row `index`. One that is not UTF-8 is a Broken, and costs no other row."""
    try:
        yield Block(index, batch.to_pylist(maps_as_pydicts="lossy"), kind="rows")
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield Broken(index, "not valid UTF-8", b"", 0)
            return
        half = batch.num_rows // 2
        yield from _parquet_batch(index, batch.slice(0, half))
        yield from _parquet_batch(index + half, batch.slice(half))


def _whole_milliseconds(batch: Any) -> Any:
    """`batch` with `occurred_at` in epoch milliseconds, if it is a timestamp.

    Arrow would make a datetime of it, and a datetime holds no nanoseconds.
    """
    column = batch.schema.get_field_index("occurred_at")
    if column < 0 or not pa.types.is_timestamp(batch.schema.field(column).type):
        return batch
    moments = batch.column(column)
    whole = moments.cast(pa.timestamp("ms", moments.type.tz), safe=False).cast(pa.int64())
    return batch.set_column(column, "occurred_at", whole)
