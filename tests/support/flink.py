"""What tests on Flink need: Beam's job server, whose jar FLINK_JOB_SERVER_JAR names, and processes that do not stay."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.workshop import Workshop
from transforms.observing.metrics import PREFIX

_GIVEN = os.environ.get("FLINK_JOB_SERVER_JAR")
JAR = Path(_GIVEN).resolve() if _GIVEN else None

needs_flink = pytest.mark.skipif(
    not JAR, reason="FLINK_JOB_SERVER_JAR is not set: `./run_flink.sh --tests` runs the tests on Flink"
)


def flink(workshop: Workshop, output: Path, *more: str) -> "subprocess.Popen[str]":
    """The job on Flink, started; a process of its own, since the job server lives as long as its launcher."""
    command = [sys.executable, "-m", "pipeline", *workshop.arguments("--input", str(workshop.path / "in" / "*"))]
    command[command.index("--runner=DirectRunner")] = "--runner=FlinkRunner"
    command[command.index("--output") + 1] = str(output)
    command += ["--flink_master=[local]", "--environment_type=LOOPBACK", f"--flink_job_server_jar={JAR}", *more]
    return subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def metrics_at(port: int) -> str:
    """What a worker answers Prometheus at this port; empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


def values_at(port: int) -> dict[str, float]:
    """The same: the values by their names and labels, without the prefix that all names have."""
    lines = [line for line in metrics_at(port).splitlines() if not line.startswith("#")]
    return {name.removeprefix(PREFIX): float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that a test starts; at its end none is left, nor the Java that one of them started."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
