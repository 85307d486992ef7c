"""JSON text, cut into activities: JSON Lines, an array, or objects one after the other, in any mixture.

Lines are the common case, and the fast one: text is split at its line ends, and nothing more is looked at. When a line
turns out to hold no whole object, the text is cut anew from that line on, by values. Then arrays are entered, and what
stands between values is passed over. A value with a syntax error costs what lies before the next line that may begin a
value.
"""

from collections.abc import Iterator
from dataclasses import replace

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM, TOO_LONG
from transforms.reading.blocks import BLANK, CHUNK, Block, Broken, CutShortError
from transforms.reading.json_values import (
    ANSWER_BEGIN,
    ANSWER_END,
    ANSWER_END_LENGTH,
    BLANK_LINE,
    CLOSING_BRACKETS,
    LINE_END,
    RESYNC_LENGTH,
    Measure,
    NoEnd,
    has_more_values,
    next_value,
    resync_after,
    value_end,
)
from transforms.reading.limits import LIMITS, ReadLimits

NOT_CLOSED = "the array is not closed"
_ANSWER = 0
"""In place of a line's number: the array of an LRS's answer."""


class JsonText:
    """Iterates over the blocks of a JSON text, once.

    `chunks` begin at the byte `start` of the text. A value's position is that of its first byte; in a text that begins
    with `[` it is the value's number instead, from 0. by_value: whether to look for values from the beginning on,
    because it is known that the text does not begin with a line that holds one. limits: how long a value may be, and
    how many there are in a block.
    """

    def __init__(
        self, chunks: Iterator[bytes], start: int = 0, by_value: bool = False, limits: ReadLimits = LIMITS
    ) -> None:
        self._chunks = chunks
        self._limits = limits
        self._rest = b""
        """What is read and not given on yet."""
        self._ended = False
        """Whether nothing follows `_rest`."""
        self._cut: CutShortError | None = None
        self._start = start
        self._offset = start
        """Where `_rest` lies in the text."""
        self._line = 1
        """The number of the line that `_rest` begins in."""
        self._column = 0
        """How many bytes of its line are before `_rest`."""
        self._indent = 0
        """How many of them, at the beginning of the line, are blanks."""
        self._index: int | None = None
        """The number of the next value, where they are counted."""
        self._open: list[int] = []
        """The arrays that were entered: the line of each one's bracket, or 0 for the array in an LRS's answer."""
        self._answer_ends = False
        """Whether such an array was just closed."""
        self._tail = b""
        """A last value that is not whole, when nothing is left."""
        self._by_value = by_value
        self._recut_from: int | None = None

    @property
    def line_ends(self) -> int:
        """Line ends read so far."""
        return self._line - 1

    def __iter__(self) -> Iterator[Block | Broken]:
        self._look_at_the_beginning()
        while self._rest or not self._ended:
            if self._by_value:
                yield from self._values()
            else:
                yield from self._lines()
        if self._cut:
            lost = len(self._tail) + self._cut.length
            yield self._broken(str(self._cut), self._tail + self._cut.content, lost, unread=True)
        elif self._open:
            yield self._broken(NOT_CLOSED, self._tail, len(self._tail), unread=True)

    def _look_at_the_beginning(self) -> None:
        mark = b""
        while not mark and not self._ended and len(self._rest) <= self._limits.item:
            self._fill(len(self._rest) + 1)
            if not BOM.startswith(self._rest):
                mark = self._rest.removeprefix(BOM).lstrip(BLANK)[:1]
        if mark == b"[" and self._start == 0:
            self._index = 0
            self._by_value = True

    def _fill(self, length: int) -> None:
        """Read until `_rest` has so many bytes, or to the end."""
        parts, known = [self._rest], len(self._rest)
        while known < length and not self._ended:
            try:
                chunk = next(self._chunks, b"")
            except CutShortError as cut:
                self._cut = cut
                chunk = b""
            self._ended = not chunk
            parts.append(chunk)
            known += len(chunk)
        self._rest = b"".join(parts)

    def _pass(self, length: int) -> None:
        """Go on after the next `length` bytes."""
        if length:
            passed = self._rest[:length]
            line_start = passed.rfind(b"\n") + 1
            if line_start or self._indent == self._column:
                blanks = passed[line_start:]
                self._indent = (0 if line_start else self._indent) + len(blanks) - len(blanks.lstrip(b" \t"))
            self._column = length - line_start if line_start else self._column + length
            self._line += self._rest.count(b"\n", 0, length)
            self._offset += length
            self._rest = self._rest[length:]

    def _lines(self) -> Iterator[Block]:
        """The lines that are there as a whole."""
        length = self._rest.rfind(b"\n") + 1
        if not length:
            if self._cut or len(self._rest) > self._limits.item:
                self._by_value = True
                return
            if not self._ended:
                self._fill(len(self._rest) + 1)
                return
            length = len(self._rest)
        text, self._rest = self._rest[:length], self._rest[length:]
        lines = text.split(b"\n", self._limits.items)
        if len(lines) > self._limits.items:
            left = lines.pop()
            length -= len(left)
            text, self._rest = text[:length], left + self._rest
        elif not lines[-1]:
            lines.pop()
        offset, line = self._offset, self._line
        self._offset += length
        self._line += len(lines) if text.endswith(b"\n") else len(lines) - 1
        yield Block(offset, lines, kind="lines", size=length, line=line, recut=self._recut)
        if self._recut_from is not None:
            kept = sum(len(each) + 1 for each in lines[: self._recut_from])
            self._rest = text[kept:] + self._rest
            self._offset, self._line = offset + kept, line + self._recut_from
            self._by_value = True
            self._recut_from = None

    def _recut(self, index: int) -> None:
        self._recut_from = index

    def _values(self) -> Iterator[Block | Broken]:
        """The values that are there as a whole, and what cannot be read if that comes after them."""
        values = _Values(self._rest.decode("latin-1"), self._line, self._column, self._indent, self._limits)
        problem = self._find(values)
        if values.items or values.blank:
            yield self._block(values)
        self._pass(values.at)
        if problem is NoEnd.SYNTAX:
            yield self._skipped("a syntax error", values)
        elif problem is NoEnd.INCOMPLETE and self._ended:
            self._tail, self._rest = self._rest, b""
        elif problem is NoEnd.LATER:
            return
        elif problem is NoEnd.INCOMPLETE and len(self._rest) > self._limits.item:
            yield self._skipped(TOO_LONG, values)
        else:
            # A value that is not whole yet is looked at again when there is twice as much of it.
            length = len(self._rest)
            self._fill(max(min(2 * length, self._limits.item), length) + 1)
            if values.items and values.plain and self._index is None and not self._column:
                self._by_value = bool(self._open)

    def _block(self, values: "_Values") -> Block:
        if self._index is None:
            positions = [self._offset + start for start in values.starts]
        else:
            positions = list(range(self._index, self._index + len(values.items)))
            self._index += len(values.items)
        return Block(
            positions[0] if positions else self._offset,
            values.items,
            kind="elements",
            size=values.at,
            places=list(zip(positions, values.lines, strict=True)),
            blank=values.blank,
        )

    def _find(self, values: "_Values") -> NoEnd | None:
        """Put values into `values` up to the end of its text, or to one without an end. Returns why it has none."""
        ended = self._ended
        while True:
            if self._answer_ends and not self._pass_answer_end(values):
                return NoEnd.INCOMPLETE
            if not values.pass_between(ended, count_blank=not self._open and self._index is None):
                return None
            mark = values.text[values.at]
            if mark == "[":
                self._open.append(values.line)
                values.skip(1)
            elif mark == "]" and self._open:
                self._answer_ends = self._open.pop() == _ANSWER
                values.skip(1)
            else:
                end = self._end(values, mark)
                if self._enter_answer(values, end):
                    continue
                if isinstance(end, NoEnd):
                    return end
                values.add(end)
                if len(values.items) >= self._limits.items:
                    return NoEnd.LATER

    def _end(self, values: "_Values", mark: str) -> int | NoEnd:
        """Where the value ends that comes next and begins with `mark`."""
        text, at = values.text, values.at
        if self._open:
            return value_end(text, at, self._ended, values.dense)
        if mark == "{":
            end = value_end(text, at, self._ended, values.dense)
            return self._broken_line(values, end) if isinstance(end, NoEnd) else end
        if closing := CLOSING_BRACKETS.match(text, at):
            return closing.end()
        line_end = text.find("\n", at)
        if line_end >= 0:
            return line_end
        return len(text) if self._ended and not self._cut else NoEnd.INCOMPLETE

    def _broken_line(self, values: "_Values", why: NoEnd) -> int | NoEnd:
        """Where a value without an end ends nevertheless, outside of arrays: the decoder will say what is wrong."""
        if why is NoEnd.INCOMPLETE and not self._ended:
            return why
        found = resync_after(values.indent(), in_array=False).search(values.text, values.at)
        if found:
            return found.start()
        return len(values.text.removesuffix("\n")) if self._ended and not self._cut else NoEnd.INCOMPLETE

    def _enter_answer(self, values: "_Values", end: int | NoEnd) -> bool:
        """Enter an LRS's answer that is too long to be one value."""
        reach = end if isinstance(end, int) else len(values.text)
        if reach - values.at <= self._limits.item or end is NoEnd.SYNTAX:
            return False
        begin = ANSWER_BEGIN.match(values.text, values.at)
        if not begin:
            return False
        self._open.append(_ANSWER)
        values.skip(begin.end() - values.at)
        return True

    def _pass_answer_end(self, values: "_Values") -> bool:
        """Pass what follows the statements of an LRS's answer. Returns whether that is known."""
        found = ANSWER_END.match(values.text, values.at)
        if found:
            values.skip(found.end() - values.at)
        elif not self._ended and len(values.text) - values.at < ANSWER_END_LENGTH:
            return False
        self._answer_ends = False
        return True

    def _skipped(self, reason: str, values: "_Values") -> Broken:
        """Pass the value that `_rest` begins with, without keeping it: to its end if it is only too long, else to where
        to go on after it."""
        indent, line = values.indent(), self._line
        broken = self._broken(reason, b"", 0)
        structured = bool(self._open) or self._rest.startswith(b"{")
        measure = Measure() if structured and reason == TOO_LONG else None
        resync = resync_after(indent, bool(self._open)) if structured else LINE_END
        content, length, before = "", 0, ""
        end: int | None = None
        while self._rest and end is None:
            text = self._rest.decode("latin-1")
            ends = [measure.feed(text)] if measure else []
            if found := resync.search(before + text):
                ends.append(found.start() - len(before))
            end = min((end for end in ends if end is not None), default=None)
            content += text[: max(CONTENT_LIMIT - len(content), 0)]
            if end is None:
                before = (before + text)[-indent - RESYNC_LENGTH :]
            passed = len(text) if end is None else end
            length += passed
            self._pass(max(passed, 0))
            if not self._rest:
                self._fill(CHUNK)
        broken = replace(broken, content=content[:length].encode("latin-1")[:CONTENT_LIMIT])
        if end is not None:
            if self._open and self._open[-1] == line and self._rest.lstrip(BLANK).startswith(b"["):
                self._open.pop()  # arrays have a line each, and this one was not closed
        elif self._cut:
            broken = replace(broken, reason=str(self._cut), unread=True)
            length, self._cut = length + self._cut.length, None
        elif self._open:
            broken = replace(broken, reason=NOT_CLOSED if reason == TOO_LONG else reason, unread=True)
        if end is None:
            self._open = []
        return replace(broken, length=length)

    def _broken(self, reason: str, content: bytes, length: int, unread: bool = False) -> Broken:
        position = self._offset
        if self._index is not None:
            position = self._index
            self._index += 1
        return Broken(position, reason, content[:CONTENT_LIMIT], length, unread=unread, line=self._line)


