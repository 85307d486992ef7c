"""Avro object container files, cut into blocks of rows.

What is damaged costs as little as can be. A value costs its row. Bytes that the schema does not fit cost the rest of
their block. A block that is not as long as it says costs what lies before the next sync marker. So does one that is
larger than it may be. What it may be, and how much may come of it, is in `transforms.reading.limits`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.reject import CONTENT_LIMIT
from transforms.reading.avro_codecs import CODECS, Decompress, decompressor
from transforms.reading.avro_datum import DamagedError, OddRowError, RowReader
from transforms.reading.avro_schema import SchemaError, parse_schema
from transforms.reading.blocks import Block, Broken, CutShortError
from transforms.reading.limits import Allowance, TooLargeError

MAGIC = b"Obj\x01"
_SYNC = 16
_MOST_ROWS = 1000
"""For a byte of a block that is not compressed. A number of rows above that is damaged."""


def avro_rows(chunks: Iterator[bytes], allowance: Allowance | None = None) -> Iterator[Block | Broken]:
    """The rows of an Avro file as dicts, in the types of `transforms.reading.rows`, and what could not be read.

    Args:
        chunks: of the file. They may also hold several such files, one after the other.
        allowance: for the file that they are of, whose bytes it counts; None: `chunks` are the file.
    """
    if allowance is None:
        allowance = Allowance()
        chunks = allowance.counting(chunks)
    return _Container(_Tape(chunks, allowance.limits.block), allowance).read()


_WRONG_LENGTH = "a block is not as long as it says"


class _FrameError(Exception):
    """Bytes that are not framed as a container file's are."""


class _LargeBlockError(_FrameError):
    """A block that says that it is larger than it may be."""

    def __init__(self, reason: str, count: int, length: int) -> None:
        super().__init__(reason)
        self.count = count
        self.length = length


@dataclass(slots=True)
class _Header:
    sync: bytes
    decompress: Decompress
    rows: RowReader


@dataclass(slots=True)
class _Refusal:
    """Why no block of a file can be read."""

    sync: bytes
    reason: str


