"""One JSON array, cut into blocks of its elements, each with its bytes as they are."""

import json
from collections.abc import Iterator

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import MAX_LINE, TOO_LONG
from transforms.reading.blocks import CHUNK, Block, Broken, CutShortError


def array_elements(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """Blocks of the elements of a JSON array, each as it is spelled. What follows a syntax error is one Broken.

    `chunks` begin with the opening bracket, or with white space before it.
    """
    return _ArrayReader(chunks).blocks()


class _ArrayReader:
    """Finds where elements end with the scanner of the json module, on text of one character per byte.

    What an element holds is judged later: so NaN, control characters and invalid UTF-8 spoil one element, not the rest.
    """

    # Numbers are not converted: only where an element ends is asked for.
    _scan = staticmethod(json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode)

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._text = ""
        self._at = 0
        self._index = 0
        self._cut = "the array is not closed"
        self._ended = False
        self._damaged = False

    def blocks(self) -> Iterator[Block | Broken]:
        self._next_mark()
        self._at += 1  # the opening bracket
        first = 0
        items: list[bytes] = []
        size = 0
        mark = self._next_mark()
        while mark not in ("]", ""):
            element = self._element()
            if isinstance(element, bytes):
                items.append(element)
                size += len(element)
            if items and (not isinstance(element, bytes) or size >= CHUNK):
                yield Block(first, items, kind="elements")
                first, items, size = self._index, [], 0
            if isinstance(element, Broken):
                yield element
                first = self._index
                if self._ended:
                    return
            if element is None:
                break
            mark = self._next_mark()
            if mark != ",":
                break
            self._at += 1
            self._next_mark()
        if items:
            yield Block(first, items, kind="elements")
        if mark != "]":
            yield self._rest(self._cut if self._ended else "a syntax error")
            return
        self._at += 1
        if self._next_mark():
            yield self._rest("more follows the array")
        elif self._damaged:
            yield self._rest(self._cut)

    def _more(self) -> bool:
        try:
            chunk = next(self._chunks, b"")
        except CutShortError as cut:
            self._cut = str(cut)
            self._ended = self._damaged = True
            self._chunks = iter(())
            return False
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return bool(chunk)

    def _next_mark(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while self._at < len(self._text):
                mark = self._text[self._at]
                if mark not in " \t\r\n":
                    return mark
                self._at += 1
            if not self._more():
                return ""

    def _element(self) -> bytes | Broken | None:
        """The element that starts here; Broken if it is too long; None, and nothing consumed, if there is none."""
        try:
            end = self._scan(self._text, self._at)[1]
            # A number may go on in the next chunk: "-0" and ".5".
            whole = self._text[end - 1] in '}]"' or self._text[end : end + 1] in (",", "]", " ", "\t", "\r", "\n")
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            found = self._measured()
            if not isinstance(found, int):
                return found
            end = found
        element = self._text[self._at : end].encode("latin-1")
        self._at = end
        self._index += 1
        return element

    def _measured(self) -> int | Broken | None:
        """Where the element that starts here ends, by its brackets; Broken if it is too long; None if it is no JSON."""
        measure = _ElementEnd()
        head = ""
        seen = 0  # characters of the element that were dropped: it is too long to keep
        looked = self._at
        while True:
            end = measure.feed(self._text, looked)
            if end is not None:
                break
            if len(self._text) - self._at > MAX_LINE:
                head = head or self._text[self._at : self._at + CONTENT_LIMIT]
                seen += len(self._text) - self._at
                self._at = len(self._text)
            looked = len(self._text) - self._at
            if not self._more():
                if seen:
                    return Broken(self._index, self._cut, head.encode("latin-1"), seen + len(self._text) - self._at)
                return None
        length = seen + end - self._at
        if length > MAX_LINE:
            head = head or self._text[self._at : self._at + CONTENT_LIMIT]
            self._at = end
            self._index += 1
            return Broken(self._index - 1, TOO_LONG, head.encode("latin-1"), length)
        try:
            scanned: int = self._scan(self._text, self._at)[1]
            return None if self._text[scanned:end].strip(" \t\r\n") else scanned
        except RecursionError:
            return end  # a bracketed whole; that it is too deep is for the decoder to say
        except ValueError:
            return None

    def _rest(self, reason: str) -> Broken:
        """All that follows, consumed."""
        content = self._text[self._at : self._at + CONTENT_LIMIT].encode("latin-1")
        length = len(self._text) - self._at
        self._at = len(self._text)
        while self._more():
            if len(content) < CONTENT_LIMIT:
                content = (content + self._text.encode("latin-1"))[:CONTENT_LIMIT]
            length += len(self._text)
            self._at = len(self._text)
        return Broken(self._index, reason, content, length)


class _ElementEnd:
    """Where a JSON value ends, fed piece by piece, by nothing but its brackets and quotes."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int) -> int | None:
        """The index after the value's last character, None if it goes on after `text`."""
        for index in range(at, len(text)):
            mark = text[index]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif mark == "\\":
                    self._escaped = True
                elif mark == '"':
                    self._in_string = False
                    if not self._depth:
                        return index + 1
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                if self._depth == 0:
                    return index
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
            elif mark == "," and not self._depth:
                return index
        return None
