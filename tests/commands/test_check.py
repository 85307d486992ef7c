"""`session-forwarder check`: every fault at once, and nothing is sent or made."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commands.command import main
from pipeline.report import USAGE
from tests.support.forwarder_documents import http_document
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop


def test_all_is_well(workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    workshop.write_forwarders(http_document(receiver, "all", organisation="o"))
    flags = [f"--forwarders={workshop.path / 'forwarders.json'}", f"--output={workshop.output}"]
    assert main(["check", *flags, "--allow_network=127.0.0.0/8"]) == 0
    assert "a run can start" in capsys.readouterr().out
    assert receiver.log == []
    assert not workshop.output.exists()


def test_every_fault_is_told_at_once(
    workshop: Workshop, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [
        {"_id": "a", "active": True, "query": "{", "configuration": {"url": "a.example"}},
        {"_id": "b", "active": True, "configuration": {"url": "127.0.0.1:1/x", "protocol": "http"}},
        {
            "_id": "c",
            "active": True,
            "configuration": {"url": "c.example", "authType": "token", "secret": "env:FORWARDER_NONE"},
        },
    ]
    (workshop.path / "forwarders.json").write_text(json.dumps(documents))
    taken = workshop.path / "a_file"
    taken.touch()
    flags = [
        f"--forwarders={workshop.path / 'forwarders.json'}",
        f"--output={taken}/out",
        f"--input={workshop.path}/none/*",
        f"--secrets_dir={workshop.path}/none",
        "--forwarder=d",
        "--trust_clock",
    ]
    assert main(["check", *flags]) == USAGE
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    for part in (
        "--trust_clock goes with --state",
        "forwarder a ",
        "--forwarder d: there is no such forwarder",
        f"--output {taken}/out cannot be written",
        "--secrets_dir",
        "none/*",
    ):
        assert any(part in error for error in errors), part
    assert f"{len(errors)} faults" in capsys.readouterr().out
    caplog.clear()
    assert main(["check", *flags[:1]]) == USAGE
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert all(any(f"forwarder {id_} " in error for error in errors) for id_ in "abc"), errors


def test_a_host_that_takes_no_connection_is_a_warning(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    target = {"protocol": "http", "url": f"127.0.0.1:{port}/x", "maxRetries": 1}
    workshop.write_forwarders({"_id": "a", "active": True, "organisation": "o", "configuration": target})
    flags = [f"--forwarders={workshop.path / 'forwarders.json'}", f"--output={workshop.output}"]
    assert main(["check", *flags, "--allow_network=127.0.0.0/8"]) == 0
    assert f"127.0.0.1:{port}, which takes no connection now (Connection refused)" in caplog.text


def test_an_output_that_a_run_holds_is_a_fault(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_forwarders(http_document(receiver, "all"))
    flags = [f"--forwarders={workshop.path / 'forwarders.json'}", f"--output={workshop.output}"]
    code = (
        "import sys; from pipeline.lock import OutputLock\n"
        f"with OutputLock({str(workshop.output)!r}): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert main(["check", *flags, "--allow_network=127.0.0.0/8"]) == USAGE
    assert f"in use by another run (process {holder.pid}" in caplog.text
    holder.communicate()
    caplog.clear()
    assert main(["check", *flags, "--allow_network=127.0.0.0/8"]) == 0


def test_a_directory_that_cannot_be_written_is_a_fault(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.write_forwarders(http_document(receiver, "all"))
    monkeypatch.setattr("pipeline.check.LEAST_FREE", 1 << 60)
    flags = [f"--forwarders={workshop.path / 'forwarders.json'}", f"--output={Path('/proc/1/none')}"]
    assert main(["check", *flags, "--allow_network=127.0.0.0/8"]) == USAGE
    assert "make room" in caplog.text


def test_what_a_run_would_be_watched_by_is_looked_at(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.write_forwarders(http_document(receiver, "all"))
    monkeypatch.delenv("ALERTS_ARE_SENT_TO", raising=False)
    well = [*workshop.arguments()[1:], f"--metrics_file={workshop.path}/job.prom", "--metrics_port=0"]
    assert main(["check", *well]) == 0
    assert not list(workshop.path.glob("*.prom*"))
    flags = [
        f"--metrics_file={workshop.path}/none/job.prom",
        f"--metrics_port={receiver.port}",
        "--alert_url=env:ALERTS_ARE_SENT_TO",
    ]
    assert main(["check", *workshop.arguments()[1:], *flags]) == USAGE
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 3
    for error, part in zip(
        sorted(errors), ("ALERTS_ARE_SENT_TO", "make the directory", "Address already in use"), strict=True
    ):
        assert part in error
    assert receiver.log == []


@pytest.mark.parametrize("flag", ["--output", "--state", "--temp_dir"])
def test_a_file_system_without_writes_is_a_fault(
    workshop: Workshop,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    flag: str,
) -> None:
    place = workshop.path / "mounted"
    place.mkdir()
    asked = os.statvfs

    def statvfs(path: Path) -> Any:
        """As if `place` were mounted without writes, which takes another user than most tests have."""
        found = asked(path)
        flag = found.f_flag | os.ST_RDONLY if Path(path) == place else found.f_flag
        return SimpleNamespace(
            f_flag=flag,
            f_bavail=found.f_bavail,
            f_blocks=found.f_blocks,
            f_bfree=found.f_bfree,
            f_frsize=found.f_frsize,
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    workshop.write_forwarders(http_document(receiver, "all"))
    assert main(["check", *workshop.arguments()[1:], f"{flag}={place}"]) == USAGE
    assert f"{flag} {place} cannot be written: the file system of {place} takes no writes" in caplog.text


@pytest.mark.parametrize(
    ("source", "variables", "flags", "told"),
    [
        ("https://lrs.example/xAPI/statements", {}, ["--input_auth=env:NO_LOGIN"], "NO_LOGIN, which is not set"),
        ("https://lrs.example/xAPI/statements", {"LRS_SOURCE_KEY": "k"}, [], "LRS_SOURCE_SECRET go together"),
        ("mongodb://db.example/ll.statements", {}, ["--input_auth=env:NO_LOGIN"], "NO_LOGIN, which is not set"),
    ],
)
def test_the_login_of_a_live_source_is_looked_for(
    workshop: Workshop,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    variables: dict[str, str],
    flags: list[str],
    told: str,
) -> None:
    monkeypatch.delenv("NO_LOGIN", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    workshop.write_forwarders(http_document(receiver, "all"))
    assert main(["check", *workshop.arguments()[1:], f"--input={source}", *flags]) == USAGE
    assert told in caplog.text


def test_input_is_looked_at_without_connectors_that_nobody_uses(workshop: Workshop) -> None:
    workshop.write_lines([b"{}"])
    code = (
        "import sys; from commands.command import main\n"
        "status = main(sys.argv[1:])\n"
        "print(status, 'apache_beam' in sys.modules, 'apache_beam.io.gcp.bigquery' in sys.modules)"
    )
    flags = [f"--input={workshop.path}/in/*", f"--output={workshop.output}", "--write_records=jsonl"]
    command = [sys.executable, "-c", code, "check", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert "--input: 1 file, 3 bytes" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 True False"
