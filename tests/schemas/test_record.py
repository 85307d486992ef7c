import io
import json
from typing import Any

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DERIVED_KINDS, KINDS, DerivedKind, Record, avro_schema
from schemas.arrow import arrow_schema
from schemas.record import decode_record, encode_record, parquet_row, record_row
from tests.support.settlements import MESSAGES, documented_record

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LONG = st.integers(-(1 << 63), (1 << 63) - 1)
SCALAR = st.none() | TEXT | st.booleans() | LONG | st.floats(allow_nan=False, allow_infinity=False)
NUMBER = st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Records whose texts and numbers are anything, in messages with the documented keys."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value for _ in range(draw(st.integers(0, 2)))]
        return draw(TEXT if isinstance(value, str) else NUMBER)

    kind = draw(st.sampled_from(DERIVED_KINDS))
    message = filled(MESSAGES[kind])
    return Record(
        id=draw(TEXT),
        kind=kind,
        organisation=draw(st.none() | TEXT),
        lrs_id=draw(st.none() | TEXT),
        user_id=message["user_id"],
        timestamp=draw(st.integers(946_684_800_000, 4_102_444_800_000)),
        record_id=draw(TEXT),
        place=draw(st.integers(0, 1 << 31)),
        message=message,
        # Another encoder's bytes, and its escapes: they must come back as they were.
        body=draw(
            st.sampled_from(
                [msgspec.json.encode(message), json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode()]
            )
        ),
        metadata=draw(st.dictionaries(TEXT, SCALAR, max_size=4)),
    )


@given(records())
def test_a_line_gives_back_the_record_and_its_very_bytes(record: Record) -> None:
    line = encode_record(record)
    assert line.startswith(record.body[:-1])
    assert b"\n" not in line
    assert decode_record(line) == record


@pytest.mark.parametrize("number", [b"1.0", b"1e3", b"0.1", b"123456789012345678901234567890", b"-0.0"])
def test_numbers_stay_as_they_were_written(number: bytes) -> None:
    plain = documented_record(kind="status")
    body = plain.body.replace(b'"num_attempted":9', b'"num_attempted":' + number)
    record = msgspec.structs.replace(plain, body=body, message=msgspec.json.decode(body))
    assert decode_record(encode_record(record)).body == body


