"""Who follows an output is told of each record once, whenever it looks and whatever happens to the files meanwhile."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.memory_storage import MemoryStorage
from tests.support.settlements import given_up
from tests.support.settling import SettlingRun, run_id
from transforms.receipts.compaction import Ages, compact
from transforms.receipts.following import Following, Settled
from transforms.storage import LocalStorage, Storage

NOW = 1_800_000_000_000
DAY = 86_400_000

Told = tuple[str, str, str | None]


class Watcher:
    """What has been told, by run, as whoever watches keeps it."""

    def __init__(self, storage: Storage, since: int = 0) -> None:
        self.storage = storage
        self.since = since
        self.following = Following()
        self.by_run: dict[int, Counter[Told]] = {}

    def look(self, most: int | None = None) -> None:
        for batch in islice(self.following.new(self.storage, self.since), most):
            if batch.settled is None:
                for run in [run for run in self.by_run if run >= batch.run]:
                    del self.by_run[run]
            else:
                self.by_run.setdefault(batch.run, Counter()).update(map(told, batch.settled))

    def all(self) -> Counter[Told]:
        return sum(self.by_run.values(), Counter[Told]())


def told(settled: Settled) -> Told:
    return settled.forwarder_id, settled.id, settled.reason


def compacted(output: Path) -> None:
    # What is old and does not count may go in a compaction. Nothing is old here.
    compact(LocalStorage(output), lambda: Ages(0, NOW))


SETTLED = st.tuples(st.sampled_from("123"), st.sampled_from(("f-1", "f-2")), st.sampled_from((None, "timeout", "dns")))
STEPS = st.one_of(
    SETTLED,
    SETTLED,
    st.just("run"),
    st.just("run"),
    st.just("look"),
    st.just("glance"),
    st.just("compact"),
)


@settings(max_examples=40, deadline=None)
@example([(name, "f-1", None) if step else "run" for name in "12321" for step in (True, False)] + ["compact"])
@given(st.lists(STEPS, min_size=1, max_size=40))
def test_each_record_is_told_once_whenever_one_looks(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str | None] | str]
) -> None:
    """Runs follow each other, and some are merged; one looks in between, to the end or only a little."""
    output = tmp_path_factory.mktemp("out")
    storage = LocalStorage(output)
    watcher, happened = Watcher(storage), Counter[Told]()
    numbers = count(1)
    run: SettlingRun | None = None

    def end() -> Iterator[None]:
        nonlocal run
        if run is not None:
            run.end()
        run = None
        yield

    for step in steps:
        if isinstance(step, tuple):
            run = run or SettlingRun(output, next(numbers), NOW)
            name, forwarder, reason = step
            happened[forwarder, run.settle(name, forwarder, reason), reason] += 1
        elif step == "run":
            next(end())
        elif step == "compact":
            next(end())
            compacted(output)
        else:
            watcher.look(None if step == "look" else 1)
    next(end())
    watcher.look()
    assert watcher.all() == happened
    # A later one finds the same.
    later = Watcher(storage)
    later.look()
    assert later.all() == happened


def test_a_journal_is_followed_as_it_grows_and_when_it_becomes_a_part(tmp_path: Path) -> None:
    run, watcher = SettlingRun(tmp_path, 1, NOW), Watcher(LocalStorage(tmp_path))
    seen = []
    for name in "123":
        run.settle(name, "f-1", None)
        watcher.look()
        seen.append(watcher.all().total())
    run.end()
    watcher.look()
    assert seen == [1, 2, 3]
    assert watcher.all().total() == 3


def test_a_half_written_end_is_read_once_it_is_whole(tmp_path: Path) -> None:
    run, watcher = SettlingRun(tmp_path, 1, NOW), Watcher(LocalStorage(tmp_path))
    run.settle("1", "f-1", None)
    run.settle("2", "f-1", None)
    (journal,) = (tmp_path / "receipts").glob("*.journal")
    data = journal.read_bytes()
    # As it would look in the middle of a write.
    copy = tmp_path / "copy"
    (copy / "receipts").mkdir(parents=True)
    half = Watcher(LocalStorage(copy))
    for size in range(len(data) - 60, len(data) + 1, 7):
        (copy / "receipts" / journal.name).write_bytes(data[:size])
        half.look()
        assert half.all().total() == 1
    (copy / "receipts" / journal.name).write_bytes(data)
    half.look()
    assert half.all().total() == 2
    assert watcher.all().total() == 0


def test_what_is_old_is_not_opened_and_what_was_settled_before_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, start in enumerate((NOW - 8 * DAY, NOW - 7 * DAY - 1), 1):
        run = SettlingRun(tmp_path, number, start)
        for name in "12":
            run.settle(name, "f-1", "timeout")
        run.end()
    for path in tmp_path.glob("*/*.avro"):
        is_old = path.name.startswith(run_id(1))
        if is_old:
            path.write_bytes(b"nobody looks at this")
        os.utime(path, times=((NOW - 8 * DAY * is_old) / 1000,) * 2)
    watcher = Watcher(LocalStorage(tmp_path), NOW - 7 * DAY)
    watcher.look()
    # The clock ticks once a record: of the later run the second one is in time.
    assert [id_ for _, id_, _ in watcher.all()] == [given_up("2", "f-1").item.record.id]
    assert caplog.text == ""


def test_parts_of_a_store_are_opened_once(tmp_path: Path) -> None:
    for number in range(1, 4):
        run = SettlingRun(tmp_path, number, NOW)
        run.settle("1", "f-1", None)
        run.settle("2", "f-1", "timeout")
        run.end()
    opened: list[str] = []

    class Counted(MemoryStorage):
        def open(self, name: str):  # type: ignore[no-untyped-def]
            opened.append(name)
            return super().open(name)

    storage = Counted()
    for directory in ("receipts", "dead_letters"):
        for path in (tmp_path / directory).glob("*.avro"):
            storage.files[f"{directory}/{path.name}"] = path.read_bytes()
    watcher = Watcher(storage)
    for _ in range(3):
        watcher.look()
    assert len(opened) == len(set(opened)) == 6
    assert watcher.all().total() == 6


def test_what_is_no_part_takes_nothing_else_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, watcher = SettlingRun(tmp_path, 2, NOW), Watcher(LocalStorage(tmp_path))
    run.settle("1", "f-1", None)
    run.end()
    (tmp_path / "receipts" / f"{run_id(1)}-000001-w-000001.avro").write_bytes(b"no part")
    watcher.look()
    assert watcher.all().total() == 1
    assert "is not an Avro file" in caplog.text
