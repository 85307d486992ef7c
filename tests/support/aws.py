"""AWS on this machine: a moto server, and an environment in which nothing but it can be reached."""

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

from local.endpoint import moto_server

_SETTINGS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_FIREHOSE",
    "AWS_ENDPOINT_URL_KINESIS",
    "AWS_PROFILE",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LOCALSTACK_HOST",
)


@pytest.fixture(scope="session", autouse=True)
def _no_aws_of_the_developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may reach a real account, or depend on the settings of the machine it runs on."""
    no_file = str(tmp_path_factory.getbasetemp() / "no-such-file")
    with pytest.MonkeyPatch.context() as environment:
        for name in _SETTINGS:
            environment.delenv(name, raising=False)
        environment.setenv("AWS_CONFIG_FILE", no_file)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", no_file)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def _moto_of_all_tests() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def moto(_moto_of_all_tests: str) -> Iterator[str]:
    """The address of a moto server; it is emptied after the test."""
    yield _moto_of_all_tests
    reset = Request(f"{_moto_of_all_tests}/moto-api/reset", method="POST")  # noqa: S310 - moto's own address
    urlopen(reset).close()  # noqa: S310


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """A local AWS that the job finds through its environment; it is emptied after the test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.Session()


def read_stream(kinesis: Any, name: str) -> list[tuple[str, str]]:
    """(partition key, data) of every record, each shard in its order."""
    found = []
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]
        found += [(record["PartitionKey"], record["Data"].decode()) for record in records]
    return found
