"""An LRS's answer to a query for statements, cut into the statements as they were sent.

The answer is a StatementResult of the xAPI specification: `{"statements": [...], "more": "..."}`. Each statement is the
part of the answer between two commas, byte for byte, so that numbers keep their spelling and keys their order.
"""

from collections.abc import Iterator
from typing import NoReturn

import msgspec

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM, TOO_LONG
from transforms.reading.blocks import CHUNK, Block, Broken
from transforms.reading.json_values import Measure, NoEnd, value_end
from transforms.reading.limits import MAX_LINE

_BLANK = " \t\r\n"
_NO_ANSWER = "is no object with statements"
_MARK = BOM.decode("latin-1")


class PageError(ValueError):
    """What an LRS sent is no answer with statements. The text says what is wrong with it."""


class StatementPage:
    """Iterates over the blocks of one answer, once. Memory is bounded by the longest statement that is read.

    Args:
        chunks: the answer's bytes.
        start: the number of its first statement, counted over all pages of a query.

    Attributes:
        more: what the answer gives as the address of the next page; empty where it gives none. To be read after the
            last block.
        count: statements that were found so far.
    """

    def __init__(self, chunks: Iterator[bytes], start: int = 0) -> None:
        self._chunks = chunks
        self._text = ""
        self._at = 0
        self._ended = False
        self._inside = False
        """Whether the object has begun."""
        self._start = start
        self.more = ""
        self.count = 0

    def __iter__(self) -> Iterator[Block | Broken]:
        """The blocks.

        Raises:
            PageError: it is no such answer. Blocks before the fault have been given.
        """
        found = False
        if self._next() == _MARK[0]:
            for mark in _MARK:
                self._take(mark)
        self._take("{")
        self._inside = True
        while self._next() != "}":
            name = self._value(_MEMBER_LIMIT)
            self._take(":")
            if name == b'"statements"' and self._next() == "[":
                found = True
                yield from self._statements()
            else:
                value = self._value(MAX_LINE)
                if name == b'"more"':
                    self.more = _more(value)
            if self._next() == ",":
                self._at += 1
        if not found:
            _refuse("holds no statements")

    def _statements(self) -> Iterator[Block | Broken]:
        self._take("[")
        items: list[bytes] = []
        size = 0
        while self._next() != "]":
            end = self._end(MAX_LINE)
            if end is None:
                if items:
                    yield self._block(items, size)
                    items, size = [], 0
                yield self._too_long()
            else:
                items.append(self._text[self._at : end].encode("latin-1"))
                size += end - self._at
                self._at = end
                if size >= CHUNK:
                    yield self._block(items, size)
                    items, size = [], 0
            if self._next() == ",":
                self._at += 1
            elif self._next() != "]":
                _refuse("is no JSON")
        self._at += 1
        if items:
            yield self._block(items, size)

    def _block(self, items: list[bytes], size: int) -> Block:
        start = self._start + self.count
        self.count += len(items)
        return Block(start, items, kind="elements", size=size)

    def _too_long(self) -> Broken:
        """Pass a statement that is too long, without keeping it."""
        measure = Measure()
        content, length = "", 0
        while True:
            end = measure.feed(self._text, self._at)
            passed = self._text[self._at : end]
            content += passed[: max(CONTENT_LIMIT - len(content), 0)]
            length += len(passed)
            self._at += len(passed)
            if end is not None:
                self.count += 1
                return Broken(self._start + self.count - 1, TOO_LONG, content.encode("latin-1"), length)
            if not self._fill():
                _refuse("breaks off in a statement")

    def _value(self, limit: int) -> bytes:
        """The JSON value that comes next, of at most `limit` bytes."""
        self._next()
        end = self._end(limit)
        if end is None:
            _refuse("holds a value that is too long")
        value = self._text[self._at : end]
        self._at = end
        return value.encode("latin-1")

    def _end(self, limit: int) -> int | None:
        """Where the value ends that comes next; None if it is longer than `limit`."""
        while True:
            end = value_end(self._text, self._at, self._ended)
            if end is NoEnd.SYNTAX:
                _refuse("is no JSON")
            if not isinstance(end, NoEnd):
                return end if end - self._at <= limit else None
            if len(self._text) - self._at > limit:
                return None
            # What was looked at in vain is looked at again when there is twice as much of it.
            wanted = 2 * (len(self._text) - self._at)
            if not self._fill():
                _refuse("breaks off")
            while len(self._text) - self._at < wanted and self._fill():
                pass

    def _next(self) -> str:
        """The next character that is no blank."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                _refuse("breaks off" if self._inside else _NO_ANSWER)

    def _take(self, mark: str) -> None:
        if self._next() != mark:
            _refuse("is no JSON" if self._inside else _NO_ANSWER)
        self._at += 1

    def _fill(self) -> bool:
        """Read on. Returns whether there was more."""
        chunk = b"" if self._ended else next(self._chunks, b"")
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return bool(chunk)


_MEMBER_LIMIT = 64 * 1024
"""Bytes that the name of a member may have."""


def _more(value: bytes) -> str:
    if value == b"null":
        return ""
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        _refuse("has a `more` that is no text")


def _refuse(what: str) -> NoReturn:
    raise PageError(what)
