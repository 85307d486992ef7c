"""A file that is one JSON array, cut into blocks of its elements, each with the bytes that it has in the file."""

import json
from collections.abc import Iterator

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import MAX_LINE, TOO_LONG
from transforms.reading.blocks import CHUNK, Block, Broken, CutShortError


def array_elements(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """Blocks of the elements of a JSON array. What follows a syntax error is one Broken.

    Args:
        chunks: the file, from its opening bracket on or from white space before that.
    """
    return _ArrayReader(chunks).blocks()


class _ArrayReader:
    """Finds where elements end, with the scanner of the json module.

    The scanner reads text. Each byte is one character of it (latin-1), so every file is text, and an element can be
    given on with its bytes. What is in an element is judged later. So NaN, control characters and invalid UTF-8 cost
    one element and not the rest of the file.
    """

    # Only the end of an element is wanted, so numbers are not converted.
    _scan = staticmethod(json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode)

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._text = ""
        self._offset = 0
        self._index = 0
        self._cut = "the array is not closed"
        self._ended = False
        self._damaged = False

    def blocks(self) -> Iterator[Block | Broken]:
        self._next_character()
        self._offset += 1  # the opening bracket
        first = 0
        items: list[bytes] = []
        size = 0
        character = self._next_character()
        while character not in ("]", ""):
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
            character = self._next_character()
            if character != ",":
                break
            self._offset += 1
            self._next_character()
        if items:
            yield Block(first, items, kind="elements")
        if character != "]":
            yield self._rest(self._cut if self._ended else "a syntax error")
            return
        self._offset += 1
        if self._next_character():
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
        self._text = self._text[self._offset :] + chunk.decode("latin-1")
        self._offset = 0
        return bool(chunk)

    def _next_character(self) -> str:
        """The next character that is not blank, without taking it; "" at the end of the file."""
        while True:
            while self._offset < len(self._text):
                character = self._text[self._offset]
                if character not in " \t\r\n":
                    return character
                self._offset += 1
            if not self._more():
                return ""

    def _element(self) -> bytes | Broken | None:
        """Take the element that starts here. Broken if it is too long; None, and nothing is taken, if there is none."""
        try:
            end = self._scan(self._text, self._offset)[1]
            # A number that ends with the text may go on in the next chunk: "-0" and then ".5".
            whole = self._text[end - 1] in '}]"' or self._text[end : end + 1] in (",", "]", " ", "\t", "\r", "\n")
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            measured = self._measured()
            if not isinstance(measured, int):
                return measured
            end = measured
        element = self._text[self._offset : end].encode("latin-1")
        self._offset = end
        self._index += 1
        return element

    def _measured(self) -> int | Broken | None:
        """Where the element that starts here ends, by its brackets. Broken if it is too long; None if it is no JSON."""
        measure = _ElementEnd()
        head = ""
        dropped = 0  # characters of an element that is too long to keep
        start = self._offset
        while True:
            end = measure.feed(self._text, start)
            if end is not None:
                break
            if len(self._text) - self._offset > MAX_LINE:
                head = head or self._text[self._offset : self._offset + CONTENT_LIMIT]
                dropped += len(self._text) - self._offset
                self._offset = len(self._text)
            start = len(self._text) - self._offset
            if not self._more():
                if dropped:
                    dropped += len(self._text) - self._offset
                    return Broken(self._index, self._cut, head.encode("latin-1"), dropped)
                return None
        length = dropped + end - self._offset
        if length > MAX_LINE:
            head = head or self._text[self._offset : self._offset + CONTENT_LIMIT]
            self._offset = end
            self._index += 1
            return Broken(self._index - 1, TOO_LONG, head.encode("latin-1"), length)
        try:
            scanned: int = self._scan(self._text, self._offset)[1]
            return None if self._text[scanned:end].strip(" \t\r\n") else scanned
        except RecursionError:
            return end  # its brackets are closed; the decoder will say that they are nested too deep
        except ValueError:
            return None

    def _rest(self, reason: str) -> Broken:
        """Take all that follows."""
        content = self._text[self._offset : self._offset + CONTENT_LIMIT].encode("latin-1")
        length = len(self._text) - self._offset
        self._offset = len(self._text)
        while self._more():
            if len(content) < CONTENT_LIMIT:
                content = (content + self._text.encode("latin-1"))[:CONTENT_LIMIT]
            length += len(self._text)
            self._offset = len(self._text)
        return Broken(self._index, reason, content, length)


class _ElementEnd:
    """Finds the end of a JSON value in text that comes in pieces, by nothing but brackets and quotes."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, start: int) -> int | None:
        """Go on at `start`. Returns the index behind the value's last character; None if it goes on behind `text`."""
        for index in range(start, len(text)):
            character = text[index]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
                    if not self._depth:
                        return index + 1
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                if self._depth == 0:
                    return index
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
            elif character == "," and not self._depth:
                return index
        return None
