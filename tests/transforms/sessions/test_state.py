"""Runs one after the other on a state, against one run over everything."""

import json
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Activity, Record
from schemas.buckets import bucket_of
from tests.support.activity import activity, names, response
from tests.transforms.sessions.strategies import ACTIVITY_OF_ONE_USER
from transforms.reading.activity import encode
from transforms.reading.bucket_blobs import PASS_SIZE, BucketBlobs
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import SessionFold
from transforms.sessions.state import (
    CURRENT,
    PARTS,
    BucketFold,
    StateError,
    StateOptions,
    WrittenPart,
    commit,
    read_current,
)
from transforms.storage import LocalStorage

DAY = 86_400_000


def run(
    directory: Path, activities: Sequence[Activity], *, day: int = 0, ttl: int = 30, dies: bool = False, passes: int = 1
) -> list[Record]:
    """One run over `activities`, on the given day, on the state in `directory`; its records, by bucket and user."""
    current = read_current(str(directory))
    shards = BucketBlobs()
    for each in activities:
        shards.lines[each.user_id].append(encode(each))
    blobs: dict[int, list[bytes]] = {}
    for bucket, blob in shards.take():
        blobs.setdefault(bucket, []).append(blob)
    parts = tuple(current.parts.items())
    options = StateOptions(str(directory), f"run{day}", day * DAY, ttl * DAY, parts, durable=False)
    records: list[Record] = []
    written: dict[int, WrittenPart] = {}
    for bucket, each_blobs in blobs.items():
        fold = BucketFold(options, bucket, SessionFold(Derivation(), Derivation()))
        for _, of_user in fold.records(each_blobs, pass_size=PASS_SIZE if passes == 1 else 4000):
            records += of_user
        written[bucket] = fold.close()
    if not dies:
        commit(str(directory), current, f"run{day}", written, {}, day * DAY, ttl * DAY, durable=False)
    return records


def ids(records: Sequence[Record]) -> list[str]:
    return [record.id for record in records]


@pytest.mark.slow
@settings(max_examples=40)
@given(ACTIVITY_OF_ONE_USER, st.data())
def test_runs_split_by_time_derive_together_what_one_run_derives(activities: list[Activity], data: Any) -> None:
    whole = Derivation().user(activities)
    instants = sorted({each.occurred_at for each in activities})
    cuts = sorted(data.draw(st.sets(st.sampled_from(instants)))) if instants else []
    derived: list[Record] = []
    with tempfile.TemporaryDirectory() as directory:
        for day, (since, until) in enumerate(pairwise([0, *cuts, 2**62])):
            part = [each for each in activities if since <= each.occurred_at < until]
            derived += run(Path(directory), part, day=day)
    assert [msgspec.to_builtins(each) for each in derived] == [msgspec.to_builtins(each) for each in whole]


@pytest.mark.slow
@settings(max_examples=40)
@given(ACTIVITY_OF_ONE_USER, st.data())
def test_runs_over_any_split_leave_what_one_run_derives_and_nothing_that_was_not_right_when_it_was_sent(
    activities: list[Activity], data: Any
) -> None:
    days = data.draw(st.lists(st.integers(0, 3), min_size=len(activities), max_size=len(activities)))
    again = data.draw(st.sets(st.integers(0, 3)))  # days on which everything from before comes once more
    in_force: set[str] = set()
    with tempfile.TemporaryDirectory() as directory:
        before: set[str] = set()
        for day in range(4):
            known = [each for each, when in zip(activities, days, strict=True) if when <= day]
            part = known if day in again else [e for e, when in zip(activities, days, strict=True) if when == day]
            now = set(ids(Derivation().user(known)))
            derived = ids(run(Path(directory), part, day=day))
            assert set(derived) == now - before
            assert len(derived) == len(set(derived))
            # What an earlier run has sent and this one's fold no longer has is superseded.
            in_force = (in_force & now) | set(derived)
            before = now
    assert in_force == set(ids(Derivation().user(activities)))


def test_todays_submit_of_yesterdays_session_has_its_start(tmp_path: Path) -> None:
    yesterday = [activity("START", 10), activity("RESPOND", 20, responses=[response("q", 1, 2)])]
    today = [activity("SUBMIT", 90_000)]
    first, second = run(tmp_path, yesterday), run(tmp_path, today, day=1)
    assert names(first) == ["session-started"]
    assert names(second) == ["session-completed", "status", "score"]
    assert second[1].message["dt_started"] == "2020-02-17T00:00:10Z"
    assert ids(first) + ids(second) == ids(Derivation().user(yesterday + today))


