"""Rows as a table that fits the terminal, or as lines of JSON."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_LEAST = 8
"""Characters that a column keeps, however narrow the terminal is."""

_BETWEEN = "  "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, the header first. Columns of numbers are to the right.

    Args:
        header: what each column is called.
        rows: the texts of each row. What does not print is escaped.
        width: characters of a line; the widest columns give way. None for as many as it takes.
    """
    rows = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    while width is not None and sum(widths) + len(_BETWEEN) * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    numbers = [
        bool(rows) and all(row[column].replace(",", "").isdecimal() for row in rows) for column in range(len(header))
    ]
    return [
        _BETWEEN.join(
            _cut(cell, size).rjust(size) if is_number else _cut(cell, size).ljust(size)
            for cell, size, is_number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]


def terminal_width() -> int | None:
    """The characters of a line of standard output; None where that is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _shown(text: str) -> str:
    """A text of one line: a line break or an escape of a terminal in it must not be carried out."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False)
