"""A place to run the job in, and what it delivers to."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import fastavro
import pytest

from pipeline.run import main
from schemas import Activity
from tests.laboratory.http_fault_server import FaultServer, Script, in_thread, scripted
from tests.laboratory.moto import moto_server
from transforms.reading.activity import encode


@dataclass
class Workshop:
    """A directory with input, forwarder documents and an output, and the job run on them in this process."""

    path: Path

    @property
    def output(self) -> Path:
        return self.path / "out"

    def write_activity(self, activities: Iterable[Activity], name: str = "activity.jsonl") -> None:
        self.write_lines([encode(activity) for activity in activities], name)

    def write_lines(self, lines: Iterable[bytes], name: str = "activity.jsonl") -> None:
        (self.path / "in").mkdir(exist_ok=True)
        (self.path / "in" / name).write_bytes(b"".join(line + b"\n" for line in lines))

    def write_forwarders(self, *documents: dict[str, Any]) -> None:
        (self.path / "forwarders.json").write_text(json.dumps(documents))

    def arguments(self, *more: str) -> list[str]:
        """The job's usual arguments; `--input` is left to the caller of `run` for a redrive."""
        return [
            "--runner=DirectRunner",
            "--forwarders",
            str(self.path / "forwarders.json"),
            "--output",
            str(self.output),
            "--allow_network=127.0.0.0/8",
            "--max_backoff=0.01",
            *more,
        ]

    def run(self, *more: str) -> int:
        return main(self.arguments("--input", str(self.path / "in" / "*"), *more))

    def redrive(self, *more: str) -> int:
        return main(self.arguments("--redrive", *more))

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.output / "report.json").read_text())
        return report

    def account(self, forwarder_id: str) -> dict[str, Any]:
        return next(entry for entry in self.report()["forwarders"] if entry["id"] == forwarder_id)

    def avro(self, directory: str) -> list[dict[str, Any]]:
        """The rows of all Avro files in a directory of the output."""
        rows: list[dict[str, Any]] = []
        for part in sorted((self.output / directory).glob("*.avro")):
            with part.open("rb") as file:
                rows += fastavro.reader(file)  # type: ignore[arg-type]
        return rows

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What `--write_records jsonl` wrote of a kind."""
        return [
            json.loads(line)
            for part in sorted((self.output / "records").glob(f"{kind}-*.jsonl"))
            for line in part.read_bytes().splitlines()
        ]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


class Receiver(FaultServer):
    """An HTTP receiver that takes everything; give it another `script` to make it less willing."""

    def __init__(self) -> None:
        self.script: Script = scripted()
        super().__init__(lambda arrival: self.script(arrival))

    def url(self, path: str) -> str:
        """As a forwarder document has it, without a scheme."""
        return f"127.0.0.1:{self.port}/{path}"

    def wait_for(self, count: int) -> None:
        asyncio.run_coroutine_threadsafe(self.arrivals(count), self._loop).result(30)

    def stored(self) -> list[tuple[str, str]]:
        """(user, id) of what the receiver kept, in the order of arrival."""
        return [(arrival.user, arrival.key) for arrival in self.log if arrival.stored]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with in_thread(server):
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """A local AWS that the job finds through its environment; emptied afterwards."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield boto3.Session()
    urlopen(Request(f"{moto}/moto-api/reset", method="POST")).close()  # noqa: S310 - moto's own address
