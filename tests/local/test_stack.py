"""Endpoint and stack: found, started, filled, read back, and gone again."""

import http.server
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.kinesis.models import Shard

from local.endpoint import Answer, Endpoint, EndpointError, aws_endpoint
from local.moto_server import last_number, records_after
from local.process import ROOT
from local.stack import SHARDS, stack
from tests.support.aws import read_stream
from tests.support.ports import free_port, listens, port_of


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """moto's server, on a port that nobody else uses."""
    with aws_endpoint({}, default_port=free_port()) as started:
        yield started


def processes(command: str) -> list[int]:
    """The ids of the processes whose command line holds `command`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if command in file.read_text().replace("\0", " "):
                found.append(int(file.parent.name))
    return found


@contextmanager
def a_web_server() -> Iterator[str]:
    """A server that is no AWS endpoint."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_moto_keeps_every_record_that_is_put_at_once(endpoint: Endpoint) -> None:
    """What findings/moto_loses_records_that_are_put_at_once.sh shows of moto's own server: it loses some of these."""
    kinesis = endpoint.client("kinesis")
    kinesis.create_stream(StreamName="at-once", ShardCount=1)
    before = [f"before {number}" for number in range(2000)]
    for first in range(0, len(before), 500):
        batch = [{"Data": data.encode(), "PartitionKey": "u"} for data in before[first : first + 500]]
        kinesis.put_records(StreamName="at-once", Records=batch)

    def put(thread: int) -> list[str]:
        said = [f"{thread} {number}" for number in range(30)]
        for data in said:
            kinesis.put_record(StreamName="at-once", Data=data.encode(), PartitionKey="u")
        return said

    with ThreadPoolExecutor(8) as pool:
        at_once = [data for part in pool.map(put, range(8)) for data in part]
    stored = [data for _, data in read_stream(kinesis, "at-once")]
    kinesis.delete_stream(StreamName="at-once")
    assert stored[: len(before)] == before
    assert sorted(stored[len(before) :]) == sorted(at_once)


@given(puts=st.integers(0, 7), after=st.integers(0, 8), limit=st.one_of(st.none(), st.integers(1, 8)))
def test_records_are_looked_up_as_moto_finds_them(puts: int, after: int, limit: int | None) -> None:
    shard = Shard(0, 0, 1)
    for number in range(puts):
        shard.put_record("u", str(number), "")
        # A second apart, so that their ages differ.
        shard.records[number + 1].created_at = float(number)
    assert last_number(shard) == shard.get_max_sequence_number()
    assert records_after(shard, str(after), limit) == shard.get_records(str(after), limit)


def test_moto_starts_and_leaves_no_process_behind() -> None:
    with aws_endpoint({}, default_port=free_port()) as endpoint:
        assert endpoint.ends_with_run
        (server,) = processes(f"local.moto_server {port_of(endpoint.url)}")
        assert listens(port_of(endpoint.url))
    assert not Path(f"/proc/{server}").exists()
    assert not listens(port_of(endpoint.url))


def test_moto_ends_when_the_run_is_killed() -> None:
    port = free_port()
    script = f"from local.endpoint import *\nwith aws_endpoint({{}}, {port}): print('up', flush=True); input()"
    run = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout
        assert [run.stdout.readline() for _ in range(2)][1] == "up\n"
        (server,) = processes(f"local.moto_server {port}")
        watched = os.pidfd_open(server)
        run.kill()
    assert select.select([watched], [], [], 10)[0], "moto's server is still there"
    os.close(watched)


def test_moto_ends_when_the_run_fails() -> None:
    with pytest.raises(ZeroDivisionError), aws_endpoint({}, default_port=free_port()) as endpoint:
        raise ZeroDivisionError
    assert not listens(port_of(endpoint.url))


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "LOCALSTACK_HOST"])
def test_an_endpoint_that_listens_is_used_and_left_alone(endpoint: Endpoint, variable: str) -> None:
    value = endpoint.url if variable == "AWS_ENDPOINT_URL" else endpoint.url.removeprefix("http://")
    with aws_endpoint({variable: value}) as found:
        assert found.url == endpoint.url
        assert not found.ends_with_run
    assert listens(port_of(endpoint.url))


def test_a_named_endpoint_that_is_no_aws_is_refused() -> None:
    with (
        a_web_server() as host,
        pytest.raises(EndpointError, match="does not answer Kinesis calls"),
        aws_endpoint({"LOCALSTACK_HOST": host}),
    ):
        pass


def test_a_port_that_something_else_has_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    with a_web_server() as host, aws_endpoint({}, default_port=int(host.partition(":")[2])) as endpoint:
        assert endpoint.url != f"http://{host}"
    assert "something answers that is no AWS endpoint" in capsys.readouterr().out


def test_the_moto_of_another_run_is_left_to_it(endpoint: Endpoint) -> None:
    with aws_endpoint({}, default_port=port_of(endpoint.url)) as other:
        assert other.url != endpoint.url


def test_a_child_gets_this_endpoint_and_no_credentials_of_the_user() -> None:
    endpoint = Endpoint("http://127.0.0.1:4566", "id", "key")
    environment = endpoint.environment(
        {
            "PATH": "/bin",
            "AWS_ENDPOINT_URL_KINESIS": "https://kinesis.us-east-1.amazonaws.com",
            "AWS_PROFILE": "production",
            "AWS_SECRET_ACCESS_KEY": "real",
            "AWS_SESSION_TOKEN": "real",
            "NO_PROXY": "intranet",
        }
    )
    assert "real" not in environment.values()
    assert environment["AWS_ENDPOINT_URL"] == endpoint.url
    assert environment["NO_PROXY"] == "intranet,localhost,127.0.0.1"
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_KINESIS"} & environment.keys()


def test_the_users_credentials_are_kept_for_an_endpoint_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my secret")
    monkeypatch.setattr("local.endpoint.probe", lambda url: Answer.AWS)
    with aws_endpoint({"AWS_ENDPOINT_URL": "http://192.0.2.1:4566"}) as elsewhere:
        assert (elsewhere.access_key_id, elsewhere.secret_access_key) == ("mine", "my secret")
    with aws_endpoint({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}) as here:
        assert "mine" not in (here.access_key_id, here.secret_access_key)


def test_what_is_put_is_read_back_and_cleared_away(endpoint: Endpoint) -> None:
    lasting = Endpoint(endpoint.url, endpoint.access_key_id, endpoint.secret_access_key)
    kinesis, firehose, s3 = (lasting.client(service) for service in ("kinesis", "firehose", "s3"))
    with stack(lasting, "test-run") as made:
        made.create_data_streams(["test-run-events"])
        made.create_delivery_streams(["test-run-statements"])
        entries = [{"Data": f"{n}".encode(), "PartitionKey": f"user-{n % 9}"} for n in range(90)]
        kinesis.put_records(StreamName="test-run-events", Records=entries)
        for lines in ([b"1\n", b"2\n"], [b"3\n"]):
            firehose.put_record_batch(
                DeliveryStreamName="test-run-statements", Records=[{"Data": line} for line in lines]
            )

        records = made.read_data_stream("test-run-events")
        assert len({record.shard for record in records}) == SHARDS
        for user in range(9):
            of_user = [int(record.data) for record in records if record.partition_key == f"user-{user}"]
            assert of_user == list(range(user, 90, 9))
        assert sorted(made.read_delivery_stream("test-run-statements")) == [b"1", b"2", b"3"]
    assert kinesis.list_streams()["StreamNames"] == []
    assert firehose.list_delivery_streams()["DeliveryStreamNames"] == []
    assert s3.list_buckets()["Buckets"] == []
