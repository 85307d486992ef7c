import gzip
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler

from pipeline.sample import broken_lines, sample_activities, write_sample
from schemas import Reject
from transforms import bundles
from transforms import read as reading
from transforms.accounting.board import Board
from transforms.read import InputError, InputFile, ReadActivity, match_files, ranges_of
from transforms.reading.activity import ActivityDecoder, canonical, decode_admitted
from transforms.reading.bucket_blobs import ReadCounts, in_passes, lines_by_user
from transforms.reading.input_formats import ACTIVITY, XAPI
from transforms.reading.reasons import Place, Reason, Reasons

Bucket = tuple[int, Iterable[bytes]]

COUNTED = {each.__name__: each for each in (ReadCounts, Reasons, Reason, Place)}


def canonical_of(bucket: Bucket) -> list[str]:
    users = in_passes(list(bucket[1]), lines_by_user)
    return [canonical(decode_admitted(line)).decode() for _, lines in users for line in lines]


def run(out: Path, **how: Any) -> tuple[Counter[str], list[Reject], ReadCounts]:
    """What ReadActivity gives on in-memory FnApiRunner; through files, since its elements do not come back here."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        outputs = pipeline | "Read" >> ReadActivity(**how)
        _ = (
            outputs.blobs
            | "By bucket" >> beam.GroupByKey()
            | "Activities" >> beam.FlatMap(canonical_of)
            | "Write activities" >> beam.io.WriteToText(str(out / "activities"), shard_name_template="")
        )
        _ = (
            outputs.rejects
            | "Rejects as text" >> beam.Map(lambda reject: repr(reject))
            | "Write rejects" >> beam.io.WriteToText(str(out / "rejects"), shard_name_template="")
        )
        _ = (
            outputs.counts
            | "Counts as text" >> beam.Map(repr)
            | "Write counts" >> beam.io.WriteToText(str(out / "counts"), shard_name_template="")
        )
    activities = Counter((out / "activities").read_text().splitlines())
    rejects = [eval(line, {"Reject": Reject}) for line in (out / "rejects").read_text().splitlines()]  # noqa: S307
    counts = [eval(line, COUNTED) for line in (out / "counts").read_text().splitlines()]  # noqa: S307
    return activities, sorted(rejects, key=lambda reject: (reject.file, reject.position)), sum(counts, ReadCounts())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def expected(sessions: int, seed: int = 0) -> Counter[str]:
    decoder = ActivityDecoder()
    return Counter(canonical(decoder.decode_row(activity)).decode() for activity in sample_activities(sessions, seed))


def write(path: Path, file_format: str, sessions: int, seed: int = 0) -> None:
    with path.open("wb") as file:
        write_sample(file, file_format, sessions, seed)


def test_no_more_bytes_count_as_read_than_a_file_has(tmp_path: Path, out: Path) -> None:
    """Parts of Parquet are read twice: its pages are looked at before they are decoded."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"record_id": [str(number) for number in range(200)]}), path, row_group_size=1)
    _, _, counts = run(out, files=match_files([str(path)]))
    assert (counts.read, counts.size) == (200, path.stat().st_size)


def test_all_formats_in_one_run(tmp_path: Path, out: Path) -> None:
    for seed, file_format in enumerate(("jsonl", "json", "avro", "parquet")):
        write(tmp_path / f"in.{file_format}", file_format, 20, seed)
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, sample_activities(20, 4)))))
    activities, rejects, counts = run(out, files=match_files([str(tmp_path / "in.*")]))
    assert activities == sum((expected(20, seed) for seed in range(5)), Counter[str]())
    assert rejects == []
    assert counts.accepted == activities.total()
    size = sum(path.stat().st_size for path in tmp_path.glob("in.*") if path.suffix != ".parquet")
    assert counts.size >= size


