"""The sample on a real cluster of two TaskManagers, of which one is killed: `./run_flink.sh`, as a test.

Skipped where there is no Java, no job server jar or no Flink: FLINK_DISTRIBUTION names a directory that has its lib/;
without it that is where `run_flink.sh` downloads it to.
"""

import os
from pathlib import Path

import pytest

import local.__main__ as run_local
import local.flink.__main__ as run_flink
from local.endpoint import aws_endpoint
from tests.local.test_stack import free_port
from tests.pipeline.test_flink import JAR, pytestmark
from tests.pipeline.test_job import ROOT

DISTRIBUTION = Path(os.environ.get("FLINK_DISTRIBUTION", ROOT / ".local-flink/flink-1.19.3"))

pytestmark = [*pytestmark, pytest.mark.skipif(not DISTRIBUTION.exists(), reason=f"no Flink: {DISTRIBUTION}")]


def test_with_a_task_manager_killed_records_are_those_of_direct_runner_and_arrive_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setattr(run_flink, "ROOT", tmp_path)
    monkeypatch.setattr(run_local, "aws_endpoint", lambda: aws_endpoint({}, port))
    status = run_flink.main(
        ["--kill", "--sessions=1000", "--seed=3", f"--distribution={DISTRIBUTION}", f"--job_server_jar={JAR}"]
    )
    told = capfd.readouterr().out
    assert status == 0, told
    assert "Flink has started the job again after" in told
    assert "Flink derived the same" in told
    assert "Everything arrived as due." in told
