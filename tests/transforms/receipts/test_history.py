import gc
import io
import json
import os
import pickle
import time
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import DeadLetter, avro_schema
from schemas.buckets import BUCKETS, bucket_of
from schemas.record import decode_record
from tests.support.avro_parts import read_parts
from tests.support.settlements import delivered, documented_record, given_up
from transforms.receipts import index as index_module
from transforms.receipts.avro_container import NotAContainerError
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex, index_history, remove_index
from transforms.receipts.journal import Journal, new_worker_name
from transforms.receipts.parts import read_receipts
from transforms.sinks.base import DEFERRED, Settlement
from transforms.storage import LocalStorage

START = 1_700_000_000_000
DAY = 86_400_000


def run_id(number: int, replay: bool = False) -> str:
    return f"r{number:06}-20260203T101500Z-5f3a9c" + "-replay" * replay


def settle(
    output: Path,
    *batches: list[Settlement],
    run: str = "run",
    worker: str = "w",
    start: int = START,
) -> None:
    ticks = count(start)
    journal = Journal(str(output), run, worker, clock=lambda: next(ticks))
    for batch in batches:
        journal.settle(batch)
    journal.close()


def deferred(name: str, **record: Any) -> Settlement:
    return given_up(name, reason=DEFERRED, place=int(name), **record)


def history(output: Path, *, dead_letters: bool = False) -> History:
    return History(index_history(str(output), "now", dead_letters=dead_letters))


def has(found: History, forwarder: str, name: str, user: str = "u-1") -> bool:
    return documented_record(name).id in found.bucket(bucket_of(user)).get(forwarder, frozenset())


def test_without_receipts_there_is_nothing_and_nothing_is_made(tmp_path: Path) -> None:
    output = tmp_path / "out"
    index = index_history(str(output), "now", dead_letters=True)
    assert index == HistoryIndex(str(output), ".history/now")
    assert not output.exists()
    found = History(index)
    assert all(found.bucket(bucket) == {} for bucket in range(BUCKETS))
    assert list(found.undelivered_dead_letters()) == []


def test_finds_what_was_delivered_to_whom(tmp_path: Path) -> None:
    settle(tmp_path, [delivered("1", "f-1"), delivered("2", "f-2"), given_up("3", "f-1")])
    found = history(tmp_path)
    assert has(found, "f-1", "1")
    assert not has(found, "f-2", "1")
    assert has(found, "f-2", "2")
    assert not has(found, "f-1", "3")


@pytest.mark.parametrize("days", [-40, -1, 0, 1, 40])
@pytest.mark.parametrize("runs", [(run_id(1), run_id(2)), ("20260203T101500Z-aaaaaa", "20260101T101500Z-bbbbbb")])
def test_a_delivery_is_final_whatever_the_clock_of_the_dead_letter_said(
    tmp_path: Path, days: int, runs: tuple[str, str]
) -> None:
    """The letter may be of an earlier run, of a later one, or of another worker of the same run."""
    settle(tmp_path, [given_up("1"), delivered("2")], run=runs[0], start=START + days * DAY)
    settle(tmp_path, [delivered("1"), given_up("2"), delivered("3")], run=runs[1])
    settle(tmp_path, [given_up("3")], run=runs[1], worker="x", start=START + days * DAY)
    found = history(tmp_path, dead_letters=True)
    assert [name for name in "123" if has(found, "f-1", name)] == ["1", "2", "3"]
    assert list(found.undelivered_dead_letters()) == []


@pytest.mark.parametrize("days", [-40, 0, 40])
def test_a_replay_that_gives_up_takes_back_what_earlier_runs_delivered(tmp_path: Path, days: int) -> None:
    """Not what it has delivered itself, nor what was delivered after it."""
    settle(tmp_path, [delivered(name) for name in "123"], run=run_id(9))
    nothing = [given_up(name) for name in "123"]
    settle(tmp_path, nothing, run=run_id(10, replay=True), start=START + days * DAY)
    settle(tmp_path, [delivered("2")], run=run_id(10, replay=True), worker="another")
    settle(tmp_path, [delivered("3")], run=run_id(11))
    found = history(tmp_path, dead_letters=True)
    assert [name for name in "123" if has(found, "f-1", name)] == ["2", "3"]
    assert [letter.id for letter in found.undelivered_dead_letters()] == [documented_record("1").id]
    assert [letter.run_id for letter in found.undelivered_dead_letters()] == [run_id(10, replay=True)]


