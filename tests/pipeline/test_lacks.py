"""What is lacking on this machine: room, descriptors, time. It is told in a line, and is no receiver's fault."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.activity import sessions
from tests.support.forwarder_documents import http_document
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

# --- room


def limited(workshop: Workshop, limits: list[int], *more: str) -> list[dict[str, Any]]:
    """The job on an output for each limit of the size of a file; see `tests.support.limited_job`."""
    arguments = [*workshop.arguments(*more), "--input", str(workshop.path / "in" / "*")]
    command = [sys.executable, "-m", "tests.support.limited_job", *map(str, limits), "--", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("record_format", ["jsonl", "avro", "parquet"])
def test_a_disk_that_is_full_is_told_by_name_and_leaves_nothing_half_written(
    workshop: Workshop, receiver: Receiver, record_format: str
) -> None:
    workshop.write_activity(sessions(60))
    workshop.write_forwarders(http_document(receiver))
    output = str(workshop.path / "out-{}")
    limits = [100, 1_000, 2_000, 8_000]
    state = str(workshop.path / "state-{}")
    runs = limited(
        workshop, [*limits, 1 << 30], f"--output={output}", f"--state={state}", f"--write_records={record_format}"
    )
    for run in runs[:-1]:
        log = run["log"]
        assert run["status"] == 1, log
        assert "Traceback" not in log
        assert "File too large; allow larger files (`ulimit -f`), then run again" in log
        assert str(workshop.path) in log
    assert runs[-1]["status"] == 0
    left = [path.name for path in workshop.path.rglob("*") if path.suffix == ".tmp" or "beam-temp" in path.name]
    assert left == []
