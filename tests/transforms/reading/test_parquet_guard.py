"""What Parquet may cost. Limits are set low, and the files are harmless ones that pyarrow wrote."""

import io
import itertools
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.parquet_footer import i64, with_footer, written
from tests.support.parts import Items, read
from transforms.reading import parquet_guard
from transforms.reading.blocks import Block, Broken
from transforms.reading.limits import LIMITS, ReadLimits, TooLargeError
from transforms.reading.parquet_file import parquet_rows
from transforms.reading.parquet_guard import check_footer, rows_at_a_time
from transforms.reading.thrift import Thrift

IDS = ("record_id", "user_id", "session_id", "activity_id", "action")
CODECS = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")
VERSIONS = ("1.0", "2.0")


def ids(rows: int) -> dict[str, Any]:
    return {name: [f"{name} {row}" for row in range(rows)] for name in IDS}


def parts(content: bytes, **limits: int) -> tuple[Items, list[Broken]]:
    return read(parquet_rows(io.BytesIO(content), ReadLimits(**limits)))


def batches(content: bytes, **limits: int) -> list[int]:
    return [
        len(part.items) for part in parquet_rows(io.BytesIO(content), ReadLimits(**limits)) if isinstance(part, Block)
    ]


def at_a_time(content: bytes, names: list[str], **limits: int) -> int:
    file = io.BytesIO(content)
    return rows_at_a_time(file, pq.ParquetFile(file), 0, names, ReadLimits(**limits))


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("version", VERSIONS)
def test_one_long_text_again_and_again(compression: str, version: str) -> None:
    """In a dictionary it takes no place. As many rows are decoded at a time as may be, and no more."""
    texts = {**ids(400), "lrs_id": ["x" * 5000] * 399 + [None], "organisation": [f"o{row % 7}" for row in range(400)]}
    content = written(pa.table(texts), compression=compression, data_page_version=version)
    assert batches(content) == [400]
    sizes = batches(content, batch=100_000)
    assert sum(sizes) == 400
    assert 10_000 < max(sizes) * 5000 <= 100_000
    items, (part,) = parts(content, batch=5000)
    assert (items, part.rows) == ([], 400)
    assert "a row group with rows of" in part.reason


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("version", VERSIONS)
def test_texts_that_begin_as_the_one_before(compression: str, version: str) -> None:
    texts = {**ids(400), "lrs_id": ["x" * 5000] * 400}
    content = written(
        pa.table(texts),
        compression=compression,
        data_page_version=version,
        use_dictionary=False,
        column_encoding={"lrs_id": "DELTA_BYTE_ARRAY"},
    )
    assert batches(content) == [400]
    sizes = batches(content, batch=200_000)
    assert sum(sizes) == 400
    assert 10_000 < max(sizes) * 5000 <= 200_000
    assert [part.rows for part in parts(content, batch=5000)[1]] == [400]


def test_texts_as_they_are_count_as_they_are() -> None:
    """Of a page it is not known in which rows its bytes are; of rows it is known which pages they are in."""
    texts = [("x" * 9000 if row < 10 else "x") for row in range(1000)]
    content = written(
        pa.table({"record_id": texts}),
        use_dictionary=False,
        data_page_size=1000,
        write_batch_size=1,
        compression="none",
    )
    assert batches(content) == [1000]
    sizes = batches(content, batch=40_000)
    assert sum(sizes) == 1000
    assert max(sizes) < 1000