def test_ranges_of_a_file_with_rejects(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RANGE_SIZE", 10_000)
    broken = broken_lines()
    lines = []
    for number, activity in enumerate(sample_activities(30)):
        lines.append(orjson.dumps(activity))
        if number % 7 == 0:
            lines.append(next(broken))
        if number % 11 == 0:
            lines.append(b"")
    path = tmp_path / "in.jsonl"
    content = b"\xef\xbb\xbf" + b"\r\n".join(lines)
    path.write_bytes(content)
    files = match_files([str(path)])
    assert len(ranges_of(files[0])) > 10
    activities, rejects, counts = run(out, files=files)
    assert activities == expected(30)
    assert (counts.accepted, counts.rejected) == (activities.total(), len(rejects))
    assert len(rejects) == len(range(0, activities.total(), 7))
    assert counts.blank == len(range(0, activities.total(), 11))
    for reject in rejects:
        assert reject.file == str(path)
        assert content[reject.position :].startswith(reject.content)
        assert reject.length == len(reject.content)
        assert content[reject.position - 1] == ord("\n")


def test_small_blobs_are_gathered_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(tmp_path / f"{number:02d}.jsonl", "jsonl", 3, number)
    do = ReadActivity(match_files([str(tmp_path / "*.jsonl")])).read_range
    do.start_bundle()
    for path in sorted(tmp_path.glob("*.jsonl")):
        (part,) = ranges_of(InputFile(str(path), path.stat().st_size))
        (counts,) = do.process(part)
        assert counts.tag == "counts"
    blobs = list(do.finish_bundle())
    assert len(blobs) <= 64
    assert sum(len(list(canonical_of((bucket.value[0], [bucket.value[1]])))) for bucket in blobs) > 500


def test_blobs_leave_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle can be the whole input: what was read must not pile up until it ends."""
    monkeypatch.setattr(bundles, "BLOB_SIZE", 50_000)
    path = tmp_path / "in.jsonl"
    write(path, "jsonl", 300)
    do = ReadActivity(match_files([str(path)])).read_range
    do.start_bundle()
    (part,) = ranges_of(InputFile(str(path), path.stat().st_size))
    given = list(do.process(part))
    assert len([shard for shard in given if isinstance(shard, tuple)]) > 64


def test_stamps_and_xapi(tmp_path: Path, out: Path) -> None:
    statement = {
        "id": "r",
        "actor": {"mbox": "mailto:x@y"},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/completed"},
        "object": {"id": "https://quiz"},
        "context": {"registration": "s"},
        "timestamp": "2020-02-17T15:03:23Z",
    }
    (tmp_path / "in.json").write_text(json.dumps([statement, {}]))
    how = {"input_format": XAPI, "organisation": "org", "lrs_id": "store"}
    activities, (reject,), _ = run(out, files=match_files([str(tmp_path / "in.json")]), **how)
    (found,) = map(orjson.loads, activities)
    assert (found["action"], found["organisation"], found["lrs_id"]) == ("COMPLETE", "org", "store")
    assert (reject.position, reject.content) == (1, b"{}")


def test_reading_says_how_far_it_is_and_stops_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jsonl"
    write(path, "jsonl", 1000)
    (tmp_path / "board").mkdir()
    board = Board(str(tmp_path / "board"))
    monkeypatch.setattr(bundles, "BLOB_SIZE", 1)  # blobs after every block
    files = match_files([str(path)])
    (part,) = ranges_of(files[0])
    do = ReadActivity(files, board=board).read_range
    do.start_bundle()
    outputs = do.process(part)
    next(outputs)
    board.stop()
    counts = list(outputs)[-1].value
    heard = board.mine().job
    assert counts.unfinished == 1
    assert 0 < heard.read == counts.accepted < expected(1000).total()
    assert 0 < heard.size <= counts.size < files[0].size
    do.start_bundle()
    (left,) = do.process(part)
    assert (left.value.unfinished, left.value.read) == (1, 0)


def test_matching(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.json"):
        (tmp_path / name).write_text("{}\n")
    files = match_files([str(tmp_path / "*.jsonl"), str(tmp_path / "*"), str(tmp_path / "a.jsonl")])
    assert files == [InputFile(str(tmp_path / name), 3) for name in ("a.jsonl", "b.jsonl", "c.json")]
    with pytest.raises(InputError, match=r"--input .*/x\*.jsonl matches no file"):
        match_files([str(tmp_path / "*.jsonl"), str(tmp_path / "x*.jsonl")])
    with pytest.raises(InputError, match="cannot list nowhere://x"):
        match_files(["nowhere://x"])


def test_a_name_that_is_there_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day[1]").mkdir()
    for name in ("a[1].jsonl", "a1.jsonl", "day[1]/b.jsonl", "c*.jsonl"):
        (tmp_path / name).write_text("{}\n")
    for pattern, expected in {
        "a[1].jsonl": ["a[1].jsonl"],
        "a[2].jsonl": [],
        "a[12].jsonl": ["a1.jsonl"],
        "day[1]/*.jsonl": ["day[1]/b.jsonl"],
        "c*.jsonl": ["c*.jsonl"],
        "*.jsonl": ["a1.jsonl", "a[1].jsonl", "c*.jsonl"],
        "./a*": ["./a1.jsonl", "./a[1].jsonl"],
        "d*/*": ["day[1]/b.jsonl"],
        f"{tmp_path}/*1.jsonl": [f"{tmp_path}/a1.jsonl"],
    }.items():
        assert [file.path for file in match_files([pattern], none_is_fine=True)] == expected, pattern


def test_a_file_is_read_once_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "in" / "a.jsonl")
    patterns = ["in/*", "./in/a.jsonl", f"{tmp_path}/in/a.jsonl", "in/../in/a.jsonl", "link.jsonl"]
    assert len(match_files(patterns)) == 1
    assert [file.path for file in match_files(["in/*", *patterns])] == ["in/a.jsonl"]


def test_two_stars_do_not_stand_for_the_top_folder_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "below" / "deep").mkdir(parents=True)
    for name in ("a.jsonl", "below/b.jsonl", "below/deep/c.jsonl"):
        (tmp_path / name).write_text("")
    with caplog.at_level(logging.WARNING):
        found = match_files([f"{tmp_path}/**/*.jsonl"])
        assert [file.path for file in found] == [f"{tmp_path}/below/{name}.jsonl" for name in ("b", "deep/c")]
        (message,) = caplog.messages
        assert "what lies in the top folder is not read (1 file)" in message
        assert f"add --input '{tmp_path}/*.jsonl'" in message
        caplog.clear()
        assert len(match_files([f"{tmp_path}/**/*.jsonl", f"{tmp_path}/*.jsonl"])) == 3
        assert not caplog.messages
    with pytest.raises(InputError, match=r"matches no file: .* stands for one folder or more; give '.*/a\.jsonl'"):
        match_files([f"{tmp_path}/**/a.jsonl"])


def test_a_name_that_is_not_utf_8_is_told_before_anything_is_read(tmp_path: Path) -> None:
    Path(f"{tmp_path}/b\udcff.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"--input .*/\* matches '.*/b\\udcff.jsonl', a name that is not UTF-8"):
        match_files([f"{tmp_path}/*"])


def test_no_file_may_be_fine_but_not_a_missing_folder(tmp_path: Path) -> None:
    assert match_files([f"{tmp_path}/*.jsonl"], none_is_fine=True) == []
    for wrong, why in {
        f"{tmp_path}/nowhere/*.jsonl": f"there is no folder {tmp_path}/nowhere",
        f"{tmp_path}/a.jsonl": "matches no file",
    }.items():
        with pytest.raises(InputError, match=why):
            match_files([wrong], none_is_fine=True)


@pytest.mark.parametrize("size", [3, 10_000])
def test_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"".join(orjson.dumps(activity) + b"\n" for activity in sample_activities(20))

    def write_slowly() -> None:
        with pipe.open("wb", buffering=0) as file:
            for at in range(0, len(content), size * 100):
                file.write(content[at : at + size * 100])

    (file,) = match_files([str(pipe)])
    assert (file.pipe, file.size) == (True, 0)
    writer = threading.Thread(target=write_slowly)
    writer.start()
    (part,) = ranges_of(file)
    do = ReadActivity([file]).read_range
    do.start_bundle()
    counts = list(do.process(part))[-1].value
    writer.join()
    assert (counts.accepted, counts.size) == (expected(20).total(), len(content))


def test_a_run_that_is_to_stop_does_not_wait_for_a_pipe_s_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "board").mkdir()
    board = Board(str(tmp_path / "board"))
    board.stop()
    files = match_files([str(tmp_path / "pipe")])
    do = ReadActivity(files, board=board).read_range
    do.start_bundle()
    (counts,) = do.process(*ranges_of(files[0]))
    assert counts.value.unfinished == 1


def test_standard_input_and_what_it_cannot_be(tmp_path: Path) -> None:
    (file,) = match_files(["-", "/dev/stdin"])
    assert (file.path, file.pipe) == ("/dev/stdin", True)
    (part,) = ranges_of(file)
    assert part.file_format == "jsonl"
    assert ranges_of(file, file_format="avro")[0].file_format == "avro"
    with pytest.raises(InputError, match="Parquet is read from its end, which a pipe does not allow"):
        ranges_of(file, file_format="parquet")


def test_an_empty_input_is_told_as_such() -> None:
    with pytest.raises(InputError, match="--input is empty"):
        match_files([""])


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.jsonl").write_text("")
    assert match_files([str(tmp_path / "*")]) == [InputFile(str(tmp_path / "a.jsonl"), 0)]
    with pytest.raises(InputError, match=r"--input .*/in is a directory; give .*/in/\*"):
        match_files([str(tmp_path / "in")])


@pytest.mark.parametrize(
    ("name", "input_format", "told", "expected"),
    [
        ("a.csv", ACTIVITY, None, "its extension does not tell the format"),
        ("a.avro", XAPI, None, "xAPI statements are read from JSON"),
        ("a.parquet.gz", ACTIVITY, None, "compressed inside"),
        ("a.jsonl", ACTIVITY, "csv", "allowed: jsonl, json, avro, parquet"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(name: str, input_format: Any, told: str | None, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ReadActivity([InputFile(name, 5)], input_format, told)


def test_an_empty_file_and_none_at_all(tmp_path: Path, out: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
    assert run(out, files=match_files([str(tmp_path / "a.*")])) == (Counter(), [], ReadCounts())
    assert run(out, files=[]) == (Counter(), [], ReadCounts())


def test_damaged_files_do_not_end_the_run(tmp_path: Path, out: Path) -> None:
    for file_format in ("jsonl", "json", "avro", "parquet"):
        whole = tmp_path / f"whole.{file_format}"
        write(whole, file_format, 20)
        content = whole.read_bytes()
        (tmp_path / f"cut.{file_format}").write_bytes(content[: len(content) - 20])
        (tmp_path / f"noise.{file_format}").write_bytes(b"\x00\xff\x80noise")
        whole.unlink()
    packed = gzip.compress(b"\n".join(map(orjson.dumps, sample_activities(20))))
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) - 20])
    activities, rejects, counts = run(out, files=match_files([str(tmp_path / "*.*")]))
    assert len(rejects) == 9
    assert counts.rejected > 9, "a damaged container says how many rows it has lost"
    assert {Path(path).name for path in counts.unread} == {
        *("cut.avro", "cut.json", "cut.jsonl.gz", "cut.parquet"),
        *("noise.avro", "noise.parquet"),
    }
    assert len({reject.file for reject in rejects}) == 9
    assert activities.total() > 3 * 200
    assert set(activities) <= set(expected(20))


def test_it_travels_to_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write(path, "jsonl", 5)
    files = match_files([str(path)])
    do = pickler.loads(pickler.dumps(ReadActivity(files, board=Board(str(tmp_path))).read_range))
    do.start_bundle()
    counts = list(do.process(*ranges_of(files[0])))[-1].value
    assert counts.accepted == expected(5).total()
