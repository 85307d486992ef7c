import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.limits import files_of_at_most
from tests.support.memory_queues import MemoryParking, MemorySpool
from tests.support.records import item
from transforms.delivery import spool
from transforms.delivery.spool import CHUNK_ITEMS, DiskParking, DiskSpool, SpoolDirectory
from transforms.sinks.base import Item
from transforms.storage import StorageError

operations = st.lists(st.integers(-8, 40), max_size=30)


@settings(max_examples=60)
@given(operations, st.integers(1, 5), st.sampled_from([1, 2000, 1 << 20]))
def test_the_spool_on_disk_is_first_in_first_out(steps: list[int], chunk: int, segment: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "CHUNK_ITEMS", chunk)
        patch.setattr(spool, "SEGMENT_BYTES", segment)
        directory = SpoolDirectory()
        disk, memory = DiskSpool(directory, "spool"), MemorySpool(1)
        made = 0
        for step in [*steps, -10_000]:
            if step >= 0:
                new = [item("user", made + number) for number in range(step)]
                made += step
                disk.append(new)
                memory.append(new)
            while step < 0 and len(disk):
                taken = disk.take()
                assert taken == [memory.take()[0] for _ in taken]
                step += len(taken)
            assert len(disk) == len(memory)
        assert disk.take() == []
        directory.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_the_parking_on_disk_is_first_in_first_out_per_user(steps: list[tuple[int, bool]]) -> None:
    directory = SpoolDirectory()
    disk, memory = DiskParking(directory, "parking", chunk_items=3), MemoryParking(1)
    for number, (user_number, put) in enumerate(steps):
        user = f"user-{user_number}"
        if put:
            new = item(user, number)
            disk.put(user, new)
            memory.put(user, new)
        elif user in disk:
            taken = disk.take(user)
            assert taken
            assert taken == [memory.take(user)[0] for _ in taken]
        assert (user in disk) == (user in memory)
        assert len(disk) == len(memory)
    directory.close()


def test_only_a_chunk_is_in_memory_and_nothing_stays_behind(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskSpool(directory, "spool")
    disk.append([item("user", number) for number in range(CHUNK_ITEMS - 1)])
    assert not list(tmp_path.iterdir()), "a little is kept in memory"
    disk.append([item("user", number) for number in range(CHUNK_ITEMS * 4)])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0, "for the owner's eyes only: these are learners' records"
    directory.close()
    assert not list(tmp_path.iterdir())


def test_what_was_read_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 100_000)
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskSpool(directory, "spool")
    disk.append([item("user", number) for number in range(CHUNK_ITEMS * 20)])
    files = len(list(directory.path().iterdir()))
    assert files > 3
    for _ in range(19):
        disk.take()
    assert len(list(directory.path().iterdir())) == 1
    directory.close()


def test_the_parking_s_file_is_used_again(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskParking(directory, "parking", chunk_items=2)
    for number in range(10):
        disk.put("user", item("user", number))
    largest = (directory.path() / "parking").stat().st_size
    for _ in range(5):
        disk.take("user")
    disk.put("user", item("user", 10))
    disk.put("user", item("user", 11))
    assert 0 < (directory.path() / "parking").stat().st_size < largest
    directory.close()


def test_a_full_disk_is_said_and_what_was_put_in_before_comes_back(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskSpool(directory, "spool")
    due = [item("user", number) for number in range(CHUNK_ITEMS * 10)]
    with files_of_at_most(100_000):
        taken = disk.append(due)
        assert CHUNK_ITEMS < taken < len(due)
        assert disk.append(due[taken:]) == 0
    assert len(disk) == taken
    back = [each for _ in range(20) for each in disk.take()]
    assert back == due[:taken]
    # There is room again.
    assert disk.append(due) == len(due)
    directory.close()


def test_a_parking_on_a_full_disk_is_said_and_what_was_put_in_before_comes_back(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskParking(directory, "parking", chunk_items=4)
    with files_of_at_most(5_000):
        taken = [number for number in range(100) if disk.put("user", item("user", number))]
    assert taken == list(range(len(taken)))
    assert 8 < len(taken) < 90
    back: list[Item] = []
    while "user" in disk:
        back += disk.take("user")
    assert back == [item("user", number) for number in taken]
    directory.close()


def test_no_descriptor_is_kept_for_a_spool(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    directory = SpoolDirectory(str(tmp_path))
    for number in range(20):
        DiskSpool(directory, f"{number}-spool").append([item("user", place) for place in range(CHUNK_ITEMS * 3)])
        DiskParking(directory, f"{number}-parking", 1).put("user", item("user", 1))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    directory.close()


def test_a_spool_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskSpool(directory, "spool")
    disk.append([item("user", number) for number in range(CHUNK_ITEMS * 2)])
    (file,) = directory.path().iterdir()
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(StorageError, match=re.escape(f"{file} is damaged")):
        disk.take()


def test_items_come_back_whole() -> None:
    whole = item("ü-😀", 1)
    whole.attempts, whole.ambiguous, whole.first_attempt, whole.last_attempt, whole.hops = 2, True, 5, 6, 3
    directory = SpoolDirectory()
    disk = DiskSpool(directory, "spool")
    disk.append([whole])
    disk.append([item("other", number) for number in range(CHUNK_ITEMS)])
    back = disk.take()[0]
    assert back == whole
    assert back is not whole
    assert list(back.record.message) == list(whole.record.message), "the documented order of the keys"
    directory.close()
