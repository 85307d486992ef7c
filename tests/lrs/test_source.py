"""Real LRSs as sources: what they hold is read, all of it, as they sent it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.lrs_feed import statement
from tests.support.lrs_server import Lrs
from transforms.reading.blocks import Block
from transforms.sources.base import Access
from transforms.sources.lrs import LrsReader, LrsSource
from transforms.sources.lrs_url import KEY, SECRET

LOCAL = Access(allow_networks=("127.0.0.0/8",), outage_budget=5)
_OF_THIS_TEST = 5000


def statements(first: int, count: int) -> list[dict[str, Any]]:
    made = [json.loads(statement(_OF_THIS_TEST + number)) for number in range(first, first + count)]
    for each in made:
        each["result"]["extensions"] = {"https://ext.example/n": 1.5, "https://ext.example/é": "é\u2028"}
    return made


def read(lrs: Lrs, query: str = "", going_on: LrsSource | None = None) -> tuple[list[dict[str, Any]], LrsSource]:
    """The statements that an LRS gives, and the source of the next run."""
    source = going_on or LrsSource(f"{lrs.url}{query}", LOCAL)
    reader = LrsReader(source, lambda: False, {KEY: lrs.username, SECRET: lrs.password})
    found = [json.loads(item) for block in reader.blocks() if isinstance(block, Block) for item in block.items]
    return found, source.going_on_from(reader.position)


def ours(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of this test: others share the LRS. What an LRS adds to a statement is left out."""
    low, high = (UUID(int=(0xA << 124) + number) for number in (_OF_THIS_TEST, _OF_THIS_TEST + 1000))
    return [
        {name: value for name, value in each.items() if name not in ("stored", "authority", "version")}
        for each in found
        if low <= UUID(each["id"]) < high
    ]


def by_id(statement: dict[str, Any]) -> str:
    return str(statement["id"])


def without_stored(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name != "stored"} for each in statements]


def test_ralph(lrs: Lrs, caplog: pytest.LogCaptureFixture) -> None:
    """It goes by `timestamp` where `since` is asked for. So the next run reads all of it again, and misses nothing."""
    sent = statements(0, 50)
    assert lrs.post(json.dumps(sent).encode()).status == 200
    for query in ("", "?limit=7"):
        found, _ = read(lrs, query)
        assert sorted(ours(found), key=by_id) == without_stored(sent)
    _, following = read(lrs, going_on=LrsSource(lrs.url, LOCAL).going_on_from(None))
    assert "goes by `timestamp`" in caplog.text
    sent += statements(100, 20)
    assert lrs.post(json.dumps(sent[50:]).encode()).status == 200
    found, _ = read(lrs, going_on=following)
    assert sorted(ours(found), key=by_id) == without_stored(sent)


def test_an_lrs_of_the_second_version(lrs_2: Lrs, caplog: pytest.LogCaptureFixture) -> None:
    sent = statements(0, 50)
    assert lrs_2.post(json.dumps(sent).encode()).status == 200
    for query in ("", "?limit=7"):
        found, _ = read(lrs_2, query)
        assert sorted(ours(found), key=by_id) == without_stored(sent)
    _, following = read(lrs_2, going_on=LrsSource(lrs_2.url, LOCAL).going_on_from(None))
    assert following.since is not None
    sent += statements(100, 20)
    assert lrs_2.post(json.dumps(sent[50:]).encode()).status == 200
    found, _ = read(lrs_2, going_on=following)
    assert sorted(ours(found), key=by_id) == without_stored(sent), "all of it was stored within the overlap"
    assert caplog.text == ""


def test_the_data_of_attachments_comes_byte_for_byte(lrs_2: Lrs, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50 + b"\r\n--other\r\n"
    digest = sha256(data).hexdigest()
    (statement,) = statements(900, 1)
    statement["attachments"] = [
        {
            "usageType": "https://usage.example/certificate",
            "display": {"en": "a certificate"},
            "contentType": "application/octet-stream",
            "length": len(data),
            "sha2": digest,
        }
    ]
    body = b"--b\r\nContent-Type: application/json\r\n\r\n" + json.dumps(statement).encode()
    body += b"\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
    body += b"X-Experience-API-Hash: %b\r\n\r\n%b\r\n--b--\r\n" % (digest.encode(), data)
    answer = lrs_2.request("POST", body, content_type="multipart/mixed; boundary=b")
    assert answer.status == 200, answer
    access = Access(None, LOCAL.allow_networks, attachments=str(tmp_path))
    found, _ = read(lrs_2, going_on=LrsSource(f"{lrs_2.url}?attachments=true", access))
    assert without_stored([statement])[0] in ours(found)
    assert (tmp_path / digest).read_bytes() == data
