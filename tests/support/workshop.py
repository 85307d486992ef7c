"""A place to run the job in: input, forwarder documents and an output."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas import Activity
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
        """The job on all files of the input, with further arguments; gives its exit status."""
        return self._run("--input", str(self.path / "in" / "*"), *more)

    def redrive(self, *more: str) -> int:
        """The job on the dead letters of the output; gives its exit status."""
        return self._run("--redrive", *more)

    def _run(self, *more: str) -> int:
        from pipeline.command import main  # Here, since it brings Beam, and `make fast` does without.

        return main(self.arguments(*more))

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
