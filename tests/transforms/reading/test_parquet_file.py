"""Parquet files: values of every type, odd ones, row groups that are damaged or have other rows than they say."""

import io
import json
import random
import uuid
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.parquet_footer import as_variant, i64, with_footer, written
from tests.support.parts import admitted, read
from transforms.reading.blocks import Block, Broken
from transforms.reading.files import blocks
from transforms.reading.parquet_file import most_values

NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z
UUIDS = [uuid.UUID(int=number << 100 | 0xABCDEF) for number in range(1, 10)]


def parts(content: bytes) -> Iterable[Block | Broken]:
    return blocks(io.BytesIO(content), "parquet")


def columns(count: int = 9, /, **more: Any) -> dict[str, Any]:
    """Of activity: what it must have, and `more`."""
    least = {
        "record_id": [f"r{number}" for number in range(count)],
        "user_id": ["u"] * count,
        "session_id": ["s"] * count,
        "activity_id": ["a"] * count,
        "action": ["START"] * count,
        "occurred_at": [NOON] * count,
    }
    return {**least, **more}


def file(count: int = 9, /, **more: Any) -> bytes:
    return written(pa.table(columns(count, **more)), row_group_size=100)


def test_rows_are_those_of_the_columns_that_activity_has() -> None:
    items, broken = read(parts(file(5000, extra=list(range(5000)))))
    assert not broken
    assert [position for position, _ in items] == list(range(5000))
    assert items[4999][1] == {name: values[-1] for name, values in columns(5000).items()}


def in_list(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)


def in_large_list(values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(range(len(values) + 1), pa.int64()), values)


def in_struct(values: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([values], ["x"])


def in_map(values: pa.Array) -> pa.Array:
    offsets = pa.array(range(len(values) + 1), pa.int32())
    return pa.MapArray.from_arrays(offsets, pa.array(["k"] * len(values)), values)


def in_dictionary(values: pa.Array) -> pa.Array:
    return values.dictionary_encode()


NESTINGS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "plain": (lambda values: values, lambda value: value),
    "list": (in_list, lambda value: [value]),
    "large list": (in_large_list, lambda value: [value]),
    "struct": (in_struct, lambda value: {"x": value}),
    "map": (in_map, lambda value: {"k": value}),
    "list of structs": (lambda values: in_list(in_struct(values)), lambda value: [{"x": value}]),
    "map of lists": (lambda values: in_map(in_list(values)), lambda value: {"k": [value]}),
    "struct of maps": (lambda values: in_struct(in_map(values)), lambda value: {"x": {"k": value}}),
}


def at(unit: str, zone: str | None = None) -> Any:
    return pa.timestamp(unit, zone)


def extension(type_: Any, storage: Any) -> Any:
    return pa.ExtensionArray.from_storage(type_, storage)


