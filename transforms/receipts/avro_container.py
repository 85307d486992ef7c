"""Avro object container files, laid out by hand so that a journal can be one.

fastavro writes a container in one go. A journal grows by one block at a time, and each block must reach the file in one
write. This module knows how a container is framed (Avro 1.11 specification, "Object Container Files"): magic, metadata
and sync marker, then blocks of count, size, data and sync marker. It knows nothing of the rows inside a block. The
codec is always `null`: no compression.

Reading is by hand too, because a file may be damaged: a power cut can leave zeros, or anything, where the last pages
were to be. A reader goes on behind the damage, at the next block that is whole, and says what it left out. fastavro's
readers raise whatever the damage leads to.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import fastavro
from fastavro.schema import SchemaParseException

from transforms.storage import StorageError

MAGIC = b"Obj\x01"
"""The first bytes of every container."""

SYNC_SIZE = 16
"""Bytes of a sync marker."""

MAX_BLOCK_BYTES = 256 * 1024 * 1024
"""A length in a file that is larger than this is damage, and must not become an attempt to allocate that much memory.

It is far above what a journal writes: a block of a page, or of one row that holds a record of at most 16 MiB.
"""


_SCANNED = 1 << 20


class NotAContainerError(StorageError):
    """The file is not an Avro container that this job can read. The text says which file it is, and what to do."""


class TornError(ValueError):
    """The file ends inside its header or inside a block, or is damaged there, and no whole block follows.

    `whole` is where the last whole block ends, in bytes; 0 if the header is damaged.
    """

    def __init__(self, whole: int) -> None:
        super().__init__(f"cut short after byte {whole}")
        self.whole = whole


def long_bytes(number: int) -> bytes:
    """A 64-bit signed integer as an Avro int or long: zigzag, then seven bits a byte, low bits first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def header(schema: dict[str, Any], sync: bytes) -> bytes:
    """The start of a container of rows of `schema`, whose blocks end with `sync`: SYNC_SIZE random bytes."""
    metadata = {b"avro.codec": b"null", b"avro.schema": json.dumps(schema, separators=(",", ":")).encode()}
    pairs = [long_bytes(len(name)) + name + long_bytes(len(value)) + value for name, value in metadata.items()]
    return MAGIC + long_bytes(len(pairs)) + b"".join(pairs) + long_bytes(0) + sync


def block(count: int, data: bytes, sync: bytes) -> bytes:
    """A block of `count` rows, which `data` holds one after the other."""
    return b"".join((long_bytes(count), long_bytes(len(data)), data, sync))


@dataclass(frozen=True, slots=True)
class Header:
    """What the start of a container says. `length` is its size in bytes: the first block begins there."""

    schema: dict[str, Any]
    sync: bytes
    length: int


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """`count` encoded rows, which `data` holds one after the other.

    The block ends before byte `end` of the file. With its frame it has `size` bytes.
    """

    count: int
    data: bytes
    end: int
    size: int