def test_the_line_is_the_message_then_the_envelope() -> None:
    assert encode_record(documented_record(timestamp=1_581_951_803_007)).decode() == (
        '{"event":"session-started","session_id":"s-1","activity_id":"a-1","user_id":"u-1",'
        '"time":"2020-02-17 15:03:23","id":"'
        + documented_record().id
        + '","kind":"event","organisation":"org","lrs_id":null,'
        '"timestamp":"2020-02-17T15:03:23.007Z","record_id":"activity 1","place":0,"metadata":{"grade":5}}'
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "truncated"),
        (b"[1]", "Expected `object`"),
        (b'{"id":"1"}', "missing required field `kind`"),
        (
            encode_record(documented_record()).replace(b".123Z", b"Z"),
            "timestamp '2020-02-17T15:03:23Z' is not of the form",
        ),
        (encode_record(documented_record()).replace(b'"user_id":"u-1",', b""), "its message has no user_id"),
    ],
)
def test_what_is_no_record_is_said_to_be_none(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_record(line)


@pytest.mark.parametrize("kind", DERIVED_KINDS)
def test_rows_have_the_fields_of_their_schema_in_its_order(kind: DerivedKind) -> None:
    assert list(record_row(documented_record(kind=kind))) == [field["name"] for field in avro_schema(kind)["fields"]]


@pytest.mark.parametrize("kind", DERIVED_KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_rows_can_be_written_as_avro(kind: DerivedKind, strict: bool) -> None:
    record = msgspec.structs.replace(
        documented_record(kind=kind),
        metadata={"s": "x", "i": 1, "b": True, "f": 0.5, "none": None, "edge": (1 << 63) - 1},
    )
    out = io.BytesIO()
    fastavro.writer(out, avro_schema(kind), [record_row(record)], strict=strict, validator=strict)
    out.seek(0)
    (row,) = fastavro.reader(out)
    assert isinstance(row, dict)
    assert row["metadata"] == record.metadata
    assert type(row["metadata"]["b"]) is bool
    assert {name: row[name] for name in record.message} == record.message
    assert row["timestamp"].timestamp() * 1000 == record.timestamp


STATEMENT = (
    '{"actor": {"mbox": "mailto:ann@example.org"}, "verb": {"id": "http://example.org/v"}, '
    '"object": {"id": "http://example.org/é"}, "result": {"score": {"raw": 1.0, "max": 1e400}}, "id": "ABC"}'
).encode()


def statement_record(**more: Any) -> Record:
    return Record(
        "abc",
        "statement",
        "org",
        None,
        "mailto:ann@example.org",
        1_581_951_803_123,
        "abc",
        2,
        {},
        STATEMENT,
        {},
        **more,
    )


STATEMENT_RECORDS = [
    statement_record(),
    statement_record(stored=1_581_951_900_000, voids="def", document=b'{"person":{"_id":{"$oid":"5f"}}, "n": 1.0}'),
]


@pytest.mark.parametrize("record", STATEMENT_RECORDS)
def test_a_line_gives_back_a_statement_and_its_very_bytes(record: Record) -> None:
    line = encode_record(record)
    assert line.startswith(b'{"statement":' + STATEMENT + b",")
    assert decode_record(line) == record


@pytest.mark.parametrize("record", STATEMENT_RECORDS)
def test_a_row_of_a_statement_has_its_text_in_one_column(record: Record) -> None:
    out = io.BytesIO()
    assert list(record_row(record)) == [field["name"] for field in avro_schema("statement")["fields"]]
    fastavro.writer(out, avro_schema("statement"), [record_row(record)], strict=True)
    out.seek(0)
    (row,) = fastavro.reader(out)
    table = io.BytesIO()
    schema = arrow_schema("statement")
    pq.write_table(pa.Table.from_pylist([parquet_row(record)], schema=schema), table)
    assert pq.read_table(io.BytesIO(table.getvalue())).to_pylist() == [row]
    assert isinstance(row, dict)
    assert row["statement"] == STATEMENT.decode()
    assert row["document"] == (None if record.document is None else record.document.decode())
    assert row["timestamp"].timestamp() * 1000 == record.timestamp
    assert row["stored"] is None or row["stored"].timestamp() * 1000 == record.stored


def test_a_sum_of_scores_beyond_64_bits_is_written_as_a_double() -> None:
    record = documented_record(kind="score")
    message = {**record.message, "score": 1 << 64, "subscores": [{**record.message["subscores"][0], "score": 1 << 70}]}
    out = io.BytesIO()
    fastavro.writer(out, avro_schema("score"), [record_row(msgspec.structs.replace(record, message=message))])
    out.seek(0)
    (row,) = fastavro.reader(out)
    assert isinstance(row, dict)
    assert row["score"] == float(1 << 64)
    assert row["subscores"][0]["score"] == float(1 << 70)
    assert row["max_score"] == 10


@pytest.mark.parametrize("kind", DERIVED_KINDS)
def test_rows_can_be_written_as_parquet(kind: DerivedKind) -> None:
    record = msgspec.structs.replace(
        documented_record(kind=kind), metadata={"s": "x", "none": None, "large": (1 << 63) - 1}
    )
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([parquet_row(record)], schema=arrow_schema(kind)), out)
    table = pq.read_table(io.BytesIO(out.getvalue()))
    assert table.schema.equals(arrow_schema(kind))
    (row,) = table.to_pylist()
    assert {name: row[name] for name in record.message} == record.message
    assert json.loads(row["metadata"]) == {"s": "x", "none": None, "large": (1 << 63) - 1}
    assert row["timestamp"].timestamp() * 1000 == record.timestamp


def test_arrow_schemas_exist_for_every_avro_schema() -> None:
    for name in (*KINDS, "receipt", "dead_letter", "reject", "session_activity"):
        assert arrow_schema(name).names == [field["name"] for field in avro_schema(name)["fields"]]
    score = arrow_schema("score")
    assert score.field("score").type == pa.float64()
    assert score.field("score").nullable
    assert score.field("subscores").type.value_type.field("items").type.value_type == pa.string()
    assert arrow_schema("event").field("timestamp").type == pa.timestamp("ms", tz="UTC")