class _Values:
    """The values that were found in a text, from its beginning up to `at`."""

    def __init__(self, text: str, line: int, column: int, indent: int, limits: ReadLimits) -> None:
        self.text = text
        self.dense = has_more_values(text, limits.values)
        """Whether it has so many values that they are not to be held at once."""
        self._limits = limits
        self._column = column
        self._indent = indent
        self.at = 0
        self.line = line
        """The number of the line that `at` is in."""
        self.items: list[bytes] = []
        self.starts: list[int] = []
        self.lines: list[int] = []
        self.blank = 0
        """Blank lines."""
        self.plain = True
        """Whether every line holds one value or none, and there is nothing else."""

    def skip(self, length: int) -> None:
        """Pass characters that belong to no value."""
        self.plain = False
        self._go_to(self.at + length)

    def add(self, end: int) -> None:
        """The value that begins at `at` ends at `end`."""
        if self.lines and self.lines[-1] == self.line:
            self.plain = False
        self.items.append(self.text[self.at : end].encode("latin-1"))
        self.starts.append(self.at)
        self.lines.append(self.line)
        begun = self.line
        self._go_to(end)
        self.plain = self.plain and self.line == begun

    def pass_between(self, ended: bool, count_blank: bool) -> bool:
        """Pass what stands between values. Returns whether something follows."""
        text, at = self.text, self.at
        after = next_value(text, at)
        if after == len(text) and not ended and after - at <= self._limits.item:
            # A line may begin here whose first bytes are blank.
            after = max(at, text.rfind("\n", at, after) + 1)
        passed = text[at:after]
        if "," in passed or "\x1e" in passed:
            self.plain = False
        if count_blank:
            begins = text[at - 1] == "\n" if at else not self._column
            self.blank += _blank_lines(passed, begins, ended and after == len(text))
        self._go_to(after)
        return after < len(text)

    def indent(self) -> int:
        """How far the line of `at` is indented, in characters."""
        line_start = self.text.rfind("\n", 0, self.at) + 1
        line = self.text[line_start : self.at]
        blanks = len(line) - len(line.lstrip(" \t"))
        if line_start:
            return blanks
        return self._indent + (blanks if self._indent == self._column else 0)

    def _go_to(self, at: int) -> None:
        self.line += self.text.count("\n", self.at, at)
        self.at = at


def _blank_lines(passed: str, begins: bool, ends: bool) -> int:
    """Blank lines in a text of nothing but what stands between values.

    begins: whether a line begins with it. ends: whether nothing follows it.
    """
    lines = passed.split("\n")
    last = lines.pop()
    if lines and not begins:
        lines = lines[1:]
    elif not lines and not begins:
        last = ""
    if ends and last:
        lines.append(last)
    return sum(not BLANK_LINE.sub("", line) for line in lines)
