"""Avro schemas: their JSON as types, every name resolved, and what a value of each may cost.

A schema says how much work a byte makes. Of two records, each with two fields of the next one, and so on, sixty levels
deep, a value takes no byte and has more parts than anyone can count. A record may have a field of its own type, and
then no value of it has an end. Such schemas are refused before anything is read by them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isinf
from typing import Any

from transforms.reading.limits import LIMITS, ReadLimits

_PRIMITIVES = {"null": 0, "boolean": 1, "float": 4, "double": 8, "int": 0, "long": 0, "bytes": 0, "string": 0}
"""And how many bytes a value takes, of those of which all take as many."""

_SIZED = frozenset({"null", "boolean", "float", "double", "fixed"})
"""Those of which all values take `AvroType.size` bytes."""

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

    What a value costs, which `parse_schema` finds out: `least`, the fewest bytes that it takes; `values`, how many
    values it consists of at most, itself included; `empty`, how many of these take no bytes. What is in arrays and maps
    is not in these numbers, nor is a value of a record within a value of the same record: `loops` says that there may
    be such.
    """

    name: str
    size: int = 0
    branches: list["AvroType"] = field(default_factory=list)
    fields: list[tuple[str, "AvroType"]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    logical: str | None = None
    scale: int = 0
    least: float = inf
    values: int = 1
    empty: int = 0
    loops: bool = False

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


def parse_schema(text: str | bytes, limits: ReadLimits = LIMITS) -> AvroType:
    """The schema in `text`, which is JSON. Raises SchemaError, also where it is beyond `limits`."""
    if len(text) > limits.schema:
        raise SchemaError(f"it has {len(text)} bytes, of at most {limits.schema}")
    try:
        schema = _parsed(json.loads(text), {}, "")
    except SchemaError:
        raise
    except RecursionError:
        raise SchemaError("nested too deep") from None
    except Exception as error:  # foreign JSON in any shape
        raise SchemaError(f"{type(error).__name__}: {error}"[:200]) from None
    _Costs(limits).find(schema)
    return schema


class _Costs:
    """Finds out what the values of types cost, and refuses types that cost too much."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._levels: dict[int, int] = {}
        """Of each type, by its id: how many types are in each other in it, itself included."""
        self._open: set[int] = set()
        self._order: list[AvroType] = []
        """Each type after those that are in it."""

    def find(self, schema: AvroType) -> None:
        """Set `least`, `values`, `empty` and `loops` of `schema` and of all types in it. Raises SchemaError."""
        self._walk(schema, 1)
        # A record that holds itself costs what is known of it so far. Where that changes, it is looked at again.
        changed, rounds = True, 0
        while changed and rounds < self._limits.depth:
            changed = sum(map(_set_least, self._order)) > 0
            rounds += 1
        for type_ in self._order:
            if isinf(type_.least):
                raise SchemaError("a record holds itself, so that its values have no end")
            _count_values(type_)
            self._check(type_)

    def _walk(self, type_: AvroType, level: int) -> int:
        """Visit the types in a type. Returns how many are in each other."""
        key = id(type_)
        if key in self._open:
            type_.loops = True
            return 0
        known = self._levels.get(key)
        if level + (known or 1) - 1 > self._limits.depth:
            raise SchemaError(f"types are nested deeper than {self._limits.depth} levels")
        if known is None:
            self._open.add(key)
            within = [self._walk(each, level + 1) for each in _within(type_)]
            self._open.discard(key)
            known = self._levels[key] = 1 + max(within, default=0)
            self._order.append(type_)
        return known

    def _check(self, type_: AvroType) -> None:
        limits = self._limits
        if type_.values > limits.values:
            raise SchemaError(f"a value consists of {type_.values:.3g} values, of at most {limits.values}")
        if type_.empty > limits.empty_values:
            raise SchemaError(
                f"{type_.empty:.3g} values in a value take no bytes (null), of at most {limits.empty_values}"
            )
        longest = max((len(name) for name in _names(type_)), default=0)
        if longest > limits.name:
            raise SchemaError(f"a name has {longest} characters, of at most {limits.name}")


def _within(type_: AvroType) -> list[AvroType]:
    return type_.branches or [each for _, each in type_.fields]


def _names(type_: AvroType) -> list[str]:
    return [*type_.symbols, *(name for name, _ in type_.fields)]


def _set_least(type_: AvroType) -> bool:
    """Returns whether that is news."""
    before = type_.least
    if type_.name == "record":
        type_.least = sum(each.least for _, each in type_.fields)
    elif type_.name == "union":
        type_.least = 1 + min((branch.least for branch in type_.branches), default=0)
    else:
        type_.least = type_.size if type_.name in _SIZED else 1
    return type_.least != before


def _count_values(type_: AvroType) -> None:
    if type_.name == "record":
        within = [each for _, each in type_.fields]
        type_.values = 1 + sum(each.values for each in within)
        type_.empty = sum(each.empty for each in within) + (type_.least == 0)
    elif type_.name == "union":
        type_.values = max((branch.values for branch in type_.branches), default=1)
        type_.empty = max((max(branch.empty - (branch.least == 0), 0) for branch in type_.branches), default=0)
    else:
        type_.empty = int(type_.least == 0)


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
        if not isinstance(size, int) or not 0 <= size < 2**63:
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
