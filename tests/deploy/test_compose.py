"""compose.yaml and what it mounts: read by compose's own library and by promtool; the files that it names are there."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.jobs import JobsConfig
from tests.deploy.tools import DEPLOY, said, tool
from tests.support.paths import ROOT
from tests.support.watching import needs_promtool, promtool

COMPOSE = DEPLOY / "compose/compose.yaml"


WITH_JOBS = ("compose.yaml", "compose.jobs.yaml")


@pytest.fixture(params=[("compose.yaml",), WITH_JOBS], ids=["usual", "with jobs"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The project as compose reads it, from a copy in which the secrets were made."""
    return read_project(tmp_path, request.param)


def read_project(tmp_path: Path, files: tuple[str, ...]) -> dict[str, Any]:
    for name in ("deploy", "docs/monitoring"):
        shutil.copytree(ROOT / name, tmp_path / name)
    secrets = tmp_path / "deploy/compose/secrets"
    secrets.mkdir(exist_ok=True)
    for name in ("registry_keys", "grafana_password"):
        (secrets / name).touch()
    text = said(tool("compose-go"), "-format", "json", *files, cwd=tmp_path / "deploy/compose")
    read: dict[str, Any] = json.loads(text)
    return read


def test_compose_reads_it_and_every_file_that_is_mounted_is_there(project: dict[str, Any]) -> None:
    services = project["services"]
    assert services.keys() == {"registry", "job", "job-metrics", "prometheus", "grafana"}
    binds = [mount for each in services.values() for mount in each["volumes"] if mount["type"] == "bind"]
    assert len(binds) > 4
    missing = [bind["source"] for bind in binds if not Path(bind["source"]).exists()]
    # The input is the user's, and prepare.sh makes its usual place.
    assert {Path(source).name for source in missing} <= {"in"}
    assert {
        mount["source"] for each in services.values() for mount in each["volumes"] if mount["type"] == "volume"
    } == (project["volumes"].keys())


def test_our_services_run_as_nobody_and_answer_this_machine_only(project: dict[str, Any]) -> None:
    for name, service in project["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only") or name == "grafana", name
        assert "privileged" not in service
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))
        # No `latest`, which is another one tomorrow.
        assert re.search(r":[\w.]+$", service["image"]), name
    for name in ("registry", "job"):
        assert project["services"][name]["image"] == "session-forwarder:registry"
        assert "user" not in project["services"][name], "the image's own user"


def test_jobs_of_the_registry_are_those_of_the_job(tmp_path: Path) -> None:
    services = read_project(tmp_path, WITH_JOBS)["services"]
    registry, job = services["registry"], services["job"]
    places = {mount["target"]: mount for mount in registry["volumes"]}
    assert {target for target, mount in places.items() if not mount.get("read_only")} == {
        "/data",
        "/output",
        "/scratch",
    }
    flags = dict(word.split("=", 1) for word in registry["command"] if "=" in word)
    file = tmp_path / "deploy/compose" / Path(places[flags["--jobs"]]["source"]).name
    config = JobsConfig.read(str(file), flags["--deliveries"])
    of_job = dict(word.split("=", 1) for word in job["command"] if "=" in word)
    for name in ("input", "forwarders", "output"):
        assert config.places[name] == (of_job[f"--{name}"],)
    # Beside the jobs it is as without them.
    usual = yaml.safe_load(COMPOSE.read_text())["services"]["registry"]["command"]
    assert registry["command"][: len(usual)] == usual


def test_every_flag_is_one_of_ours() -> None:
    known = set(re.findall(r"^\| `(--\w+)`", (ROOT / "docs/flags.md").read_text(), re.MULTILINE))
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    flags = {word.partition("=")[0] for name in ("registry", "job") for word in services[name]["command"]}
    assert {flag for flag in flags if flag.startswith("--")} - known <= {"--runner"}


@needs_promtool
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose/prometheus.yml", tmp_path)
    shutil.copy(ROOT / "docs/monitoring/rules.yml", tmp_path)
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_the_dashboard_finds_the_data_source() -> None:
    source = yaml.safe_load((DEPLOY / "compose/grafana/datasource.yaml").read_text())["datasources"][0]
    board = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text())
    (variable,) = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert variable["current"]["value"] == source["uid"]
    assert source["type"] == variable["query"]
