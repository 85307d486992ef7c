"""Avro container files: whole, damaged, cut short, and with counts that are not true."""

import bz2
import io
import json
import lzma
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pytest
import zstandard

from schemas import avro_schema
from tests.support.avro_bytes import ID_FIELDS, NOON, SYNC, block, container, header, ids, long, record, text
from tests.support.parts import admitted, chunked, read
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import Broken, CutShortError

ROWS: list[dict[str, Any]] = [
    {
        "record_id": f"r{number}",
        "user_id": "u",
        "session_id": "s",
        "activity_id": "a",
        "action": "START",
        "state": "initial",
        "occurred_at": 1581951803000 + number,
        "metadata": {"a": 1, "b": True, "c": None, "d": 1.5, "e": "é"},
        "responses": [{"response_id": "q", "item_reference": "i", "score": 1}],
    }
    for number in range(300)
]
SCHEMA = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}])
PLAIN = [ids(number) + long(NOON + number) for number in range(9)]


def avro(rows: list[dict[str, Any]], codec: str = "null") -> bytes:
    file = io.BytesIO()
    schema = fastavro.parse_schema(avro_schema("session_activity"))
    fastavro.writer(file, schema, rows, codec=codec, sync_interval=2000)
    return file.getvalue()


def block_ends(content: bytes) -> list[int]:
    """Where the header and each block end, as fastavro finds them."""
    found = [(each.offset, each.offset + each.size) for each in fastavro.block_reader(io.BytesIO(content))]
    return [found[0][0], *(end for _, end in found)]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_avro(codec: str, size: int) -> None:
    items, broken = read(avro_rows(chunked(avro(ROWS, codec), size)))
    assert not broken
    assert [position for position, _ in items] == list(range(300))
    assert [row["record_id"] for _, row in items] == [row["record_id"] for row in ROWS]
    assert items[7][1]["occurred_at"] == ROWS[7]["occurred_at"]


def zstd_streamed(content: bytes) -> bytes:
    """Without the size of the content, as writers in Java leave it."""
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(content) + stream.flush()


def snappy(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="snappy", asbytes=True)) + struct.pack(">I", zlib.crc32(content))


def lz4(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + bytes(pa.Codec("lz4_raw").compress(content, asbytes=True))


def deflate(content: bytes) -> bytes:
    return zlib.compress(content)[2:-4]


CODECS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("deflate", deflate),
    ("deflate", lambda content: zlib.compress(content)[2:-1]),  # as avro and fastavro write it
    ("bzip2", bz2.compress),
    ("xz", lzma.compress),
    ("snappy", snappy),
    ("zstandard", zstandard.compress),
    ("zstandard", zstd_streamed),
    ("zstandard", lambda content: zstandard.compress(content[:50]) + zstandard.compress(content[50:])),
    ("lz4", lz4),
]


@pytest.mark.parametrize(("codec", "compress"), CODECS)
def test_every_codec_of_the_specification_is_read(codec: str, compress: Callable[[bytes], bytes]) -> None:
    content = header(SCHEMA, codec) + block(9, compress(b"".join(PLAIN))) + block(1, compress(PLAIN[0]))
    assert admitted(avro_rows(chunked(content))) == (10, [])