def test_an_index_travels_to_workers_and_is_removed(tmp_path: Path) -> None:
    settle(tmp_path, [delivered("1")])
    index = index_history(str(tmp_path), "now")
    assert has(History(pickle.loads(pickle.dumps(index))), "f-1", "1")  # noqa: S301
    assert index.receipts == 1
    remove_index(index)
    assert not (tmp_path / ".history").exists()


def test_the_index_of_a_killed_run_is_cleared_away(tmp_path: Path) -> None:
    settle(tmp_path, [delivered("1")])
    index_history(str(tmp_path), "killed")
    index_history(str(tmp_path), "next")
    assert [path.name for path in (tmp_path / ".history").iterdir()] == ["next"]


def test_only_two_buckets_stay_loaded(tmp_path: Path) -> None:
    settle(tmp_path, [delivered(str(number), user=f"u-{number}") for number in range(300)])
    found = history(tmp_path)
    first, second, third = (found.bucket(bucket) for bucket in range(3))
    assert found.bucket(2) is third
    assert found.bucket(1) is second
    assert found.bucket(0) is not first, "it made room, and was read again"
    assert found.bucket(0) == first != {}


def test_a_bundle_that_is_tried_again_knows_what_its_own_run_delivered(tmp_path: Path) -> None:
    """Of parts, of the journal a killed worker left, and of one that is being written; beside what earlier runs did."""
    settle(tmp_path, [delivered("1")], run="earlier")
    index = index_history(str(tmp_path), "now")
    assert History(index, "now")._same_run is None
    settle(tmp_path, [delivered("2")], run="now")
    journal = Journal(str(tmp_path), "now", "other")
    journal.settle([delivered("3"), given_up("4"), delivered("5", "f-2")])
    (left,) = (tmp_path / "receipts").glob("*.journal")
    left.with_name("now-killed-000000.journal").write_bytes(left.read_bytes()[:-1])
    (tmp_path / "receipts/now-just-000000.journal").write_bytes(b"")

    found = History(index, "now")
    assert [name for name in "12345" if has(found, "f-1", name)] == ["1", "2", "3"]
    assert has(found, "f-2", "5")
    assert [name for name in "12345" if has(History(index), "f-1", name)] == ["1"]
    replay_all = History(HistoryIndex(str(tmp_path), ""), "now")
    assert [name for name in "12345" if has(replay_all, "f-1", name)] == ["2", "3"]
    journal.close()


def test_a_horizon_leaves_out_parts_that_are_so_much_older_than_the_latest(tmp_path: Path) -> None:
    """By when they were written to; a part that is within it counts whole."""
    for age, run in ((3600, "a"), (600, "b"), (0, "c")):
        settle(tmp_path, [delivered(run), given_up(run + "-dead")], run=f"now-{run}")
        for part in tmp_path.glob(f"*/now-{run}-*"):
            os.utime(part, (1_700_000_000 - age, 1_700_000_000 - age))

    def found(horizon: float | None) -> list[str]:
        index = index_history(str(tmp_path), "next", dead_letters=True, horizon=horizon)
        letters = [letter.id for letter in History(index).undelivered_dead_letters()]
        assert len(letters) == index.dead_letters
        return [name for name in "abc" if has(History(index), "f-1", name)]

    assert found(None) == ["a", "b", "c"]
    assert found(600) == ["b", "c"]
    assert found(599) == ["c"]
    this_run = History(HistoryIndex(str(tmp_path), ""), "now", horizon=600)
    assert [name for name in "abc" if has(this_run, "f-1", name)] == ["b", "c"]


def written(output: Path, run: str, worker: str, hours: float) -> None:
    """Receipts of a record of that worker's name, in a part that was written so many hours from now."""
    settle(output, [delivered(worker)], run=run, worker=worker)
    (part,) = output.glob(f"receipts/{run}-{worker}-*")
    moment = time.time() + hours * 3600
    os.utime(part, (moment, moment))