VALUES: list[tuple[str, Any, Any]] = [
    ("text", pa.array(["é", None]), "é"),
    ("large text", pa.array(["é", None], pa.large_string()), "é"),
    ("bytes", pa.array(["é".encode(), None]), "é"),
    ("large bytes", pa.array(["é".encode(), None], pa.large_binary()), "é"),
    ("fixed", pa.array([b"abc", None], pa.binary(3)), "abc"),
    ("fixed(16)", pa.array([UUIDS[0].bytes, None], pa.binary(16)), str(UUIDS[0])),
    ("uuid", extension(pa.uuid(), pa.array([UUIDS[0].bytes, None], pa.binary(16))), str(UUIDS[0])),
    ("json", extension(pa.json_(), pa.array(['{"a":1}', None])), '{"a":1}'),
    ("bool", pa.array([True, None]), True),
    ("bool8", extension(pa.bool8(), pa.array([1, None], pa.int8())), True),
    ("int8", pa.array([-7, None], pa.int8()), -7),
    ("uint64", pa.array([2**64 - 1, None], pa.uint64()), 2**64 - 1),
    ("half", pa.array([1.5, None], pa.float16()), 1.5),
    ("float", pa.array([1.5, None], pa.float32()), 1.5),
    ("double", pa.array([0.1, None]), 0.1),
    ("decimal", pa.array([Decimal("500.25"), None]), 500.25),
    ("whole decimal", pa.array([Decimal("500.00"), None]), 500),
    ("wide decimal", pa.array([Decimal(10**50), None], pa.decimal256(60, 2)), 10**50),
    ("date32", pa.array([date(2026, 3, 1), None]), "2026-03-01"),
    ("date64", pa.array([date(2026, 3, 1), None], pa.date64()), "2026-03-01"),
    ("time32", pa.array([32_400_500, None], pa.time32("ms")), "09:00:00.5"),
    ("time64", pa.array([1, None], pa.time64("ns")), "00:00:00.000000001"),
    ("duration", pa.array([1500, None], pa.duration("ms")), "PT1.5S"),
    ("null", pa.nulls(2), None),
    ("far", pa.array([2**62, None], at("us", "UTC")), 2**62 // 1000),
    ("before 1970", pa.array([-1, None], at("ns")), -1),
    *(
        (f"{unit} {zone}", pa.array([NOON * per_second // 1000 + per_second // 2, None], at(unit, zone)), NOON + 500)
        for unit, per_second in (("ms", 1000), ("us", 10**6), ("ns", 10**9))
        for zone in (None, "UTC", "America/New_York")
    ),
]


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize(("values", "expected"), [case[1:] for case in VALUES], ids=[case[0] for case in VALUES])
def test_a_value_of_any_type_wherever_it_is(values: Any, expected: Any, nesting: str) -> None:
    nest, nested = NESTINGS[nesting]
    items, broken = read(parts(written(pa.table({"x": nest(values)}))))
    assert not broken
    assert repr([row["x"] for _, row in items]) == repr([nested(expected), nested(None)])


@pytest.mark.parametrize(
    ("type_", "given", "expected"),
    [
        (pa.string_view(), "é", "é"),
        (pa.binary_view(), "é".encode(), "é"),
        (pa.list_view(pa.string()), ["é"], ["é"]),
    ],
)
def test_types_that_are_laid_out_otherwise(type_: Any, given: Any, expected: Any) -> None:
    content = written(pa.table({"x": pa.array([given, None], type_)}))
    assert read(parts(content)) == ([(0, {"x": expected}), (1, {"x": None})], [])


def test_lists_of_a_fixed_size() -> None:
    content = written(pa.table({"x": pa.array([["é"], ["a"]], pa.list_(pa.string(), 1))}))
    assert read(parts(content)) == ([(0, {"x": ["é"]}), (1, {"x": ["a"]})], [])


@pytest.mark.parametrize("values", [pa.array(["é", None]), pa.array([NOON, None], at("ns")), pa.array([b"a", None])])
def test_values_in_a_dictionary(values: Any) -> None:
    plain, _ = read(parts(written(pa.table({"x": values}))))
    encoded = written(pa.table({"x": values.dictionary_encode()}))
    assert read(parts(encoded)) == (plain, [])


def test_times_as_spark_writes_them() -> None:
    """96 bits, of years that nanoseconds of 64 bits do not reach."""
    table = pa.table({"x": pa.array([NOON, 253_402_300_799_000], at("ms"))})
    items, broken = read(parts(written(table, use_deprecated_int96_timestamps=True)))
    assert (items, broken) == ([(0, {"x": NOON}), (1, {"x": 253_402_300_799_000})], [])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array([date(2026, 3, 1)]), "2026-03-01"),
        (pa.array([b"class"]), "class"),
        (pa.array([7]), "7"),
        (pa.array([True]), "true"),
        (pa.array([Decimal("7.00")]), "7"),
        (pa.array([NOON], at("ms")), str(NOON)),
        (extension(pa.uuid(), pa.array([UUIDS[0].bytes], pa.binary(16))), str(UUIDS[0])),
        (pa.array(["k"]).dictionary_encode(), "k"),
    ],
)
def test_keys_of_maps_are_text(keys: Any, expected: str) -> None:
    metadata = pa.MapArray.from_arrays(pa.array([0, 1], pa.int32()), keys, pa.array(["x"]))
    assert read(parts(file(1, metadata=metadata)))[0][0][1]["metadata"] == {expected: "x"}
    spoiled = file(1, metadata=metadata, action=["BEGIN"])
    accepted, ((position, reason),) = admitted(parts(spoiled))
    assert (accepted, position) == (0, 0)
    assert reason.startswith("action: not allowed")


def odd_at(row: int, good: Any, odd: Any, type_: Any) -> Any:
    return pa.array([odd if number == row else good for number in range(9)], type_)


ODD: list[tuple[str, Any, str]] = [
    ("date", odd_at(4, 20_000, 2_932_897, pa.int32()).cast(pa.date32()), "in none of the years 1 to 9999"),
    ("bytes", odd_at(4, b"a", b"\xff", pa.binary()), "not valid UTF-8"),
    ("text", odd_at(4, b"a", b"\xff", pa.binary()).view(pa.string()), "not valid UTF-8"),
    ("fixed", odd_at(4, b"ab", b"\xc3\xc3", pa.binary(2)), "not valid UTF-8"),
    ("NaN", odd_at(4, 1.0, float("nan"), pa.float64()), "NaN and Infinity are not numbers here"),
    ("Infinity", odd_at(4, 1.0, float("inf"), pa.float32()), "NaN and Infinity are not numbers here"),
]


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize(("values", "told"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_an_odd_value_costs_its_row_only(values: Any, told: str, nesting: str) -> None:
    content = file(metadata=NESTINGS[nesting][0](values))
    items, (part,) = read(parts(content))
    assert [position for position, _ in items] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (part.position, part.rows, part.length) == (4, 1, len(part.content))
    assert part.reason.startswith("metadata: ")
    assert told in part.reason
    assert json.loads(part.content)["record_id"] == "r4"


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("values", [case[1] for case in ODD], ids=[case[0] for case in ODD])
def test_an_odd_value_costs_nothing_where_activity_lacks_the_field(values: Any, nesting: str) -> None:
    assert admitted(parts(file(device=NESTINGS[nesting][0](values)))) == (9, [])


@pytest.mark.parametrize("values", [case[1] for case in ODD], ids=[case[0] for case in ODD])
def test_nor_where_a_response_has_it_and_activity_does_not(values: Any) -> None:
    given = {
        "response_id": pa.array(["q"] * 9),
        "odd": values,
        "item_reference": pa.array(["i"] * 9),
        "score": pa.array([Decimal("1.5")] * 9),
    }
    content = file(responses=in_list(pa.StructArray.from_arrays(list(given.values()), list(given))))
    items, broken = read(parts(content))
    assert not broken
    assert items[4][1]["responses"] == [{"response_id": "q", "item_reference": "i", "score": 1.5}]
    assert admitted(parts(content)) == (9, [])


def test_an_odd_row_among_many_and_at_the_ends() -> None:
    count = 6000
    odd = {0, 1, 2047, 2048, 4100, 5999}
    values = [float("nan") if number in odd else 1.0 for number in range(count)]
    items, broken = read(parts(written(pa.table(columns(count, seq=pa.array(values, from_pandas=False))))))
    assert [part.position for part in broken] == sorted(odd)
    assert [position for position, _ in items] == [number for number in range(count) if number not in odd]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (pa.array([42] * 9), "42 is a number where text is needed"),
        (pa.array([1.5] * 9), "1.5 is a number where text is needed"),
        (pa.array([Decimal("7.00")] * 9), "7 is a number where text is needed"),
        (pa.array([True] * 9), "not allowed (Expected str, got bool)"),
        (pa.nulls(9), "not allowed (Expected str, got null)"),
    ],
)
def test_ids_that_are_no_text_are_refused_by_name(values: Any, told: str) -> None:
    accepted, rejects = admitted(parts(file(user_id=values)))
    assert (accepted, len(rejects)) == (0, 9)
    assert all(reason.startswith(f"user_id: {told}") for _, reason in rejects)


def test_rows_that_activity_refuses_show_what_the_file_has_instead() -> None:
    table = pa.table({"RecordId": ["r1", "r2"], "due": pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32())})
    items, broken = read(parts(written(table)))
    assert not broken
    assert [row["RecordId"] for _, row in items] == ["r1", "r2"]
    accepted, rejects = admitted(parts(written(table)))
    assert (accepted, [reason.partition(";")[0] for _, reason in rejects]) == (0, ["record_id: missing"] * 2)


