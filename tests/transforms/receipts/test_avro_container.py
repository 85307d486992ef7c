import contextlib
import io
import random
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.receipts.avro_container import (
    EncodedBlock,
    Header,
    NotAContainerError,
    Reader,
    TornError,
    block,
    header,
    long_bytes,
)

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}
SYNC = b"0123456789abcdef"


def written_by_fastavro(schema: str | dict[str, Any], value: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_longs_are_laid_out_as_fastavro_does(number: int) -> None:
    assert long_bytes(number) == written_by_fastavro("long", number)


@given(st.lists(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1, max_size=5), max_size=5))
def test_fastavro_reads_what_is_framed_and_so_does_the_reader(blocks: list[list[int]]) -> None:
    data = header(SCHEMA, SYNC)
    for rows in blocks:
        data += block(len(rows), b"".join(map(long_bytes, rows)), SYNC)

    rows_read: list[Any] = list(fastavro.reader(io.BytesIO(data)))
    assert [row["n"] for row in rows_read] == [n for rows in blocks for n in rows]
    reader = Reader(io.BytesIO(data), "it")
    assert reader.header.schema == SCHEMA
    assert [found.count for found in reader] == [len(rows) for rows in blocks]


def test_reads_what_fastavro_wrote() -> None:
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, [{"n": n} for n in range(5000)], sync_interval=1000)
    out.seek(0)
    assert sum(found.count for found in Reader(out, "it")) == 5000


def test_a_file_cut_at_any_byte_gives_its_whole_blocks_and_says_where_they_end() -> None:
    head = header(SCHEMA, SYNC)
    blocks = [block(2, b"\x02\x04", SYNC), block(70, bytes(range(70)), SYNC), block(1, b"\x08", SYNC)]
    data = head + b"".join(blocks)
    ends = [len(head)]
    for encoded in blocks:
        ends.append(ends[-1] + len(encoded))

    for cut in range(len(data) + 1):
        found: list[EncodedBlock] = []
        torn: int | None = None
        try:
            for each_found in Reader(io.BytesIO(data[:cut]), "it"):
                found.append(each_found)
        except TornError as error:
            torn = error.whole
        assert [each.end for each in found] == [end for end in ends[1:] if end <= cut]
        if cut in ends:
            assert torn is None
        else:
            assert torn == max((end for end in ends if end <= cut), default=0)


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=12),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_a_damage_costs_the_blocks_that_it_touches(sizes: list[int], rng: random.Random, zeros: bool) -> None:
    """And the block behind it, if the damage took both its place from the block before and the marker in between."""
    head = header(SCHEMA, SYNC)
    blocks = [block(size, bytes([number + 1]) * size, SYNC) for number, size in enumerate(sizes)]
    starts = [len(head) + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    data = head + b"".join(blocks)
    first = rng.randrange(len(head), len(data))
    last = rng.randint(first + 1, min(first + 120, len(data)))
    damaged = data[:first] + (bytes(last - first) if zeros else rng.randbytes(last - first)) + data[last:]

    found: list[bytes] = []
    reader = Reader(io.BytesIO(damaged), "it")
    with contextlib.suppress(TornError):
        found += (each.data for each in reader)
    touched = [n for n, start in enumerate(starts) if start < last and start + len(blocks[n]) > first]
    whole = [n for n in range(len(blocks)) if n not in touched]
    numbers = [each[0] - 1 for each in found if len(set(each)) == 1]
    assert set(whole) - set(numbers) <= {touched[-1] + 1}
    assert [number for number in numbers if number in whole] == sorted(set(numbers) & set(whole))
    if reader.lost:
        assert all(start < end for start, end in reader.lost)


def test_a_marker_that_is_damaged_alone_costs_its_block_alone() -> None:
    blocks = [block(3, bytes([number]) * 3, SYNC) for number in range(4)]
    data = bytearray(header(SCHEMA, SYNC) + b"".join(blocks))
    data[-len(blocks[3]) - len(blocks[2]) - 1] ^= 1
    reader = Reader(io.BytesIO(data), "it")
    assert [each.data[0] for each in reader] == [0, 2, 3]
    assert [end - start for start, end in reader.lost] == [len(blocks[1])]


def test_a_file_of_which_the_header_is_known_does_without_it() -> None:
    data = bytearray(header(SCHEMA, SYNC) + block(2, b"\x02\x04", SYNC) + block(1, b"\x06", SYNC))
    data[:20] = bytes(20)
    with pytest.raises(NotAContainerError):
        Reader(io.BytesIO(data), "it")
    reader = Reader(io.BytesIO(data), "it", Header(SCHEMA, SYNC, 0))
    assert [each.data for each in reader] == [b"\x02\x04", b"\x06"]


@pytest.mark.parametrize("tail", [bytes(40), b"\xff" * 40, b"\x02\xff\xff\xff\xff\xff\xff\x01" + bytes(40)])
def test_what_follows_the_last_whole_block_may_be_anything(tail: bytes) -> None:
    data = header(SCHEMA, SYNC) + block(1, b"\x02", SYNC)
    with pytest.raises(TornError) as caught:
        list(Reader(io.BytesIO(data + tail), "it"))
    assert caught.value.whole == len(data)


def test_what_is_no_container_is_named() -> None:
    with pytest.raises(NotAContainerError, match=r"here\.avro is not an Avro file"):
        Reader(io.BytesIO(b"PAR1 and more"), "here.avro")
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, [{"n": 1}], codec="deflate")
    with pytest.raises(NotAContainerError, match=r"here\.avro is compressed \(deflate\)"):
        Reader(io.BytesIO(out.getvalue()), "here.avro")
