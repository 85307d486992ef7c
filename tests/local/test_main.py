"""The order of a run: what is up when the job starts, and that all of it is gone afterwards."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import local.__main__ as run_local
from local.endpoint import aws_endpoint
from local.process import Stopped
from tests.support.ports import free_port, listens, port_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of its own to run in, with an AWS port of its own."""
    monkeypatch.setattr(run_local, "ROOT", tmp_path)
    port = free_port()
    monkeypatch.setattr(run_local, "aws_endpoint", lambda: aws_endpoint({}, port))
    yield tmp_path / ".local"
    assert not listens(port)


class Children:
    """Stands in for `run_child`: notes the commands; the job ends as it was told to."""

    def __init__(self, outcome: int | BaseException) -> None:
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self._outcome = outcome

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        self.commands.append(list(command))
        self.environments.append(dict(environment))
        if "pipeline.sample" in command:
            return 0
        assert listens(port_of(environment["AWS_ENDPOINT_URL"]))
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [(1, 1, "the job ended with status 1"), (Stopped(15), 143, "stopped by SIGTERM")],
)
def test_a_job_that_fails_or_is_stopped(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: int | BaseException,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(run_local, "run_child", Children(outcome))
    assert run_local.main([]) == status
    assert said in capsys.readouterr().err


def test_a_job_that_delivers_nothing_is_found_out(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children = Children(0)
    monkeypatch.setattr(run_local, "run_child", children)
    assert run_local.main(["--sessions", "5"]) == 1
    out = capsys.readouterr().out
    assert out.count("nothing was due") == 6
    assert "NOT everything is as it should be" in out
    secrets = {value for name, value in children.environments[1].items() if name.startswith("FORWARDER_LOCAL_T")}
    assert len(secrets) == 1
    assert not any(secret in json.dumps(children.commands) + out for secret in secrets)


def test_each_run_starts_from_an_empty_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_local, "run_child", Children(0))
    (place / "out" / "records").mkdir(parents=True)
    (place / "out" / "records" / "event.jsonl").write_text("left by an earlier run")
    run_local.main([])
    assert not (place / "out").exists()
    assert len(list((place / "forwarders").iterdir())) == 6


def test_one_run_at_a_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_local.workspace(place):
        assert run_local.main([]) == 1
    assert "another run is using" in capsys.readouterr().err


def test_a_small_run_with_the_real_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setattr(run_local, "aws_endpoint", lambda: aws_endpoint({}, port))
    status = run_local.run(tmp_path, sessions=120, seed=7)
    out, err = capfd.readouterr()
    assert status == 0, out + err
    assert out.count("  as due\n") == 6
    assert not listens(port)
