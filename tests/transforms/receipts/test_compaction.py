"""A compaction changes nothing of what a run knows: its receipts and dead letters answer as they did before."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro_schema
from schemas.buckets import bucket_of
from schemas.times import millis_of, utc
from tests.support.avro_parts import read_parts
from tests.support.power import Recorder, disk_after
from tests.support.settlements import delivered, documented_record, given_up
from transforms.receipts.compaction import Ages, Compacted, compact
from transforms.receipts.history import History
from transforms.receipts.index import index_history
from transforms.receipts.journal import Journal
from transforms.receipts.known import KNOWN
from transforms.receipts.outage_letters import OutageLetters
from transforms.receipts.runs import next_run_number
from transforms.storage import LocalStorage, StorageError

DAY = 86_400_000
NOW = 1_800_000_000_000
NAMES = ("1", "2", "3")
FORWARDERS = ("f-1", "f-2")
CUTS = 20
IN_USE = {bucket_of(f"user of {name}") for name in (*map(str, range(1, 10)), "a", "b", "c", "d")}


@dataclass(frozen=True)
class Run:
    """A run: what it settled, as (record, forwarder, delivered), and how many days ago it was."""

    number: int
    days: int
    settled: tuple[tuple[str, str, bool], ...]
    replay: bool = False

    @property
    def id(self) -> str:
        when = utc(NOW - self.days * DAY)
        return f"r{self.number:06}-{when:%Y%m%dT%H%M%SZ}-{self.number:06x}" + "-replay" * self.replay

    def leave(self, output: Path) -> None:
        ticks = count(NOW - self.days * DAY)
        journal = Journal(str(output), self.id, "000001-w", durability="none", clock=lambda: next(ticks))
        for name, forwarder, done in self.settled:
            user = f"user of {name}"
            lost = given_up(name, forwarder, "timeout", user=user)
            journal.settle([delivered(name, forwarder, user=user) if done else lost])
        journal.close()


def ages(keep: int = 90) -> Ages:
    return Ages(NOW - keep * DAY, NOW)


def compacted(output: Path, keep: int = 90) -> Compacted:
    return compact(LocalStorage(output), lambda: ages(keep))


Answers = tuple[set[tuple[str, str]], list[tuple[str, str, str]]]


def answers(output: Path, horizon: float | None = None) -> Answers:
    """All that a run and a redrive would know: what is delivered, and for each forwarder its dead letters, in order."""
    history = History(index_history(str(output), "now", dead_letters=True, horizon=horizon))
    known = {(forwarder, id_) for bucket in IN_USE for forwarder, ids in history.bucket(bucket).items() for id_ in ids}
    letters = [(letter.forwarder_id, letter.id, letter.run_id) for letter in history.undelivered_dead_letters()]
    return known, sorted(letters, key=lambda letter: letter[0])


def caught_up(output: Path, committed: int) -> list[str]:
    """The records of the letters that a run with a state of the run `committed` tries by itself."""
    index = index_history(str(output), "now", catch_up=OutageLetters(committed, block_user=True, looks_only=True))
    return [letter.id for letter in History(index).undelivered_dead_letters()]


def parts(output: Path, directory: str) -> list[str]:
    return sorted(path.name for path in (output / directory).glob("*.avro"))


SETTLED = st.tuples(st.sampled_from(NAMES), st.sampled_from(FORWARDERS), st.booleans())


@st.composite
def some_runs(draw: st.DrawFn) -> list[tuple[Run, bool]]:
    """Runs in their order, each with whether the output is compacted after it. Clocks may be anything."""
    found = []
    for number in range(1, draw(st.integers(2, 7))):
        settled = tuple(draw(st.lists(SETTLED, min_size=1, max_size=4)))
        days = draw(st.sampled_from((0, 1, 89, 91, 200, -400)))
        found.append((Run(number, days, settled, draw(st.booleans())), draw(st.booleans())))
    return found


@settings(max_examples=10, deadline=None)
@given(some_runs(), st.sampled_from((1, 90, 365)))
def test_whatever_is_asked_the_answer_is_that_of_before(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[Run, bool]], keep: int
) -> None:
    """What is delivered, and which dead letters a redrive sends; also by the receipts themselves."""
    there = tmp_path_factory.mktemp("outputs")
    plain, small = there / "plain", there / "small"
    for run, compacts in runs:
        run.leave(plain)
        run.leave(small)
        if compacts:
            compacted(small, keep)
            assert answers(small) == answers(plain)
    expected = answers(plain)
    assert answers(small) == expected
    assert answers(small, horizon=365 * 86_400) == expected
    assert next_run_number(str(small)) == next_run_number(str(plain))
    (small / KNOWN).unlink(missing_ok=True)
    assert answers(small) == expected
    shutil.rmtree(there)


def year(output: Path, runs: int = 8) -> None:
    for number in range(1, runs + 1):
        Run(number, 400 - 10 * number, ((str(number), "f-1", True), (str(number + 1), "f-1", False))).leave(output)


def test_many_parts_become_few_and_the_last_run_is_left_as_it_is(tmp_path: Path) -> None:
    year(tmp_path)
    before = answers(tmp_path)
    done = compacted(tmp_path)
    assert (done.parts_before, done.parts) == (16, 3), "all dead letters but the last are settled"
    first, second = parts(tmp_path, "receipts")
    assert first.startswith("r000007-")
    assert first.endswith("-000000-merged-000001-000001-000000-end.avro")
    assert second.startswith("r000008-")
    assert answers(tmp_path) == before
    assert compacted(tmp_path).parts == 3, "there is nothing more to do"


def test_old_receipts_that_do_not_count_go_and_so_do_settled_dead_letters(tmp_path: Path) -> None:
    Run(1, 200, (("1", "f-1", False), ("2", "f-1", False), ("3", "f-1", False))).leave(tmp_path)
    Run(2, 199, (("1", "f-1", True), ("2", "f-1", False))).leave(tmp_path)
    Run(3, 10, (("1", "f-2", False),)).leave(tmp_path)
    Run(4, 9, (("1", "f-2", True),)).leave(tmp_path)
    assert len(caught_up(tmp_path, committed=1)) == 2, "also what a redrive has given up again since"
    done = compacted(tmp_path)
    assert len(caught_up(tmp_path, committed=1)) == 2
    assert (done.receipts, done.dead_letters) == (2, 1)
    left = [(row["id"], row["run_id"][:7], row["outcome"]) for row in read_parts(tmp_path / "receipts")]
    ids = {name: documented_record(name).id for name in NAMES}
    assert left == [
        (ids["3"], "r000001", "dead_lettered"),
        (ids["1"], "r000002", "delivered"),
        (ids["2"], "r000002", "dead_lettered"),
        (ids["1"], "r000003", "dead_lettered"),
        (ids["1"], "r000004", "delivered"),
    ]
    letters = [(row["id"], row["run_id"][:7]) for row in read_parts(tmp_path / "dead_letters")]
    assert letters == [
        (ids["2"], "r000001"),
        (ids["3"], "r000001"),
        (ids["2"], "r000002"),
        (ids["1"], "r000003"),
    ], "the first and the last count, and one is young"


def test_rows_are_those_that_were_written_but_for_nothing(tmp_path: Path) -> None:
    year(tmp_path, 3)
    before = {name: read_parts(tmp_path / name) for name in ("receipts", "dead_letters")}
    compacted(tmp_path, keep=1000)
    assert {name: read_parts(tmp_path / name) for name in ("receipts", "dead_letters")} == before


def test_the_answer_comes_from_the_file_that_knows_while_it_fits(tmp_path: Path) -> None:
    year(tmp_path)
    compacted(tmp_path)
    before = answers(tmp_path)
    assert index_history(str(tmp_path), "now").receipts == 2, "only the last run's"
    merged = tmp_path / "receipts" / parts(tmp_path, "receipts")[0]
    moved = merged.rename(tmp_path / merged.name)
    assert index_history(str(tmp_path), "now").known is None
    assert answers(tmp_path)[0] < before[0], "receipts that are gone are not known any more"
    moved.rename(merged)
    assert answers(tmp_path) == before


@pytest.mark.parametrize("at", [0, 10, 40, -1])
def test_damage_of_the_file_that_knows_is_noticed(tmp_path: Path, at: int) -> None:
    year(tmp_path)
    compacted(tmp_path)
    before = answers(tmp_path)
    file = tmp_path / KNOWN
    content = bytearray(file.read_bytes())
    content[at] ^= 0x55
    file.write_bytes(content)
    try:
        assert answers(tmp_path) == before
    except StorageError as error:
        assert "is damaged: remove it, then run again" in str(error)  # noqa: PT017 - either is right
        file.unlink()
        assert answers(tmp_path) == before


@pytest.mark.parametrize("at", [-80, -210], ids=["what was given up", "what was delivered"])
def test_a_damaged_part_is_left_as_it_is_and_counts_again_when_it_is_restored(tmp_path: Path, at: int) -> None:
    year(tmp_path)
    before = answers(tmp_path)
    part = tmp_path / "receipts" / parts(tmp_path, "receipts")[3]
    content = part.read_bytes()
    part.write_bytes(content[:at] + bytes(16) + content[at + 16 :])
    compacted(tmp_path)
    assert len(parts(tmp_path, "receipts")) == 4, "those before it, itself, those behind it, the last run"
    part.write_bytes(content)
    assert answers(tmp_path) == before


def test_receipts_of_an_older_version_are_written_as_now(tmp_path: Path) -> None:
    year(tmp_path, 3)
    before = answers(tmp_path)
    for part in (tmp_path / "receipts").glob("*.avro"):
        rows = read_parts_of(part)
        old = avro_schema("receipt")
        old = {**old, "fields": [field for field in old["fields"] if field["name"] != "remarks"]}
        with part.open("wb") as stream:
            fastavro.writer(stream, old, [{name: row[name] for name in row if name != "remarks"} for row in rows])
    assert answers(tmp_path) == before
    compacted(tmp_path)
    assert answers(tmp_path) == before
    merged = read_parts_of(tmp_path / "receipts" / parts(tmp_path, "receipts")[0])
    assert [row["remarks"] for row in merged] == [[], []], "of two runs what is delivered"


def read_parts_of(part: Path) -> list[dict[str, object]]:
    with part.open("rb") as stream:
        return [row for row in fastavro.reader(stream) if isinstance(row, dict)]


def test_a_large_family_is_not_written_again_for_a_few_rows(tmp_path: Path) -> None:
    many = tuple((str(number), "f-1", True) for number in range(200))
    Run(1, 20, many).leave(tmp_path)
    Run(2, 19, (("a", "f-1", True),)).leave(tmp_path)
    Run(3, 18, (("b", "f-1", True),)).leave(tmp_path)
    compacted(tmp_path)
    large = parts(tmp_path, "receipts")[0]
    Run(4, 17, (("c", "f-1", True),)).leave(tmp_path)
    Run(5, 16, (("d", "f-1", True),)).leave(tmp_path)
    compacted(tmp_path)
    assert [name[:7] for name in parts(tmp_path, "receipts")] == ["r000002", "r000004", "r000005"]
    assert parts(tmp_path, "receipts")[0] == large


def test_the_power_goes_at_any_moment_and_nothing_is_lost(
    tmp_path: Path, disks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the disk has then answers as before, and the next compaction goes on to the same end."""
    output = tmp_path / "out"
    output.mkdir()
    with monkeypatch.context() as patched:
        recorder = Recorder(output, patched)
        for run in _runs_of_a_year():
            run.leave(output)
        for file in sorted(output.rglob("*.avro")):
            recorder.sync_file(file)
        for directory in ("receipts", "dead_letters", ""):
            recorder.sync_directory(output / directory)
        begun = len(recorder.operations)
        expected = answers(output)
        compacted(output, keep=1000)
        compacted(output)
    assert answers(output) == expected
    final = {name: parts(output, name) for name in ("receipts", "dead_letters")}
    rng = random.Random(20)  # noqa: S311
    for number in range(CUTS):
        disk = disks / str(number)
        disk_after(recorder.operations[: rng.randint(begun, len(recorder.operations))], output, rng, disk)
        assert answers(disk) == expected
        compacted(disk)
        assert answers(disk) == expected
        assert {name: len(parts(disk, name)) for name in final} == {name: len(final[name]) for name in final}


def _runs_of_a_year() -> Sequence[Run]:
    return [
        Run(1, 200, (("1", "f-1", False), ("2", "f-1", True))),
        Run(2, 190, (("1", "f-1", True), ("3", "f-2", False))),
        Run(3, 180, (("2", "f-1", False),), replay=True),
        Run(4, 170, (("3", "f-2", False), ("3", "f-1", True))),
        Run(5, 20, (("3", "f-2", True), ("1", "f-2", False))),
        Run(6, 10, (("1", "f-2", False),)),
    ]


def test_an_age_is_never_less_than_that_of_the_runs_before() -> None:
    found = ages(90)
    days = {"r000001": 400, "r000002": -400, "r000003": 300}
    ids = [Run(int(name[1:]), ago, ()).id for name, ago in days.items()]
    assert [found.is_old(id_) for id_ in ids] == [True, False, False], "the second had a clock that was ahead"
    assert not ages().is_old("a run that does not say when it was")
    assert millis_of(utc(NOW)) == NOW