def test_a_clock_that_was_ahead_does_not_make_later_receipts_too_old(tmp_path: Path) -> None:
    """The first run's was a day ahead; so is that of a worker of the last run."""
    written(tmp_path, run_id(1), "1", 24)
    written(tmp_path, run_id(2), "2", -3)
    written(tmp_path, run_id(3), "3", -2)
    written(tmp_path, run_id(3), "4", 23)
    found = History(index_history(str(tmp_path), "next", horizon=4 * 3600))
    assert [name for name in "1234" if has(found, "f-1", name)] == ["1", "2", "3", "4"]
    same = History(HistoryIndex(str(tmp_path), ""), run_id(3), horizon=4 * 3600)
    assert [name for name in "1234" if has(same, "f-1", name)] == ["3", "4"]


def test_a_clock_that_was_behind_does_not_make_receipts_older_than_those_before_them(tmp_path: Path) -> None:
    """A run is not older than the one before it, nor a generation, nor a worker's part than the one it wrote before."""
    first, second = new_worker_name(1), new_worker_name(2)
    written(tmp_path, run_id(1), "1", -1)
    written(tmp_path, run_id(2), first, -40)
    written(tmp_path, run_id(2), second, -30)
    written(tmp_path, run_id(3), "3", 0)
    found = History(index_history(str(tmp_path), "next", horizon=2 * 3600))
    assert [name for name in ("1", first, second, "3") if has(found, "f-1", name)] == ["1", first, second, "3"]
    assert index_history(str(tmp_path), "next", horizon=0.5 * 3600).receipts == 1


def test_what_a_worker_of_this_run_had_deferred_is_taken_on_once_in_order(tmp_path: Path) -> None:
    """Not what was delivered after that, or given up for good; and nothing of another run."""
    settle(tmp_path, [deferred("1")], run="earlier")
    settle(
        tmp_path,
        [deferred("4"), deferred("2"), deferred("5"), deferred("6"), deferred("7", user="u-2")],
        [delivered("5"), given_up("6", reason="unavailable")],
        [given_up("3", reason="http_400")],
        run="now",
        start=time.time_ns() // 1_000_000,
    )
    index = index_history(str(tmp_path), "now")
    found = History(index, "now", BUCKETS, horizon=600)
    assert [letter.id for letter in found.take_deferred("u-1")] == [
        documented_record("2").id,
        documented_record("4").id,
    ]
    assert found.take_deferred("u-1") == []
    assert [letter.payload for letter in found.take_deferred("u-2")] == [deferred("7").item.payload]
    assert History(index, "now").take_deferred("u-1") == [], "bounded input is never deferred"
    assert History(index).take_deferred("u-1") == []


def test_a_deferred_letter_is_taken_on_only_if_its_own_receipt_is_looked_at(tmp_path: Path) -> None:
    """Otherwise that of its delivery may not be looked at either. What its clock said does not matter."""
    now = time.time_ns() // 1_000_000
    settle(tmp_path, [deferred("1")], [delivered("1")], run="now-old", start=now + DAY)
    for part in tmp_path.glob("receipts/now-old-*"):
        os.utime(part, (now / 1000 - 3600, now / 1000 - 3600))
    settle(tmp_path, [deferred("2")], run="now-new", start=now - DAY)
    found = History(HistoryIndex(str(tmp_path), ""), "now", BUCKETS, horizon=600)
    assert [letter.id for letter in found.take_deferred("u-1")] == [documented_record("2").id]


