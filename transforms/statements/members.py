"""The members of a JSON object, by their places in the text: to cut some out and leave every other byte as it was."""

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_BLANK = re.compile(rb"[ \t\r\n]*+")
_NAME = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[^\s,\]}\"]++", re.DOTALL)
# What opens and closes, and strings, which may hold the same letters.
_BRACKET = re.compile(_STRING + rb"|[\[{]|[\]}]", re.DOTALL)


class Member(NamedTuple):
    """A member of an object.

    Attributes:
        name: without its escapes.
        start: the offset of the name's quote.
        value: the offset of its value.
        end: the offset after its value.
    """

    name: str
    start: int
    value: int
    end: int


class Edit(NamedTuple):
    """A part of a text, from `start` to `end`, that another takes the place of."""

    start: int
    end: int
    text: bytes = b""


def members(text: bytes, start: int) -> Iterator[Member]:
    """The members of the object that begins at an offset, one after the other.

    Args:
        text: JSON that has been checked. How deep it is nested makes no difference.
        start: the offset of the object's brace.
    """
    at = _after_blanks(text, start + 1)
    while text[at : at + 1] != b"}":
        name = _NAME.match(text, at)
        if name is None:
            raise ValueError("not an object of JSON")
        end = _end_of_value(text, name.end())
        yield Member(json.loads(name[1]), at, name.end(), end)
        at = _after_blanks(text, end)
        if text[at : at + 1] == b",":
            at = _after_blanks(text, at + 1)


def without(text: bytes, start: int, unwanted: Callable[[Member], bool]) -> list[Edit]:
    """The edits that take members out of the object that begins at an offset, each with one comma."""
    edits: list[Edit] = []
    last_kept: int | None = None
    cut_from: int | None = None
    for member in members(text, start):
        if unwanted(member):
            if last_kept is not None:
                edits.append(Edit(last_kept, member.end))
                last_kept = member.end
            elif cut_from is None:
                cut_from = member.start
            continue
        if last_kept is None and cut_from is not None:
            edits.append(Edit(cut_from, member.start))
            cut_from = None
        last_kept = member.end
    if cut_from is not None and last_kept is None:
        edits.append(Edit(cut_from, _closing(text, start)))
    return edits


def edited(text: bytes, edits: list[Edit]) -> bytes:
    """The text with all edits made. They must not overlap."""
    parts: list[bytes] = []
    done = 0
    for edit in sorted(edits):
        parts += text[done : edit.start], edit.text
        done = edit.end
    return b"".join((*parts, text[done:]))


def value_of(text: bytes, name: str) -> bytes | None:
    """The text of the member of that name of an object; of several the last one's, None if there is none."""
    found = [member for member in members(text, first_brace(text)) if member.name == name]
    return text[found[-1].value : found[-1].end] if found else None


def first_brace(text: bytes) -> int:
    """The offset of the first letter that is no blank."""
    return _after_blanks(text, 0)


def _closing(text: bytes, start: int) -> int:
    return _end_of_value(text, start) - 1


def _after_blanks(text: bytes, at: int) -> int:
    blanks = _BLANK.match(text, at)
    return at if blanks is None else blanks.end()


def _end_of_value(text: bytes, at: int) -> int:
    if text[at : at + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, at)
        if scalar is None:
            raise ValueError("not a value of JSON")
        return scalar.end()
    depth = 0
    for found in _BRACKET.finditer(text, at):
        letter = found[0]
        if letter in (b"{", b"["):
            depth += 1
        elif letter in (b"}", b"]"):
            depth -= 1
            if not depth:
                return found.end()
    raise ValueError("not a value of JSON")