def lists(lengths: list[int]) -> dict[str, Any]:
    values = itertools.count()
    return {
        **ids(len(lengths)),
        "responses": pa.array(
            [[{"response_id": f"q{next(values) % 9}", "score": 1.0} for _ in range(length)] for length in lengths],
            pa.list_(pa.struct([("response_id", pa.string()), ("score", pa.float64())])),
        ),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_row_that_has_nearly_all_values(version: str) -> None:
    content = written(pa.table(lists([1] * 200 + [5000] + [1] * 200)), data_page_version=version, data_page_size=2000)
    assert batches(content) == [401]
    sizes = batches(content, values=11_000)
    assert sum(sizes) == 401
    assert max(sizes) < 100
    items, (part,) = parts(content, values=9000)
    assert (items, part.rows) == ([], 401)
    assert "values and" in part.reason


def test_rows_of_few_values_are_read_as_ever() -> None:
    content = written(pa.table(lists([3, 0, 1] * 3000)), data_page_size=5000)
    assert set(batches(content)) == {2048, 9000 % 2048}
    assert set(batches(content, values=200_000)) == {2048, 9000 % 2048}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40) | st.sampled_from([0, 1, 100, 1000]), min_size=1, max_size=60),
    st.sampled_from([100, 10_000]),
    st.sampled_from(VERSIONS),
    st.booleans(),
)
def test_rows_are_found_where_they_are(lengths: list[int], page_size: int, version: str, nested: bool) -> None:
    """In lists, and in lists of lists: what is found out of rows is never less than there is."""
    values: list[Any] = [[number % 3 for number in range(length)] for length in lengths]
    truth = [max(length, 1) for length in lengths]
    if nested:
        values = [[row[at : at + 3] for at in range(0, len(row), 3)] for row in values]
    content = written(
        pa.table({"responses": values}),
        data_page_size=page_size,
        data_page_version=version,
        write_batch_size=16,
    )
    file = io.BytesIO(content)
    parquet = pq.ParquetFile(file)
    group = parquet.metadata.row_group(0)
    chunk = parquet_guard._Chunk(file, group.column(0), parquet.schema.column(0), ReadLimits(rows=0))
    chunk.look_closely({})
    for rows in (1, 2, 5, 50):
        most = max(sum(truth[at : at + rows]) for at in range(len(truth)))
        assert chunk.cost(rows)[0] >= most
    assert chunk.cost(1)[0] <= 2 * max(truth) + 40


def test_pages_that_are_too_large() -> None:
    content = written(pa.table(ids(2000)), compression="zstd", use_dictionary=False)
    items, (part,) = parts(content, pages=100_000)
    assert (items, part.rows) == ([], 2000)
    assert "a row group whose largest pages take" in part.reason
    assert "of at most 100000" in part.reason


def test_other_row_groups_are_read() -> None:
    table = pa.table({**ids(30), "lrs_id": ["x" * 5000] * 10 + ["y"] * 20})
    items, (part,) = parts(written(table, row_group_size=10), batch=5000)
    assert [position for position, _ in items] == list(range(10, 30))
    assert (part.position, part.rows) == (0, 10)


def test_columns_that_are_not_read_may_be_as_they_are() -> None:
    table = pa.table({**ids(30), "occurred_at": list(range(30)), "essay": ["x" * 5000] * 30})
    assert len(parts(written(table), batch=30_000)[0]) == 30


def test_no_more_comes_of_a_file_than_may() -> None:
    content = written(pa.table({name: pa.nulls(20_000, pa.string()) for name in IDS}), row_group_size=5000)
    items, (part,) = parts(content, ratio=10, ratio_from=300_000)
    assert 2000 < len(items) < 10_000
    assert (part.position, part.rows, part.unread) == (len(items), 20_000 - len(items), True)
    assert "the file unpacks to more than" in part.reason
    assert len(parts(content)[0]) == 20_000


def deep(levels: int) -> bytes:
    type_: Any = pa.string()
    for _ in range(levels):
        type_ = pa.struct([("a", type_)])
    return written(pa.table({**ids(3), "metadata": pa.nulls(3, type_)}))


WIDE = pa.table({f"column {number}": [1] for number in range(30)})


@pytest.mark.parametrize(
    ("content", "limits", "told"),
    [
        (deep(10), {"depth": 10}, "columns are nested deeper than 10 levels"),
        (written(WIDE), {"columns": 30}, "31 columns and groups of them, of at most 30"),
        (written(WIDE), {"name": 8}, "the name of a column has 9 bytes, of at most 8"),
        (written(WIDE), {"chunks": 30}, "more than 30 columns of row groups"),
        (written(WIDE), {"footer_parts": 100}, "it has more than 100 parts"),
        (written(WIDE), {"footer": 1000}, "bytes, of at most 1000"),
    ],
)
def test_a_footer_that_is_too_much_is_one_reject(content: bytes, limits: dict[str, int], told: str) -> None:
    items, (part,) = parts(content, **limits)
    assert (items, part.unread, part.length) == ([], True, len(content))
    assert told in part.reason
    assert parts(content)[0]


