"""Bodies of many records, the key of a batch, and answers with a status for each record."""

import gzip
import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.record import NAMESPACE
from transforms.sinks.batches import (
    AROUND,
    SEPARATOR,
    UnreadableAnswerError,
    batch_id,
    compressed,
    entry_answers,
    joined,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TEXTS = st.builds(
    lambda value, indent: json.dumps(value, indent=indent, ensure_ascii=False).encode(),
    VALUES,
    st.sampled_from([None, 1]),
)


@settings(max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_an_array_holds_the_payloads_bytes_as_they_are(payloads: list[bytes]) -> None:
    body = joined(payloads, "array")
    assert json.loads(body) == [json.loads(payload) for payload in payloads]
    at = 1
    for payload in payloads:
        assert body[at : at + len(payload)] == payload
        at += len(payload) + SEPARATOR
    assert len(body) == sum(len(payload) + SEPARATOR for payload in payloads) + AROUND


@settings(max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_each_line_is_one_payload(payloads: list[bytes]) -> None:
    body = joined(payloads, "lines")
    lines = body.split(b"\n")
    assert lines.pop() == b""
    assert b"\r" not in body
    assert [json.loads(line) for line in lines] == [json.loads(payload) for payload in payloads]
    assert len(body) <= sum(len(payload) + SEPARATOR for payload in payloads) + AROUND
    for payload, line in zip(payloads, lines, strict=True):
        assert b"\n" in payload or line == payload


def test_the_id_of_a_batch_is_that_of_its_records_in_order() -> None:
    assert batch_id(["a", "b"]) == str(uuid.uuid5(NAMESPACE, "a\nb"))
    assert len({batch_id(ids) for ids in (["a"], ["a", "b"], ["b", "a"], ["a", "b", "c"])}) == 4


def test_the_same_body_is_compressed_to_the_same_bytes() -> None:
    body = b'{"a":1}' * 1000
    assert gzip.decompress(compressed(body)) == body
    assert compressed(body) == compressed(body)
    assert compressed(body)[4:8] == bytes(4)  # the time


def test_an_entry_is_a_status_or_an_object_with_one() -> None:
    answers = entry_answers(b'[200, {"status": 400, "error": "no"}, {"status":429}]', 3)
    assert [answer.status for answer in answers] == [200, 400, 429]
    assert answers[1].text == b'{"status": 400, "error": "no"}'


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON array"),
        (b'{"status":200}', "no JSON array"),
        (b"[200]", "1 entries for 2 records"),
        (b"[200,200,200]", "3 entries for 2 records"),
        (b'[200,"200"]', "entry 1 of the answer is no status"),
        (b"[200,{}]", "entry 1 of the answer is no status"),
        (b'[{"status":"ok"},200]', "entry 0 of the answer has no status"),
        (b"[200,true]", "entry 1 of the answer"),
        (b"[200,99]", "entry 1 of the answer has no status from 200"),
        (b"[" * 5000, "no JSON array"),
    ],
)
def test_any_other_answer_cannot_be_read(body: bytes, why: str) -> None:
    with pytest.raises(UnreadableAnswerError, match=why):
        entry_answers(body, 2)
