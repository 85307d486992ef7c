"""The Avro schemas as Arrow schemas, for Parquet. They are in a file of their own since pyarrow is slow to import."""

from functools import cache
from typing import Any

import pyarrow as pa

from schemas import avro_schema

_PRIMITIVES = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "bytes": pa.binary(),
}


@cache
def arrow_schema(name: str) -> pa.Schema:
    """`schemas/<name>.avsc` for Parquet, which has fewer types.

    A union of long and double is a double, which is exact up to 2**53. A map is a text in JSON, since a map of Parquet
    holds one type and few tools read it. A timestamp-millis is a timestamp in UTC.
    """
    return pa.schema([_field(field["name"], field["type"]) for field in avro_schema(name)["fields"]])


def _field(name: str, avro: Any) -> pa.Field:
    nullable = isinstance(avro, list) and "null" in avro
    return pa.field(name, _type(avro), nullable=nullable)


def _type(avro: Any) -> pa.DataType:
    if isinstance(avro, list):
        branches = [branch for branch in avro if branch != "null"]
        if set(map(str, branches)) == {"long", "double"}:
            return pa.float64()
        (only,) = branches
        return _type(only)
    if isinstance(avro, str):
        return _PRIMITIVES[avro]
    if avro.get("logicalType") == "timestamp-millis":
        return pa.timestamp("ms", tz="UTC")
    kind = avro["type"]
    if kind == "array":
        return pa.list_(pa.field("item", _type(avro["items"]), nullable=False))
    if kind == "record":
        return pa.struct([_field(field["name"], field["type"]) for field in avro["fields"]])
    if kind in ("map", "enum"):
        return pa.string()
    return _type(kind)
