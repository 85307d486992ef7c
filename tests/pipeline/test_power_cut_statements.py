"""The power goes at any moment of two runs on an LRS whose statements have attachments, and the next run goes on."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.buckets import BUCKETS
from schemas.times import rfc3339
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, in_thread, scripted
from tests.support.lrs_feed import Feed, statement
from tests.support.multipart import received
from tests.support.power import (
    Note,
    Operation,
    Recorder,
    Sync,
    cuts,
    disk_after,
    is_sync,
    note_settlements,
    settled_for_good,
    without,
)
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms.reading.originals import VOIDED_VERB
from transforms.reading.positions import OVERLAP_MS
from transforms.receipts.history import History
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.journal import recover
from transforms.sessions.state import read_current

pytestmark = pytest.mark.usefixtures("nothing_is_synced")

MONDAY, ALL = 50, 80
WHOLE_RUNS = 3


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
    root: Path
    operations: list[Operation]
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

            def script(arrival: Arrival) -> Answer:
                if arrival.key in refused:
                    return Answer(400)
                recorder.note("acknowledged", arrival.key)
                return Answer()

            receiver.script = script
            workshop.write_forwarders({**http_document(receiver), "payload": "statement", "sendAttachments": True})
            for many in (MONDAY, ALL):
                feed.statements = statements[:many]
                assert _run(workshop, feed, root) == 3
        operations = list(recorder.operations)
        yield Recording(workshop, receiver, feed, root, operations, data, refused)


def _run(workshop: Workshop, feed: Feed, disk: Path) -> int:
    source = f"{feed.resource}?attachments=true"
    return workshop._run("--input", source, "--state", str(disk / "state"), "--output", str(disk / "out"))


def _wrong(recording: Recording, operations: Sequence[Operation], disk: Path) -> Iterator[str]:
    """What is wrong with a disk: go on from it as the next run does, with the cores and without Beam."""
    output = disk / "out"
    positions = read_current(str(disk / "state")).positions
    acknowledged = {each.about for each in operations if isinstance(each, Note) and each.what == "acknowledged"}
    recover(str(output))
    index = index_history(str(output), "next", dead_letters=True)
    history = History(index, keep=BUCKETS)
    delivered = {id_ for bucket in range(BUCKETS) for id_ in history.bucket(bucket).get("http", frozenset())}
    letters = {letter.id for letter in history.undelivered_dead_letters()}
    remove_index(index)

    stored = max((position.stored for position in positions.values()), default=0)
    since = rfc3339(stored - OVERLAP_MS) if stored else ""
    read = {each["id"] for each in map(json.loads, recording.feed.statements) if each["stored"] > since}
    sent = read - delivered
    if lost := recording.due - acknowledged - sent - letters:
        yield f"{len(lost)} statements are lost"
    if repeated := sent & settled_for_good(operations):
        yield f"{len(repeated)} statements are sent again"
    files = {path.name: path.read_bytes() for path in (output / "attachments").glob("*") if path.suffix != ".tmp"}
    if torn := [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != name]:
        yield f"{len(torn)} attachments do not have their hash"
    kept = set(files.values())
    if gone := [id_ for id_ in letters - read if recording.data[id_] not in kept]:
        yield f"{len(gone)} dead letters are without their data"


def _faults(recording: Recording, operations: Sequence[Operation], count: int, disks: Path) -> Iterator[str]:
    """What is wrong after each of `count` cuts."""
    for number, cut in enumerate(cuts(recording.operations, count)):
        disk = disks / f"cut-{number}"
        disk_after(operations[:cut], recording.root, random.Random(number), disk)  # noqa: S311
        try:
            yield from (
                f"cut {number} at {cut}: {each}" for each in _wrong(recording, recording.operations[:cut], disk)
            )
        except Exception as error:
            yield f"cut {number} at {cut}: {error}"


def test_no_statement_is_lost_and_no_data_of_a_dead_letter(recording: Recording, disks: Path) -> None:
    synced = {each.path.parent.name for each in recording.operations if isinstance(each, Sync)}
    assert synced >= {"receipts", "dead_letters", "attachments", "state"}
    assert list(_faults(recording, recording.operations, 100, disks)) == []


LEFT_OUT: dict[str, Callable[[Operation], bool]] = {
    f"{what} of {of}": is_sync(of, names=what == "names")
    for of in ("receipts", "dead_letters", "attachments")
    for what in ("data", "names")
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_each_kind_of_sync_is_needed(recording: Recording, disks: Path, left_out: str) -> None:
    """What the test above is worth."""
    operations = without(recording.operations, LEFT_OUT[left_out])
    assert next(_faults(recording, operations, 100, disks), None) is not None


def test_whole_runs_go_on_and_a_redrive_has_all_data(recording: Recording, disks: Path) -> None:
    workshop, receiver, operations = recording.workshop, recording.receiver, recording.operations
    refusing = receiver.script
    for number, cut in enumerate(cuts(operations, WHOLE_RUNS)):
        disk = disks / f"cut-{number}"
        disk_after(operations[:cut], recording.root, random.Random(number), disk)  # noqa: S311
        before = {each.about for each in operations[:cut] if isinstance(each, Note) and each.what == "acknowledged"}
        receiver.script, came = refusing, len(receiver.log)
        assert _run(workshop, recording.feed, disk) in (0, 3)
        assert not {each.key for each in receiver.log[came:] if each.stored} & settled_for_good(operations[:cut])
        receiver.script = scripted()
        assert workshop.redrive("--output", str(disk / "out")) == 0
        after = [arrival for arrival in receiver.log[came:] if arrival.stored]
        assert before | {arrival.key for arrival in after} == recording.due
        assert recording.refused <= {arrival.key for arrival in after}
        for arrival in after:
            assert _data(arrival) == recording.data[arrival.key]


def _data(arrival: Arrival) -> Any:
    _, (_, data) = received(arrival.headers["content-type"], arrival.body)
    return data
