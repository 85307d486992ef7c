"""Avro object container files, cut into blocks of rows."""

from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

import fastavro

from schemas.reject import CONTENT_LIMIT
from transforms.reading.blocks import CHUNK, Block, Broken, CutShortError


def avro_rows(chunks: Iterator[bytes]) -> Iterator[Block | Broken]:
    """A block of dicts for each block of an Avro file. A damaged block and all that follows it are one Broken."""
    stream = _Stream(chunks)
    index = 0
    try:
        # Invalid UTF-8 costs its record, not the block: it is escaped here, and ActivityDecoder refuses it.
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
    """The records of a block as far as they can be read, and what stopped that."""
    rows: list[Any] = []
    try:
        rows.extend(block)
    except Exception as error:
        return rows, error
    return rows, None


class _Stream:
    """Chunks as a file that can be read, but not sought in. It knows what was read of it since `mark`."""

    # Far above what any writer makes, so that a damaged length does not fill the memory.
    _LONGEST_READ = 256 * 1024 * 1024

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._offset = 0
        self._position = 0
        self.mark()

    def mark(self) -> None:
        """From here on, what is read counts for `head` and `marked`."""
        self.head = bytearray()
        """The first 64 KiB that were read since the mark."""
        self.marked = 0
        """Bytes that were read since the mark."""

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if size > self._LONGEST_READ:
            raise ValueError(f"a block of {size} bytes")
        content = self._chunk[self._offset : self._offset + size]
        self._offset += len(content)
        while len(content) < size:
            self._chunk, self._offset = next(self._chunks, b""), 0
            if not self._chunk:
                break
            more = self._chunk[: size - len(content)]
            self._offset = len(more)
            content += more
        self._position += len(content)
        self.marked += len(content)
        if len(self.head) < CONTENT_LIMIT:
            self.head += content[: CONTENT_LIMIT - len(self.head)]
        return content

    def drain(self) -> None:
        """Read on to the end, or as far as that is possible."""
        try:
            while self.read(CHUNK):
                pass
        except CutShortError:
            return