@pytest.mark.parametrize(("codec", "compress"), CODECS)
def test_a_block_that_cannot_be_decompressed_costs_itself(codec: str, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(b"".join(PLAIN))
    damaged = packed[:4] + bytes(byte ^ 255 for byte in packed[4:-8]) + packed[-8:]
    content = header(SCHEMA, codec) + block(9, damaged) + block(9, packed[: len(packed) // 2]) + block(9, packed)
    items, broken = read(avro_rows(chunked(content)))
    assert sum(part.rows or 0 for part in broken) + len(items) == 27
    assert [position for position, _ in items[-9:]] == list(range(18, 27))
    assert broken[0].reason.startswith("not readable as Avro: ")
    assert (broken[0].position, broken[0].rows) == (0, 9)


def test_the_checksum_of_a_snappy_block_is_looked_at() -> None:
    wrong = snappy(b"".join(PLAIN))[:-1] + b"\0"
    items, (part,) = read(
        avro_rows(chunked(header(SCHEMA, "snappy") + block(9, wrong) + block(9, snappy(b"".join(PLAIN)))))
    )
    assert len(items) == 9
    assert part == Broken(
        0, "not readable as Avro: a block cannot be decompressed: the checksum does not fit", wrong, len(wrong), 9
    )


@pytest.mark.parametrize("packed", [b"\xff\xff\xff\xff\x0f" + b"\0" * 20, b"\xff" * 30, b"", b"\0"])
def test_a_snappy_block_that_says_it_holds_more_than_it_can(packed: bytes) -> None:
    for codec in ("snappy", "lz4", "zstandard"):
        items, (part, *_) = read(avro_rows(chunked(header(SCHEMA, codec) + block(9, packed))))
        assert (items, part.rows) == ([], 9)


def test_a_codec_that_is_not_known_is_one_reject_that_knows_its_rows() -> None:
    content = header(SCHEMA, "lzo") + block(9, b"?") + block(5, b"??")
    assert read(avro_rows(chunked(content))) == (
        [],
        [
            Broken(
                0,
                "not readable as Avro: the codec 'lzo' is not known; known are null, deflate, bzip2, snappy, xz, "
                "zstandard, lz4",
                content,
                len(content),
                14,
                unread=True,
            )
        ],
    )


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro_cut_short(codec: str) -> None:
    content = avro(ROWS, codec)
    ends = block_ends(content)
    for cut in range(0, len(content), 131):
        items, broken = read(avro_rows(chunked(content[:cut], 1000)))
        if cut in ends:
            assert not broken
            continue
        (part,) = broken
        last = max((end for end in ends if end <= cut), default=0)
        assert part.position == len(items)
        assert part.content == content[last:cut]
        assert part.length == cut - last
        assert part.reason == "not readable as Avro: the file is cut short"


def test_avro_in_a_compressed_file_that_is_cut_short() -> None:
    def chunks() -> Any:
        yield container(SCHEMA, PLAIN, 3)[:-20]
        raise CutShortError("the gz stream is cut short")

    items, (part,) = read(avro_rows(chunks()))
    assert len(items) == 6
    assert (part.reason, part.rows) == ("not readable as Avro: the gz stream is cut short", 3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"hello", "it does not begin as an Avro file does"),
        (b"{}" * 200_000, "it does not begin as an Avro file does"),
        (b"", "the file is cut short"),
        (b"Obj", "the file is cut short"),
        (b"Obj\x01" + long(1) + long(-1), "a part of -1 bytes"),
        (b"Obj\x01" + b"\xff" * 11, "a number of more than 64 bits"),
        (b"Obj\x01" + long(1) + text("avro.codec") + text("null") + long(0) + SYNC, "its schema cannot be used: JSON"),
        (header("strin"), "its schema cannot be used: the type 'strin' is not known"),
        (header(["null", "bytes"]), "its rows are null or bytes; records with the fields of activity are needed"),
        (header({"type": "map", "values": "string"}), "its rows are map; records"),
    ],
)
def test_avro_that_is_none(content: bytes, told: str) -> None:
    items, (part,) = read(avro_rows(chunked(content, 1000)))
    assert items == []
    assert part.reason.startswith(f"not readable as Avro: {told}")
    assert (part.content, part.length) == (content[: 64 * 1024], len(content))


def test_a_schema_nested_too_deep_is_one_reject() -> None:
    for depth in (200, 450, 700, 960, 5000):
        schema: Any = '"string"'
        for _ in range(depth):
            schema = f'{{"type":"array","items":{schema}}}'
        nested = f'{{"type":"record","name":"R","fields":[{{"name":"x","type":{schema}}}]}}'
        content = b"Obj\x01" + long(1) + text("avro.schema") + text(nested) + long(0) + SYNC + block(1, long(0))
        items, broken = read(avro_rows(chunked(content, 4096)))
        assert (items, [part.rows for part in broken]) in (([(0, {"x": []})], []), ([], [1]))


def test_rows_that_are_no_records_are_one_reject_that_knows_them() -> None:
    content = header(["null", "bytes"]) + block(2, long(0) * 2) + block(3, long(0) * 3)
    items, (part,) = read(avro_rows(chunked(content)))
    assert (items, part.position, part.rows, part.length) == ([], 0, 5, len(content))


def test_files_one_after_the_other() -> None:
    content = container(SCHEMA, PLAIN, 4) + avro(ROWS[:3], "deflate") + container(SCHEMA, PLAIN)
    items, broken = read(avro_rows(chunked(content, 100)))
    assert not broken
    assert [position for position, _ in items] == list(range(21))
    content = container("string", [text("x")]) + container(SCHEMA, PLAIN)
    items, (part,) = read(avro_rows(chunked(content, 100)))
    assert len(items) == 9
    assert (part.length, part.rows) == (len(container("string", [text("x")])), 1)


def test_one_odd_value_of_a_thousand_rows_costs_one() -> None:
    schema = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}, {"name": "seq", "type": "double"}])
    rows = [ids(n) + long(NOON) + struct.pack("<d", float("nan") if n == 40 else n) for n in range(1000)]
    assert admitted(avro_rows(chunked(container(schema, rows), 4096))) == (
        999,
        [(40, "seq: NaN and Infinity are not numbers here")],
    )
    items, (part,) = read(avro_rows(chunked(container(schema, rows), 4096)))
    assert [position for position, _ in items] == [*range(40), *range(41, 1000)]
    assert (part.rows, part.length) == (1, len(part.content))
    assert json.loads(part.content)["record_id"] == "r40"


