"""Where JSON values end in a text, and where to go on after one that has a syntax error.

Text here has one character for each byte (Latin-1), so that what a value holds need not be valid for its end to be
found: that is judged later, and NaN, control characters and invalid UTF-8 spoil one value and not the rest.
"""

import json
import re
from enum import Enum

from transforms.reading.activity import BOM

# Numbers are not converted: only where a value ends is asked for.
_scan = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode

_MARK = BOM.decode("latin-1")
# Runs are possessive: a place to come back to would be kept for each character, which is gigabytes of a blank file.
_BETWEEN_VALUES = re.compile(rf"(?:[ \t\r\n,\x1e]++|{_MARK})++")

BLANK_LINE = re.compile(rf"(?:[ \t\r]++|{_MARK})*+")
CLOSING_BRACKETS = re.compile(r"[\]}]+")

_NEAR_THE_END = 16
"""Characters. An error that text has only because it is cut off lies no further from its end, an open string aside."""

_MORE = r'"more"\s*:\s*(?:null|"[^"\\]*(?:\\.[^"\\]*)*")'
ANSWER_BEGIN = re.compile(rf'\{{\s*(?:{_MORE}\s*,\s*)?"statements"\s*:\s*\[', re.DOTALL)
"""What an LRS's answer to a query for statements has before the first of them."""
ANSWER_END = re.compile(rf"\s*(?:,\s*{_MORE}\s*)?\}}", re.DOTALL)
"""What it has after the bracket that closes them."""
ANSWER_END_LENGTH = 64 * 1024


def next_value(text: str, at: int) -> int:
    """Where the next value begins, from `at` on.

    Passed over are blanks, commas, byte order marks, and the record separators of RFC 7464.
    """
    between = _BETWEEN_VALUES.match(text, at)
    return between.end() if between else at


class NoEnd(Enum):
    """Why the end of a value was not found."""

    LATER = "there are values enough before it"
    INCOMPLETE = "the value goes on after the end of the text"
    SYNTAX = "a syntax error"


def has_more_values(text: str, most: int) -> bool:
    """Whether the values of `text` may be more than `most`, by the marks that stand before each."""
    return len(text) > most and text.count(",") + text.count("[") + text.count("{") > most


def value_end(text: str, at: int, ended: bool, dense: bool = False) -> int | NoEnd:
    """Where the value ends that begins at `at`.

    Args:
        text: begins before the value.
        at: where the value begins in it.
        ended: whether nothing follows `text`.
        dense: whether `text` has so many values that they are not to be held at once: then objects are measured by
            their brackets and quotes, and whether there is an error in them is for the decoder to say.
    """
    if dense and text[at] == "{":
        measured = Measure().feed(text, at)
        return NoEnd.INCOMPLETE if measured is None else measured
    try:
        end = _scan(text, at)[1]
    except RecursionError:
        # That it is too deep is for the decoder to say.
        measured = Measure().feed(text, at)
        return NoEnd.INCOMPLETE if measured is None else measured
    except json.JSONDecodeError as error:
        near = 0 if ended else _NEAR_THE_END
        cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()) - near
        return NoEnd.INCOMPLETE if cut_off else NoEnd.SYNTAX
    if text[at] in '{["':
        return end
    if end < len(text) and text[end] in ",] \t\r\n":
        return end
    # A number may go on: "-0", "." and "5".
    if not ended and end >= len(text) - _NEAR_THE_END:
        return NoEnd.INCOMPLETE
    return end if end == len(text) else NoEnd.SYNTAX


class Measure:
    """Finds where a JSON value ends that comes piece by piece, by nothing but its brackets and quotes."""

    _outside = re.compile(r'["{}\[\]]')
    _in_string = re.compile(r'["\\]')

    def __init__(self) -> None:
        self._depth = 0
        self._string = False
        self._escaped = False

    def feed(self, text: str, at: int = 0) -> int | None:
        """The index after the value's last character; None if it goes on after `text`."""
        if self._escaped and at < len(text):
            at += 1
            self._escaped = False
        while found := (self._in_string if self._string else self._outside).search(text, at):
            at = found.end()
            mark = found[0]
            if mark == "\\":
                if at == len(text):
                    self._escaped = True
                    return None
                at += 1
            elif mark == '"':
                self._string = not self._string
            else:
                self._depth += 1 if mark in "{[" else -1
            if not self._string and self._depth <= 0:
                return at
        return None


def resync_after(indent: int, in_array: bool) -> re.Pattern[str]:
    """Matches the line end after which to go on when a value has a syntax error.

    indent: how far the line of the value is indented. The next line that may begin a value is one that is indented no
    further and opens an object or array. Where lines are not indented, and no array is open, it is any line that does
    not close brackets: so a line that is cut off costs itself only.
    """
    if not indent and not in_array:
        return re.compile(r"\n(?=[^ \t\]}])")
    return re.compile(rf"\n(?=[ \t]{{0,{indent}}}(?:{_MARK})?[{{\[])")


LINE_END = re.compile("\n")
RESYNC_LENGTH = 8
"""Characters, and the indent: no match is longer, with what is looked at after it."""
