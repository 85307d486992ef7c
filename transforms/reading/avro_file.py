"""Avro object container files, cut into blocks of rows."""

from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

import fastavro

from schemas.reject import CONTENT_LIMIT
from transforms.reading.blocks import CHUNK, Block, Broken, CutShortError


def avro_rows(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """A block of dicts for every block of an Avro file; a damaged block and all that follows is one Broken."""
    stream = _Stream(chunks)
    index = 0
    try:
        # Invalid UTF-8 spoils a record, not its block: the decoder finds and refuses what escaped.
        reader = fastavro.block_reader(cast(IO[bytes], stream), handle_unicode_errors="surrogateescape")
        stream.mark()
        end = stream.tell()
        for block in reader:
            rows, damage = _avro_block(block)
            if rows:
                yield Block(index, rows, kind="rows")
                index += len(rows)
            if damage:
                raise damage
            stream.mark()
            end = block.offset + block.size
        if stream.tell() != end:
            raise EOFError("the file is cut short")
    except Exception as error:  # fastavro raises whatever the damage leads to
        stream.drain()
        reason = str(error) or "the file is cut short"
        yield Broken(index, f"not readable as Avro: {reason[:200]}", bytes(stream.head), stream.marked)


def _avro_block(block: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """The records of a block as far as they can be read, and what stopped it."""
    rows: list[Any] = []
    try:
        rows.extend(block)
    except Exception as error:
        return rows, error
    return rows, None


class _Stream:
    """Chunks as a file that can only be read on, and that knows what was read of it since `mark`."""

    # Far above what any writer makes; a damaged length must not fill the memory.
    _LONGEST_READ = 256 * 1024 * 1024

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._position = 0
        self.mark()

    def mark(self) -> None:
        self.head = bytearray()
        """The first 64 KiB read since the mark."""
        self.marked = 0
        """Bytes read since the mark."""

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if size > self._LONGEST_READ:
            raise ValueError(f"a block of {size} bytes")
        content = self._chunk[self._at : self._at + size]
        self._at += len(content)
        while len(content) < size:
            self._chunk, self._at = next(self._chunks, b""), 0
            if not self._chunk:
                break
            more = self._chunk[: size - len(content)]
            self._at = len(more)
            content += more
        self._position += len(content)
        self.marked += len(content)
        if len(self.head) < CONTENT_LIMIT:
            self.head += content[: CONTENT_LIMIT - len(self.head)]
        return content

    def drain(self) -> None:
        """Read to the end, or as far as can be."""
        try:
            while self.read(CHUNK):
                pass
        except CutShortError:
            return
