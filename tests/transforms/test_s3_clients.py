"""Beam's clients of S3: what is behind them is shared for as long as nothing changes that they follow from."""

import io

import boto3
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.s3_clients import KEPT_SECONDS, SharedClients
from transforms.storage import storage_at


class Made:
    """As Beam's: it knows the download that is under way, and has a client of boto3's."""

    def __init__(self, options: object) -> None:
        self.download: object = None
        self.client = object()


def test_each_has_its_own_download_and_what_is_behind_them_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    make, options = SharedClients(Made, lambda: now[0]), object()
    first, second = make(options), make(options)
    first.download = "under way"
    assert second.download is None
    assert make(options).download is None
    assert first.client is second.client
    assert make(object()).client is not first.client
    known = make(options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    another = make(options)
    assert another.client is not known.client
    now[0] += KEPT_SECONDS
    assert make(options).client is another.client
    now[0] += 1
    assert make(options).client is not another.client


def test_files_that_are_read_at_once_do_not_disturb_each_other(aws: boto3.Session) -> None:
    aws.client("s3").create_bucket(Bucket="many")
    storage = storage_at("s3://many/out")
    FileSystems.set_options(PipelineOptions([]))
    contents = {name: name.encode() * 100_000 for name in ("a", "b")}
    for name, content in contents.items():
        storage.write(name, [content])
    with storage.open("a") as one, storage.open("b") as other:
        read = {"a": io.BytesIO(), "b": io.BytesIO()}
        for _ in range(100):
            read["a"].write(one.read(1_000))
            read["b"].write(other.read(1_000))
    assert {name: stream.getvalue() for name, stream in read.items()} == contents
