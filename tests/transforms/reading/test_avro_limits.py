"""What Avro may cost: rows, values, blocks and what comes of them. Limits are set low, and the input is harmless."""

import bz2
import json
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.avro_bytes import ID_FIELDS, NOON, SYNC, block, container, header, ids, long, record, text
from tests.support.parts import admitted, chunked, read
from transforms.reading.avro_codecs import CODECS, decompressor
from transforms.reading.avro_datum import DamagedError, OddRowError, RowReader, skip
from transforms.reading.avro_file import avro_rows
from transforms.reading.avro_schema import parse_schema
from transforms.reading.blocks import Block, Broken
from transforms.reading.limits import Allowance, ReadLimits, TooLargeError

SCHEMA = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}])
ROWS = [ids(number) + long(NOON + number) for number in range(9)]


def list_of(item: Any) -> dict[str, Any]:
    return record([{"name": "x", "type": {"type": "array", "items": item}}])


def row_of(schema: Any, body: bytes, **limits: int) -> Any:
    return RowReader(parse_schema(json.dumps(schema)), ReadLimits(**limits)).read(body, 0)[0]


def parts_of(content: bytes, **limits: int) -> list[Block | Broken]:
    allowance = Allowance(ReadLimits(**limits))
    return list(avro_rows(allowance.counting(chunked(content, 100)), allowance))


PAIR = {"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]}


@pytest.mark.parametrize(
    ("schema", "body", "most", "values"),
    [
        (list_of("int"), long(5) + long(0) * 5 + long(0), 5, 5),
        (list_of("int"), (long(1) + long(0)) * 5 + long(0), 5, 5),
        (list_of(PAIR), long(5) + long(0) * 10 + long(0), 15, 15),
        (list_of({"type": "array", "items": "int"}), long(2) + (long(2) + long(0) * 2 + long(0)) * 2 + long(0), 6, 6),
        (list_of({"type": "map", "values": "int"}), long(1) + long(1) + text("k") + long(0) * 3, 4, 4),
    ],
)
def test_a_row_has_no_more_values_than_it_may(schema: Any, body: bytes, most: int, values: int) -> None:
    assert row_of(schema, body, values=most)["x"]
    with pytest.raises(DamagedError, match=f"x: a row of {values} values or more, of at most {values - 1}"):
        row_of(schema, body, values=values - 1)


def test_values_of_a_row_are_counted_in_all_its_fields() -> None:
    schema = record([{"name": name, "type": {"type": "array", "items": "int"}} for name in ("x", "y")])
    body = (long(5) + long(0) * 5 + long(0)) * 2
    assert row_of(schema, body, values=10) == {"x": [0] * 5, "y": [0] * 5}
    with pytest.raises(DamagedError, match="y: a row of 10 values or more, of at most 9"):
        row_of(schema, body, values=9)


def test_fields_that_are_not_read_count_too() -> None:
    schema = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}, *list_of("int")["fields"]])
    with pytest.raises(DamagedError, match="a row of 40 values"):
        row_of(schema, ROWS[0] + long(40) + long(0) * 41, values=39)


def test_each_row_has_its_values_for_itself() -> None:
    reader = RowReader(parse_schema(json.dumps(list_of("int"))), ReadLimits(values=5))
    body = long(5) + long(0) * 5 + long(0)
    assert [reader.read(body * 2, at)[1] for at in (0, len(body))] == [len(body), 2 * len(body)]


@pytest.mark.parametrize("count", [4, -4, 2**40, 2**62])
def test_values_that_take_no_bytes_are_few(count: int) -> None:
    for item in ("null", {"type": "fixed", "name": "F", "size": 0}, {"type": "record", "name": "E", "fields": []}):
        body = long(count) + (long(0) if count < 0 else b"") + long(0)
        if abs(count) == 4:
            assert len(row_of(list_of(item), body, empty_values=4)["x"]) == 4
        with pytest.raises(DamagedError, match=f"x: {abs(count)} values in a block of . bytes"):
            row_of(list_of(item), body, empty_values=3)


@pytest.mark.parametrize("item", ["int", "string", "double", PAIR, ["null", "int"], {"type": "array", "items": "null"}])
def test_there_are_no_more_values_than_bytes_hold(item: Any) -> None:
    for count in (11, 2**40, 2**62):
        with pytest.raises(DamagedError, match=f"x: {count} values in a block of 10 bytes"):
            row_of(list_of(item), long(count) + bytes(10))