@pytest.mark.parametrize("reading", [1, 5, 8])
def test_a_count_lower_than_the_rows_of_its_block(reading: int) -> None:
    content = header(SCHEMA) + block(reading, b"".join(PLAIN)) + block(9, b"".join(PLAIN))
    left = b"".join(PLAIN[reading:])
    items, (part,) = read(avro_rows(chunked(content)))
    assert [row["record_id"] for _, row in items] == [f"r{n}" for n in [*range(reading), *range(9)]]
    assert part == Broken(
        reading,
        f"not readable as Avro: a block has {len(left)} bytes more than the {reading} rows that it says it has",
        left,
        len(left),
        None,
    )


@pytest.mark.parametrize("count", [10, 1000])
def test_a_count_higher_than_the_rows_of_its_block(count: int) -> None:
    content = header(SCHEMA) + block(count, b"".join(PLAIN)) + block(9, b"".join(PLAIN))
    items, (part,) = read(avro_rows(chunked(content)))
    assert [position for position, _ in items] == [*range(9), *range(count, count + 9)]
    assert part == Broken(
        9, f"not readable as Avro: a block says that it has {count} rows, and has 9", b"", 0, count - 9
    )


def test_a_count_that_cannot_be_is_not_believed() -> None:
    content = header(SCHEMA) + block(2**40, b"".join(PLAIN)) + block(9, b"".join(PLAIN))
    items, (part,) = read(avro_rows(chunked(content)))
    assert len(items) == 9
    assert part.rows is None
    assert part.length == len(block(2**40, b"".join(PLAIN)))


def test_rows_that_the_schema_does_not_fit_cost_the_rest_of_their_block() -> None:
    spoiled = ids(4)[:-6] + long(1000) + b"rest"
    content = header(SCHEMA) + block(9, b"".join(PLAIN[:4]) + spoiled) + block(9, b"".join(PLAIN))
    items, (part,) = read(avro_rows(chunked(content)))
    assert [position for position, _ in items] == [*range(4), *range(9, 18)]
    assert part == Broken(
        4, "not readable as Avro: action: a length of 1000 bytes, where 4 are left", spoiled, len(spoiled), 5
    )


