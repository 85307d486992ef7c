"""Activity in Avro, as a stream's record holds it, against fastavro's own writers."""

import gzip
import io
import re
import struct
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import Activity, avro_schema
from tests.support.activity import activity, by_items, by_tags, response, tags
from tests.support.avro_bytes import ID_FIELDS, NOON, ids, long, record, text
from tests.support.avro_bytes import container as container_of
from transforms.reading.activity import BOM, ActivityDecoder, ActivityError, encode
from transforms.reading.avro_message import avro_activities, is_avro

SCHEMA = avro_schema("session_activity")
START = activity("START")
SUBMIT = activity(
    "SUBMIT",
    90.5,
    seq=4,
    session_duration=8.25,
    num_questions=2,
    responses=[response("q1", 3, 4), response("q2", 0.5, 1)],
    subscores=[by_items("one", "q1"), by_tags("two", ("Strand", "Algebra"))],
    item_tags={"q2": tags(("Strand", "Algebra"))},
    metadata={"form": "B", "seat": 12, "practice": False, "nothing": None},
)


def bare(each: Activity) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA), msgspec.to_builtins(each))
    return stream.getvalue()


def single_object(each: Activity) -> bytes:
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO")) + bare(each)


def container(*several: Activity) -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, SCHEMA, map(msgspec.to_builtins, several), codec="deflate")
    return stream.getvalue()


def read(message: bytes) -> tuple[list[Activity], list[str]]:
    assert is_avro(message)
    rows: list[Any] = list(avro_activities(message))
    errors = [str(row) for row in rows if isinstance(row, ActivityError)]
    return [ActivityDecoder().decode_row(row) for row in rows if not isinstance(row, ActivityError)], errors


@pytest.mark.parametrize("written", [bare, single_object, container])
@pytest.mark.parametrize("each", [START, SUBMIT])
def test_activity_is_read_as_it_was_written(written: Callable[[Activity], bytes], each: Activity) -> None:
    assert read(written(each)) == ([each], [])


def test_a_container_may_hold_several() -> None:
    assert read(container(START, SUBMIT)) == ([START, SUBMIT], [])


def test_the_fingerprint_is_the_one_of_the_avro_specification() -> None:
    # "CRC-64-AVRO of "int" is 0x7275d51a3f395c8f", little-endian in the encoding.
    assert fingerprint('"int"', "CRC-64-AVRO") == "8f5c393f1ad57572"


@pytest.mark.parametrize("json", [encode(SUBMIT), b" \r\n\t" + encode(START), BOM + encode(START), b"{", b"[]", b""])
def test_json_is_not_taken_for_avro(json: bytes) -> None:
    assert not is_avro(json)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"hello", "neither a JSON object nor Avro of session_activity.avsc"),
        (bare(START)[:-1], "neither a JSON object nor Avro"),
        (bare(START) + b"\0", "1 bytes are left over"),
        (b"\xc3\x01" + bytes(8) + bare(START), r"CRC-64-AVRO 0000000000000000\); known is session_activity.avsc"),
        (b"\xc3\x01", "a schema that is not known"),
        (b"Obj\x01", "not readable as Avro"),
        (gzip.compress(encode(START)), r"a message that is compressed \(gz\)"),
        (encode(START).decode().encode("utf-16"), "text in UTF-16"),
        (b"PAR1\x15\x04", "this is Parquet"),
    ],
)
def test_what_cannot_be_read_says_why(message: bytes, told: str) -> None:
    good, (reason,) = read(message)
    assert not good
    assert re.search(told, reason)


def test_of_a_container_cut_short_what_came_before_counts() -> None:
    stream = io.BytesIO()
    fastavro.writer(stream, SCHEMA, map(msgspec.to_builtins, [START, SUBMIT]), sync_interval=1)
    good, (reason,) = read(stream.getvalue()[:-20])
    assert good == [START]
    assert "not readable as Avro" in reason


def test_an_odd_value_in_a_container_costs_its_row() -> None:
    schema = record([*ID_FIELDS, {"name": "occurred_at", "type": "long"}, {"name": "seq", "type": "double"}])
    rows = [ids(n) + long(NOON) + struct.pack("<d", float("nan") if n == 1 else n) for n in range(3)]
    good, reasons = read(container_of(schema, rows))
    assert [each.record_id for each in good] == ["r0", "r2"]
    assert reasons == ["seq: NaN and Infinity are not numbers here"]


@pytest.mark.parametrize("written", [bare, single_object])
def test_an_odd_value_says_in_which_field(written: Callable[[Activity], bytes]) -> None:
    message = written(activity("START", metadata={"x": 1.5})).replace(
        struct.pack("<d", 1.5), struct.pack("<d", float("inf"))
    )
    assert read(message) == ([], ["metadata: NaN and Infinity are not numbers here"])
    message = written(activity("START", session_id="???")).replace(b"???", b"\xff\xff\xff")
    assert read(message) == ([], ["session_id: not valid UTF-8"])


def test_times_and_uuids_of_a_container_are_read_as_from_a_file() -> None:
    at = {"name": "occurred_at", "type": {"type": "long", "logicalType": "local-timestamp-nanos"}}
    session = {"name": "session_id", "type": ["null", {"type": "string", "logicalType": "uuid"}]}
    schema = record([*ID_FIELDS[:2], session, *ID_FIELDS[3:], at])
    row = text("r") + text("u") + long(1) + text("A" * 8 + "-0000-4000-8000-" + "B" * 12)
    good, reasons = read(container_of(schema, [row + text("a") + text("START") + long(NOON * 1_000_000)]))
    assert not reasons
    assert (good[0].occurred_at, good[0].session_id) == (NOON, "aaaaaaaa-0000-4000-8000-bbbbbbbbbbbb")