def test_a_file_without_columns() -> None:
    table = pa.table({"record_id": ["r1", "r2"]}).select([])
    assert read(parts(written(table))) == ([], [])


VARIANT = pa.StructArray.from_arrays([pa.array([b"\x01\0\0"] * 9), pa.array([b"\x0ctext"] * 9)], ["metadata", "value"])


def test_a_variant_is_refused_by_its_type() -> None:
    content = as_variant(written(pa.table(columns(metadata=VARIANT))), "metadata")
    assert read(parts(content)) == (
        [],
        [
            Broken(
                0,
                "metadata: a column of the type VARIANT, which is not read: write it as text (in SQL: CAST(metadata AS "
                "JSON)) or as a struct, list or map",
                b"",
                len(content),
                9,
                unread=True,
            )
        ],
    )


def test_a_variant_costs_nothing_where_activity_lacks_the_field() -> None:
    content = as_variant(written(pa.table(columns(payload=VARIANT, metadata=VARIANT))), "payload")
    assert admitted(parts(content)) == (9, [])


def test_a_name_that_looks_like_a_variant_is_none() -> None:
    odd = pa.StructArray.from_arrays([pa.array(["x"] * 9)], ["y (Variant(1)) {"])
    looks: dict[str, Any] = {"metadata": odd, "z (Variant(1)) {": odd}
    assert admitted(parts(written(pa.table(columns(**looks))))) == (9, [])


