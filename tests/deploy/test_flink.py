"""What is for the operator of Flink: the operator and Kubernetes know its fields, it is the cluster that was tried."""

import re
from typing import Any

import pytest
import yaml

from local.flink.cluster import OPENED
from pipeline.options import parse
from tests.deploy.tools import DEPLOY, SCHEMAS, said, tool
from tests.support.paths import ROOT

CLUSTER, RUN = DEPLOY / "flink/cluster.yaml", DEPLOY / "flink/run.yaml"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    deployment: dict[str, Any] = next(yaml.safe_load_all(CLUSTER.read_text()))["spec"]
    return deployment


@pytest.fixture(scope="module")
def policies() -> dict[str, Any]:
    """What the network policies let in, by component."""
    specs = [each["spec"] for each in list(yaml.safe_load_all(CLUSTER.read_text()))[1:]]
    return {spec["podSelector"]["matchLabels"]["component"]: spec["ingress"] for spec in specs}


@pytest.fixture(scope="module")
def launcher() -> dict[str, Any]:
    pod: dict[str, Any] = yaml.safe_load(RUN.read_text())["spec"]["template"]["spec"]
    return pod


def _judged(text: str, status: int = 0) -> str:
    kubeconform = tool("kubeconform")
    if not (SCHEMAS / "flink").is_dir():
        pytest.skip("the definition of FlinkDeployment is absent: deploy/check.sh --tools, with Maven")
    named = "{{.ResourceKind}}{{.KindSuffix}}.json"
    places = [f"-schema-location={SCHEMAS}/{directory}/{named}" for directory in ("flink", "v1.37.0")]
    return said(kubeconform, "-strict", "-summary", *places, text=text, status=status)


def test_the_operator_and_kubernetes_know_every_field() -> None:
    everything = CLUSTER.read_text() + "\n---\n" + RUN.read_text()
    assert "4 resources found" in _judged(everything)
    assert "Valid: 4, Invalid: 0, Errors: 0, Skipped: 0" in _judged(everything)


@pytest.mark.parametrize("spoilt", ["flinkVersion: v1_19", "envFrom:", "mountPath: /scratch"])
def test_a_field_that_is_misspelled_would_be_found(spoilt: str) -> None:
    assert "Invalid: 1" in _judged(CLUSTER.read_text().replace(spoilt, f"x{spoilt}", 1), status=1)


def test_flink_is_the_version_that_was_tried(cluster: dict[str, Any]) -> None:
    tried = re.search(r"Flink (\d+\.\d+\.\d+),", (ROOT / "docs/flink.md").read_text())
    assert tried is not None
    assert re.match(rf"flink:{re.escape(tried[1])}-.*java17$", cluster["image"])
    assert cluster["flinkVersion"] == "v" + "_".join(tried[1].split(".")[:2])
    (main,) = cluster["podTemplate"]["spec"]["containers"]
    assert {"name": "ENABLE_BUILT_IN_PLUGINS", "value": f"flink-s3-fs-hadoop-{tried[1]}.jar"} in main["env"]


def test_java_is_opened_as_on_the_cluster_that_was_tried(cluster: dict[str, Any]) -> None:
    opened = cluster["flinkConfiguration"]["env.java.opts.all"].split()
    assert opened == [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]


def test_each_task_manager_has_a_pool_of_its_own_which_alone_has_the_secrets(cluster: dict[str, Any]) -> None:
    main, workers = cluster["taskManager"]["podTemplate"]["spec"]["containers"]
    assert main == {"name": "flink-main-container"}
    assert workers["args"] == ["--worker_pool"]
    assert workers["envFrom"] == [{"secretRef": {"name": "session-forwarder-workers"}}]
    assert CLUSTER.read_text().count("secretRef") == 1
    # One slot, so that the limit of the container is that of one worker.
    assert cluster["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] == "1"


def test_nobody_else_reaches_a_pool(policies: dict[str, Any], launcher: dict[str, Any]) -> None:
    (pool,) = [word for word in launcher["containers"][0]["args"] if word.startswith("--environment_config=")]
    rules = policies["taskmanager"]
    assert all(rule["ports"] for rule in rules)
    assert int(pool.rpartition(":")[2]) not in {port["port"] for rule in rules for port in rule["ports"]}


def test_a_launcher_reaches_the_job_manager(policies: dict[str, Any]) -> None:
    labels = yaml.safe_load(RUN.read_text())["spec"]["template"]["metadata"]["labels"]
    (rule,) = [
        each for each in policies["jobmanager"] if {"podSelector": {"matchLabels": labels}} in each.get("from", [])
    ]
    assert rule["ports"] == [{"port": 8081}]


def test_the_launcher_runs_as_nobody_with_flags_that_the_job_takes(launcher: dict[str, Any]) -> None:
    (container,) = launcher["containers"]
    assert launcher["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["command"] == ["once", "session-forwarder", "run"]
    job = parse(container["args"])
    assert job.runner == "FlinkRunner"
    # Where the Dockerfile puts it.
    assert f" {job.job_server_jar}\n" in (DEPLOY / "Dockerfile").read_text()
    name = next(yaml.safe_load_all(CLUSTER.read_text()))["metadata"]["name"]
    assert f"--flink_master={name}-rest:8081" in container["args"]
