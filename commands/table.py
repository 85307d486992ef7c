"""Rows as a table that fits the terminal, or as lines of JSON."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LEAST = 8
"""Characters that a column keeps, however narrow the terminal is."""

_BETWEEN = "  "


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, first_to_go: Sequence[str] = ()
) -> list[str]:
    """The lines of a table, the header first. Columns of numbers are to the right.

    Args:
        header: what each column is called.
        rows: the texts of each row. What does not print is escaped.
        width: characters of a line; None for as many as it takes. Where a line has more, columns go, and then the
            widest ones give way.
        first_to_go: the names of columns that may go, in this order. One that is called `id` is cut last, since it is
            there to be copied.
    """
    columns = [_Column(name, [_shown(row[number]) for row in rows], 0) for number, name in enumerate(header)]
    for column in columns:
        column.width = max(len(cell) for cell in (column.name, *column.cells))
    for name in first_to_go:
        if width is None or _needed(columns) <= width:
            break
        columns = [column for column in columns if column.name != name]
    while width is not None and _needed(columns) > width:
        widest = max(columns, key=lambda column: (column.width > _LEAST and column.name != "id", column.width))
        if widest.width <= _LEAST:
            break
        widest.width -= 1
    lines = [[column.aligned(column.name) for column in columns]]
    lines += [[column.aligned(column.cells[number]) for column in columns] for number in range(len(rows))]
    return [_BETWEEN.join(line).rstrip() for line in lines]


@dataclass
class _Column:
    name: str
    cells: list[str]
    width: int

    def aligned(self, text: str) -> str:
        cut = text if len(text) <= self.width else text[: self.width - 1] + "…"
        is_number = all(cell.replace(",", "").isdecimal() for cell in self.cells)
        return cut.rjust(self.width) if is_number else cut.ljust(self.width)


def _needed(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_BETWEEN) * (len(columns) - 1)


def terminal_width() -> int | None:
    """The characters of a line of standard output; None where that is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _shown(text: str) -> str:
    """A text of one line: a line break or an escape of a terminal in it must not be carried out."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False)
