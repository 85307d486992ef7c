"""A statement and the data of its attachments as multipart/mixed."""

import hashlib
import io
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.multipart import received
from transforms.sinks import multipart as module
from transforms.sinks.multipart import CorruptError, Multipart, Part, TooLargeError, multipart
from transforms.statements.attachments import Attachment

STATEMENT = '{"id":"✓","n":1.0}'.encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def part(data: bytes, digest: str | None = None, content_type: str | None = "text/plain") -> Part:
    return Part(Attachment(digest or sha256(data), content_type), partial(io.BytesIO, data))


def whole(body: Multipart) -> bytes:
    sent = b"".join(body.chunks())
    assert len(sent) == body.size
    return sent


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=300) | st.just(b"\r\n--" * 30_000), max_size=4, unique=True))
def test_every_part_arrives_byte_for_byte(contents: list[bytes]) -> None:
    body = multipart(STATEMENT, [part(data) for data in contents])
    found = received(body.content_type, whole(body))
    assert [data for _, data in found] == [STATEMENT, *contents]
    assert [headers["content-type"] for headers, _ in found] == ["application/json", *["text/plain"] * len(contents)]
    for (headers, _), data in zip(found[1:], contents, strict=True):
        assert headers["content-transfer-encoding"] == "binary"
        assert headers["x-experience-api-hash"] == sha256(data)
    body.close()


def test_the_lines_are_those_of_rfc_2046() -> None:
    body = multipart(b"{}", [part(b"data")], lambda: "b0und")
    head = f"Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\nX-Experience-API-Hash: {sha256(b'data')}"
    assert body.content_type == "multipart/mixed; boundary=b0und"
    assert whole(body).decode() == (
        f"--b0und\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b0und\r\n{head}\r\n\r\ndata\r\n--b0und--\r\n"
    )
    assert whole(body) == whole(body)


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_a_boundary_that_occurs_in_a_part_is_not_used(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    boundaries = iter(["one", "two", "three", "four"])
    parts = [part(b"xxtwoxx"), part(b"thrthree")]
    assert multipart(b'{"one":1}', parts, lambda: next(boundaries)).content_type.endswith("boundary=four")


def test_boundaries_are_new_each_time() -> None:
    found = {multipart(b"{}", []).content_type for _ in range(50)}
    assert len(found) == 50
    assert all(len(content_type.partition("=")[2]) <= 70 for content_type in found)


@pytest.mark.parametrize("algorithm", ["sha224", "sha256", "sha384", "sha512"])
def test_every_hash_of_sha2_is_checked_in_lower_and_upper_case(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"data").hexdigest()
    for spelled in (digest, digest.upper()):
        ((_, _), (headers, _)) = received(*_sent(part(b"data", spelled)))
        assert headers["x-experience-api-hash"] == spelled
    with pytest.raises(CorruptError, match=digest):
        multipart(b"{}", [part(b"dat", digest)])


def _sent(only: Part) -> tuple[str, bytes]:
    body = multipart(b"{}", [only])
    return body.content_type, whole(body)


@pytest.mark.parametrize("digest", ["0" * 40, "x" * 64, "../../etc/passwd"])
def test_what_is_no_hash_matches_no_data(digest: str) -> None:
    with pytest.raises(CorruptError):
        multipart(b"{}", [part(b"data", digest)])


@pytest.mark.parametrize("content_type", [None, "", "text/plain\r\nX-Evil: 1", "text/plain; name=é", "a\0b"])
def test_a_content_type_that_no_header_can_hold_is_left_out(content_type: str | None) -> None:
    body = multipart(b"{}", [part(b"data", content_type=content_type)])
    headers, _ = received(body.content_type, whole(body))[1]
    assert set(headers) == {"content-transfer-encoding", "x-experience-api-hash"}


def test_a_body_has_a_bound_and_little_of_it_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            read.append(size or 0)
            return super().read(size)

    data = b"d" * 300_000
    body = multipart(b"{}", [Part(Attachment(sha256(data)), lambda: Watched(data))])
    assert set(read) == {module.CHUNK}
    assert max(map(len, body.chunks())) <= module.CHUNK
    monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    read.clear()
    with pytest.raises(TooLargeError):
        multipart(b"{}", [Part(Attachment(sha256(data)), lambda: Watched(data))])
    assert len(read) < 5


def test_a_file_is_closed_when_it_cannot_be_read() -> None:
    opened: list[io.BytesIO] = []

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("gone")

    def open_it() -> io.BytesIO:
        opened.append(Broken(b"data"))
        return opened[-1]

    with pytest.raises(OSError, match="gone"):
        multipart(b"{}", [Part(Attachment(sha256(b"data")), open_it)])
    assert [file.closed for file in opened] == [True]


def test_it_is_gone_when_it_is_closed() -> None:
    body = multipart(b"{}", [part(b"data")])
    body.close()
    body.close()
    chunks: Iterator[bytes] = body.chunks()
    with pytest.raises(ValueError, match="closed"):
        next(chunks)
