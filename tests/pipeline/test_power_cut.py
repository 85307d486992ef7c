"""The power goes at any moment of two runs on a state, and the next run goes on from what is left on the disk."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas import Activity
from tests.support.activity import sessions
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import in_thread
from tests.support.power import (
    Operation,
    Recorded,
    Recorder,
    Sync,
    acknowledged,
    is_sync,
    note_acknowledged,
    note_settlements,
    settled_for_good,
    settled_on,
)
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms.reading.activity import encode
from transforms.reading.bucket_blobs import BucketBlobs
from transforms.sessions.derivation import Derivation
from transforms.sessions.kept import SessionFold
from transforms.sessions.state import BucketFold, StateOptions, read_current

USERS = 20
DAY = 86_400_000
MOMENTS, MANY_MOMENTS = 60, 400
WHOLE_RUNS = 3


@dataclass
class Recording:
    """Two runs, Monday's and Tuesday's, and what they were to do."""

    workshop: Workshop
    receiver: Receiver
    recorded: Recorded
    inputs: dict[str, list[Activity]]
    due: frozenset[str]
    due_on_tuesday: frozenset[str]
    refused: frozenset[str]


pytestmark = pytest.mark.usefixtures("nothing_is_synced")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Any:
    workshop = Workshop(tmp_path_factory.mktemp("power"))
    both = sessions(USERS)
    monday = [each for each in both if each.action != "SUBMIT"]
    tuesday = [each for each in both if each.action == "SUBMIT"]
    due = _records(both)
    due_on_tuesday = frozenset(due) - frozenset(_records(monday))
    refused = frozenset(due[::9])
    root = workshop.path / "disk"
    root.mkdir()
    receiver = Receiver()
    inputs: dict[str, list[Activity]] = {}
    with in_thread(receiver):
        with pytest.MonkeyPatch.context() as monkeypatch:
            recorder = Recorder(root, monkeypatch)
            note_settlements(recorder, monkeypatch)
            receiver.script = note_acknowledged(recorder, refused)
            workshop.write_forwarders(http_document(receiver))
            for day, activities in (("monday", monday), ("tuesday", tuesday)):
                workshop.write_lines([*map(encode, activities), b"no activity"], f"{day}.jsonl")
                inputs[str(workshop.path / "in" / f"{day}.jsonl")] = activities
                assert _run(workshop, root, "--write_records=jsonl") == 3
        recorded = Recorded(root, list(recorder.operations))
        yield Recording(workshop, receiver, recorded, inputs, frozenset(due), due_on_tuesday, refused)


def _records(activities: list[Activity]) -> list[str]:
    of_user: defaultdict[str, list[Activity]] = defaultdict(list)
    for each in activities:
        of_user[each.user_id].append(each)
    return [record.id for of_one in of_user.values() for record in Derivation().user(of_one)]


def _run(workshop: Workshop, disk: Path, *more: str) -> int:
    return workshop.run("--state", str(disk / "state"), "--output", str(disk / "out"), *more)


def _wrong(recording: Recording, operations: Sequence[Operation], disk: Path) -> Iterator[str]:
    """What is wrong with a disk: go on from it as the next run does, with the cores and without Beam.

    Lost is what is due, what the receiver does not have, and what nobody will ever send to it. Repeated is what was
    settled before the last sync but one, and will be sent again. Missing is what input that counts as read has left.
    """
    output, state = disk / "out", disk / "state"
    current = read_current(str(state))
    delivered, letters = settled_on(output)

    blobs = BucketBlobs()
    for name, activities in recording.inputs.items():
        for each in activities if name not in current.files else ():
            blobs.lines[each.user_id].append(encode(each))
    lines: dict[int, list[bytes]] = {bucket: [] for bucket in current.parts}
    for bucket, blob in blobs.take():
        lines.setdefault(bucket, []).append(blob)
    options = StateOptions(str(state), "next", 3 * DAY, 30 * DAY, tuple(current.parts.items()), read_only=True)
    derived = {
        record.id
        for bucket, of_bucket in lines.items()
        for _, records in BucketFold(options, bucket, SessionFold(Derivation(), Derivation())).records(of_bucket)
        for record in records
    }
    sent = derived - delivered
    if lost := recording.due - acknowledged(operations) - sent - letters:
        yield f"{len(lost)} records are lost"
    if repeated := sent & settled_for_good(operations):
        yield f"{len(repeated)} records are sent again"
    yield from (f"{what} are missing" for what in _missing(recording, output, len(current.files)))


def _missing(recording: Recording, output: Path, files: int) -> Iterator[str]:
    rejects = [row for part in (output / "rejects").glob("*.avro") for row in _rows(part)]
    if files > len({row["file"] for row in rejects}):
        yield "rejects"
    if files == len(recording.inputs):  # Before that the second run may have removed what the first one left.
        lines = [line for part in (output / "records").glob("*.jsonl") for line in part.read_bytes().splitlines()]
        if {json.loads(line)["id"] for line in lines if line.strip(bytes(1))} != recording.due_on_tuesday:
            yield "records"
        if (
            not (output / "report.json").is_file()
            or json.loads((output / "report.json").read_bytes())["state"] != "done"
        ):
            yield "report"


def _rows(part: Path) -> list[Any]:
    """The rows of a file of rejects; none if it was not whole on the disk."""
    try:
        with part.open("rb") as stream:
            return list(fastavro.reader(stream))
    except (ValueError, EOFError, KeyError):  # as fastavro finds text, an end or no schema where something was lost
        return []


@pytest.mark.parametrize("moments", [MOMENTS, pytest.param(MANY_MOMENTS, marks=pytest.mark.long)])
def test_nothing_is_lost_by_a_power_cut_at_any_moment(recording: Recording, disks: Path, moments: int) -> None:
    synced = {each.path.parent.name for each in recording.recorded.operations if isinstance(each, Sync)}
    assert synced >= {"receipts", "dead_letters", "rejects", "records", "parts", "state", "out"}
    assert list(recording.recorded.faults(partial(_wrong, recording), moments, disks)) == []


LEFT_OUT: dict[str, Callable[[Operation], bool]] = {
    "all": lambda operation: True,
    **{
        f"{what} of {of}": is_sync(of, names=what == "names")
        for of in ("receipts", "dead_letters", "rejects", "records", "parts", "state", "out")
        for what in ("data", "names")
    },
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_each_kind_of_sync_is_needed(recording: Recording, disks: Path, left_out: str) -> None:
    """What the test above is worth: it fails if a program does all the same, and leaves out syncs of one kind."""
    faults = recording.recorded.faults(partial(_wrong, recording), MOMENTS, disks, LEFT_OUT[left_out])
    assert next(faults, None) is not None


def test_whole_runs_go_on_after_a_power_cut(recording: Recording, disks: Path) -> None:
    workshop, receiver = recording.workshop, recording.receiver
    for _, operations, disk in recording.recorded.disks_after_cuts(WHOLE_RUNS, disks):
        came = len(receiver.log)
        assert _run(workshop, disk) in (0, 3)
        after = [arrival.key for arrival in receiver.log[came:] if arrival.stored]
        letters = {letter["id"] for letter in Workshop(disk).avro("dead_letters")}
        assert acknowledged(operations) | set(after) | letters == recording.due
        assert not set(after) & settled_for_good(operations)
        assert letters >= recording.refused
