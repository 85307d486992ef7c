"""Avro schemas: their JSON as types, every name resolved."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PRIMITIVES = {"null": 0, "boolean": 1, "float": 4, "double": 8, "int": 0, "long": 0, "bytes": 0, "string": 0}
"""And how many bytes a value takes, of those of which all take as many."""

_MOST_DIGITS = 1000
"""Decimals of more digits are read as the bytes that they are."""


class SchemaError(ValueError):
    """What is no schema of Avro. The message says why."""


@dataclass(eq=False, slots=True)
class AvroType:
    """A type. Named ones may contain themselves.

    `name` is a primitive's, or `array`, `map`, `union`, `record`, `enum`, `fixed`. `branches` are a union's types, or
    the one type of an array's items. A map is encoded like an array of records of a key and a value: that record is its
    one branch. `size`: the bytes of a value, where all values of the type have as many. `logical`: what the values
    mean, where that is known and fits the type; Avro ignores what does not fit.
    """

    name: str
    size: int = 0
    branches: list["AvroType"] = field(default_factory=list)
    fields: list[tuple[str, "AvroType"]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    logical: str | None = None
    scale: int = 0

    def told(self) -> str:
        """The name of the type, or those of a union's."""
        return " or ".join(branch.name for branch in self.branches) if self.name == "union" else self.name


_MEANINGS = {
    ("long", 0): {
        "timestamp-millis",
        "timestamp-micros",
        "timestamp-nanos",
        "local-timestamp-millis",
        "local-timestamp-micros",
        "local-timestamp-nanos",
        "time-micros",
    },
    ("int", 0): {"date", "time-millis"},
    ("string", 0): {"uuid"},
    ("fixed", 16): {"uuid"},
    ("fixed", 12): {"duration"},
}
"""By a type's name and size. There are also decimals, of bytes and of fixed of any size."""


def parse_schema(text: str | bytes) -> AvroType:
    """The schema in `text`, which is JSON. Raises SchemaError."""
    try:
        return _parsed(json.loads(text), {}, "")
    except SchemaError:
        raise
    except RecursionError:
        raise SchemaError("nested too deep") from None
    except Exception as error:  # foreign JSON in any shape
        raise SchemaError(f"{type(error).__name__}: {error}"[:200]) from None


def _parsed(schema: Any, names: dict[str, AvroType], namespace: str) -> AvroType:
    if isinstance(schema, list):
        return AvroType("union", 0, [_parsed(branch, names, namespace) for branch in schema])
    if isinstance(schema, str):
        return _named(schema, names, namespace)
    if not isinstance(schema, Mapping) or "type" not in schema:
        raise SchemaError(f"{json.dumps(schema)[:60]} is not a type")
    kind = schema["type"]
    if not isinstance(kind, str):
        return _parsed(kind, names, namespace)
    if kind in _PRIMITIVES:
        return _with_meaning(AvroType(kind, _PRIMITIVES[kind]), schema)
    if kind == "array":
        return AvroType("array", 0, [_parsed(schema["items"], names, namespace)])
    if kind == "map":
        values = _parsed(schema["values"], names, namespace)
        return AvroType("map", 0, [AvroType("record", fields=[("key", AvroType("string")), ("value", values)])])
    if kind in ("record", "error", "enum", "fixed"):
        return _defined(kind, schema, names, namespace)
    return _named(kind, names, namespace)


def _named(name: str, names: dict[str, AvroType], namespace: str) -> AvroType:
    if name in _PRIMITIVES:
        return AvroType(name, _PRIMITIVES[name])
    for full in (_full_name(name, namespace), name):
        if full in names:
            return names[full]
    raise SchemaError(f"the type {name!r} is not known")


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _defined(kind: str, schema: Mapping[str, Any], names: dict[str, AvroType], namespace: str) -> AvroType:
    """A type that has a name, under which it may be used again, and within itself."""
    full = _full_name(schema["name"], schema.get("namespace", namespace) or "")
    if kind == "fixed":
        size = schema["size"]
        if not isinstance(size, int) or size < 0:
            raise SchemaError(f"{full}: a fixed of size {size!r}")
        names[full] = _with_meaning(AvroType("fixed", size), schema)
    elif kind == "enum":
        names[full] = AvroType("enum", symbols=[str(symbol) for symbol in schema["symbols"]])
    else:
        # Known before its fields are read: they may name it.
        record = names[full] = AvroType("record")
        inner = full.rpartition(".")[0]
        record.fields = [(str(entry["name"]), _parsed(entry["type"], names, inner)) for entry in schema["fields"]]
    return names[full]


def _with_meaning(type_: AvroType, schema: Mapping[str, Any]) -> AvroType:
    """`type_` with the meaning that `schema` gives to its values."""
    logical = schema.get("logicalType")
    if logical in _MEANINGS.get((type_.name, type_.size), ()):
        type_.logical = logical
    elif logical == "decimal" and type_.name in ("bytes", "fixed"):
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision <= _MOST_DIGITS:
            type_.logical, type_.scale = logical, scale
    elif type_.name == "string" and (logical == "datetime" or schema.get("sqlType") == "DATETIME"):
        type_.logical = "datetime"  # BigQuery's
    return type_