def test_a_column_that_is_there_twice_is_refused() -> None:
    table = pa.table(columns()).append_column("user_id", pa.array(["other"] * 9))
    items, (part,) = read(parts(written(table)))
    assert (items, part.rows) == ([], 9)
    assert part.reason == "user_id: there are several columns of this name"


def three_groups() -> bytes:
    return written(pa.table({"record_id": [f"r{n}" for n in range(300)]}), row_group_size=100, compression="none")


def with_rows(content: bytes, told: int, truth: int, which: int) -> bytes:
    """One of the places where the footer has `truth` says `told`."""

    def edit(footer: bytes) -> bytes:
        pieces = footer.split(i64(truth))
        return i64(truth).join(pieces[: which + 1]) + i64(told) + i64(truth).join(pieces[which + 1 :])

    return with_footer(content, edit)


def test_a_file_with_fewer_rows_than_its_footer_says() -> None:
    items, (part,) = read(parts(with_rows(three_groups(), 400, 300, 0)))
    assert len(items) == 300
    assert part == Broken(
        300, "not readable as Parquet: the file says that it has 400 rows, and its row groups have 300", b"", 0, 100
    )


@pytest.mark.parametrize("told", [110, 90])
def test_a_row_group_with_other_rows_than_it_says(told: int) -> None:
    """Wherever a 100 in the footer is changed: no row is lost that is not told of."""
    differences = []
    for which in range(three_groups().count(i64(100))):
        items, broken = read(parts(with_rows(three_groups(), told, 100, which)))
        told_of = [part for part in broken if "a row group says" in part.reason]
        assert len(items) == 300 or broken
        differences += [(len(items), part.rows) for part in told_of]
    assert differences.count((290, 10) if told < 100 else (300, 10)) >= 3


def test_a_row_group_that_is_damaged_costs_itself() -> None:
    content = bytearray(
        written(pa.table(columns(300)), row_group_size=100, compression="zstd", write_page_checksum=True)
    )
    content[len(content) // 2 - 800] ^= 255
    items, (part,) = read(parts(bytes(content)))
    assert len(items) == 200
    assert part.rows == 100
    assert part.length > 0
    assert part.position + 100 == 300 or [position for position, _ in items][part.position] == part.position + 100
    assert part.reason.startswith("not readable as Parquet: ")


def test_a_pipe_is_one_reject() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, offset: int, whence: int = 0, /) -> int:
            raise io.UnsupportedOperation("underlying stream is not seekable")

        def tell(self) -> int:
            raise io.UnsupportedOperation("underlying stream is not seekable")

    items, (part,) = read(blocks(Pipe(file()), "parquet"))
    assert (items, part.length) == ([], 0)
    assert "not seekable" in part.reason


class AskedOf:
    """A row group that notes which of its columns it is asked about."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.group, name)

    def column(self, index: int) -> Any:
        found = self.group.column(index)
        self.asked.add(found.path_in_schema)
        return found


def test_only_columns_that_were_read_are_asked_about() -> None:
    parquet = pq.ParquetFile(io.BytesIO(file(4)))
    group = AskedOf(parquet.metadata.row_group(0))
    assert most_values(parquet.schema, group, ["record_id"]) == 4
    assert group.asked == {"record_id"}


@pytest.mark.slow
def test_parquet_damaged_raises_nothing() -> None:
    content = file(1000)
    for cut in (0, 3, len(content) // 2, len(content) - 1):
        items, (part,) = read(parts(content[:cut]))
        assert (items, part.length) == ([], cut)
        assert part.reason.startswith("not readable as Parquet: ")
    chance = random.Random(7)  # noqa: S311
    for _ in range(100):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        items, broken = read(parts(bytes(damaged)))
        assert len(items) + sum(part.rows or 0 for part in broken) >= 900 or any(part.rows is None for part in broken)
