import errno
import io
import os
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas import DeadLetter, Receipt, avro_schema
from schemas.delivery import PayloadKind
from schemas.record import encode_record
from tests.support.avro_parts import as_typed, read_part, read_parts
from tests.support.settlements import delivered, documented_record, given_up
from tests.support.waiting import until
from transforms import durability
from transforms.receipts import encoder
from transforms.receipts.encoder import Encoder
from transforms.receipts.journal import Journal, JournalError, close_journals, new_worker_name, recover
from transforms.receipts.runs import new_run_id
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

# --- the encoder against fastavro

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
INT = st.integers(-(1 << 31), (1 << 31) - 1)
TIME = st.integers(0, 4_102_444_800_000)


@st.composite
def settlements(draw: st.DrawFn) -> Settlement:
    record = documented_record(user=draw(TEXT.filter(bool)))
    item = Item(
        draw(TEXT),
        record,
        draw(st.binary(max_size=300)),
        draw(st.sampled_from(get_args(PayloadKind))),
        draw(st.integers(0, 5)),
        draw(st.integers(0, 200)),
        draw(st.none() | TIME),
        draw(st.none() | TIME),
        draw(st.booleans()),
    )
    outcome = AttemptResult(
        draw(st.sampled_from([Verdict.DELIVERED, Verdict.GIVE_UP])),
        draw(TEXT),
        draw(st.none() | INT),
        draw(st.none() | TEXT),
        ambiguous=draw(st.booleans()),
        shard=draw(st.none() | TEXT),
        sequence_number=draw(st.none() | TEXT),
        remarks=tuple(draw(st.lists(TEXT, max_size=3))),
    )
    return Settlement(item, outcome)


def row_of(settlement: Settlement, settled_at: int) -> dict[str, Any]:
    """The row said once more, plainly."""
    item, outcome = settlement.item, settlement.outcome
    return {
        "forwarder_id": item.forwarder_id,
        "id": item.record.id,
        "user_id": item.record.user_id,
        "kind": item.record.kind,
        "outcome": "delivered" if settlement.delivered else "dead_lettered",
        "attempts": item.attempts,
        "status": outcome.status,
        "shard": outcome.shard,
        "sequence_number": outcome.sequence_number,
        "ambiguous": item.ambiguous or outcome.ambiguous,
        "first_attempt": item.first_attempt,
        "last_attempt": item.last_attempt,
        "settled_at": settled_at,
        "run_id": "run",
        "remarks": list(outcome.remarks),
        "reason": outcome.reason,
        "response": outcome.response,
        "payload": item.payload or None,
        "payload_kind": item.payload_kind,
        "record": encode_record(item.record),
        "hops": item.hops,
        "failed_runs": item.failed_runs,
    }


@settings(max_examples=60)
@given(st.lists(settlements(), min_size=1, max_size=3), TIME)
def test_rows_are_laid_out_as_fastavro_does(batch: list[Settlement], settled_at: int) -> None:
    encoder = Encoder("run")
    for settlement, receipt in zip(batch, encoder.receipts(batch, settled_at), strict=True):
        row = row_of(settlement, settled_at)
        for encoded, schema in ((receipt, "receipt"), (encoder.dead_letter(settlement, receipt), "dead_letter")):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, avro_schema(schema), row)
            assert encoded == out.getvalue()


def test_types_and_schemas_have_the_same_fields_in_the_same_order() -> None:
    for schema, kind in (("receipt", Receipt), ("dead_letter", DeadLetter)):
        assert tuple(field["name"] for field in avro_schema(schema)["fields"]) == kind.__struct_fields__


