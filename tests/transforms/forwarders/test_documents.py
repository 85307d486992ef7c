"""Reading documents out of files."""

import json
import pickle

import pytest

from tests.support.forwarder_documents import EXAMPLE, HTTP, KINESIS, load, rules
from tests.support.forwarder_documents import changed as change
from transforms.forwarders import documents_from, load_forwarders, read_documents

LINES = "\n".join(json.dumps(one) for one in (HTTP, KINESIS))
SECOND = json.dumps(KINESIS)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([HTTP, KINESIS]),
        json.dumps([HTTP, KINESIS], indent=2),
        "\ufeff" + LINES,
        LINES + "\n",
        LINES.replace("\n", "\r\n\r\n"),
        json.dumps(HTTP, indent=2) + "\n" + json.dumps(KINESIS, indent=2),
    ],
)
def test_an_array_lines_and_documents_that_follow_each_other(text: str) -> None:
    found = read_documents({"f.json": text.encode()})
    assert not found.faults
    assert [document.content["_id"] for document in found.documents] == ["h", "k"]
    assert [document.where for document in found.documents] == ["f.json[0]", "f.json[1]"]


def test_a_directory() -> None:
    found = read_documents({"d/b.json": SECOND.encode(), "d/a.json": json.dumps([HTTP]).encode()})
    assert [document.where for document in found.documents] == ["d/a.json[0]", "d/b.json"]


def test_an_empty_array_holds_no_document() -> None:
    found = read_documents({"f.json": b" [ ] \n"})
    assert (found.documents, found.faults) == ((), ())


@pytest.mark.parametrize(
    ("text", "where", "message", "read"),
    [
        (b"", "f", "is empty", 0),
        (b" \n", "f", "is empty", 0),
        (b"\xff\xfe", "f", "is not UTF-8 text (byte 0)", 0),
        (b"[1]", "f[0]", "expected a JSON object", 0),
        (b'"text"', "f", "expected a JSON object", 0),
        (b'[{"_id": "a"}', "f", "is not JSON: Expecting ',' or ']': line 1 column 14", 1),
        (b'[{"_id": "a"}, ]', "f", "is not JSON: Expecting value: line 1 column 16", 1),
        (b'[{"_id": "a"}] x', "f", "is not JSON: Extra data after the array", 1),
        (b'{"_id": "a"}\n{"_id": \n{"_id": "c"}', "f line 2", "is not JSON: Expecting value", 2),
        (b'{\n"_id": "a",\n}', "f", "is not JSON: Illegal trailing comma", 0),
        (b'{"_id": "a", "x": NaN}', "f", "is not JSON: NaN is not a JSON number", 0),
        (b'{"_id": "\\ud800"}', "f", "the text at _id holds half of a surrogate pair", 0),
        (b"[" * 100_000, "f", "is not JSON: it is nested more than 100 deep", 0),
        (b'{"a":' * 100_000, "f", "is not JSON: it is nested more than 100 deep", 0),
    ],
)
def test_what_is_not_a_document(text: bytes, where: str, message: str, read: int) -> None:
    found = read_documents({"f": text})
    (fault,) = found.faults
    assert fault.where == where
    if "trailing comma" not in message:  # its words differ between versions of Python
        assert message in fault.message
    assert len(found.documents) == read


def test_faults_of_the_documents_before_a_broken_one_show_too() -> None:
    broken = json.dumps([change(HTTP, {"payload": "x"}), KINESIS]).encode()[:-1]
    loaded = load_forwarders(read_documents({"f": broken}), rules())
    assert [fault.field for fault in loaded.faults] == ["", "payload"]


def test_a_key_that_occurs_twice_is_a_fault_at_any_depth() -> None:
    text = '{"_id": "a", "active": true, "organisation": "o", "lrs_id": "1", "lrs_id": "2", "configuration": '
    text += '{"url": "a.example", "url": "b.example"}, "query": {"a": [{"b": 1, "b": 2}]}}'
    loaded = load_forwarders(read_documents({"f": text.encode()}), rules())
    assert [fault.field for fault in loaded.faults] == ["lrs_id", "configuration.url", "query.a[0].b"]
    assert not loaded.forwarders


def test_active_twice_is_a_fault_though_the_last_says_false() -> None:
    text = b'{"_id": "a", "active": true, "active": false}'
    loaded = load_forwarders(read_documents({"f": text}), rules())
    assert "twice" in loaded.faults[0].message
    assert not loaded.forwarders


class TestDigest:
    def test_is_of_the_documents_not_of_their_files(self) -> None:
        digest = load(HTTP, KINESIS).digest
        assert read_documents({"f": LINES.encode()}).digest == digest
        assert read_documents({"x/b.json": SECOND.encode(), "a": json.dumps(HTTP, indent=1).encode()}).digest == digest
        assert documents_from([KINESIS, HTTP], "http://service").digest == digest
        assert len(digest) == 64

    def test_changes_with_any_value(self) -> None:
        digests = {
            load(HTTP, KINESIS).digest,
            load(HTTP).digest,
            load(HTTP, HTTP).digest,
            load(change(HTTP, {"configuration.url": "example.org/In"})).digest,
            load(change(HTTP, {"query": {"a": {"x": 1, "y": 2}}})).digest,
            load(change(HTTP, {"query": {"a": {"y": 2, "x": 1}}})).digest,
            read_documents({"f": json.dumps([HTTP]).encode()[:-1]}).digest,
        }
        assert len(digests) == 7


def test_a_document_does_not_pickle_nor_show_its_content() -> None:
    (document,) = read_documents({"f": EXAMPLE.encode()}).documents
    assert "Dave" not in repr(document)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(document)
