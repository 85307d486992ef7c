"""The job on a real cluster of two TaskManagers: `./run_flink.sh`, as tests.

FLINK_DISTRIBUTION names a directory that has Flink's lib/, FLINK_JOB_SERVER_JAR the jar: `./run_flink.sh --tests`.
"""

import os
from pathlib import Path

import pytest

import local.__main__ as run_local
import local.flink.__main__ as run_flink
import local.flink.streaming as run_streaming
from local.endpoint import aws_endpoint
from tests.support.flink import JAR, needs_flink
from tests.support.ports import free_port

_GIVEN = os.environ.get("FLINK_DISTRIBUTION")
DISTRIBUTION = Path(_GIVEN).resolve() if _GIVEN else None

pytestmark = [
    needs_flink,
    pytest.mark.skipif(DISTRIBUTION is None, reason="FLINK_DISTRIBUTION is not set: see test_flink.py"),
]


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    port = free_port()
    for module in (run_flink, run_streaming):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for module in (run_local, run_streaming):
        monkeypatch.setattr(module, "aws_endpoint", lambda: aws_endpoint({}, port))
    return [f"--distribution={DISTRIBUTION}", f"--job_server_jar={JAR}"]


def test_with_a_task_manager_killed_records_are_those_of_direct_runner_and_arrive_in_order(
    flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    status = run_flink.main(["--kill", "--sessions=1000", "--seed=3", *flags])
    told = "".join(capfd.readouterr())
    assert status == 0, told
    assert "Flink has started the job again after" in told
    assert "Flink derived the same" in told
    assert "Everything arrived as due." in told


def test_a_streaming_job_that_is_cancelled_goes_on_from_its_checkpoint(
    flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    status = run_streaming.main(["--resume", "--seconds=16", *flags])
    told = "".join(capfd.readouterr())
    assert status == 0, told
    assert "Cancelled the job; going on from chk-" in told
    assert "0 missing, 0 unexpected" in told
