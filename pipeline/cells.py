"""Text in the cells of a terminal: how wide it is, how it is cut, and how rows become columns."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

ANY_WIDTH = 10_000
"""Cells of a line where no terminal shows it."""

_BETWEEN = "  "
_CUT = "…"


def clean(text: str) -> str:
    """A text of one line that does nothing to a terminal: what does not print becomes a question mark."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def width(text: str) -> int:
    """Cells that a clean text takes: two for a wide letter, none for an accent of its own."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, size: int) -> str:
    """A clean text in at most `size` cells, with a mark at its end if it was longer."""
    if width(text) <= size:
        return text
    kept, left = [], size - 1
    for letter in text:
        left -= _cells(letter)
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept) + _CUT if size > 0 else ""


def flow(parts: Sequence[str], size: int) -> list[str]:
    """Parts one after the other, on as many lines as they take; none is broken, and each line is cut to `size`."""
    lines: list[str] = []
    for part in parts:
        if lines and width(lines[-1]) + len(_BETWEEN) + width(part) <= size:
            lines[-1] += _BETWEEN + part
        else:
            lines.append(part)
    return [cut(line, size) for line in lines]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its first row.
        rank: columns of a greater rank go first where there is no room; those of rank 0 stay.
        right: whether it holds numbers.
        least: cells that its texts may be cut down to; None: they are not cut.
    """

    title: str
    rank: int = 0
    right: bool = False
    least: int | None = None


def columns(header: Sequence[Column], rows: Sequence[Sequence[str]], size: int, *, titled: bool = True) -> list[str]:
    """The lines of a table, no wider than `size` cells.

    Columns are left out by their rank, until the others have the room that they need at least. Then those that may be
    cut give way, the widest first; then lines are cut. Without titles, an empty column is left out.

    Args:
        header: of each column.
        rows: clean texts.
        size: cells of a line.
        titled: whether the titles are the first line.
    """
    lines = [[column.title for column in header], *rows] if titled else rows
    widths = [max((width(line[number]) for line in lines), default=0) for number in range(len(header))]
    shown = [number for number, wide in enumerate(widths) if wide]
    least = [
        wide if column.least is None else min(wide, column.least) for column, wide in zip(header, widths, strict=True)
    ]

    def taken(of: Sequence[int]) -> int:
        return sum(of[number] for number in shown) + len(_BETWEEN) * (len(shown) - 1)

    while taken(least) > size and any(header[number].rank for number in shown):
        shown.remove(max(shown, key=lambda number: (header[number].rank, number)))
    while taken(widths) > size:
        giving = [number for number in shown if widths[number] > least[number]]
        if not giving:
            break
        widths[max(giving, key=widths.__getitem__)] -= 1
    return [
        cut(
            _BETWEEN.join(_placed(line[number], widths[number], header[number].right) for number in shown).rstrip(),
            size,
        )
        for line in lines
    ]


def _placed(text: str, size: int, right: bool) -> str:
    text = cut(text, size)
    blank = " " * (size - width(text))
    return blank + text if right else text + blank
