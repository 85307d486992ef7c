"""The journal and the history where files cannot grow: in memory with faults, and on S3 as Beam and moto have it."""

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import fastavro
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from moto import mock_aws

from schemas.buckets import bucket_of
from tests.support.memory_storage import MemoryStorage
from tests.support.settlements import delivered, documented_record, given_up
from tests.support.waiting import until, until_still
from transforms.receipts import journal as journal_module
from transforms.receipts.history import History
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.journal import Journal, JournalError, recover
from transforms.storage import BeamStorage, LocalStorage, Storage, local_path, storage_at


def ids(store: Storage, directory: str) -> list[str]:
    found = []
    for name in store.list(directory):
        with store.open(f"{directory}/{name}") as stream:
            found += [row["id"] for row in fastavro.reader(io.BytesIO(stream.read())) if isinstance(row, dict)]
    return found


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("out", "out"),
        ("/a/out", "/a/out"),
        ("file:///a/out", "/a/out"),
        ("C-like:path", "C-like:path"),
        ("s3://bucket/out", None),
        ("gs://bucket", None),
    ],
)
def test_a_url_is_not_local(output: str, path: str | None) -> None:
    assert local_path(output) == (path and Path(path))


# --- parts by the second


def test_a_part_is_there_within_a_second_of_its_first_receipt_though_more_come_in() -> None:
    store = MemoryStorage()
    journal = Journal(store, "run", "w")
    settled = 1
    journal.settle([given_up("0")])
    assert ids(store, "receipts") == []

    def is_there() -> bool:
        nonlocal settled
        journal.settle([delivered(str(settled))])
        settled += 1
        return ids(store, "receipts") != []

    until(is_there, 5.0)
    part = ids(store, "receipts")
    assert part == [documented_record(str(number)).id for number in range(len(part))]
    assert ids(store, "dead_letters") == [documented_record("0").id]
    journal.close()
    assert store.list("receipts") == ["run-w-000000.avro", "run-w-000001.avro"]
    assert len(ids(store, "receipts")) == settled


def test_flush_and_close_wait_until_all_is_stored() -> None:
    store = MemoryStorage()
    journal = Journal(store, "run", "w", flush_after=60)
    journal.flush()
    journal.settle([delivered("1")])
    journal.flush()
    assert len(ids(store, "receipts")) == 1
    journal.flush()
    journal.settle([delivered("2")])
    journal.close()
    assert len(ids(store, "receipts")) == 2
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.settle([delivered("3")])


def test_a_full_part_does_not_wait() -> None:
    store = MemoryStorage()
    journal = Journal(store, "run", "w", flush_after=60, part_bytes=500)
    journal.settle([delivered(str(number)) for number in range(10)])
    until(lambda: len(ids(store, "receipts")) == 10, 5.0)
    journal.close()


def test_dead_letters_are_stored_before_their_receipts() -> None:
    store = MemoryStorage()
    written: list[str] = []
    store.before_write = written.append
    journal = Journal(store, "run", "w", flush_after=60)
    journal.settle([given_up("1"), delivered("2")])
    journal.settle([given_up("3")])
    journal.close()
    assert written == ["dead_letters/run-w-000000.avro", "receipts/run-w-000000.avro"]


def test_an_upload_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "UPLOAD_RETRIES", (0.01, 0.01))
    store = MemoryStorage()
    failures = iter([OSError("no route"), OSError("no route")])

    def fail(name: str) -> None:
        for failure in failures:
            raise failure

    store.before_write = fail
    journal = Journal(store, "run", "w")
    journal.settle([delivered("1")])
    journal.close()
    assert len(ids(store, "receipts")) == 1


def test_a_store_that_cannot_be_written_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "UPLOAD_RETRIES", (0.01,))
    store = MemoryStorage()

    def fail(name: str) -> None:
        raise OSError("access denied")

    store.before_write = fail
    journal = Journal(store, "run", "w", flush_after=0.01)
    journal.settle([delivered("1")])
    for call in (journal.flush, lambda: journal.settle([delivered("2")]), journal.close):
        with pytest.raises(JournalError, match="cannot write receipts under memory://out: access denied"):
            call()


