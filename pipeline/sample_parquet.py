"""The sample's activity as a Parquet file."""

from collections.abc import Iterable
from itertools import islice
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

Fields = dict[str, Any]

_TAG = pa.struct([("type", pa.string()), ("name", pa.string())])
_RESPONSE = pa.struct(
    [
        ("response_id", pa.string()),
        ("item_reference", pa.string()),
        ("attempted", pa.bool_()),
        ("automarkable", pa.bool_()),
        ("score", pa.float64()),
        ("max_score", pa.float64()),
        ("revision", pa.int64()),
    ]
)
_SUBSCORE = pa.struct(
    [("id", pa.string()), ("title", pa.string()), ("items", pa.list_(pa.string())), ("tags", pa.list_(_TAG))]
)
PARQUET_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("organisation", pa.string()),
        ("lrs_id", pa.string()),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("activity_id", pa.string()),
        ("action", pa.string()),
        ("state", pa.string()),
        ("occurred_at", pa.timestamp("ms", "UTC")),
        ("seq", pa.int64()),
        ("session_duration", pa.float64()),
        ("num_questions", pa.float64()),
        ("status", pa.string()),
        ("pending_scoring", pa.bool_()),
        ("responses", pa.list_(_RESPONSE)),
        ("subscores", pa.list_(_SUBSCORE)),
        ("item_tags", pa.map_(pa.string(), pa.list_(_TAG))),
        ("metadata", pa.string()),
    ]
)
"""Activity in Parquet. `metadata` is a text in JSON, since Parquet has no map of mixed values."""


def write_parquet(file: IO[bytes], activities: Iterable[Fields]) -> None:
    """Write rows of `PARQUET_SCHEMA`."""
    rest = iter(activities)
    with pq.ParquetWriter(file, PARQUET_SCHEMA, compression="zstd") as writer:
        while rows := list(islice(rest, 10_000)):
            writer.write_table(pa.Table.from_pylist([_parquet_row(row) for row in rows], PARQUET_SCHEMA))


def _parquet_row(activity: Fields) -> Fields:
    row = activity.copy()
    if "metadata" in row:
        row["metadata"] = orjson.dumps(row["metadata"]).decode()
    if "item_tags" in row:
        row["item_tags"] = list(row["item_tags"].items())
    return row