class _Container:
    def __init__(self, tape: "_Tape", allowance: Allowance) -> None:
        self._tape = tape
        self._allowance = allowance
        self._limits = allowance.limits
        self._made = 0
        """Bytes that came of blocks."""
        self._index = 0
        """Of the next row."""
        self._told_cut = False
        """Whether some part was refused because the compressed stream around the file is cut short."""

    def read(self) -> Iterator[Block | Broken]:
        while True:
            head = self._tape.peek(CONTENT_LIMIT)
            begin = self._tape.passed
            try:
                header = self._header()
            except _FrameError as error:
                content, length, _ = self._tape.skip_past(None)
                yield self._broken(str(error), content, length, unread=True)
                return
            if isinstance(header, _Header):
                yield from self._blocks(header)
            else:
                rows = self._count_rows(header.sync)
                yield self._broken(header.reason, head, self._tape.passed - begin, rows, unread=True)
            if not self._tape.has(1):
                break
        if self._tape.cut and not self._told_cut:
            yield self._broken(self._tape.cut, b"", 0, unread=True)

    def _header(self) -> _Header | _Refusal:
        tape = self._tape
        if tape.take(len(MAGIC)) != MAGIC:
            raise _FrameError("it does not begin as an Avro file does")
        meta: dict[bytes, bytes] = {}
        while count := tape.long():
            if count < 0:
                tape.long()
            for _ in range(abs(count)):
                key = tape.take(tape.long())
                meta[key] = tape.take(tape.long())
                if tape.taken() > 2 * self._limits.schema:
                    raise _FrameError(
                        f"what comes before its first block has more than {2 * self._limits.schema} bytes"
                    )
        sync = tape.take(_SYNC)
        tape.forget()
        codec = meta.get(b"avro.codec", b"null").decode(errors="replace")
        decompress = decompressor(codec)
        if decompress is None:
            return _Refusal(sync, f"the codec {codec[:40]!r} is not known; known are {', '.join(CODECS)}")
        try:
            schema = parse_schema(meta.get(b"avro.schema", b""), self._limits)
            rows = RowReader(schema, self._limits)
        except (SchemaError, RecursionError) as error:
            return _Refusal(sync, f"its schema cannot be used: {error}")
        if not rows.holds_rows:
            return _Refusal(sync, f"its rows are {schema.told()}; records with the fields of activity are needed")
        if not rows.least:
            return _Refusal(sync, "its schema cannot be used: a row may take no bytes")
        return _Header(sync, decompress, rows)

    def _blocks(self, header: _Header) -> Iterator[Block | Broken]:
        """The blocks up to the end, or to where another file begins."""
        tape = self._tape
        confirmed = False
        while tape.has(1) and tape.peek(len(MAGIC)) != MAGIC:
            count: int | None = None
            try:
                count, size = self._count_and_size()
                block, mark = tape.take(size), tape.take(_SYNC)
                if sum(one == other for one, other in zip(mark, header.sync, strict=True)) < _SYNC // 2:
                    raise _FrameError(_WRONG_LENGTH)
            except _LargeBlockError as error:
                content, length, found = tape.skip_past(header.sync)
                told = found and length == error.length
                reason = str(error) if told or not found else _WRONG_LENGTH
                yield self._broken(reason, content, length, error.count if told else None, unread=not found)
                continue
            except _FrameError as error:
                content, length, found = tape.skip_past(header.sync)
                yield self._broken(_WRONG_LENGTH if found else str(error), content, length, count, unread=not found)
                continue
            tape.forget()
            yield from self._rows(header, count, block)
            self._index += count
            if mark == header.sync:
                confirmed = True
            else:
                yield self._broken("the sync marker of a block is damaged, its rows could be read", mark, _SYNC, 0)
                if not confirmed:
                    header.sync = mark  # maybe it is the header's that is damaged

    def _count_rows(self, sync: bytes) -> int:
        """The same for a file that is refused: how many rows it says it has."""
        tape = self._tape
        rows = 0
        while tape.has(1) and tape.peek(len(MAGIC)) != MAGIC:
            try:
                count, size = self._count_and_size()
                tape.take(size)
                if tape.take(_SYNC) != sync:
                    raise _FrameError
                tape.forget()
                rows += count
            except _FrameError:
                tape.skip_past(sync)
        return rows

    def _count_and_size(self) -> tuple[int, int]:
        """Rows and bytes of a block."""
        count, size = self._tape.long(), self._tape.long()
        most = self._limits.block
        if size < 0 or not 0 <= count <= max((size + 1) * _MOST_ROWS, most):
            raise _FrameError(f"a block of {count} rows in {size} bytes")
        if size > most:
            length = self._tape.taken() + size + _SYNC
            raise _LargeBlockError(f"a block of {size} bytes, of at most {most}", count, length)
        return count, size

    def _rows(self, header: _Header, count: int, block: bytes) -> Iterator[Block | Broken]:
        """The rows of a block, as far as they can be read."""
        limits = self._limits
        most = min(limits.block, max(self._allowance.most() - self._made, 0))
        try:
            body = header.decompress(block, most)
        except TooLargeError as error:
            # What was made before it was seen was made.
            self._made += most
            reason = f"a block of {len(block)} bytes unpacks to too much: {error}"
            if most < limits.block:
                reason += f" ({limits.ratio} for each byte of the file, above {limits.ratio_from})"
            yield _broken(self._index, _not_readable(reason), block, len(block), count)
            return
        except Exception as error:  # of any of the libraries
            reason = _not_readable(f"a block cannot be decompressed: {error}")
            yield _broken(self._index, reason, block, len(block), count)
            return
        self._made += len(body)
        start, end, at, values = self._index, self._index + count, 0, 0
        rows = []
        for index in range(start, end):
            try:
                if at >= len(body):
                    raise DamagedError(f"a block says that it has {count} rows, and has {index - self._index}")
                begin = at
                row, at = header.rows.read(body, at)
                if at - begin > limits.item:
                    raise OddRowError(f"a row of {at - begin} bytes, of at most {limits.item}", body[begin:at], at)
                rows.append(row)
                values += header.rows.spent()
                if values > limits.values or len(rows) >= limits.rows:
                    yield Block(start, rows, kind="rows")
                    rows, start, values = [], index + 1, 0
            except (OddRowError, DamagedError) as error:
                if rows:
                    yield Block(start, rows, kind="rows")
                rows, start, values = [], index + 1, 0
                if isinstance(error, DamagedError):
                    yield _broken(
                        index, _not_readable(error), body[at : at + CONTENT_LIMIT], len(body) - at, end - index
                    )
                    return
                yield _broken(index, str(error), error.content, len(error.content), 1)
                at = error.end
        if rows:
            yield Block(start, rows, kind="rows")
        if at < len(body):
            reason = f"a block has {len(body) - at} bytes more than the {count} rows that it says it has"
            yield _broken(end, _not_readable(reason), body[at : at + CONTENT_LIMIT], len(body) - at, None)

    def _broken(
        self, reason: str, content: bytes, length: int, rows: int | None = None, unread: bool = False
    ) -> Broken:
        """A part that holds so many of the next rows. unread: what comes after it is not looked for."""
        if self._tape.cut:
            self._told_cut = unread = True
        broken = _broken(self._index, _not_readable(self._tape.cut or reason), content, length, rows, unread)
        self._index += rows or 0
        return broken