def test_a_stray_surrogate_in_a_response_does_not_stop_the_run(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    settlement = given_up()
    journal.settle([Settlement(settlement.item, AttemptResult(Verdict.GIVE_UP, "http_400", response="a\udc80b"))])
    journal.close()
    assert read_parts(tmp_path / "dead_letters")[0]["response"] == "a?b"


# --- a local output


def test_a_closed_journal_is_a_part_that_any_avro_reader_reads(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w", clock=lambda: 1_700_000_000_500)
    journal.settle([delivered("1"), given_up("2")])
    journal.settle([delivered("3")])
    journal.close()

    assert [path.name for path in tmp_path.glob("*/*")] == ["run-w-000000.avro"] * 2
    receipts = read_part(tmp_path / "receipts/run-w-000000.avro")
    assert [(row["id"], row["outcome"]) for row in receipts] == [
        (documented_record("1").id, "delivered"),
        (documented_record("2").id, "dead_lettered"),
        (documented_record("3").id, "delivered"),
    ]
    (letter,) = read_part(tmp_path / "dead_letters/run-w-000000.avro")
    assert as_typed(letter, DeadLetter) == DeadLetter(
        forwarder_id="f-1",
        id=documented_record("2").id,
        user_id="u-1",
        kind="event",
        outcome="dead_lettered",
        attempts=3,
        status=400,
        ambiguous=True,
        first_attempt=1_700_000_000_000,
        settled_at=1_700_000_000_500,
        run_id="run",
        reason="http_400",
        response="no",
        payload=b'{"payload":1}',
        payload_kind="record",
        record=encode_record(documented_record("2")),
        hops=2,
    )


def test_a_journal_without_receipts_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "out"), "run", "w")
    journal.settle([])
    journal.close()
    journal.close()
    assert not (tmp_path / "out").exists()
    assert recover(str(tmp_path / "out")) == []


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.settle([delivered()])


def test_a_large_journal_becomes_a_part_and_the_next_begins(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w", part_bytes=4000)
    for number in range(100):
        journal.settle([delivered(str(number))])
    assert len(list((tmp_path / "receipts").glob("*.avro"))) > 2
    assert len(list((tmp_path / "receipts").glob("*.journal"))) <= 1
    journal.close()
    assert [row["id"] for row in read_parts(tmp_path / "receipts")] == [
        documented_record(str(n)).id for n in range(100)
    ]


def test_large_rows_are_spread_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 1000)
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([given_up(str(number)) for number in range(50)])
    journal.close()
    with (tmp_path / "dead_letters/run-w-000000.avro").open("rb") as stream:
        assert sum(1 for _ in fastavro.block_reader(stream)) > 10
    assert len(read_parts(tmp_path / "dead_letters")) == 50


