"""JSON Lines, cut into blocks of lines."""

from collections.abc import Iterator

from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import MAX_LINE, TOO_LONG
from transforms.reading.blocks import Block, Broken, CutShortError


def json_lines(chunks: Iterator[bytes], start: int = 0, end: int | None = None) -> Iterator[Block | Broken]:
    """Blocks of lines without their newlines; blank lines are among them. A line that is too long is a Broken.

    Args:
        chunks: the file from `start` on. If `start` is not 0, they begin one byte earlier: that byte tells whether a
            line starts at `start`.
        start: the byte from which on lines are given.
        end: only lines that start before this byte are given; None for all.
    """
    offset = start
    line = 1
    rest = b""
    if start:
        offset, rest = _after_newline(chunks, start - 1)
        if end is not None and offset >= end:
            return
    try:
        while True:
            stop = _last_newline(rest, offset, end)
            if stop is not None:
                lines = rest[:stop].split(b"\n")
                yield Block(offset, lines, "lines", line)
                line += len(lines)
                offset, rest = offset + stop + 1, rest[stop + 1 :]
                if end is not None and offset >= end:
                    return
            if len(rest) > MAX_LINE:
                length, after = _skip_line(chunks, len(rest))
                yield Broken(offset, TOO_LONG, rest[:CONTENT_LIMIT], length, line)
                line += 1
                offset, rest = offset + length + 1, after
                if end is not None and offset >= end:
                    return
                continue
            chunk = next(chunks, b"")
            if not chunk:
                break
            rest += chunk
    except CutShortError as cut:
        yield Broken(offset, str(cut), rest[:CONTENT_LIMIT], len(rest), line)
        return
    if rest:
        yield Block(offset, [rest], "lines", line)


def _last_newline(text: bytes, offset: int, end: int | None) -> int | None:
    """The index of the newline of the last whole line in `text` that starts before `end`; None if there is none.

    `text` begins at the byte `offset` of the file.
    """
    if end is not None:
        # The line that holds the range's last byte is the last one it owns.
        stop = text.find(b"\n", max(end - 1 - offset, 0))
        if stop >= 0:
            return stop
    stop = text.rfind(b"\n")
    return stop if stop >= 0 else None


def _after_newline(chunks: Iterator[bytes], offset: int) -> tuple[int, bytes]:
    """Skip to behind the first newline. `offset`: the byte at which `chunks` begin.

    Returns the byte behind the newline, and what has been read from there on.
    """
    for chunk in chunks:
        newline = chunk.find(b"\n")
        if newline >= 0:
            return offset + newline + 1, chunk[newline + 1 :]
        offset += len(chunk)
    return offset, b""


def _skip_line(chunks: Iterator[bytes], length: int) -> tuple[int, bytes]:
    """Skip the rest of a line of which `length` bytes have been read.

    Returns the length of the whole line, and what has been read behind its newline.
    """
    for chunk in chunks:
        newline = chunk.find(b"\n")
        if newline >= 0:
            return length + newline, chunk[newline + 1 :]
        length += len(chunk)
    return length, b""