TREE = {
    "type": "record",
    "name": "T",
    "fields": [
        {"name": "next", "type": ["null", "T"]},
        *({"name": f"n{number}", "type": "null"} for number in range(9)),
    ],
}


def test_records_in_themselves_are_read_as_deep_as_they_may_be() -> None:
    schema = record([{"name": "x", "type": TREE}, {"name": "y", "type": "int"}])
    body = long(1) * 5 + long(0) + long(7)
    assert row_of(schema, body, depth=8)["y"] == 7
    depth = 0
    value = row_of(schema, body, depth=8)["x"]
    while value["next"]:
        value, depth = value["next"], depth + 1
    assert depth == 5
    with pytest.raises(OddRowError, match="nested too deep") as odd:
        row_of(record([*ID_FIELDS, {"name": "lrs_id", "type": TREE}]), ids(1) + long(1) * 9 + long(0), depth=8)
    assert odd.value.end == len(ids(1)) + 10


def test_records_in_themselves_that_are_passed_over_cost_values() -> None:
    tree = parse_schema(json.dumps(TREE))
    assert skip(tree, long(1) * 5000 + long(0), 0) == 5001
    schema = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}, {"name": "x", "type": TREE}])
    body = ROWS[0] + long(1) * 50 + long(0)
    assert row_of(schema, body, values=1000)["record_id"] == "r0"
    with pytest.raises(DamagedError, match="of at most 300"):
        row_of(schema, body, values=300)