def test_one_write_for_each_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("0")])
    writes: list[int] = []
    write = os.write

    def noted_write(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", noted_write)
    journal.settle([delivered(str(number)) for number in range(500)])
    assert len(writes) == 1
    journal.close()


def test_a_write_cut_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1"), delivered("2")])
    journal.close()
    assert len(read_parts(tmp_path / "receipts")) == 2


def test_a_full_disk_is_said_and_leaves_a_sound_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1")])
    write, calls = os.write, 0

    def full(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(descriptor, bytes(data)[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(JournalError, match="receipts: No space left on device; make room"):
            journal.settle([delivered("2")])
    journal.settle([delivered("3")])
    journal.close()
    assert [row["id"] for row in read_parts(tmp_path / "receipts")] == [
        documented_record("1").id,
        documented_record("3").id,
    ]


def test_a_disk_that_was_full_at_the_start_may_have_room_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(str(tmp_path), "run", "w")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(JournalError, match="No space left"):
            journal.settle([delivered("1")])
    journal.settle([delivered("2")])
    journal.close()
    assert [row["id"] for row in read_parts(tmp_path / "receipts")] == [documented_record("2").id]


def test_two_journals_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = Journal(str(tmp_path), "run", "w"), Journal(str(tmp_path), "run", "w")
    first.settle([delivered("1")])
    with pytest.raises(JournalError, match="two journals with one name"):
        second.settle([delivered("2")])
    first.close()
    with pytest.raises(JournalError, match="two journals with one name"):
        second.settle([delivered("2")])
    assert len(read_parts(tmp_path / "receipts")) == 1


def test_the_dead_letter_is_written_before_its_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([given_up("1")])
    write = os.write

    def dies_at_the_receipt(descriptor: int, data: Any) -> int:
        if "/receipts/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.EIO, "killed here")
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", dies_at_the_receipt)
        with pytest.raises(JournalError):
            journal.settle([given_up("2")])
    journal.close()
    assert [row["id"] for row in read_parts(tmp_path / "dead_letters")] == [
        documented_record("1").id,
        documented_record("2").id,
    ]
    assert [row["id"] for row in read_parts(tmp_path / "receipts")] == [documented_record("1").id]


def test_many_threads_may_settle(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w", part_bytes=20_000)

    def work(thread: int) -> None:
        for number in range(50):
            name = f"{thread}-{number}"
            journal.settle([given_up(name) if number % 5 == 0 else delivered(name)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    journal.close()
    assert {row["id"] for row in read_parts(tmp_path / "receipts")} == {
        documented_record(f"{thread}-{number}").id for thread in range(8) for number in range(50)
    }
    assert len(read_parts(tmp_path / "receipts")) == 400
    assert len(read_parts(tmp_path / "dead_letters")) == 80


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä"])
def test_names_must_fit_into_file_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="goes into file names"):
        Journal(str(tmp_path), name, "w")
    with pytest.raises(ValueError, match="goes into file names"):
        Journal(str(tmp_path), "run", name)


def test_names_are_used_once_and_fit_into_file_names() -> None:
    assert new_worker_name() != new_worker_name()
    Journal("/nowhere", new_run_id(1), new_worker_name())


# --- what is synced


class _Synced:
    """Stands in for the syncs of `transforms.durability`: what of each file was on the disk when they last ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: dict[str, bytes] = {}
        self.names: dict[str, set[str]] = {}
        self.order: list[str] = []
        self.error: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        monkeypatch.setattr(durability, "sync", self.sync)
        monkeypatch.setattr(durability, "sync_directory", self.sync_directory)

    def sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        content = path.read_bytes()
        self.gate.wait()
        if self.error is not None:
            raise self.error
        self.contents[path.parent.name] = content
        self.order.append(path.parent.name)

    def sync_directory(self, path: Path) -> None:
        self.names[path.name] = {each.name for each in path.iterdir()}

    def ids(self, directory: str) -> list[str]:
        return [row["id"] for row in fastavro.reader(io.BytesIO(self.contents[directory])) if isinstance(row, dict)]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> _Synced:
    return _Synced(monkeypatch)


def test_what_is_settled_is_synced_soon_and_nobody_waits_for_it(tmp_path: Path, synced: _Synced) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    synced.gate.clear()
    for number in range(20):
        journal.settle([delivered(str(number))])
    assert synced.contents == {}
    synced.gate.set()
    until(lambda: len(synced.ids("receipts")) == 20 if synced.contents else False, 5.0)
    journal.settle([delivered("20")])
    until(lambda: len(synced.ids("receipts")) == 21, 5.0)
    assert synced.names["receipts"] == {"run-w-000000.journal"}
    journal.close()


def test_a_group_is_synced_dead_letters_first(tmp_path: Path, synced: _Synced) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    for number in range(3):
        journal.settle([given_up(str(number))])
        journal.flush()
    assert synced.order == ["dead_letters", "receipts"] * 3
    assert synced.ids("dead_letters") == synced.ids("receipts")
    journal.close()


def test_flush_and_close_wait_for_the_disk(tmp_path: Path, synced: _Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.receipts.journal.GROUP_SECONDS", 60)
    journal = Journal(str(tmp_path), "run", "w")
    journal.flush()
    journal.settle([delivered("1")])
    journal.flush()
    assert len(synced.ids("receipts")) == 1
    journal.settle([delivered("2")])
    journal.close()
    assert len(synced.ids("receipts")) == 2
    assert synced.names["receipts"] == {"run-w-000000.avro"}
    journal.flush()


def test_with_each_a_receipt_is_on_the_disk_when_it_is_settled(tmp_path: Path, synced: _Synced) -> None:
    journal = Journal(str(tmp_path), "run", "w", durability="each")
    for number in range(10):
        settlement = given_up(str(number)) if number % 3 == 0 else delivered(str(number))
        journal.settle([settlement])
        assert synced.ids("receipts")[-1] == settlement.item.record.id
        if not settlement.delivered:
            assert synced.ids("dead_letters")[-1] == settlement.item.record.id
    journal.close()


def test_many_threads_settle_each(tmp_path: Path, synced: _Synced) -> None:
    journal = Journal(str(tmp_path), "run", "w", durability="each", part_bytes=20_000)

    def work(thread: int) -> None:
        for number in range(20):
            journal.settle([delivered(f"{thread}-{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(synced.ids("receipts")) > 0
    journal.close()
    assert len(read_parts(tmp_path / "receipts")) == 160


def test_with_none_nothing_is_synced(tmp_path: Path, synced: _Synced) -> None:
    journal = Journal(str(tmp_path), "run", "w", durability="none", part_bytes=1000)
    for number in range(20):
        journal.settle([given_up(str(number))])
    journal.flush()
    journal.close()
    assert synced.order == []
    assert len(read_parts(tmp_path / "receipts")) == 20


@pytest.mark.parametrize(("number", "remedy"), [(errno.EIO, "see to the disk"), (errno.ENOSPC, "make room")])
def test_a_sync_that_fails_ends_the_journal(tmp_path: Path, synced: _Synced, number: int, remedy: str) -> None:
    """The kernel may have dropped what it could not write, and says so once: a later sync would find nothing wrong."""
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1")])
    journal.flush()
    synced.error = OSError(number, os.strerror(number))
    journal.settle([delivered("2")])
    with pytest.raises(JournalError, match=f"receipts: {os.strerror(number)}; {remedy}"):
        journal.flush()
    synced.error = None
    with pytest.raises(JournalError, match="cannot sync the journal"):
        journal.settle([delivered("3")])
    for call in (journal.flush, journal.close):
        with pytest.raises(JournalError, match="cannot sync the journal"):
            call()
    journal.close()
    assert len(synced.ids("receipts")) == 1
    recover(str(tmp_path), wait=0)
    assert len(read_parts(tmp_path / "receipts")) == 2


def test_files_are_their_owners_and_folders_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "receipts").mkdir(parents=True, mode=0o755)
    journal = Journal(str(output), "run", "w")
    journal.settle([given_up("1")])
    journal.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in output.iterdir()}
    assert modes == {"receipts": 0o755, "dead_letters": 0o700}
    assert {path.stat().st_mode & 0o777 for path in output.glob("*/*")} == {0o600}


# --- recovery


def leave_journal(output: Path, count: int = 3) -> Path:
    """The journal of a worker that was killed: as it is, but that nobody has it open."""
    journal = Journal(str(output), "run", "w")
    for number in range(count):
        journal.settle([delivered(str(number))])
    (left,) = (output / "receipts").glob("*.journal")
    copy = left.read_bytes()
    journal.close()
    left.with_suffix(".avro").unlink()
    left.write_bytes(copy)
    return left


def test_a_left_journal_becomes_a_part(tmp_path: Path) -> None:
    leave_journal(tmp_path)
    assert recover(str(tmp_path)) == ["receipts/run-w-000000.avro"]
    assert [row["id"] for row in read_parts(tmp_path / "receipts")] == [documented_record(str(n)).id for n in range(3)]
    assert recover(str(tmp_path)) == []


def test_a_journal_torn_at_any_byte_keeps_its_whole_blocks(tmp_path: Path) -> None:
    whole = leave_journal(tmp_path).read_bytes()
    (tmp_path / "receipts/run-w-000000.journal").unlink()
    counts = []
    for cut in range(len(whole) + 1):
        journal = tmp_path / "receipts" / "run-w-000000.journal"
        journal.write_bytes(whole[:cut])
        found = recover(str(tmp_path))
        rows = read_parts(tmp_path / "receipts")
        assert [row["id"] for row in rows] == [documented_record(str(n)).id for n in range(len(rows))]
        assert bool(found) == bool(rows)
        assert not journal.exists()
        counts.append(len(rows))
        for name in found:
            (tmp_path / name).unlink()
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert counts[-2] == 2
    assert counts[0] == 0


PAGE = 4096
DAMAGES: dict[str, Callable[[int], bytes]] = {"zeros": bytes, "anything": random.Random(3).randbytes}  # noqa: S311


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("batch", [1, 150])
def test_a_damaged_page_of_a_journal_costs_the_rows_on_it_and_no_others(
    tmp_path: Path, damage: str, batch: int
) -> None:
    """Every page in turn, the first one with the header too. A sector of 512 bytes at its end may be whole."""
    count, left = 300, tmp_path / "receipts/run-w-000000.journal"
    journal = Journal(str(tmp_path), "run", "w")
    for start in range(0, count, batch):
        journal.settle([delivered(str(number)) for number in range(start, start + batch)])
    whole = left.read_bytes()
    journal.close()
    (part,) = (tmp_path / "receipts").iterdir()
    part.unlink()
    ids = [documented_record(str(number)).id for number in range(count)]
    places = [whole.index(id_.encode()) for id_ in ids]
    for start in range(0, len(whole), PAGE):
        end = start + PAGE - (start // PAGE % 2) * 512
        left.write_bytes(whole[:start] + DAMAGES[damage](min(end, len(whole)) - start) + whole[end:])
        assert recover(str(tmp_path)) == ["receipts/run-w-000000.avro"]
        assert not left.exists()
        kept = {row["id"] for row in read_parts(tmp_path / "receipts")}
        # A block is a page at most. What is on the page may have begun on the one before, and end on the next.
        assert kept <= set(ids)
        assert kept >= {id_ for id_, place in zip(ids, places, strict=True) if not start - PAGE <= place < end + PAGE}
        (tmp_path / "receipts/run-w-000000.avro").unlink()


def test_several_damaged_pages_and_a_torn_end(tmp_path: Path) -> None:
    left = leave_journal(tmp_path, count=400)
    whole = bytearray(left.read_bytes())
    whole[2 * PAGE : 3 * PAGE] = whole[5 * PAGE : 6 * PAGE] = bytes(PAGE)
    left.write_bytes(whole[:-30])
    recover(str(tmp_path))
    rows = read_parts(tmp_path / "receipts")
    assert 280 < len(rows) < 330, "a page holds some 40 rows"
    assert rows[-1]["id"] == documented_record("398").id
    assert recover(str(tmp_path)) == []


def test_a_page_of_zeros_makes_no_receipt_and_no_payload(tmp_path: Path) -> None:
    """In the middle of a block its frame is whole: zeros would be read as delivered, and sent as a payload."""
    journal = Journal(str(tmp_path), "run", "w")
    item = given_up("0").item
    large = structs.replace(item, payload=b"{" + b" " * 3 * PAGE + b"}")
    journal.settle([Settlement(large, AttemptResult(Verdict.GIVE_UP, "http_400")), given_up("1")])
    files = {directory: tmp_path / directory / "run-w-000000.journal" for directory in ("receipts", "dead_letters")}
    contents = {directory: bytearray(path.read_bytes()) for directory, path in files.items()}
    journal.close()
    letters = contents["dead_letters"]
    at = letters.index(b" " * PAGE)
    letters[at : at + PAGE] = bytes(PAGE)
    receipts = contents["receipts"]
    outcome = receipts.index(item.record.id.encode()) + len(item.record.id) + 5
    receipts[outcome:] = bytes(len(receipts) - outcome)
    for directory, path in files.items():
        path.with_suffix(".avro").unlink()
        path.write_bytes(contents[directory])
    assert recover(str(tmp_path)) == ["dead_letters/run-w-000000.avro"]
    assert [row["id"] for row in read_parts(tmp_path / "dead_letters")] == [documented_record("1").id]


def test_a_journal_that_a_living_worker_writes_is_not_taken(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1")])
    with pytest.raises(JournalError, match="a worker of an earlier run is alive"):
        recover(str(tmp_path), wait=0.1)
    journal.settle([delivered("2")])

    threading.Timer(0.2, journal.close).start()
    assert recover(str(tmp_path), wait=5) == []
    assert len(read_parts(tmp_path / "receipts")) == 2


def test_what_a_kill_left_before_it_was_a_journal_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts/run-w-000000.new").write_bytes(b"Obj")
    assert recover(str(tmp_path)) == []
    assert list((tmp_path / "receipts").iterdir()) == []


def test_the_journals_of_a_run_that_failed_can_be_closed_together(tmp_path: Path) -> None:
    journals = [Journal(str(tmp_path), "run", name) for name in ("a", "b")]
    for number, journal in enumerate(journals):
        journal.settle([delivered(str(number))])
    close_journals()
    assert recover(str(tmp_path), wait=0) == []
    assert len(read_parts(tmp_path / "receipts")) == 2
    with pytest.raises(JournalError, match="closed"):
        journals[0].settle([delivered("2")])


@pytest.mark.server
def test_a_forked_child_neither_writes_nor_holds_the_journal(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "run", "w")
    journal.settle([delivered("1")])
    gate_out, gate_in = os.pipe()
    forked_out, forked_in = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(forked_in, b"x")
        os.read(gate_out, 1)
        try:
            journal.settle([delivered("2")])
        except JournalError:
            os._exit(0)
        os._exit(1)
    os.read(forked_out, 1)
    journal.forsake()  # as if this process were killed
    assert recover(str(tmp_path), wait=0.1) == ["receipts/run-w-000000.avro"]
    os.write(gate_in, b"x")
    assert os.waitpid(child, 0)[1] == 0
    assert len(read_parts(tmp_path / "receipts")) == 1


@pytest.mark.server
def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path: Path) -> None:
    """Two workers each, killed at a random moment, ten times over; the outputs pile up in one place."""
    rng = random.Random(4)  # noqa: S311
    acknowledged: set[str] = set()
    for kill in range(5):
        children = [
            subprocess.Popen(  # noqa: S603 - this very interpreter, on the module beside this one
                [sys.executable, "-m", "tests.support.settle_until_killed", str(tmp_path), f"w{kill}{twin}"],
                stdout=subprocess.PIPE,
            )
            for twin in range(2)
        ]
        for child in children:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 100)):
                acknowledged.add(child.stdout.readline().decode().strip())
        for child in children:
            child.kill()
        for child in children:
            assert child.stdout is not None
            said = child.stdout.read().decode()
            acknowledged.update(said[: said.rfind("\n") + 1].split())
            child.stdout.close()
            child.wait()
        recover(str(tmp_path))

    assert len(acknowledged) > 100
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".avro"}
    receipts = {row["id"]: row["outcome"] for row in read_parts(tmp_path / "receipts")}
    letters = {row["id"] for row in read_parts(tmp_path / "dead_letters")}
    assert {documented_record(name).id for name in acknowledged} <= receipts.keys()
    assert {name for name, outcome in receipts.items() if outcome == "dead_lettered"} <= letters
    assert all(uuid.UUID(name) for name in receipts)
