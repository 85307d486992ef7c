"""Avro files of the output, read as any Avro tool reads them."""

from pathlib import Path
from typing import Any

import fastavro
import msgspec

from schemas import DeadLetter, Receipt


def read_part(path: Path) -> list[dict[str, Any]]:
    """Rows of a part as any Avro tool gives them, through fastavro's own reader."""
    with path.open("rb") as stream:
        return [row for row in fastavro.reader(stream) if isinstance(row, dict)]


def read_parts(directory: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(directory.glob("*.avro")) for row in read_part(path)]


def as_typed(row: dict[str, Any], kind: type[Receipt] | type[DeadLetter]) -> Receipt | DeadLetter:
    """The row as its type, times as epoch ms."""
    times = {
        name: value and round(value.timestamp() * 1000)
        for name, value in row.items()
        if name in ("first_attempt", "last_attempt", "settled_at")
    }
    return msgspec.convert({**row, **times}, kind)
