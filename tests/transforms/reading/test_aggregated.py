"""Aggregated records, as AWS' own library for Python writes them, and broken ones."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.aggregated_records import MAGIC
from tests.support.aggregated import aggregated
from transforms.reading.activity import ActivityError
from transforms.reading.aggregated import inner_records, is_aggregated


def of(message: bytes) -> bytes:
    """An aggregated record of this protobuf message."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_what_the_library_puts_together_is_taken_apart_in_its_order(payloads: list[bytes]) -> None:
    message = aggregated(*payloads, keys=("u", "v", "ü"))
    assert is_aggregated(message)
    assert inner_records(message) == payloads


def test_tags_hash_keys_and_fields_that_are_not_known_are_passed_over() -> None:
    record = b"\x08\x00\x10\x01" + b"\x1a\x01a" + b"\x22\x03\x0a\x01t" + b"\x29" + bytes(8) + b"\x35" + bytes(4)
    message = b"\x0a\x01k" + b"\x12\x0212" + b"\x1a" + bytes([len(record)]) + record + b"\x7a\x01z"
    assert inner_records(of(message)) == [b"a"]
    assert inner_records(of(b"\x0a\x01k")) == []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (MAGIC, "of 4 bytes, which is cut short"),
        (MAGIC + bytes(15), "of 19 bytes, which is cut short"),
        (aggregated(b"a", b"b")[:-1], "its MD5 does not fit"),
        (aggregated(b"a", b"b").replace(b"b", b"c"), "its MD5 does not fit"),
        (of(b"\x1a\x05\x08\x00"), "a field of 5 bytes at byte 2, where 2 are left"),
        (of(b"\x1a\x02\x08\x00"), "a record in it has no data"),
        (of(b"\x1b\x00"), "a field of type 3 at byte 1"),
        (of(b"\x08" + b"\xff" * 11), "a number without an end at byte 1"),
        (of(b"\x1a"), "a number without an end at byte 1"),
    ],
)
def test_a_broken_one_says_what_is_wrong(message: bytes, told: str) -> None:
    with pytest.raises(ActivityError, match="an aggregated record of the Kinesis Producer Library") as refusal:
        inner_records(message)
    assert told in str(refusal.value)


@given(st.binary(max_size=60))
def test_no_message_is_more_than_taken_apart_or_refused(message: bytes) -> None:
    with suppress(ActivityError):
        assert all(len(each) <= len(message) for each in inner_records(of(message)))


def test_json_and_avro_are_none() -> None:
    assert not any(map(is_aggregated, (b'{"record_id": "r"}', b"[]", b"Obj\x01", b"\xc3\x01", b"")))
