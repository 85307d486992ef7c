"""The power goes at any moment of two runs on an LRS whose statements have attachments, and the next run goes on."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from schemas.times import rfc3339
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Arrival, in_thread, scripted
from tests.support.lrs_feed import Feed, statement
from tests.support.multipart import received
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
from transforms.reading.originals import VOIDED_VERB
from transforms.reading.positions import OVERLAP_MS
from transforms.sessions.state import read_current

pytestmark = pytest.mark.usefixtures("nothing_is_synced")

MONDAY, ALL = 50, 80
MOMENTS, MANY_MOMENTS = 40, 200
WHOLE_RUNS = 2


@dataclass
class Recording:
    """Two runs, Monday's and Tuesday's, and what they were to do.

    Attributes:
        data: the data of its attachment, by the id of the statement.
        refused: the ids of the statements that the receiver did not take.
    """

    workshop: Workshop
    receiver: Receiver
    feed: Feed
    recorded: Recorded
    data: dict[str, bytes]
    refused: frozenset[str]

    @property
    def due(self) -> frozenset[str]:
        return frozenset(self.data)


def attached(number: int, data: bytes) -> bytes:
    """Statement `number` with its data as an attachment; one in ten is a voiding one."""
    attachment = {
        "usageType": "https://example.org/usage",
        "display": {"en": "A file"},
        "contentType": "image/png",
        "length": len(data),
        "sha2": hashlib.sha256(data).hexdigest(),
    }
    made = {**json.loads(statement(number)), "attachments": [attachment]}
    if number % 10 == 9:
        target = json.loads(statement(number - 5))["id"]
        made |= {"verb": {"id": VOIDED_VERB}, "object": {"objectType": "StatementRef", "id": target}}
    return json.dumps(made).encode()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    workshop = Workshop(tmp_path_factory.mktemp("power"))
    root = workshop.path / "disk"
    root.mkdir()
    contents = [random.Random(number).randbytes(number % 7 * 3000 + 1) for number in range(ALL)]  # noqa: S311
    statements = [attached(number, data) for number, data in enumerate(contents)]
    data = {json.loads(each)["id"]: content for each, content in zip(statements, contents, strict=True)}
    refused = frozenset(list(data)[::9])
    receiver, feed = Receiver(), Feed(page=7)
    feed.data = {hashlib.sha256(content).hexdigest(): content for content in contents}
    with in_thread(receiver), in_thread(feed):
        with pytest.MonkeyPatch.context() as monkeypatch:
            recorder = Recorder(root, monkeypatch)
            note_settlements(recorder, monkeypatch)
            receiver.script = note_acknowledged(recorder, refused)
            workshop.write_forwarders({**http_document(receiver), "payload": "statement", "sendAttachments": True})
            for many in (MONDAY, ALL):
                feed.statements = statements[:many]
                assert _run(workshop, feed, root) == 3
        yield Recording(workshop, receiver, feed, Recorded(root, list(recorder.operations)), data, refused)


def _run(workshop: Workshop, feed: Feed, disk: Path) -> int:
    source = f"{feed.resource}?attachments=true"
    return workshop._run("--input", source, "--state", str(disk / "state"), "--output", str(disk / "out"))


def _wrong(recording: Recording, operations: Sequence[Operation], disk: Path) -> Iterator[str]:
    """What is wrong with a disk: go on from it as the next run does, with the cores and without Beam."""
    output = disk / "out"
    positions = read_current(str(disk / "state")).positions
    delivered, letters = settled_on(output)
    stored = max((position.stored for position in positions.values()), default=0)
    since = rfc3339(stored - OVERLAP_MS) if stored else ""
    read = {each["id"] for each in map(json.loads, recording.feed.statements) if each["stored"] > since}
    sent = read - delivered
    if lost := recording.due - acknowledged(operations) - sent - letters:
        yield f"{len(lost)} statements are lost"
    if repeated := sent & settled_for_good(operations):
        yield f"{len(repeated)} statements are sent again"
    files = {path.name: path.read_bytes() for path in (output / "attachments").glob("*") if path.suffix != ".tmp"}
    if torn := [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != name]:
        yield f"{len(torn)} attachments do not have their hash"
    kept = set(files.values())
    if gone := [id_ for id_ in letters - read if recording.data[id_] not in kept]:
        yield f"{len(gone)} dead letters are without their data"


@pytest.mark.parametrize("moments", [MOMENTS, pytest.param(MANY_MOMENTS, marks=pytest.mark.long)])
def test_no_statement_is_lost_and_no_data_of_a_dead_letter(recording: Recording, disks: Path, moments: int) -> None:
    synced = {each.path.parent.name for each in recording.recorded.operations if isinstance(each, Sync)}
    assert synced >= {"receipts", "dead_letters", "attachments", "state"}
    assert list(recording.recorded.faults(partial(_wrong, recording), moments, disks)) == []


LEFT_OUT: dict[str, Callable[[Operation], bool]] = {
    f"{what} of {of}": is_sync(of, names=what == "names")
    for of in ("receipts", "dead_letters", "attachments")
    for what in ("data", "names")
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_each_kind_of_sync_is_needed(recording: Recording, disks: Path, left_out: str) -> None:
    """What the test above is worth."""
    faults = recording.recorded.faults(partial(_wrong, recording), MOMENTS, disks, LEFT_OUT[left_out])
    assert next(faults, None) is not None


def test_whole_runs_go_on_and_a_redrive_has_all_data(recording: Recording, disks: Path) -> None:
    workshop, receiver = recording.workshop, recording.receiver
    refusing = receiver.script
    for _, operations, disk in recording.recorded.disks_after_cuts(WHOLE_RUNS, disks):
        receiver.script, came = refusing, len(receiver.log)
        assert _run(workshop, recording.feed, disk) in (0, 3)
        assert not {each.key for each in receiver.log[came:] if each.stored} & settled_for_good(operations)
        receiver.script = scripted()
        assert workshop.redrive("--output", str(disk / "out")) == 0
        after = [arrival for arrival in receiver.log[came:] if arrival.stored]
        assert acknowledged(operations) | {arrival.key for arrival in after} == recording.due
        assert recording.refused <= {arrival.key for arrival in after}
        for arrival in after:
            assert _data(arrival) == recording.data[arrival.key]


def _data(arrival: Arrival) -> Any:
    _, (_, data) = received(arrival.headers["content-type"], arrival.body)
    return data
