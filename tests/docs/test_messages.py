"""The messages that the pages explain are those that the code writes."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.page import sections, tables
from tests.support.paths import ROOT

PAGES = {"docs/operations.md": "you see", "docs/aws.md": "message"}
"""Pages with tables of messages, and the head of the column that holds them."""

OTHERS = frozenset(
    (
        "CANCELLED: client cancelled",
        "ModuleNotFoundError: No module named 'transforms'",
        "Insufficient number of network buffers",
        "KinesisException: Service returned HTTP status code 500",
    )
)
"""Messages of Python, Beam and Flink."""

_CODE = re.compile(r"`([^`]+)`")
_WORD = re.compile(r"[\w'-]+")
_RUN = 3


def messages() -> Iterator[tuple[str, str]]:
    """(page, message) for each message that a page explains; words that are no message have no blank in them."""
    for page, head in PAGES.items():
        for section in sections(ROOT / page):
            for header, *rows in tables(section):
                if header[0] == head:
                    yield from ((page, text) for row in rows for text in _CODE.findall(row[0]) if " " in text)


def runs(text: str) -> set[tuple[str, ...]]:
    """Each run of so many words in a text, or all of its words if it has fewer."""
    words = _WORD.findall(text)
    size = min(_RUN, len(words))
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def strings() -> Iterator[str]:
    """The texts in the code, with a mark for what is filled in."""
    for package in ("commands", "pipeline", "transforms", "registry"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else " \0 " for part in node.values)


def test_every_message_that_a_page_explains_is_one_of_the_code() -> None:
    written = {run for text in strings() for part in re.split("\0|%[sdg]", text) for run in runs(part)}
    explained = [(page, text) for page, text in messages() if text not in OTHERS]
    assert len(explained) > 40
    assert [f"{page}: {text}" for page, text in explained if not runs(text) & written] == []


@pytest.mark.parametrize("text", sorted(OTHERS))
def test_a_message_of_others_is_on_a_page(text: str) -> None:
    assert text in [message for _, message in messages()]
