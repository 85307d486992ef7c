import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.receipts.avro_container import (
    EncodedBlock,
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
