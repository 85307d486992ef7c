"""Which run came first, by numbers and not by clocks."""

import pytest

from schemas import times
from tests.support.memory_storage import MemoryStorage
from transforms.receipts.journal import new_worker_name
from transforms.receipts.runs import generation_of, is_replay, new_run_id, next_run_number, place, run_number

OLD = "20260203T101500Z-5f3a9c"


def test_run_ids_sort_by_number_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [OLD]
    for number, day in ((1, 20_000), (2, 20_040), (3, 19_999)):
        monkeypatch.setattr(times, "time_ns", lambda day=day: day * 86_400 * 10**9)
        ids.append(new_run_id(number))
    assert ids[1].startswith("r000001-20241004T000000Z-")
    assert ids == sorted(ids)
    assert [run_number(each) for each in ids] == [0, 1, 2, 3]
    assert new_run_id(1) != new_run_id(1)


def test_a_replay_says_so_in_its_id() -> None:
    replay, other = new_run_id(7, replay=True), new_run_id(7)
    file = f"receipts/{replay}-{new_worker_name(3)}-000000.avro"
    assert (run_number(replay), generation_of(file)) == (7, (7, 3))
    assert [is_replay(name) for name in (replay, file, other, OLD, f"{other}-w-replay-000000.avro")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_files_are_in_the_order_of_runs_then_generations() -> None:
    in_order = [
        f"receipts/{OLD}-host-1-aa-000000.avro",
        f"receipts/{new_run_id(9)}-{new_worker_name(1)}-000000.avro",
        f"receipts/{(run := new_run_id(999_999))}-{new_worker_name(2)}-000000.avro",
        f"receipts/{run}-{new_worker_name(10)}-000000.avro",
        f"receipts/{run}-{new_worker_name(1_000_000)}-000000.avro",
        f"receipts/{new_run_id(1_000_000)}-{new_worker_name(1)}-000000.avro",
    ]
    assert sorted(set(in_order), key=place) == in_order
    assert [generation_of(name) for name in in_order[2:]] == [
        (999_999, 2),
        (999_999, 10),
        (999_999, 1_000_000),
        (1_000_000, 1),
    ]


def test_each_run_of_an_output_that_settles_anything_has_the_next_number() -> None:
    store = MemoryStorage()
    for number, name in ((1, f"receipts/{OLD}-w-000000.avro"), (1, f"receipts/{new_run_id(1)}-w-000000.avro")):
        assert next_run_number(store) == number
        store.files[name] = b""
    assert next_run_number(store) == 2
    store.files[f"dead_letters/{new_run_id(12)}-w-000000.journal"] = b""
    assert next_run_number(store) == 13
