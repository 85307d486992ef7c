"""The scripts of the images: what they make of exit statuses and signals, and of a registry that is ill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.stores.base import StoreError
from registry.stores.sqlite import SqliteStore
from tests.deploy.tools import DEPLOY, said, tool
from tests.support.registry_house import house_on, served
from tests.support.waiting import until

EVERY, ONCE, HEALTHY = (str(DEPLOY / name) for name in ("every.sh", "once.sh", "healthy.py"))
# Says that it began, then waits for a SIGTERM and ends with status 3, as a run that leaves dead letters.
PATIENT = "trap 'echo ended; exit 3' TERM; echo began; while :; do sleep 0.05; done"


def test_the_linter_finds_no_fault() -> None:
    scripts = [*DEPLOY.glob("*.sh"), *DEPLOY.glob("compose/*.sh")]
    assert len(scripts) > 3
    assert said(tool("shellcheck"), *scripts) == ""


@pytest.mark.parametrize(("status", "shown"), [(0, 0), (3, 0), (1, 1), (2, 2)])
def test_once_takes_dead_letters_for_no_failure(status: int, shown: int) -> None:
    said(ONCE, "sh", "-c", f"exit {status}", status=shown)


def test_once_trusts_one_more_certificate(tmp_path: Path) -> None:
    for name in ("system", "extra"):
        (tmp_path / name).write_text(f"{name}\n")
    variables = {**os.environ, "SYSTEM_CA_FILE": str(tmp_path / "system"), "EXTRA_CA_FILE": str(tmp_path / "extra")}
    command = [ONCE, "sh", "-c", 'cat "$SSL_CERT_FILE"; rm "$SSL_CERT_FILE"']
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "system\nextra\n"


@pytest.mark.parametrize("script", [[ONCE], [EVERY, "300"]], ids=["once", "every"])
def test_a_sigterm_goes_on_to_the_command_which_is_waited_for(script: list[str], tmp_path: Path) -> None:
    variables = {**os.environ, "EVERY_FILE": str(tmp_path / "well")}
    process = subprocess.Popen(  # noqa: S603
        [*script, "sh", "-c", PATIENT], env=variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert rest == "ended\n"
    assert process.returncode == 0
    if script[0] == EVERY:
        assert (tmp_path / "well").exists()


def test_every_runs_again_and_marks_only_what_ended_well(tmp_path: Path) -> None:
    variables = {**os.environ, "EVERY_FILE": str(tmp_path / "well"), "COUNT": str(tmp_path / "count")}
    # The first fails.
    command = 'echo run >> "$COUNT"; [ "$(wc -l < "$COUNT")" -gt 1 ]'
    process = subprocess.Popen(  # noqa: S603
        [EVERY, "1", "sh", "-c", command], env=variables, stderr=subprocess.PIPE, text=True
    )
    count = tmp_path / "count"
    until(lambda: count.exists() and len(count.read_text().split()) == 1)
    assert not (tmp_path / "well").exists()
    until((tmp_path / "well").exists)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors.count("ended with status 1") == 1


def test_the_health_check_says_whether_the_registry_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(str(tmp_path / "forwarders.db"))

    def broken() -> None:
        raise StoreError("the store does not answer")

    with served(house_on(store).registry) as address:
        assert said(sys.executable, HEALTHY, f"{address}/health") == ""
        monkeypatch.setattr(store, "check", broken)
        assert "503" in said(sys.executable, HEALTHY, f"{address}/health", status=1)
    store.close()
    assert "refused" in said(sys.executable, HEALTHY, f"{address}/health", status=1)
