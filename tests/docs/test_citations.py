"""Every citation in the repository opens: documents, their sections, links of Markdown with their anchors.

In code a section is cited as `docs/spec/NAME.md section N`, or `sections N, M and K`; a heading without a number as
`docs/NAME.md, 'Heading'`; in Markdown both are links. Numbers of an issue tracker are cited nowhere: who reads the code
may not have it.
"""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.page import anchors, sections
from tests.support.paths import ROOT

_URL = re.compile(r"https?://[^\s)\"'`>]+")
_DOCUMENT = re.compile(r"[\w.@/-]*\w\.md\b")
_NUMBERS = r"\d+(?:(?:, | and |, and | to )\d+)*"
_SECTIONS = re.compile(rf"([\w./-]*\w\.md) sections? ({_NUMBERS})")
_BARE_SECTION = re.compile(r"(?<!\.md )\bsections? (?=\d)")
_STANDARD = re.compile(rf"\bRFC \d+,? sections? {_NUMBERS}")
_HEADING = re.compile(r"([\w./-]*\w\.md), '([^']+)'")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_CODE_SPAN = re.compile(r"`[^`]*`")
_FENCE = re.compile(r"^(```|~~~).*?^\1$", re.MULTILINE | re.DOTALL)
_WRONG_ON_PURPOSE = ("tests/docs/test_citations.py",)
_ISSUE = re.compile(r"\bissues?[\s#*/]+\d", re.IGNORECASE)
_LINE_END = re.compile(r"\s*\n[\s#*/]*")
"""A citation may go on in the next line of a comment."""


def texts() -> Iterator[tuple[str, str]]:
    """The text files that git has, or would take, by their path from the root."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")  # noqa: S603
    for name in sorted(filter(None, names)):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            yield name, content.decode()


@cache
def _anchors(page: Path) -> set[str]:
    return anchors(page)


@cache
def _titles(page: Path) -> list[str]:
    return [section.title for section in sections(page)]


def problems(name: str, text: str) -> Iterator[str]:
    """What in the file `name`, with this text, cites something that cannot be opened."""
    if name.endswith(".md"):
        yield from _page_problems(name, text)
        text = _LINK.sub("", text)
    else:
        text = _LINE_END.sub(" ", text)
    text = _URL.sub("", text)
    for document in sorted(set(_DOCUMENT.findall(text))):
        if not _file(name, document).is_file():
            yield f"{document} is not in the repository"
    for document, numbers in _SECTIONS.findall(text):
        for number in re.findall(r"\d+", numbers):
            if _file(name, document).is_file() and not _has_section(_file(name, document), number):
                yield f"{document} has no section {number}"
    for document, title in _HEADING.findall(text):
        if _file(name, document).is_file() and title not in _titles(_file(name, document)):
            yield f"{document} has no heading {title!r}"
    for found in _BARE_SECTION.finditer(_STANDARD.sub("", text)):
        yield f"a section without its document: {text[found.start() - 30 : found.end() + 10]!r}"


def _page_problems(name: str, text: str) -> Iterator[str]:
    for label, target in _LINK.findall(_CODE_SPAN.sub("", _FENCE.sub("", text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / unquote(path) if path else ROOT / name
        if not page.exists():
            yield f"the link to {target} leads nowhere"
        elif anchor and (page.suffix != ".md" or anchor not in _anchors(page)):
            yield f"{target}: the page has no such heading"
        numbers = re.findall(r"\bsections? (\d+)", label)
        if any(not anchor.startswith(f"{number}-") for number in numbers):
            yield f"the link {label!r} leads to {target}"


def _file(name: str, document: str) -> Path:
    """A document as it is cited: from the root; in a page, from where that is, too."""
    beside = (ROOT / name).parent / document
    return beside if name.endswith(".md") and beside.is_file() else ROOT / document


def _has_section(page: Path, number: str) -> bool:
    return any(title.startswith(f"{number}. ") for title in _titles(page))


def test_every_citation_opens() -> None:
    files = [(name, text) for name, text in texts() if name not in _WRONG_ON_PURPOSE]
    assert [f"{name}: {problem}" for name, text in files for problem in problems(name, text)] == []


def test_no_number_of_an_issue_is_cited() -> None:
    assert [f"{name}: {found.group()!r}" for name, text in texts() for found in _ISSUE.finditer(text)] == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.py", "# docs/spec/records.md section 2", ""),
        ("a.py", "# docs/spec/records.md\n    # sections 2, 3\n# and 4", ""),
        ("a.py", "# docs/spec/records.md sections 1 to 4", ""),
        ("a.py", "# docs/spec/records.md section 99", "docs/spec/records.md has no section 99"),
        ("a.py", "# docs/spec/records.md sections 2\n# and 77", "docs/spec/records.md has no section 77"),
        ("a.py", "# records.md section 2", "records.md is not in the repository"),
        ("a.py", "# docs/spec/nothing.md", "docs/spec/nothing.md is not in the repository"),
        ("a.py", "# (section\n# 5)", "a section without its document: "),
        ("a.py", "# docs/spec/records.md, section 2", "a section without its document: "),
        ("a.py", "# RFC 6749, section 4.4", ""),
        ("a.py", "# https://example.org/there.md", ""),
        ("a.py", "# docs/spec/records.md, 'Late activity'", ""),
        ("a.py", "# docs/spec/records.md, 'Never'", "docs/spec/records.md has no heading 'Never'"),
        ("docs/a.md", "[records](spec/records.md#2-keys-order-duplicates)", ""),
        ("docs/a.md", "[records](spec/records.md#keys)", "spec/records.md#keys: the page has no such heading"),
        ("docs/a.md", "[records](records.md)", "the link to records.md leads nowhere"),
        ("docs/a.md", "[section 3](spec/records.md#2-keys-order-duplicates)", "the link 'section 3' leads to "),
        ("docs/a.md", "see section 3", "a section without its document: "),
        ("docs/a.md", "![a picture](growth.svgz)", "the link to growth.svgz leads nowhere"),
    ],
)
def test_what_is_found_wrong(name: str, text: str, problem: str) -> None:
    found = list(problems(name, text))
    assert [told.startswith(problem) for told in found] == ([True] if problem else [])


@pytest.mark.parametrize("text", ["issue " + "4", "Issues\n# " + "12", "issue " + "#7"])
def test_a_number_of_an_issue_is_found(text: str) -> None:
    assert _ISSUE.search(text)
