"""`session-forwarder init`, and the newcomer's walk from there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands.command import main
from pipeline.report import USAGE
from tests.support.paths import ROOT
from tests.support.ports import free_port, listens
from tests.support.waiting import until


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of the command in a folder, as it is installed."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "commands", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_run_in_the_folder_delivers_to_its_receiver(tmp_path: Path) -> None:
    port = free_port()
    made = run(tmp_path, "init", "try", "--port", str(port))
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "try"
    with (folder / "received.jsonl").open("w") as received:
        receiver = subprocess.Popen([sys.executable, "-I", "-S", "receiver.py"], cwd=folder, stdout=received)
    try:
        until(lambda: listens(port))
        ran = run(folder, "run", "--config", "run.toml", "--log_format=json")
    finally:
        receiver.terminate()
        receiver.wait()
    assert ran.returncode == 0, ran.stderr
    logged = [json.loads(line) for line in ran.stderr.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "run_id", "message"} for line in logged)
    keys = {json.loads(line)["key"] for line in (folder / "received.jsonl").read_text().splitlines()}
    shown = run(folder, "show", "receipts", "--config", "run.toml", "--json")
    receipts = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {receipt["id"] for receipt in receipts} == keys
    assert {receipt["forwarder_id"] for receipt in receipts} == {"gradebook", "attendance"}


def test_no_file_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run.toml").write_text("mine")
    assert main(["init", str(tmp_path)]) == USAGE
    assert "run.toml" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