def test_of_two_generations_of_workers_the_later_one_says_what_is_still_tried(tmp_path: Path) -> None:
    """The machine of each has a clock of its own."""
    now = time.time_ns() // 1_000_000
    run, index = run_id(1), HistoryIndex(str(tmp_path), "")
    first = History(index, run, BUCKETS, horizon=600)
    worker = new_worker_name(first.generation)
    settle(tmp_path, [deferred("1"), deferred("2"), deferred("3")], run=run, worker=worker, start=now + DAY)
    second = History(index, run, BUCKETS, horizon=600)
    assert [letter.id for letter in second.take_deferred("u-1")] == [documented_record(name).id for name in "123"]
    ends = [given_up("2", reason="unavailable"), delivered("3")]
    settle(tmp_path, ends, run=run, worker=new_worker_name(second.generation), start=now - DAY)
    third = History(index, run, BUCKETS, horizon=600)
    assert [letter.id for letter in third.take_deferred("u-1")] == [documented_record("1").id]
    assert (first.generation, second.generation, third.generation) == (1, 2, 3)


def test_a_journal_that_becomes_a_part_while_it_is_looked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, [delivered("1")], run="now")
    monkeypatch.setattr(LocalStorage, "modified", lambda self, directory: {"now-w-000000.journal": 0.0})
    assert has(History(HistoryIndex(str(tmp_path), ""), "now"), "f-1", "1")


# --- against a plain dict

NAMES = [str(number) for number in range(6)]
USERS = {name: f"user {int(name) % 3}" for name in NAMES}
STEP = st.tuples(st.sampled_from(["f-1", "f-2"]), st.sampled_from(NAMES), st.booleans())
RUN = st.tuples(
    st.booleans(),  # whether it sends again what was delivered
    st.lists(  # the workers, one after the other
        st.tuples(st.integers(-40, 40), st.lists(st.lists(STEP, max_size=4), max_size=3)), min_size=1, max_size=2
    ),
)


@settings(max_examples=60)
@given(st.lists(RUN, max_size=4))
def test_agrees_with_a_dict_whatever_the_clocks_say(tmp_path_factory: pytest.TempPathFactory, runs: list[Any]) -> None:
    """Each worker has a clock of its own, days ahead or behind."""
    output = tmp_path_factory.mktemp("out")
    delivered_by: dict[tuple[str, str], int] = {}
    letters: dict[tuple[str, str], str] = {}
    for number, (replay, workers) in enumerate(runs, start=9):
        for generation, (days, batches) in enumerate(workers, start=9):
            reason = f"run {number}, generation {generation}"
            settlements = [
                [
                    delivered(name, forwarder, user=USERS[name])
                    if good
                    else given_up(name, forwarder, reason=reason, user=USERS[name])
                    for forwarder, name, good in batch
                ]
                for batch in batches
            ]
            for forwarder, name, good in (step for batch in batches for step in batch):
                key = (forwarder, name)
                if good:
                    delivered_by[key] = number
                    continue
                letters[key] = reason
                if replay and delivered_by.get(key, number) < number:
                    del delivered_by[key]
            worker = new_worker_name(generation)
            settle(output, *settlements, run=run_id(number, replay), worker=worker, start=START + days * DAY)

    found = history(output, dead_letters=True)
    for forwarder in ("f-1", "f-2"):
        for name in NAMES:
            assert has(found, forwarder, name, USERS[name]) == ((forwarder, name) in delivered_by)
    assert {(letter.forwarder_id, letter.id): letter.reason for letter in found.undelivered_dead_letters()} == {
        (forwarder, documented_record(name).id): reason
        for (forwarder, name), reason in letters.items()
        if (forwarder, name) not in delivered_by
    }


def test_what_does_not_fit_in_memory_is_spilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_SPILL_ROWS", 7)
    monkeypatch.setattr(index_module, "_SPILL_BYTES", 3000)
    users = {str(number): f"u-{number % 5}" for number in range(100)}
    settle(tmp_path, *[[given_up(name, user=user)] for name, user in users.items()])
    again = [[delivered(name, user=user)] for name, user in users.items() if int(name) % 3]
    settle(tmp_path, *again, run="run2", start=1_700_000_001_000)
    found = history(tmp_path, dead_letters=True)
    assert all(has(found, "f-1", name, user) == bool(int(name) % 3) for name, user in users.items())
    assert {letter.id for letter in found.undelivered_dead_letters()} == {
        documented_record(name).id for name in users if int(name) % 3 == 0
    }


