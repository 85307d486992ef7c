import bz2
import codecs
import gzip
import io
import json
import tarfile
import zipfile

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.parts import read
from transforms.reading.blocks import Broken, FileFormat
from transforms.reading.files import blocks

LINES = b"".join(json.dumps({"record_id": f"r{number}", "x": "y" * 50}).encode() + b"\n" for number in range(2000))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", LINES)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        told = tarfile.TarInfo("a.jsonl")
        told.size = len(LINES)
        archive.addfile(told, io.BytesIO(LINES))
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"record_id": ["r"]}), file)
    return file.getvalue()


def avro() -> bytes:
    file = io.BytesIO()
    schema = {"type": "record", "name": "R", "fields": [{"name": "record_id", "type": "string"}]}
    fastavro.writer(file, schema, [{"record_id": "r"}])
    return file.getvalue()


def refused(content: bytes, file_format: FileFormat) -> Broken:
    items, (broken,) = read(blocks(io.BytesIO(content), file_format))
    assert not items
    assert (broken.position, broken.unread) == (0, True)
    assert content.startswith(broken.content) or content[:2] in (b"\x1f\x8b", b"BZ")
    return broken


@pytest.mark.parametrize("file_format", ["json", "jsonl", "avro", "parquet"])
@pytest.mark.parametrize(
    ("content", "told"),
    [(zipped(), "a zip archive"), (tarred(), "a tar archive"), (b"7z\xbc\xaf\x27\x1c" + bytes(2000), "a 7z archive")],
)
def test_an_archive_is_one_reject_that_knows_its_bytes(content: bytes, told: str, file_format: FileFormat) -> None:
    broken = refused(content, file_format)
    assert broken.reason.startswith(f"this is {told}, which is not read: ")
    assert broken.length == len(content)


@pytest.mark.parametrize("file_format", ["json", "jsonl", "avro"])
def test_a_compressed_archive_too(file_format: FileFormat) -> None:
    assert "a tar archive" in refused(gzip.compress(tarred()), file_format).reason
    assert "a zip archive" in refused(bz2.compress(zipped()), file_format).reason


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("file_format", ["json", "jsonl"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_text_in_a_wide_encoding_is_one_reject(encoding: str, mark: bool, file_format: FileFormat, compress) -> None:  # type: ignore[no-untyped-def]
    text = "\ufeff" * mark + LINES.decode()
    broken = refused(compress(text.encode(encoding)), file_format)
    assert broken.reason == f"this is text in {encoding[:6].upper()}, which is not read: write it in UTF-8"
    assert broken.length == len(text.encode(encoding))


def test_a_container_under_another_name_says_its_own() -> None:
    assert (
        refused(parquet(), "jsonl").reason == "this is Parquet: name the file .parquet, or give --file_format parquet"
    )
    assert refused(parquet(), "avro").reason.startswith("this is Parquet")
    assert refused(avro(), "json").reason == "this is Avro: name the file .avro, or give --file_format avro"
    assert refused(avro(), "parquet").reason.startswith("this is Avro")
    assert refused(gzip.compress(avro()), "jsonl").reason.startswith("this is Avro")


@pytest.mark.parametrize("file_format", ["avro", "parquet"])
@pytest.mark.parametrize("content", [LINES, b"[" + LINES, codecs.BOM_UTF8 + b" " + LINES])
def test_json_under_the_name_of_a_container_says_so(file_format: FileFormat, content: bytes) -> None:
    broken = refused(content, file_format)
    assert broken.reason.startswith(f"this is JSON, not {file_format.capitalize()}: name the file .json")
    assert broken.length == len(content)


def test_compressed_parquet_says_so() -> None:
    assert refused(gzip.compress(parquet()), "parquet").reason.startswith("this is compressed (gz); Parquet is")


def test_compressed_more_than_twice() -> None:
    packed = gzip.compress(gzip.compress(gzip.compress(LINES)))
    assert refused(packed, "jsonl").reason == "this is compressed more than twice (gz)"


@pytest.mark.parametrize(
    "content", [b'{"a":1}\n', b"\0\0\0\0", b"{}", b"garbage", b"[1]", b"\xff\xff\xff\xff", b"PKZIP"]
)
def test_what_may_be_text_is_read_as_such(content: bytes) -> None:
    items, broken = read(blocks(io.BytesIO(content), "jsonl"))
    assert len(items) == 1
    assert not broken