def test_what_lies_between_two_blocks_is_passed_over() -> None:
    between = b"\x01 some bytes that are no block" * 10_000
    content = header(SCHEMA) + block(9, b"".join(PLAIN)) + between + block(9, b"".join(PLAIN)) + block(1, PLAIN[0])
    items, (part,) = read(avro_rows(chunked(content, 1000)))
    assert len(items) == 10
    assert part.length == len(between + block(9, b"".join(PLAIN)))
    assert part.content == between[: 64 * 1024]


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 500, b"\n", b"tail" * 100, b"\xff" * 40])
def test_what_follows_the_last_block_is_one_reject(tail: bytes) -> None:
    items, broken = read(avro_rows(chunked(container(SCHEMA, PLAIN) + tail)))
    assert len(items) == 9
    assert [(part.position, part.content, part.length) for part in broken] == [(9, tail, len(tail))]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["null", "deflate", "xz"])
def test_a_damaged_bit_costs_at_most_its_block(codec: str) -> None:
    content = avro(ROWS[:100], codec)
    whole = {row["record_id"]: row for _, row in read(avro_rows(chunked(content, 4096)))[0]}
    ends = block_ends(content)
    rows_of_block = [each.num_records for each in fastavro.block_reader(io.BytesIO(content))]
    chance = random.Random(7)  # noqa: S311
    for _ in range(150):
        at = chance.randrange(ends[0], len(content))
        damaged = bytearray(content)
        damaged[at] ^= 1 << chance.randrange(8)
        items, broken = read(avro_rows(chunked(bytes(damaged), 4096)))
        same = [row for _, row in items if whole.get(row.get("record_id", "")) == row]
        hit = next(index for index, end in enumerate(ends[1:]) if at < end)
        assert len(same) >= 100 - rows_of_block[hit]
        assert len(items) + sum(part.rows or 0 for part in broken) >= 100 - rows_of_block[hit]


def test_a_damaged_header_raises_nothing() -> None:
    content = avro(ROWS[:3])
    for at in range(0, block_ends(content)[0], 5):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        read(avro_rows(chunked(bytes(damaged), 4096)))


@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
def test_a_damaged_sync_marker_costs_no_rows(damaged: int) -> None:
    """That of the header, or of any block."""
    content = bytearray(container(SCHEMA, PLAIN, 3))
    at = -1
    for _ in range(damaged + 1):
        at = content.index(SYNC, at + 1)
    content[at + 5] ^= 1
    items, broken = read(avro_rows(chunked(bytes(content))))
    assert [position for position, _ in items] == list(range(9))
    assert broken
    assert all((part.length, part.rows) == (16, 0) for part in broken)
    assert len(broken) <= 2


def test_avro_with_invalid_utf8_spoils_one_row() -> None:
    content = avro([*ROWS[:2], ROWS[2] | {"session_id": "???"}, *ROWS[3:5]]).replace(b"???", b"\xff\xed\xa0")
    assert admitted(avro_rows(chunked(content))) == (4, [(2, "session_id: not valid UTF-8")])


def test_rows_that_activity_refuses_show_what_the_file_has_instead() -> None:
    schema = record(
        [{"name": "RecordId", "type": "string"}, {"name": "due", "type": {"type": "int", "logicalType": "date"}}]
    )
    rows = [text("r1") + long(1), text("r2") + long(2**31 - 1)]
    items, broken = read(avro_rows(chunked(container(schema, rows))))
    assert not broken
    assert items[0] == (0, {"RecordId": "r1", "due": "1970-01-02"})
    assert items[1][1]["RecordId"] == "r2"
    accepted, rejects = admitted(avro_rows(chunked(container(schema, rows))))
    assert (accepted, [reason.partition(";")[0] for _, reason in rejects]) == (0, ["record_id: missing"] * 2)
