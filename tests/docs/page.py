"""A page of `docs/`, cut into what a test needs of it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_HEADING = re.compile(r"(#{1,6}) +(.+?) *#*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Fenced:
    """A fenced block: its language, its lines, and the plain paragraphs between it and the next block."""

    language: str
    text: str
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """What stands under one heading and above the next, of any level; `line` is the heading's, from 1."""

    title: str
    level: int
    line: int
    lines: list[str] = field(default_factory=list)
    blocks: list[Fenced] = field(default_factory=list)


def sections(page: Path) -> list[Section]:
    """The sections of a page, in order; the first is what stands before any heading. Headings in fences are none."""
    found = [Section("", 0, 0)]
    fence = language = ""
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        here = found[-1]
        if fence:
            if line.strip() == fence:
                here.blocks.append(Fenced(language, "\n".join(inside)))
                fence = ""
            else:
                inside.append(line)
        elif opening := _FENCE.fullmatch(line):
            fence, language, inside = opening[1], opening[2].strip(), []
        elif heading := _HEADING.fullmatch(line):
            found.append(Section(heading[2], len(heading[1]), number))
        else:
            here.lines.append(line)
            if here.blocks:
                here.blocks[-1].after.append(line)
    assert not fence, f"{page}: a fence is not closed"
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for section in sections(page)[1:]:
        text = _LINK.sub(r"\1", section.title).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        unique = anchor
        while unique in found:
            unique, number = f"{anchor}-{number}", number + 1
        found.add(unique)
    return found


def tables(section: Section) -> list[list[list[str]]]:
    """The tables of a section: rows of cells, the header first and without the line of dashes."""
    found: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in [*section.lines, ""]:
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
            if not all(re.fullmatch(":?-+:?", cell) for cell in cells):
                rows.append(cells)
        elif rows:
            found.append(rows)
            rows = []
    return found
