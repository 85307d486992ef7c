"""Batches of records: how they pass between processes, how they are measured within one, and how large they are."""

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import Coder
from apache_beam.coders.typecoders import registry
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.typehints import List

from schemas import Activity, Record
from schemas.record import encode_record
from tests.support.activity import activity, documented_session, of_user
from tests.support.settlements import documented_record
from transforms.accounting.summary import Summary
from transforms.bundles import BATCH_SIZE
from transforms.derive import DeriveRecords, DeriveSettings
from transforms.matching.matcher import Match, StoredPayload
from transforms.matching.statement import StatementBuilder
from transforms.reading.activity import ActivityDecoder, encode
from transforms.reading.blob_files import BlobFiles
from transforms.reading.blocks import Block
from transforms.reading.bucket_blobs import BucketBlobs, sort_in
from transforms.sessions.derivation import Derivation

RECORDS = Derivation().user(documented_session())
MATCHES = [
    *(Match(record, StatementBuilder().statement(record), ("a", "b"), ()) for record in RECORDS),
    Match(documented_record(kind="statement"), None, ("a",), ("b",)),
    Match(documented_record(), None, ("a",), (), StoredPayload(b"{}" * 5000, "statement")),
]


@pytest.mark.parametrize(("kind", "batch"), [(List[Record], RECORDS), (List[Match], MATCHES)])
def test_a_batch_comes_out_as_it_went_in_and_is_about_as_large_as_it_is_said_to_be(
    kind: type, batch: list[Record] | list[Match], monkeypatch: pytest.MonkeyPatch
) -> None:
    coder: Coder = registry.get_coder(kind)
    encoded = coder.encode(batch)
    assert coder.decode(encoded) == batch
    with monkeypatch.context() as patched:
        patched.setattr("pickle.dumps", None)  # To measure it is not to encode it.
        said = coder.estimate_size(batch)
    assert len(encoded) / 3 < said < len(encoded) * 3


def blobs_of(activities: list[Activity]) -> list[tuple[int, bytes]]:
    gathered = BucketBlobs()
    sort_in(Block(0, [encode(each) for each in activities], kind="lines"), "file", ActivityDecoder(), gathered)
    return gathered.take()


class _Write(beam.DoFn):
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._batches = 0

    def process(self, batch: list[Record]) -> None:
        (self._directory / f"{self._batches:03}").write_bytes(b"\n".join(map(encode_record, batch)))
        self._batches += 1


def batches_of(blobs: list[tuple[int, bytes]], settings: DeriveSettings, directory: Path) -> list[list[bytes]]:
    directory.mkdir()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        read = pipeline | "Read" >> beam.Create([Summary()])
        given = pipeline | "Blobs" >> beam.Create(blobs).with_output_types(tuple[int, bytes])
        derived = given | DeriveRecords(settings, read)
        _ = derived.records | beam.ParDo(_Write(directory))
    return [path.read_bytes().split(b"\n") for path in sorted(directory.iterdir())]


def test_a_user_with_very_many_records_leaves_in_batches_and_from_files_as_from_the_runner(tmp_path: Path) -> None:
    many = [
        activity(action, 60 * number + at, user_id="u1", session_id=f"s{number}", record_id=f"{action}-{number}")
        for number in range(900)
        for action, at in (("START", 0), ("SUBMIT", 30))
    ]
    blobs = [*blobs_of([*many[::2], *(of_user(user, "START", 0) for user in range(2, 40))]), *blobs_of(many[1::2])]
    batches = batches_of(blobs, DeriveSettings(), tmp_path / "runner")
    assert len(batches) > 3
    assert max(map(len, batches)) < 2 * BATCH_SIZE
    expected = [encode_record(record) for record in Derivation().user(many)]
    assert [line for batch in batches for line in batch if b'"user_id":"u1"' in line] == expected
    (tmp_path / "blobs").mkdir()
    files = BlobFiles(tmp_path / "blobs")
    writers = [files.writer(), files.writer()]
    names = [(bucket, writers[number % 2].write(bucket, blob)) for number, (bucket, blob) in enumerate(blobs)]
    from_files = batches_of(names, DeriveSettings(blobs=files), tmp_path / "files")
    assert sorted(line for batch in from_files for line in batch) == sorted(line for batch in batches for line in batch)
    assert [line for batch in from_files for line in batch if b'"user_id":"u1"' in line] == expected
    assert list(files.directory.iterdir()) == []
