import gzip
import io
import json

import pytest

from tests.support.parts import taken
from transforms.reading.blocks import FileFormat
from transforms.reading.files import FormatError, blocks, format_of
from transforms.reading.json_text import JsonText

ACTIVITIES = [
    {
        "record_id": f"r{number:03}",
        "user_id": "u",
        "session_id": "s",
        "activity_id": "a",
        "action": "START",
        "occurred_at": 1581951803000 + number,
    }
    for number in range(200)
]
LINES = [json.dumps(activity).encode() for activity in ACTIVITIES]
PLAIN = b"\n".join(LINES)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n"),
        gzip.compress(PLAIN),
        gzip.compress(gzip.compress(PLAIN)),
        b"[" + b",\n".join(LINES) + b"]",
        b"  [" + b"]\n[".join(LINES) + b"]",
        b"".join(LINES),
        b",\n".join(LINES),
        b"\n".join(json.dumps(activity, indent=2).encode() for activity in ACTIVITIES),
        b"\n\n".join(LINES),
        PLAIN + b"\n",
    ],
    ids=["lines", "crlf", "gz", "gz in gz", "array", "arrays", "joined", "commas", "pretty", "blank lines", "newline"],
)
@pytest.mark.parametrize("size", [64, 1000, 4000, 100_000])
def test_whatever_a_large_file_holds_its_ranges_hold_it_once(content: bytes, size: int) -> None:
    found, line_ends = [], 0
    for start in range(0, len(content), size):
        parts = blocks(io.BytesIO(content), "jsonl", start, min(start + size, len(content)))
        activities, _, rejects = taken(parts)
        assert not rejects
        found += activities
        if isinstance(parts, JsonText):
            line_ends += parts.line_ends
    assert sorted(found, key=lambda activity: str(activity["record_id"])) == ACTIVITIES
    assert line_ends == content.count(b"\n") or content[:1] == b"\x1f"


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
def test_text_is_read_alike_under_either_name(file_format: FileFormat) -> None:
    for content in (PLAIN, b"[" + b",".join(LINES) + b"]", b"".join(LINES)):
        activities, _, rejects = taken(blocks(io.BytesIO(content), file_format))
        assert (activities, rejects) == (ACTIVITIES, [])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jsonl", ("jsonl", False)),
        ("s3://b/c.d/a.ndjson.gz", ("jsonl", True)),
        ("a.JSON.BZ2", ("json", True)),
        ("a.json.zst", ("json", True)),
        ("a.jsonl.xz", ("jsonl", True)),
        ("a.avro", ("avro", False)),
        ("a.parquet", ("parquet", False)),
    ],
)
def test_format_by_extension(path: str, expected: tuple[str, bool]) -> None:
    assert format_of(path) == expected


def test_format_as_told() -> None:
    assert format_of("part-0001", "jsonl") == ("jsonl", False)
    assert format_of("log.txt.gz", "json") == ("json", True)


@pytest.mark.parametrize(
    ("path", "told", "expected"),
    [
        ("a.csv", None, "its extension does not tell the format"),
        ("in.d/part-0001", None, "its extension does not tell the format"),
        ("a.gz", None, "its extension does not tell the format"),
        ("a.parquet.gz", None, "compressed inside"),
        ("a.jsonl", "csv", "allowed: jsonl, json, avro, parquet"),
    ],
)
def test_formats_that_are_refused(path: str, told: str | None, expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        format_of(path, told)