def test_footers_of_any_writer_pass() -> None:
    for content in (written(WIDE), deep(10), written(pa.table({})), written(pa.table(ids(300)), row_group_size=1)):
        size = int.from_bytes(content[-8:-4], "little")
        thrift = Thrift(content[-8 - size :], LIMITS.footer_parts)
        parquet_guard._check_metadata(thrift, LIMITS)
        assert thrift.at == size


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", written(WIDE)[:-1]])
def test_what_is_no_parquet_is_left_to_pyarrow(content: bytes) -> None:
    check_footer(io.BytesIO(content), LIMITS)
    (part,) = parts(content)[1]
    assert part.reason.startswith("not readable as Parquet: ")


def test_a_dictionary_that_says_that_it_has_more_than_it_can() -> None:
    rows = [f"text {row % 50}" for row in range(1000)]
    content = written(pa.table({"record_id": rows}), compression="none", write_statistics=False)
    # The header of the dictionary page: its number of values (field 1 of field 7, an i32).
    said = b"\x4c\x15" + i64(50)
    assert content.count(said) == 1
    for told in (51, 60):
        assert at_a_time(content.replace(said, b"\x4c\x15" + i64(told)), ["record_id"]) == 2048
    with pytest.raises(TooLargeError, match="a dictionary of 8000 values in"):
        at_a_time(content.replace(said, b"\x4c\x15" + i64(8000)), ["record_id"])


def test_a_page_that_says_that_it_has_more_texts_than_values() -> None:
    rows = [f"text {row % 50}" for row in range(200)]
    content = written(
        pa.table({"record_id": pa.array(rows)}, schema=pa.schema([pa.field("record_id", pa.string(), nullable=False)])),
        compression="none",
        write_statistics=False,
        use_dictionary=False,
        column_encoding={"record_id": "DELTA_LENGTH_BYTE_ARRAY"},
    )
    # Lengths: blocks of 128 numbers in four parts, how many there are, the first one.
    said = b"\x80\x01\x04\xc8\x01\x0c"
    assert content.count(said) == 1
    assert len(parts(content)[0]) == 200
    assert at_a_time(content, ["record_id"]) == 2048
    with pytest.raises(TooLargeError, match="a page of 200 values and 300 texts"):
        at_a_time(content.replace(said, b"\x80\x01\x04\xac\x02\x0c"), ["record_id"])


@given(st.lists(st.integers(-300, 2000), min_size=1, max_size=300))
def test_numbers_told_by_their_differences_are_not_above_what_is_found(numbers: list[int]) -> None:
    content = written(
        pa.table({"x": pa.array(numbers, pa.int64())}, schema=pa.schema([pa.field("x", pa.int64(), nullable=False)])),
        compression="none",
        write_statistics=False,
        use_dictionary=False,
        column_encoding={"x": "DELTA_BINARY_PACKED"},
    )
    file = io.BytesIO(content)
    parquet = pq.ParquetFile(file)
    chunk = parquet_guard._Chunk(file, parquet.metadata.row_group(0).column(0), parquet.schema.column(0), LIMITS)
    body = chunk._unpacked(chunk._pages[0])
    count, highest, _ = parquet_guard._deltas(body, 0, whole=True)
    assert count == len(numbers)
    assert highest >= max(numbers)
    # Within 32 numbers the bound is loose, from then on it is the truth again.
    spread = max(numbers) - min(numbers)
    assert highest <= max(numbers) + 32 * 8 * max(spread, 1)


def test_a_footer_with_a_part_twice_is_refused() -> None:
    content = with_footer(written(WIDE), lambda footer: footer[:-1] + b"\x06\x06\x02\x00")
    items, (part,) = parts(content)
    assert items == []
    assert "a part of it is there twice" in part.reason