@pytest.mark.slow
def test_indexing_takes_a_part_of_the_memory_that_all_receipts_would(tmp_path: Path) -> None:
    count = 20_000
    for place, several in (("few", 1000), ("many", count)):
        journal = Journal(str(tmp_path / place), "run", "w")
        for start in range(0, several, 1000):
            journal.settle([delivered(str(number), user=f"u-{number}") for number in range(start, start + 1000)])
        journal.close()

    def peak(place: str, run: str) -> int:
        gc.collect()
        tracemalloc.start()
        index = index_history(str(tmp_path / place), run)
        found = History(index)
        loaded = sum(len(ids) for bucket in range(BUCKETS) for ids in found.bucket(bucket).values())
        assert loaded == index.receipts == (count if place == "many" else 1000)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index_module, "_SPILL_ROWS", 1000)
        peak("few", "first")  # what is imported and remembered once is not what is measured
        # A set of all the ids is over 140 bytes each: 2.8 MB. The file being read has a buffer of 1 MB.
        # The interpreter's table of interned strings may grow meanwhile, by megabytes, but not twice in a row.
        assert any(peak("many", run) < 2_000_000 for run in ("second", "third"))


# --- dead letters


def test_dead_letters_come_by_bucket_and_per_user_in_record_order(tmp_path: Path) -> None:
    batch = []
    for number in range(40):
        user = f"u-{number % 4}"
        for kind in ("score", "event", "status"):
            name = f"{number} {kind}"
            batch.append(
                given_up(name, user=user, kind=kind, timestamp=1_700_000_000_000 + 7 * number % 5, place=number % 3)
            )
    settle(tmp_path, batch)
    letters = list(history(tmp_path, dead_letters=True).undelivered_dead_letters())
    assert len(letters) == 120
    assert all(isinstance(letter, DeadLetter) for letter in letters)
    buckets = [bucket_of(letter.user_id) for letter in letters]
    assert buckets == sorted(buckets)
    ranks = {"event": 0, "status": 1, "score": 2}
    for user in {letter.user_id for letter in letters}:
        records = [decode_record(letter.record) for letter in letters if letter.user_id == user]
        order = [(r.timestamp, r.place, r.message["session_id"], ranks[r.kind]) for r in records]
        assert order == sorted(order)


def test_the_latest_dead_letter_is_the_one_to_send(tmp_path: Path) -> None:
    for run in (run_id(10), run_id(9), "20260203T101500Z-5f3a9c"):  # The clock was set back a day each time.
        settle(tmp_path, [given_up("1", reason="timeout")], run=run, start=START)
    settle(tmp_path, [given_up("1", reason="http_404")], run=run_id(10), worker="x", start=START - DAY)
    (letter,) = history(tmp_path, dead_letters=True).undelivered_dead_letters()
    assert letter.reason == "http_404"
    assert letter.payload == b'{"payload":1}'
    assert decode_record(letter.record) == documented_record("1")


def test_a_dead_letter_without_its_receipt_is_still_to_send(tmp_path: Path) -> None:
    """The kill came between the two."""
    settle(tmp_path, [given_up("1")])
    (tmp_path / "receipts/run-w-000000.avro").unlink()
    letters = history(tmp_path, dead_letters=True).undelivered_dead_letters()
    assert [letter.id for letter in letters] == [documented_record("1").id]


# --- reading parts


