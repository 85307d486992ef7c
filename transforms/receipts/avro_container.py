"""Avro object container files, laid out by hand so that a journal can be one.

fastavro writes a container in one go; a journal grows one block at a time and each block must reach the file in one
write. This module knows the framing (Avro 1.11 specification, "Object Container Files": magic, metadata, sync marker,
then blocks of count, size, data, sync marker) and nothing about what is inside a block. The codec is always `null`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import fastavro

MAGIC = b"Obj\x01"
SYNC_SIZE = 16

# Far above what a journal writes in one block (it starts a new one at 4 MiB, and a record is at most 16 MiB): a size
# beyond it is damage, and must not become an attempt to allocate that much.
MAX_BLOCK = 256 * 1024 * 1024


class NotAContainerError(ValueError):
    """The bytes are not an Avro container this job can read. The text says which file and why."""


class TornError(ValueError):
    """The file ends inside its header or a block. `whole` is the length in bytes of what is sound before that."""

    def __init__(self, whole: int) -> None:
        super().__init__(f"cut short after byte {whole}")
        self.whole = whole


def long_bytes(number: int) -> bytes:
    """An Avro int or long (64-bit signed): zigzag, then seven bits a byte, low bits first."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def header(schema: dict[str, Any], sync: bytes) -> bytes:
    """The start of a container of `schema` whose blocks end with `sync` (16 random bytes)."""
    metadata = {b"avro.codec": b"null", b"avro.schema": json.dumps(schema, separators=(",", ":")).encode()}
    pairs = [long_bytes(len(name)) + name + long_bytes(len(value)) + value for name, value in metadata.items()]
    return MAGIC + long_bytes(len(pairs)) + b"".join(pairs) + long_bytes(0) + sync


def block(count: int, data: bytes, sync: bytes) -> bytes:
    """`count` encoded rows, `data`, framed."""
    return b"".join((long_bytes(count), long_bytes(len(data)), data, sync))


@dataclass(frozen=True, slots=True)
class Header:
    """What the start of a container says. `length` is its size in bytes: the first block starts there."""

    schema: dict[str, Any]
    sync: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Block:
    """`count` rows encoded in `data`; `end` is the offset of the byte after the block."""

    count: int
    data: bytes
    end: int


class _Source:
    """Exact reads from a stream, with the offset they have come to."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.offset = 0

    def take(self, size: int) -> bytes:
        """`size` bytes. EOFError: fewer are left."""
        data = self._stream.read(size)
        while len(data) < size:  # a remote stream may answer with less than it was asked for
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
        if not 0 <= size <= MAX_BLOCK:
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
            if count < 0:  # the size of the run of pairs follows: not needed here
                source.long()
            for _ in range(abs(count)):
                key = source.bytes()
                metadata[key] = source.bytes()
        sync = source.take(SYNC_SIZE)
    except EOFError:
        raise TornError(0) from None
    codec = metadata.get(b"avro.codec", b"null").decode()
    if codec != "null":
        raise NotAContainerError(f"{name} is compressed ({codec}): put back the part as the job wrote it")
    try:
        schema = json.loads(metadata[b"avro.schema"])
    except (KeyError, ValueError):
        raise NotAContainerError(f"{name} has no readable Avro schema: move it away") from None
    return Header(schema, sync, source.offset)


class Reader:
    """A container, read block by block in bounded memory.

    `name` is what errors call it. Raises TornError when even the header is cut short, NotAContainerError when it is
    something else; iterating raises TornError after the last whole block of a file that was cut short.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._source = _Source(stream)
        self.header = _read_header(self._source, name)

    def __iter__(self) -> Iterator[Block]:
        source = self._source
        while True:
            start = source.offset
            try:
                first = source.take(1)
            except EOFError:
                return
            try:
                count = _resume_long(source, first[0])
                data = source.bytes()
                if source.take(SYNC_SIZE) != self.header.sync:
                    raise EOFError
            except EOFError:
                raise TornError(start) from None
            yield Block(count, data, source.offset)


def _resume_long(source: _Source, first: int) -> int:
    """The long whose first byte has been read already: that read is what tells the end from a cut."""
    number, shift = first & 0x7F, 7
    byte = first
    while byte >= 0x80:
        byte = source.take(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise EOFError
    return (number >> 1) ^ -(number & 1)


def plain(schema: Any) -> Any:
    """`schema` without its logical types, parsed for fastavro: times stay epoch ms (and cost no datetime)."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: strip(value) for name, value in node.items() if name != "logicalType"}
        return [strip(value) for value in node] if isinstance(node, list) else node

    return fastavro.parse_schema(strip(schema))
