"""Byte ranges of JSON text, so that several workers can share a large file."""

import re
from collections.abc import Iterator

# A line end between two objects or arrays. It lies between two values: inside one a comma would stand before it, and
# text holds no line ends.
_BOUNDARY = re.compile(rb"[}\]]\r?\n(?=(?:\xef\xbb\xbf)?[{\[])")
_LONGEST = 8
"""Bytes: no boundary is longer, with what is looked at after it."""


def owned_part(chunks: Iterator[bytes], at: int, start: int, end: int) -> tuple[int, Iterator[bytes]]:
    """What the byte range [`start`, `end`) of a text owns: where it begins, and its bytes.

    A range owns what lies between the first boundary at or after its start and the first one at or after its end. A
    boundary is a line end between two objects or arrays that no comma separates. So ranges share out a text whatever
    is in it. A text without boundaries is all the first one's.

    `chunks` begin at `at`, which is `begin_of(start)`.
    """
    if start == 0:
        return 0, _up_to(chunks, 0, end)
    held = b""
    for chunk in chunks:
        held += chunk
        line_end = _boundary(held, start - 1 - at)
        if line_end is not None:
            first = at + line_end + 1
            if first >= end:
                break
            return first, _up_to(_chained(held[line_end + 1 :], chunks), first, end)
        if at + len(held) > end + _LONGEST:
            break
        given = max(len(held) - _LONGEST, 0)
        at, held = at + given, held[given:]
    return end, iter(())


def begin_of(start: int) -> int:
    """Where to read from, so that `owned_part` can tell whether a boundary lies right before `start`."""
    return max(start - 3, 0)


def _boundary(text: bytes, least: int) -> int | None:
    """The index of the first line end at or after `least` that is a boundary."""
    for found in _BOUNDARY.finditer(text, max(least - 2, 0)):
        if found.end() - 1 >= least:
            return found.end() - 1
    return None


def _chained(chunk: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if chunk:
        yield chunk
    yield from chunks


def _up_to(chunks: Iterator[bytes], at: int, end: int) -> Iterator[bytes]:
    """`chunks`, which begin at `at`, up to the first boundary at or after `end`."""
    held = b""
    for chunk in chunks:
        if not held and at + len(chunk) + 2 * _LONGEST < end:
            yield chunk
            at += len(chunk)
            continue
        held += chunk
        line_end = _boundary(held, end - 1 - at)
        if line_end is not None:
            yield held[: line_end + 1]
            return
        given = max(len(held) - _LONGEST, 0)
        if given:
            yield held[:given]
        at, held = at + given, held[given:]
    if held:
        yield held