def test_a_decimal_longer_than_any_number() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}
    schema = record([*ID_FIELDS, {"name": "seq", "type": decimal}])
    for size in (1025, 100_000):
        with pytest.raises(OddRowError, match="seq: a number beyond double"):
            row_of(schema, ids(1) + text(b"\1" * size))
    assert row_of(schema, ids(1) + text(b"\0" * 1000 + b"\x0f"))["seq"] == 1.5


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda content: content,
    "deflate": lambda content: zlib.compress(content)[2:-4],
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstandard": zstandard.compress,
    "snappy": lambda content: (
        bytes(pa.compress(content, codec="snappy", asbytes=True)) + struct.pack(">I", zlib.crc32(content))
    ),
    "lz4": lambda content: struct.pack("<I", len(content)) + bytes(pa.Codec("lz4_raw").compress(content, asbytes=True)),
}


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "null"])
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_a_block_is_decompressed_no_further_than_it_may_be(codec: str, size: int) -> None:
    decompress = decompressor(codec)
    assert decompress
    packed = COMPRESSORS[codec](b"x" * size)
    assert decompress(packed, size) == decompress(packed, size + 1) == b"x" * size
    for most in {size - 1, size // 2} - {-1, size}:
        with pytest.raises(TooLargeError, match=str(most)):
            decompress(packed, most)


@pytest.mark.parametrize("codec", ["bzip2", "xz", "zstandard"])
def test_streams_that_follow_each_other_count_together(codec: str) -> None:
    decompress = decompressor(codec)
    assert decompress
    packed = COMPRESSORS[codec](b"x" * 1000) * 3
    assert decompress(packed, 3000) == b"x" * 3000
    with pytest.raises(TooLargeError):
        decompress(packed, 2999)


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_that_is_too_large_is_one_reject_and_the_rest_is_read(codec: str) -> None:
    compress = COMPRESSORS[codec]
    small, large = block(9, compress(b"".join(ROWS))), block(90, compress(b"".join(ROWS) * 10))
    parts = parts_of(header(SCHEMA, codec) + small + large + small, block=1500)
    items, (part,) = read(parts)
    assert [position for position, _ in items] == [*range(9), *range(99, 108)]
    assert (part.position, part.rows, part.unread) == (9, 90, False)
    assert re.search("a block of .* bytes.*, of at most 1500|a block of .* unpacks to too much: it holds", part.reason)
    assert part.length in (len(large), len(compress(b"".join(ROWS) * 10)))


def test_a_damaged_size_is_no_large_block() -> None:
    content = header(SCHEMA) + block(9, b"".join(ROWS))
    damaged = header(SCHEMA) + long(9) + long(2**40) + b"".join(ROWS) + SYNC + block(9, b"".join(ROWS))
    assert len(read(parts_of(content))[0]) == 9
    items, (part,) = read(parts_of(damaged))
    assert (len(items), part.rows) == (9, None)
    assert part.reason == "not readable as Avro: a block is not as long as it says"


def test_no_more_comes_of_a_file_than_may() -> None:
    packed = COMPRESSORS["bzip2"](b"".join(ROWS) * 50)
    content = header(SCHEMA, "bzip2") + block(450, packed) * 4
    limits = {"ratio": 0, "ratio_from": 15_000}
    items, broken = read(parts_of(content, **limits))
    assert len(items) == 450
    assert [part.rows for part in broken] == [450] * 3
    assert "0 for each byte of the file, above 15000" in broken[0].reason
    assert len(read(parts_of(content, ratio=1000, ratio_from=15_000))[0]) == 1800


def test_rows_that_may_take_no_bytes_are_refused() -> None:
    schema = record([{"name": name, "type": "null"} for name in ("record_id", "user_id")])
    content = header(schema) + block(900, b"") * 3 + container(SCHEMA, ROWS)
    items, (part,) = read(parts_of(content))
    assert len(items) == 9
    assert (part.rows, part.reason) == (
        2700,
        "not readable as Avro: its schema cannot be used: a row may take no bytes",
    )


def test_a_row_that_is_too_long_costs_itself() -> None:
    long_row = ids(1, user_id="u" * 200) + long(NOON)
    items, (part,) = read(parts_of(container(SCHEMA, [ROWS[0], long_row, ROWS[2]]), item=100))
    assert [position for position, _ in items] == [0, 2]
    assert part.reason == f"a row of {len(long_row)} bytes, of at most 100"
    assert (part.position, part.rows, part.length) == (1, 1, len(long_row))


@pytest.mark.parametrize("limits", [{"rows": 4}, {"values": 24}, {"rows": 1}])
def test_rows_are_given_on_a_few_at_a_time(limits: dict[str, int]) -> None:
    parts = parts_of(container(SCHEMA, ROWS), **limits)
    assert all(isinstance(part, Block) and len(part.items) <= 4 for part in parts)
    assert [position for position, _ in read(parts)[0]] == list(range(9))


def test_small_rows_are_read_however_many() -> None:
    """Two bytes a row, well compressed."""
    schema = record([{"name": "record_id", "type": "int"}, {"name": "user_id", "type": "int"}])
    content = header(schema, "zstandard") + block(60_000, zstandard.compress(bytes(120_000)))
    count = 0
    for part in parts_of(content):
        assert isinstance(part, Block)
        count += len(part.items)
    assert count == 60_000


def test_a_header_that_is_too_long_ends_the_file() -> None:
    meta = b"Obj\x01" + long(3) + b"".join(text(f"key{number}") + text("v" * 90) for number in range(3))
    items, (part,) = read(parts_of(meta + long(0) + SYNC + block(1, ROWS[0]), schema=100))
    assert (items, part.unread) == ([], True)
    assert part.reason == "not readable as Avro: what comes before its first block has more than 200 bytes"


TYPES = st.recursive(
    st.sampled_from(["null", "int", "string", "double"]),
    lambda inner: (
        inner.map(lambda item: {"type": "array", "items": item})
        | inner.map(lambda value: {"type": "map", "values": value})
        | st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(TYPES, st.binary(max_size=60), st.integers(1, 40))
def test_no_bytes_make_more_values_than_a_row_may_have(type_: Any, body: bytes, most: int) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            return sum(2 + count(entry) for entry in value.values())
        return sum(1 + count(entry) for entry in value) if isinstance(value, list) else 0

    schema = record([{"name": "x", "type": type_}])
    try:
        value = row_of(schema, body, values=most, empty_values=most)["x"]
    except (DamagedError, OddRowError):
        return
    assert count(value) <= 2 * most


def test_rejects_of_limits_count_what_is_lost() -> None:
    content = header(SCHEMA) + block(90, b"".join(ROWS) * 10) + block(9, b"".join(ROWS))
    allowance = Allowance(ReadLimits(block=500))
    accepted, rejects = admitted(avro_rows(chunked(content), allowance))
    assert accepted == 9
    assert [position for position, _ in rejects] == [0]