def _broken(index: int, reason: str, content: bytes, length: int, rows: int | None, unread: bool = False) -> Broken:
    return Broken(index, reason, content[:CONTENT_LIMIT], length, rows, unread)


def _not_readable(reason: object) -> str:
    return f"not readable as Avro: {str(reason)[:300]}"


class _Tape:
    """Chunks as a file that can only be read on, and back to where `forget` was called last."""

    def __init__(self, chunks: Iterator[bytes], longest: int) -> None:
        self._chunks = chunks
        self._longest = longest
        self._held = bytearray()
        self._at = 0
        self.passed = 0
        """Bytes forgotten."""
        self.cut = ""
        """Why there are no more chunks, if there should be."""

    def has(self, size: int) -> bool:
        """Whether so many bytes are left."""
        while len(self._held) < self._at + size:
            try:
                chunk = next(self._chunks, b"")
            except CutShortError as error:
                self.cut = str(error)
                chunk = b""
            if not chunk:
                return False
            self._held += chunk
        return True

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        self.has(size)
        return bytes(self._held[self._at : self._at + size])

    def take(self, size: int) -> bytes:
        """The next bytes. Raises _FrameError."""
        if not 0 <= size <= self._longest:
            raise _FrameError(f"a part of {size} bytes")
        if not self.has(size):
            raise _FrameError("the file is cut short")
        self._at += size
        with memoryview(self._held) as held:  # copied once, and not twice
            return bytes(held[self._at - size : self._at])

    def taken(self) -> int:
        """Bytes read since `forget` was called last."""
        return self._at

    def long(self) -> int:
        """The next integer. Raises _FrameError."""
        number = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return (number >> 1) ^ -(number & 1)
        raise _FrameError("a number of more than 64 bits")

    def forget(self) -> None:
        """Let go of what was read."""
        del self._held[: self._at]
        self.passed += self._at
        self._at = 0

    def skip_past(self, mark: bytes | None) -> tuple[bytes, int, bool]:
        """Go on from the last `forget` to where `mark` ends, or to the end.

        Returns the first 64 KiB of what is passed, its length, and whether the mark was there.
        """
        self._at = 0
        content = self.peek(CONTENT_LIMIT)
        overlap = _SYNC - 1 if mark else 0  # the mark may begin in one chunk and end in the next
        begin = self.passed
        while True:
            found = self._held.find(mark) if mark else -1
            if found >= 0:
                self._at = found + _SYNC
                break
            self._at = max(len(self._held) - overlap, 0)
            self.forget()
            if not self.has(overlap + 1):
                self._at = len(self._held)
                break
        self.forget()
        length = self.passed - begin
        return content[:length], length, found >= 0
