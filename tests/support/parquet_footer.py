"""Parquet files whose footer says what no writer would write: the footer of a file by pyarrow, edited."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def written(table: pa.Table, **options: Any) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def with_footer(content: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    size = struct.unpack("<I", content[-8:-4])[0]
    footer = edit(content[-8 - size : -8])
    return content[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def as_variant(content: bytes, column: str) -> bytes:
    """The struct `column`, of two fields, declared as a VARIANT.

    In Thrift's compact encoding, a schema element is its repetition, its name (field 4, a binary) and its number of
    children (field 5, an i32 of 2), then the end; the logical type is field 10, a union, VARIANT its field 16, and in
    that the version of its specification, field 1, a byte.
    """
    group = b"\x18" + bytes([len(column)]) + column.encode() + b"\x15\x04"
    variant = b"\x5c\x0c\x20\x13\x01\x00\x00"

    def edit(footer: bytes) -> bytes:
        assert footer.count(group + b"\x00") == 1
        return footer.replace(group + b"\x00", group + variant + b"\x00")

    return with_footer(content, edit)


def i64(number: int) -> bytes:
    """A number that is not negative, as Thrift's compact encoding has it."""
    rest = number << 1
    encoded = bytearray()
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*encoded, rest])