def values_of(avro_type: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type of an Avro schema may have."""
    if isinstance(avro_type, list):
        return st.one_of(*map(values_of, avro_type))
    if isinstance(avro_type, dict):
        if avro_type["type"] == "array":
            return st.lists(values_of(avro_type["items"]), max_size=3)
        is_enum = avro_type["type"] == "enum"
        return st.sampled_from(avro_type["symbols"]) if is_enum else values_of(avro_type["type"])
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-(1 << 31), (1 << 31) - 1),
        "long": st.integers(-(1 << 63), (1 << 63) - 1),
        "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    }[avro_type]


RECEIPTS = st.fixed_dictionaries(
    {field["name"]: values_of(field["type"]) for field in avro_schema("receipt")["fields"]}
).map(lambda row: row | {name: row[name] or "-" for name in ("forwarder_id", "id")} | {"run_id": "run"})


@settings(max_examples=60)
@given(st.lists(RECEIPTS, min_size=2, max_size=4))
def test_reads_receipts_as_fastavro_does(rows: list[dict[str, Any]]) -> None:
    """Rows with every field that receipt.avsc has: one that the reader does not know puts the next row out of step."""
    data = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(data, avro_schema("receipt"), row)
    found: list[tuple[bytes, bytes, bytes, bool]] = []
    read_receipts(data.getvalue(), len(rows), lambda *receipt: found.append(receipt))
    assert found == [
        (
            row["forwarder_id"].encode(),
            row["id"].encode(),
            row["user_id"].encode(),
            row["outcome"] == "delivered",
        )
        for row in rows
    ]


def test_parts_of_an_older_or_newer_schema_are_read_too(tmp_path: Path) -> None:
    settle(tmp_path, [delivered("1"), given_up("2")])
    for directory, shape in (("receipts", "receipt"), ("dead_letters", "dead_letter")):
        schema = json.loads(json.dumps(avro_schema(shape)))
        schema["fields"].insert(2, {"name": "colour", "type": "string"})
        schema["fields"] = [
            field for field in schema["fields"] if field["name"] not in ("hops", "shard", "failed_runs")
        ]
        rows = read_parts(tmp_path / directory)
        with (tmp_path / directory / "run-w-000000.avro").open("wb") as stream:
            fastavro.writer(stream, schema, [{**row, "colour": "blue"} for row in rows])
    found = history(tmp_path, dead_letters=True)
    assert has(found, "f-1", "1")
    (letter,) = found.undelivered_dead_letters()
    assert (letter.id, letter.hops, letter.settled_at) == (documented_record("2").id, 0, 1_700_000_000_000)


def test_a_part_cut_short_is_used_as_far_as_it_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settle(tmp_path, [delivered("1")], [delivered("2")])
    part = tmp_path / "receipts/run-w-000000.avro"
    part.write_bytes(part.read_bytes()[:-5])
    found = history(tmp_path)
    assert has(found, "f-1", "1")
    assert not has(found, "f-1", "2")
    assert "run-w-000000.avro is cut short" in caplog.text


def test_a_damaged_page_of_a_part_costs_its_rows_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Zeros between blocks, and in the middle of a block whose frame is whole."""
    settle(tmp_path, *[[delivered(str(number)), given_up(f"{number}-")] for number in range(300)])
    for directory in ("receipts", "dead_letters"):
        part = tmp_path / directory / "run-w-000000.avro"
        content = bytearray(part.read_bytes())
        content[8192:12288] = bytes(4096)
        part.write_bytes(content)
    found = history(tmp_path, dead_letters=True)
    known = [number for number in range(300) if has(found, "f-1", str(number))]
    assert 240 < len(known) < 300
    assert known[-1] == 299
    letters = list(found.undelivered_dead_letters())
    assert 285 < len(letters) < 300
    for directory in ("receipts", "dead_letters"):
        assert f"{directory}/run-w-000000.avro is damaged from byte" in caplog.text


def test_rows_of_zeros_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A receipt that zeros begin in says `delivered`, and one of zeros alone names nobody."""
    settle(tmp_path, [given_up("1")])
    part = tmp_path / "receipts/run-w-000000.avro"
    content = part.read_bytes()
    outcome = content.index(documented_record("1").id.encode()) + 36 + len("\x06u-1\x0aevent")
    part.write_bytes(content[:outcome] + bytes(len(content) - 16 - outcome) + content[-16:])
    assert not has(history(tmp_path), "f-1", "1")
    assert "receipts/run-w-000000.avro is damaged from byte" in caplog.text


@pytest.mark.parametrize("directory", ["receipts", "dead_letters"])
def test_an_empty_part_is_not_taken_for_nothing(tmp_path: Path, directory: str) -> None:
    settle(tmp_path, [given_up("1")])
    (tmp_path / directory / "run-w-000000.avro").write_bytes(b"")
    with pytest.raises(NotAContainerError, match=f"{directory}/run-w-000000.avro is empty, .* restore it, or move it"):
        history(tmp_path, dead_letters=True)
