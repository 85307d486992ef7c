import io
import os
import subprocess
import sys
from collections import Counter, defaultdict
from heapq import heappush
from itertools import islice
from typing import Any

import pytest

from pipeline import sample, sample_arrivals
from pipeline.sample import broken_lines, main, refused_activities, sample_activities, write_sample
from schemas import Activity
from transforms.reading.activity import ActivityDecoder, ActivityError, canonical, encode
from transforms.reading.blocks import Block, FileFormat
from transforms.reading.files import blocks

SESSIONS = 1500


@pytest.fixture(scope="module")
def activities() -> list[dict[str, Any]]:
    return list(sample_activities(SESSIONS, seed=3))


def test_everything_is_valid_activity_of_about_600_bytes(activities: list[dict[str, Any]]) -> None:
    decoded = [ActivityDecoder().decode_row(activity) for activity in activities]
    assert 540 < sum(len(encode(activity)) for activity in decoded) / len(decoded) < 660
    assert 10 < len(decoded) / SESSIONS < 15


def test_what_happens_in_it(activities: list[dict[str, Any]]) -> None:
    actions = Counter(activity["action"] for activity in activities)
    assert set(actions) == {
        *("START", "RESUME", "RESPOND", "SAVE", "AUTOSAVE", "PAUSE", "UNPAUSE"),
        *("SUBMIT", "SCORE", "RESCORE", "DISCARD", "SET_STATUS"),
    }
    assert {activity["state"] for activity in activities} == {"initial", "resume", "review", "preview"}
    sessions = {activity["session_id"] for activity in activities}
    submits = Counter(activity["session_id"] for activity in activities if activity["action"] == "SUBMIT")
    assert 0.05 * SESSIONS < len(sessions - set(submits)) < 0.3 * SESSIONS  # unfinished, discarded
    assert max(submits.values()) > 1
    assert any(activity.get("pending_scoring") for activity in activities)
    assert any("items" in group for activity in activities for group in activity.get("subscores", []))
    assert any("tags" in group for activity in activities for group in activity.get("subscores", []))
    assert any(not activity["user_id"].isascii() for activity in activities)
    assert len({(activity.get("organisation"), activity.get("lrs_id")) for activity in activities}) > 4


def test_duplicates_late_and_conflicting_activity(activities: list[dict[str, Any]]) -> None:
    contents: defaultdict[str, list[bytes]] = defaultdict(list)
    for activity in activities:
        contents[activity["record_id"]].append(canonical(ActivityDecoder().decode_row(activity)))
    twice = [set(found) for found in contents.values() if len(found) > 1]
    assert 0.005 < len(twice) / len(activities) < 0.02
    assert 0 < sum(len(found) > 1 for found in twice) < 0.1 * len(twice)
    latest = 0
    behind = []
    for activity in activities:
        latest = max(latest, activity["occurred_at"])
        behind.append(latest - activity["occurred_at"])
    assert sum(late > 60_000 for late in behind) > 0.01 * len(activities)
    assert max(behind) < 3_700_000


def test_sessions_of_a_user_overlap_and_one_user_is_hot(activities: list[dict[str, Any]]) -> None:
    spans: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    for activity in activities:
        span = spans[activity["user_id"]].setdefault(activity["session_id"], [activity["occurred_at"]] * 2)
        span[:] = min(span[0], activity["occurred_at"]), max(span[1], activity["occurred_at"])
    cool = [list(found.values()) for found in spans.values() if len(found) < 10]
    assert sum(any(a[0] < b[0] < a[1] for a in found for b in found) for found in cool) > 10
    hot = list(islice(sample_activities(400, hot_share=0.5), 4000))
    assert Counter(activity["user_id"] for activity in hot).most_common(1)[0][1] > 1500