def test_settle_waits_when_the_store_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "BACKLOG_BYTES", 1000)
    store = MemoryStorage()
    gate = threading.Event()

    def wait(name: str) -> None:
        gate.wait()

    store.before_write = wait
    journal = Journal(store, "run", "w", flush_after=0.0)
    settled = 0

    def work() -> None:
        nonlocal settled
        for number in range(100):
            journal.settle([delivered(str(number))])
            settled += 1

    thread = threading.Thread(target=work)
    thread.start()
    until_still(lambda: settled)
    assert 0 < settled < 50
    gate.set()
    thread.join(5)
    journal.close()
    assert len(ids(store, "receipts")) == 100


def test_threads_settle_and_flush_at_once() -> None:
    store = MemoryStorage()
    journal = Journal(store, "run", "w", flush_after=0.001, part_bytes=2000)

    def work(thread: int) -> None:
        for number in range(50):
            journal.settle([delivered(f"{thread}-{number}")])
            if number % 10 == 0:
                journal.flush()
                assert documented_record(f"{thread}-{number}").id in ids(store, "receipts")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    journal.close()
    assert len(ids(store, "receipts")) == len(set(ids(store, "receipts"))) == 200


def test_a_forked_child_is_refused_and_does_not_wait_for_threads_it_does_not_have() -> None:
    store = MemoryStorage()
    journal = Journal(store, "run", "w", flush_after=60)
    journal.settle([delivered("1")])
    child = os.fork()
    if child == 0:
        try:
            journal.settle([delivered("2")])
        except JournalError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    journal.close()
    assert ids(store, "receipts") == [documented_record("1").id]


# --- storages


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # Beam makes a session for every call, and each reads botocore's models anew.
    session = boto3.session.Session()
    monkeypatch.setattr(boto3.session, "Session", lambda: session)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="books", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        FileSystems.set_options(PipelineOptions(["--s3_region_name=eu-west-1"]))
        yield "s3://books/some/out"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return storage_at(str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket"))


def test_a_storage_keeps_files_by_name(store: Storage) -> None:
    assert isinstance(store, LocalStorage | BeamStorage)
    assert store.list("receipts") == []
    assert store.modified("receipts") == {}
    with pytest.raises(FileNotFoundError):
        store.open("receipts/one")
    store.remove_all("receipts")
    store.write("receipts/one", [b"1", b"", b"23"])
    store.write("receipts/two.avro", [b"2"])
    store.write("receipts/deep/er/three", [b"3"])
    assert store.list("receipts") == ["one", "two.avro"]
    assert store.modified("receipts") == pytest.approx(dict.fromkeys(("one", "two.avro"), time.time()), abs=60)
    with store.open("receipts/one") as stream:
        assert stream.read() == b"123"
    store.remove("receipts/one")
    store.remove("receipts/one")
    assert store.list("receipts") == ["two.avro"]
    store.remove_all("receipts")
    assert store.list("receipts") == []
    assert store.list("receipts/deep/er") == []


def test_receipts_and_history_on_s3(bucket: str) -> None:
    journal = Journal(bucket, "run", "w")
    journal.settle([delivered("1"), given_up("2"), given_up("3", user="u-2")])
    journal.settle([delivered("3", user="u-2")])
    journal.close()
    assert recover(bucket) == []

    index = index_history(bucket, "next", dead_letters=True)
    assert (index.receipts, index.dead_letters) == (4, 2)
    found = History(index)
    assert documented_record("1").id in found.bucket(bucket_of("u-1"))["f-1"]
    assert documented_record("2").id not in found.bucket(bucket_of("u-1"))["f-1"]
    assert documented_record("3").id in found.bucket(bucket_of("u-2"))["f-1"]
    assert [letter.id for letter in found.undelivered_dead_letters()] == [documented_record("2").id]

    remove_index(index)
    assert storage_at(bucket).list(index.name) == []
    assert len(storage_at(bucket).list("receipts")) == 1
