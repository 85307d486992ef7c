from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory_queues import MemoryParking, MemorySpool
from tests.support.records import item
from transforms.delivery import spool
from transforms.delivery.spool import CHUNK_ITEMS, DiskParking, DiskSpool, SpoolDirectory

operations = st.lists(st.integers(-8, 40), max_size=30)


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
        disk.close()
        directory.close()


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
    disk.close()
    directory.close()


def test_only_a_chunk_is_in_memory_and_nothing_stays_behind(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskSpool(directory, "spool")
    disk.append([item("user", number) for number in range(CHUNK_ITEMS - 1)])
    assert not list(tmp_path.iterdir()), "a little is kept in memory"
    disk.append([item("user", number) for number in range(CHUNK_ITEMS * 4)])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0, "for the owner's eyes only: these are learners' records"
    disk.close()
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
    disk.close()
    directory.close()


def test_the_parking_s_file_is_used_again(tmp_path: Path) -> None:
    directory = SpoolDirectory(str(tmp_path))
    disk = DiskParking(directory, "parking", chunk_items=2)
    for number in range(10):
        disk.put("user", item("user", number))
    for _ in range(5):
        disk.take("user")
    assert (directory.path() / "parking").stat().st_size == 0
    disk.close()
    directory.close()


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
    disk.close()
    directory.close()