class _Source:
    """Reads exact numbers of bytes from a stream, and knows the offset that it has come to.

    Its methods raise EOFError when the stream ends too early, or when what they read cannot be right.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.offset = 0

    def can_seek(self) -> bool:
        return self._stream.seekable()

    def go_to(self, offset: int) -> None:
        self._stream.seek(offset)
        self.offset = offset

    def after_each(self, mark: bytes, start: int) -> Iterator[int]:
        """The offsets behind each place where `mark` stands, from `start` on. The caller may move in between."""
        before = b""
        while True:
            self.go_to(start)
            piece = self._stream.read(_SCANNED)
            if not piece:
                return
            window = before + piece
            at = window.find(mark)
            while at >= 0:
                yield start - len(before) + at + len(mark)
                at = window.find(mark, at + 1)
            before = window[1 - len(mark) :]
            start += len(piece)

    def take(self, size: int) -> bytes:
        data = self._stream.read(size)
        while len(data) < size:  # A remote stream may answer with less than it was asked for.
            more = self._stream.read(size - len(data))
            if not more:
                raise EOFError
            data += more
        self.offset += size
        return data

    def long(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
            if shift > 63:
                raise EOFError

    def length(self) -> int:
        size = self.long()
        if not 0 <= size <= MAX_BLOCK_BYTES:
            raise EOFError
        return size

    def bytes(self) -> bytes:
        return self.take(self.length())


def _read_header(source: _Source, name: str) -> Header:
    try:
        if source.take(len(MAGIC)) != MAGIC:
            raise NotAContainerError(f"{name} is not an Avro file: move it away; the job wrote no such file")
        metadata = {}
        while count := source.long():
            if count < 0:  # Then the size of these pairs in bytes follows, which nobody needs here.
                source.long()
            for _ in range(abs(count)):
                key = source.bytes()
                metadata[key] = source.bytes()
        sync = source.take(SYNC_SIZE)
    except EOFError:
        raise TornError(0) from None
    codec = metadata.get(b"avro.codec", b"null").decode("utf-8", "replace")
    if codec != "null":
        raise NotAContainerError(f"{name} is compressed ({codec}): put back the part as the job wrote it")
    try:
        schema = json.loads(metadata[b"avro.schema"])
        plain(schema)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, SchemaParseException):
        raise NotAContainerError(f"{name} has no readable Avro schema: move it away") from None
    return Header(schema, sync, source.offset)


class Reader:
    """Reads a container block by block: iterate over it once. Memory holds one block at a time.

    Where the file is damaged, reading goes on at the next whole block: every block ends with the file's sync marker.

    Args:
        stream: the file, at its beginning. If it can seek, what is behind a damage is read.
        name: what errors call the file.
        expected: what the header says, for a file of which it is known. It counts if the header cannot be read.
        start: where to begin, at the end of a block (`EncodedBlock.end`); 0: at the first one. The stream must be able
            to seek.

    Attributes:
        header: of the file.
        lost: the damaged ranges that were passed over so far, as offsets of their beginning and end.

    Raises:
        NotAContainerError: the file is something else, or compressed.
        TornError: its header is damaged; from iterating, after the last whole block of a file that does not end there.
    """

    def __init__(self, stream: BinaryIO, name: str, expected: Header | None = None, start: int = 0) -> None:
        self._source = _Source(stream)
        self.lost: list[tuple[int, int]] = []
        self._expected_end = 0
        try:
            self.header = _read_header(self._source, name)
        except (TornError, NotAContainerError):
            if expected is None:
                raise
            self.header = expected
            self._source.go_to(0)
        if start > self._source.offset:
            self._source.go_to(start)

    def __iter__(self) -> Iterator[EncodedBlock]:
        source = self._source
        while True:
            start = source.offset
            try:
                block = self._block()
            except EOFError:
                if source.offset == start:
                    return  # Not a byte was left: the end, and no cut.
                self.lost.append((start, self._next_whole(start, self._expected_end)))
                continue
            yield block

    def _block(self) -> EncodedBlock:
        """The block that begins here. Raises EOFError if there is none."""
        source = self._source
        start = self._expected_end = source.offset
        count = source.long()
        data = source.bytes()
        self._expected_end = source.offset + SYNC_SIZE
        if source.take(SYNC_SIZE) != self.header.sync or not 0 < count <= len(data):
            raise EOFError
        return EncodedBlock(count, data, source.offset, source.offset - start)

    def _next_whole(self, start: int, expected_end: int) -> int:
        """Go to the next whole block behind `start`. Raises TornError if there is none.

        It begins where the damaged block says that it ends, if that is no part of the damage, or behind a sync marker.
        """
        if not self._source.can_seek():
            raise TornError(start) from None
        markers = self._source.after_each(self.header.sync, start)
        for offset in (expected_end, *markers) if expected_end > start else markers:
            self._source.go_to(offset)
            try:
                self._block()
            except EOFError:
                continue
            self._source.go_to(offset)
            return offset
        raise TornError(start) from None


def plain(schema: Any) -> Any:
    """`schema`, parsed for fastavro, without its logical types: a time is read as epoch ms, and costs no datetime."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: strip(value) for name, value in node.items() if name != "logicalType"}
        return [strip(value) for value in node] if isinstance(node, list) else node

    return fastavro.parse_schema(strip(schema))
