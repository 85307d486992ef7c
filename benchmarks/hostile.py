"""How much memory the job takes of files that mean harm:

    python -m benchmarks.hostile [KIND ...] [--megabytes 1024]

Each kind is a small file that stands for much: a stream of one byte, a list of a billion nulls, a column of one long
text. It is made at run time, in a temporary directory, and is read together with a file of good activity by a job in a
process of its own. Printed are the bytes of the file, the seconds and the peak memory of the process, how much was
refused and why. The run ends with status 1 if a job took more than MOST, died, or lost good activity.

The jobs run under a limit of address space, so that a guard that fails costs its own process only.
"""

import argparse
import bz2
import gzip
import json
import lzma
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

MIB = 1024 * 1024
MOST = 600 * MIB
"""Bytes of memory that a job may take at its peak."""
_ADDRESSES = 16 * 1024 * MIB
_FINISHED, _FINISHED_WITH_REJECTS = 0, 3
"""Exit statuses of the job."""
_GOOD = 2000
"""Activities in the good file."""
_IDS = ("record_id", "user_id", "session_id", "activity_id", "action")
_SYNC = b"0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of hostile file.

    Attributes:
        extension: of its name.
        content: makes it, given how many bytes it is to stand for.
        xapi: whether it is read as xAPI statements.
    """

    extension: str
    content: Callable[[int], bytes]
    xapi: bool = False


def _long(number: int) -> bytes:
    """As Avro encodes a number."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    encoded = bytearray()
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*encoded, rest])


def _avro(schema: Any, codec: str, blocks: list[tuple[int, bytes]]) -> bytes:
    meta = {"avro.schema": json.dumps(schema), "avro.codec": codec}
    encoded = b"".join(_long(len(text)) + text.encode() for entry in meta.items() for text in entry)
    header = b"Obj\x01" + _long(len(meta)) + encoded + _long(0) + _SYNC
    return header + b"".join(_long(count) + _long(len(body)) + body + _SYNC for count, body in blocks)


def _record(*more: dict[str, Any]) -> dict[str, Any]:
    fields = [{"name": name, "type": "string"} for name in _IDS] + [{"name": "occurred_at", "type": "long"}, *more]
    return {"type": "record", "name": "Row", "fields": fields}


_ROW = (
    _long(1) + b"r" + _long(1) + b"u" + _long(1) + b"s" + _long(1) + b"a" + _long(5) + b"START" + _long(1772366400000)
)


def _list_of(item: Any, name: str = "responses") -> dict[str, Any]:
    return _record({"name": name, "type": {"type": "array", "items": item}})


def _avro_nulls(size: int) -> bytes:
    return _avro(_list_of("null"), "null", [(1, _ROW + _long(size) + _long(0))])


def _avro_lists(size: int) -> bytes:
    items = min(size, 15 * MIB)
    body = _ROW + _long(items) + _long(0) * items + _long(0)
    return _avro(_list_of({"type": "array", "items": "long"}), "null", [(1, body)])


def _avro_doubling(size: int) -> bytes:
    levels: Any = {"type": "record", "name": "R0", "fields": []}
    for level in range(1, 41):
        levels = {
            "type": "record",
            "name": f"R{level}",
            "fields": [{"name": "a", "type": levels}, {"name": "b", "type": f"R{level - 1}"}],
        }
    return _avro(_record({"name": "metadata", "type": levels}), "null", [(1, _ROW)] * 3)


def _avro_of_itself(size: int) -> bytes:
    fields = [{"name": f"f{number}", "type": "null"} for number in range(50)]
    itself = {"type": "record", "name": "R", "fields": [*fields, {"name": "r", "type": "R"}]}
    return _avro(_record({"name": "metadata", "type": itself}), "null", [(1, _ROW)])


def _avro_deep(size: int) -> bytes:
    wide = [{"name": f"f{number}", "type": "null"} for number in range(90)]
    tree = {"type": "record", "name": "T", "fields": [{"name": "next", "type": ["null", "T"]}, *wide]}
    body = _ROW + _long(1) * (8 * MIB) + _long(0)
    return _avro(_record({"name": "ignored", "type": tree}), "null", [(1, body)])


def _avro_empty_rows(size: int) -> bytes:
    schema = {"type": "record", "name": "Row", "fields": [{"name": name, "type": "null"} for name in _IDS]}
    return _avro(schema, "null", [(900, b"")] * 1000)