def test_many_users_in_several_passes_and_those_without_activity_are_carried_over(tmp_path: Path) -> None:
    def of_users(action: str, at: float, numbers: range) -> list[Activity]:
        return [activity(action, at, user_id=f"u{n}", session_id=f"s{n}", record_id=f"{action}{n}") for n in numbers]

    begun, ended = of_users("START", 0, range(300)), of_users("SUBMIT", 100, range(300))
    derived = run(tmp_path, begun, passes=2)
    derived += run(tmp_path, ended[:100], day=1, passes=2)
    assert run(tmp_path, begun[:50], day=2, passes=2) == []
    derived += run(tmp_path, ended[100:], day=3, passes=2)
    expected = [each for pair in zip(begun, ended, strict=True) for each in Derivation().user(pair)]
    assert sorted(ids(derived)) == sorted(ids(expected))


def test_a_session_is_forgotten_when_nothing_has_arrived_of_it_for_the_time_to_live(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0, session_id="s1"), activity("START", 0, session_id="s2", record_id="2")])
    assert run(tmp_path, [activity("RESPOND", 50, session_id="s2")], day=20) == []
    late = run(tmp_path, [activity("SUBMIT", 100, session_id="s2", record_id="x")], day=31)
    assert late[1].message["dt_started"] == "2020-02-17T00:00:00Z"
    forgotten = run(tmp_path, [activity("SUBMIT", 100, session_id="s1", record_id="y")], day=31)
    assert forgotten[1].message["dt_started"] == "2020-02-17T00:01:40Z"


def test_what_nobody_touches_is_removed_after_the_time_to_live(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0)])
    other = next(f"v{number}" for number in range(99) if bucket_of(f"v{number}") != bucket_of("u"))
    run(tmp_path, [activity("START", 0, user_id=other)], day=31)
    assert list(read_current(str(tmp_path)).parts) == [bucket_of(other)]
    assert len(LocalStorage(tmp_path).list(PARTS)) == 1


def test_a_run_that_dies_leaves_the_state_before_it_in_force(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0)])
    before = (tmp_path / CURRENT).read_bytes()
    died = run(tmp_path, [activity("SUBMIT", 100)], day=1, dies=True)
    assert (tmp_path / CURRENT).read_bytes() == before
    assert ids(run(tmp_path, [activity("SUBMIT", 100)], day=2)) == ids(died)
    assert len(LocalStorage(tmp_path).list(PARTS)) == 1, "what the dead run wrote is removed"


def _cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1])


def _zero_last(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-8] + bytes(8))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "is missing"),
        (lambda part: part.write_bytes(b""), "has 0 bytes, not "),
        (_cut, "bytes, not "),
        (_zero_last, "its checksum differs"),
    ],
    ids=["missing", "empty", "shorter", "zeros"],
)
def test_a_part_that_is_not_as_it_was_written_is_refused_by_its_name(
    tmp_path: Path, damage: Callable[[Path], object], problem: str
) -> None:
    run(tmp_path, [activity("START", 0)])
    (part,) = (tmp_path / PARTS).iterdir()
    damage(part)
    with pytest.raises(StateError, match=rf"{part.name} .*{problem}.*: restore it, or use another --state"):
        run(tmp_path, [activity("SUBMIT", 100)], day=1)


def test_a_bucket_that_nothing_is_new_of_is_looked_at_too(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0)])
    (part,) = (tmp_path / PARTS).iterdir()
    part.write_bytes(b"")
    with pytest.raises(StateError, match=part.name):
        read_current(str(tmp_path))


def test_a_state_of_version_1_knows_no_sizes_and_is_read(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0)])
    written = json.loads((tmp_path / CURRENT).read_bytes())
    assert written["version"] == 2
    for part in written["parts"].values():
        del part["size"], part["checksum"]
    (tmp_path / CURRENT).write_text(json.dumps({**written, "version": 1}))
    assert names(run(tmp_path, [activity("SUBMIT", 100)], day=1))[0] == "session-completed"
    (part,) = read_current(str(tmp_path)).parts.values()
    assert part.size
    (tmp_path / part.name).write_bytes(b"")
    (tmp_path / CURRENT).write_text(
        json.dumps({**written, "version": 1, "parts": {"1": {"name": part.name, "written": 0}}})
    )
    with pytest.raises(StateError, match="has 0 bytes: restore it"):
        read_current(str(tmp_path))


def test_a_current_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    run(tmp_path, [activity("START", 0)])
    for content in ("{", ""):
        (tmp_path / CURRENT).write_text(content)
        with pytest.raises(StateError, match=r"cannot be read"):
            read_current(str(tmp_path))