def test_the_same_in_another_process(activities: list[dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "pipeline.sample", "--sessions", "50", "--seed", "3", "--output", "-"]
    written = subprocess.run(  # noqa: S603
        command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "5", "PYTHONPATH": "."}
    )
    here = io.BytesIO()
    write_sample(here, "jsonl", 50, 3)
    assert written.stdout == here.getvalue()
    other = io.BytesIO()
    write_sample(other, "jsonl", 50, 4)
    assert other.getvalue() != here.getvalue()


def read(file: io.BytesIO, file_format: FileFormat) -> tuple[list[Activity], int]:
    decoder = ActivityDecoder()
    accepted, refused = [], 0
    for block in blocks(file, file_format):
        assert isinstance(block, Block)
        decode: Any = decoder.decode_row if block.kind == "rows" else decoder.decode
        for item in block.items:
            try:
                accepted.append(decode(item))
            except ActivityError:
                refused += 1
    return accepted, refused


@pytest.mark.parametrize("file_format", ["jsonl", "json", "avro", "parquet"])
def test_the_same_in_every_format(activities: list[dict[str, Any]], file_format: FileFormat) -> None:
    file = io.BytesIO()
    write_sample(file, file_format, 300, 3, invalid=0.1)
    file.seek(0)
    accepted, refused = read(file, file_format)
    expected = [ActivityDecoder().decode_row(activity) for activity in sample_activities(300, 3)]
    assert [canonical(activity) for activity in accepted] == [canonical(activity) for activity in expected]
    assert 0.08 < refused / (refused + len(accepted)) < 0.12


@pytest.mark.parametrize("file_format", ["json", "avro", "parquet"])
def test_the_same_bytes_twice(file_format: str) -> None:
    one, two = io.BytesIO(), io.BytesIO()
    write_sample(one, file_format, 20)
    write_sample(two, file_format, 20)
    assert one.getvalue() == two.getvalue()


def test_an_empty_sample() -> None:
    for file_format in ("jsonl", "json", "avro", "parquet"):
        file = io.BytesIO()
        write_sample(file, file_format, 0)
        file.seek(0)
        assert read(file, file_format) == ([], 0)


def test_what_is_invalid_is_refused() -> None:
    for activity in islice(refused_activities(), 50):
        with pytest.raises(ActivityError):
            ActivityDecoder().decode_row(activity)
    for line in islice(broken_lines(), 200):
        assert b"\n" not in line
        with pytest.raises(ActivityError):
            ActivityDecoder().decode(line)


def test_no_more_is_held_for_a_larger_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def most_held(sessions: int) -> int:
        held = 0

        def push(pending: list[Any], entry: Any) -> None:
            nonlocal held
            heappush(pending, entry)
            held = max(held, len(pending))

        monkeypatch.setattr(sample_arrivals, "heappush", push)
        for _ in sample_activities(sessions):
            pass
        return held

    assert most_held(3000) < 1.3 * most_held(1500)


@pytest.mark.parametrize("compress", ["gz", "bz2", "zst"])
def test_compressed_through_the_command(compress: str, tmp_path: Any) -> None:
    path = tmp_path / f"sample.jsonl.{compress}"
    assert main(["--sessions", "20", "--compress", compress, "--output", str(path)]) == 0
    plain = io.BytesIO()
    write_sample(plain, "jsonl", 20)
    with path.open("rb") as file:
        lines = [line for block in blocks(file, "jsonl") for line in block.items]  # type: ignore[union-attr]
    assert b"\n".join(lines) + b"\n" == plain.getvalue()


def test_the_folder_of_the_output_is_made(tmp_path: Any) -> None:
    path = tmp_path / "in" / "monday" / "sample.jsonl"
    assert main(["--sessions", "1", "--output", str(path)]) == 0
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    "arguments",
    [["--format", "parquet", "--compress", "gz"], ["--invalid", "1"], ["--sessions", "-1"], ["--format", "csv"]],
)
def test_commands_that_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--output", os.devnull])
    assert caught.value.code == 2


def test_it_imports_no_beam() -> None:
    code = f"import sys; import {sample.__name__}; sys.exit('apache_beam' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": "."})  # noqa: S603