def _avro_packed(codec: str, compress: Callable[[bytes], bytes], part: int = 32 * MIB) -> Callable[[int], bytes]:
    def content(size: int) -> bytes:
        packed = compress(b"\0" * part) * max(size // part, 1)
        return _avro(_record(), codec, [(1000, packed)] * 3)

    return content


def _avro_deflate(size: int) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = b"".join(stream.compress(b"\0" * MIB) for _ in range(size // MIB)) + stream.flush()
    return _avro(_record(), "deflate", [(1000, packed)] * 3)


def _avro_snappy(size: int) -> bytes:
    return _avro(_record(), "snappy", [(1000, b"\xff\xff\xff\xff\x07" + b"\0" * 9 * MIB)])


def _packed(compress: Callable[[bytes], bytes], text: bytes = b"x" * 2047 + b"\n") -> Callable[[int], bytes]:
    """Streams that follow each other."""

    def content(size: int) -> bytes:
        part = 32 * MIB
        return compress(text * (part // len(text))) * max(size // part, 1)

    return content


def _twice(size: int) -> bytes:
    return gzip.compress(_packed(zstandard.compress)(size), 1)


def _line(value: bytes) -> bytes:
    ids = b",".join(b'"%s":"%s"' % (name.encode(), name.encode()) for name in _IDS[:4])
    return b'{%s,"action":"START","occurred_at":1772366400000,%s}\n' % (ids, value)


def _json_values(part: bytes, name: bytes = b"metadata") -> Callable[[int], bytes]:
    def content(size: int) -> bytes:
        count = min(size, 15 * MIB) // (len(part) + 1)
        return _line(b'"%s":[%s]' % (name, b",".join([part] * count))) * 2

    return content


def _json_elements(size: int) -> bytes:
    """An array in which a long value is followed by very many short ones, which are then read at once."""
    return b'["' + b"x" * (9 * MIB) + b'",' + b"0," * (MIB // 2) + b"0]"


def _json_lines(size: int) -> bytes:
    return b"0\n" * 100_000


def _json_deep(size: int) -> bytes:
    return _line(b'"metadata":' + b"[" * (7 * MIB) + b"]" * (7 * MIB))


def _json_keys(size: int) -> bytes:
    return _line(b'"item_tags":{%s}' % b",".join(b'"%x":[]' % number for number in range(1_300_000)))


def _json_allowed(size: int) -> bytes:
    """As many values as there may be, which are accepted."""
    return _line(b'"item_tags":{%s}' % b",".join(b'"%x":[]' % number for number in range(490_000))) * 2


def _avro_allowed(size: int) -> bytes:
    """The same, and refused: no row is read twice as closely as one with something odd in it."""
    body = _ROW + _long(990_000) + _long(0) * 990_000 + _long(0)
    return _avro(_list_of({"type": "array", "items": "long"}), "null", [(1, body)] * 4)


def _json_answer(size: int) -> bytes:
    return b'{"statements":[' + b"0," * (900_000 // 2) + b"0]}\n"


def _json_long(size: int) -> bytes:
    """A line without an end."""
    return gzip.compress(b'{"record_id":"' + b"x" * min(size, 1024 * MIB), 1)


def _columns(rows: int) -> dict[str, Any]:
    return {
        "record_id": [f"r{number}" for number in range(rows)],
        **{name: pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["START"]) for name in _IDS[1:]},
        "occurred_at": pa.array([1772366400000] * rows, pa.int64()),
    }


def _parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **options)
    return bytes(sink.getvalue())


def _parquet_dictionary(size: int) -> bytes:
    rows = 20_000
    long = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * (8 * MIB)])
    return _parquet({**_columns(rows), "lrs_id": long}, dictionary_pagesize_limit=64 * MIB, write_statistics=False)


def _parquet_list(size: int) -> bytes:
    """One row has nearly all the values of its column."""
    rows = 1000
    values = 30_000_000
    offsets = pa.array([0] * (rows // 2) + [values] * (rows // 2 + 1), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.nulls(values, pa.int64()))
    return _parquet({**_columns(rows), "responses": lists})


def _parquet_rows(size: int) -> bytes:
    rows = 20_000_000
    return _parquet({name: pa.nulls(rows, pa.string()) for name in _IDS})


def _parquet_page(size: int) -> bytes:
    values = ["x" * (150 * MIB), "y" * (150 * MIB)]
    return _parquet({**_columns(2), "lrs_id": values}, compression="zstd", use_dictionary=False, write_statistics=False)


def _parquet_shared(size: int) -> bytes:
    """Texts that begin as the one before, so that each takes no more than a few bits."""
    rows = 4000
    texts = ["x" * 64 * 1024] * rows
    return _parquet(
        {**_columns(rows), "lrs_id": texts},
        compression="zstd",
        use_dictionary=False,
        column_encoding={"lrs_id": "DELTA_BYTE_ARRAY"},
        write_statistics=False,
    )


def _parquet_groups(size: int) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({name: ["x"] for name in _IDS})
    with pq.ParquetWriter(sink, table.schema, compression="none") as writer:
        for _ in range(25_000):
            writer.write_table(table)
    return bytes(sink.getvalue())


def _parquet_deep(size: int) -> bytes:
    type_: Any = pa.string()
    for _ in range(80):
        type_ = pa.struct([("a", type_)])
    return _parquet({**_columns(3), "metadata": pa.nulls(3, type_)})


KINDS: dict[str, Kind] = {
    "avro_nulls": Kind("avro", _avro_nulls),
    "avro_lists": Kind("avro", _avro_lists),
    "avro_allowed": Kind("avro", _avro_allowed),
    "avro_doubling": Kind("avro", _avro_doubling),
    "avro_of_itself": Kind("avro", _avro_of_itself),
    "avro_deep": Kind("avro", _avro_deep),
    "avro_empty_rows": Kind("avro", _avro_empty_rows),
    "avro_deflate": Kind("avro", _avro_deflate),
    "avro_bzip2": Kind("avro", _avro_packed("bzip2", bz2.compress)),
    "avro_xz": Kind("avro", _avro_packed("xz", lzma.compress)),
    "avro_zstandard": Kind("avro", _avro_packed("zstandard", zstandard.compress)),
    "avro_snappy": Kind("avro", _avro_snappy),
    "gz": Kind("jsonl.gz", _packed(lambda content: gzip.compress(content, 1))),
    "bz2": Kind("jsonl.bz2", _packed(bz2.compress)),
    "xz": Kind("jsonl.xz", _packed(lzma.compress)),
    "zst": Kind("jsonl.zst", _packed(zstandard.compress)),
    "zst_in_gz": Kind("jsonl.gz", _twice),
    "json_lists": Kind("jsonl", _json_values(b"[]")),
    "json_objects": Kind("jsonl", _json_values(b'{"a":0}')),
    "json_responses": Kind("jsonl", _json_values(b'{"response_id":"q","item_reference":"i"}', b"responses")),
    "json_few_values": Kind("jsonl", _json_values(b'{"aaaaaaaaaaaaaaaaaaa":0}')),
    "json_elements": Kind("json", _json_elements),
    "json_lines": Kind("jsonl", _json_lines),
    "json_deep": Kind("jsonl", _json_deep),
    "json_keys": Kind("jsonl", _json_keys),
    "json_allowed": Kind("jsonl", _json_allowed),
    "json_answer": Kind("jsonl", _json_answer, xapi=True),
    "json_long": Kind("jsonl.gz", _json_long),
    "parquet_dictionary": Kind("parquet", _parquet_dictionary),
    "parquet_list": Kind("parquet", _parquet_list),
    "parquet_rows": Kind("parquet", _parquet_rows),
    "parquet_page": Kind("parquet", _parquet_page),
    "parquet_shared": Kind("parquet", _parquet_shared),
    "parquet_groups": Kind("parquet", _parquet_groups),
    "parquet_deep": Kind("parquet", _parquet_deep),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did with a kind. Attributes: peak: bytes. accepted, rejected: as its report has them; None: none."""

    kind: str
    size: int
    seconds: float
    peak: int
    status: int
    accepted: int | None
    rejected: int | None
    reason: str

    @property
    def is_good(self) -> bool:
        """Whether it ended as it should, took no more than it may, and lost nothing that is good."""
        finished = self.status in (_FINISHED, _FINISHED_WITH_REJECTS)
        return finished and self.peak <= MOST and (self.accepted or 0) >= _GOOD


def outcomes(kinds: list[str], size: int) -> Iterator[Outcome]:
    """Runs a job for each kind, one after the other."""
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="hostile-") as directory:
            yield _outcome(kind, Path(directory), size)


def _outcome(kind: str, directory: Path, size: int) -> Outcome:
    hostile = directory / f"hostile.{KINDS[kind].extension}"
    # In a process of its own: what makes the file takes memory.
    _run(["-m", "benchmarks.hostile", kind, f"--make={hostile}", f"--megabytes={size // MIB}"], directory / "log")
    good = directory / "good.jsonl"
    good.write_text("".join(_good(number, KINDS[kind].xapi) for number in range(_GOOD)))
    forwarders = directory / "forwarders.json"
    forwarders.write_text(
        '[{"_id": "none", "active": true, "query": "{\\"kind\\": \\"none\\"}", '
        '"configuration": {"url": "127.0.0.1:9"}}]'
    )
    output = directory / "output"
    begun = time.monotonic()
    status, peak = _run(
        [
            *("-m", "pipeline", "--runner=DirectRunner", "--allow_network=127.0.0.0/8", "--max_reject_ratio=1"),
            *(f"--input={good}", f"--input={hostile}", f"--forwarders={forwarders}", f"--output={output}"),
            *(["--input_format=xapi"] if KINDS[kind].xapi else []),
        ],
        directory / "log",
    )
    seconds = time.monotonic() - begun
    report = output / "report.json"
    told = json.loads(report.read_text())["input"] if report.exists() else {}
    reasons = [str(each["reason"]) for each in told.get("reject_reasons", [])]
    accepted = told["read"] - told["rejected"] if told else None
    reason = "; ".join(reasons) if told else (directory / "log").read_text()[-300:]
    return Outcome(kind, hostile.stat().st_size, seconds, peak, status, accepted, told.get("rejected"), reason)


def _good(number: int, xapi: bool) -> str:
    activity: dict[str, Any] = {
        "record_id": f"r{number}",
        "user_id": f"u{number % 50}",
        "session_id": f"s{number}",
        "activity_id": "a",
        "action": "START",
        "occurred_at": 1772366400000,
    }
    if xapi:
        activity = {
            "id": f"00000000-0000-4000-8000-{number:012}",
            "actor": {"account": {"homePage": "https://learner.invalid", "name": f"u{number % 50}"}},
            "verb": {"id": "http://adlnet.gov/expapi/verbs/initialized"},
            "object": {"id": "https://learner.invalid/a"},
            "context": {"registration": f"00000000-0000-4000-8000-{number:012}"},
            "timestamp": "2026-03-01T12:00:00Z",
        }
    return json.dumps(activity) + "\n"


_MEASURED = """
import os, resource, sys
told, limit, *arguments = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
_, status, usage = os.wait4(os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ), 0)
with open(told, "w") as file:
    file.write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}")
"""
"""Runs Python, and writes the exit status and the peak of its memory in KiB.

The peak that Linux tells of a process is at least the memory of the process that started it. So a small one does.
"""


def _run(arguments: list[str], log: Path) -> tuple[int, int]:
    """Runs Python. Returns the exit status, and the peak of its memory in bytes."""
    told = log.with_suffix(".told")
    with log.open("wb") as output:
        measured = [sys.executable, "-c", _MEASURED, str(told), str(_ADDRESSES), *arguments]
        subprocess.run(measured, stdout=output, stderr=output, check=True)  # noqa: S603
    status, peak = map(int, told.read_text().split())
    return status, peak * 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--megabytes", type=int, default=1024, help="what a compressed file stands for")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.kinds).difference(KINDS):
        parser.error(f"no kind is called {', '.join(sorted(unknown))}")
    if options.make:
        options.make.write_bytes(KINDS[options.kinds[0]].content(options.megabytes * MIB))
        return 0
    failed = 0
    print(f"{'kind':20}{'bytes':>12}{'seconds':>9}{'peak MiB':>10}{'accepted':>10}{'rejected':>10}  first reason")
    for each in outcomes(options.kinds or list(KINDS), options.megabytes * MIB):
        failed += not each.is_good
        print(
            f"{each.kind:20}{each.size:12}{each.seconds:9.1f}{each.peak / MIB:10.0f}{each.accepted!s:>10}"
            f"{each.rejected!s:>10}  {'' if each.is_good else f'FAILED ({each.status}): '}{each.reason[:160]}",
            flush=True,
        )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
