"""The Helm chart: what it renders is valid for Kubernetes, runs as nobody, and names secrets without holding one."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.jobs import JobsConfig
from tests.deploy.tools import DEPLOY, SCHEMAS, said, tool
from tests.support.paths import ROOT

CHART = DEPLOY / "chart"
RUNS = {"nightly": {"schedule": "0 2 * * *", "args": ["--input=s3://bucket/in/*.jsonl.gz"]}}
VALUES: dict[str, dict[str, Any]] = {
    "usual": {},
    "runs": {"runs": RUNS},
    "everything": {
        "runs": {**RUNS, "often": {"schedule": "*/5 * * * *", "args": ["--input=/x", "--output=/o"], "metricsPort": 0}},
        "registry": {
            "deliveries": "nightly",
            "jobs": {"enabled": True, "config": 'input = ["s3://bucket/in/*.jsonl.gz"]'},
            "metricsNetworks": ["10.0.0.0/8"],
            "trustedProxies": ["10.1.0.0/16"],
        },
        "networkPolicy": {"enabled": True, "registryFrom": [{"namespaceSelector": {}}]},
        "image": {"pullSecrets": [{"name": "pull"}]},
        "podLabels": {"team": "records"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
    },
    "mongodb": {
        "runs": RUNS,
        "registry": {
            "store": "mongodb",
            "replicas": 2,
            "mongodb": {"url": "mongodb://mongo.example/forwarding", "secretName": "mongo"},
        },
    },
    "runs alone": {
        "registry": {"enabled": False},
        "data": {"enabled": False},
        "runs": {"x": {"schedule": "0 2 * * *", "args": ["--forwarders=s3://b/f.json"], "envFrom": []}},
    },
}


def rendered(values: dict[str, Any], status: int = 0) -> str:
    return _rendered(tool("helm"), json.dumps(values), status)


@cache
def _rendered(helm: str, values: str, status: int) -> str:
    return said(helm, "template", "t", CHART, "--kube-version", "1.31.0", "--values", "-", text=values, status=status)


def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(rendered(values)) if each]


def pods(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of all pods."""
    everything = objects(values)
    registries = [each["spec"]["template"] for each in everything if each["kind"] == "Deployment"]
    runs = [each["spec"]["jobTemplate"]["spec"]["template"] for each in everything if each["kind"] == "CronJob"]
    return [each["spec"] for each in registries + runs]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_linter_finds_no_fault(values: dict[str, Any]) -> None:
    options = ("--kube-version", "1.31.0", "--values", "-")
    assert "0 chart(s) failed" in said(tool("helm"), "lint", "--strict", CHART, *options, text=json.dumps(values))


@pytest.mark.parametrize("version", ["1.25.0", "1.37.0"])
def test_what_is_rendered_is_valid(version: str) -> None:
    kubeconform = tool("kubeconform")
    if not SCHEMAS.is_dir():
        pytest.skip("the schemas of Kubernetes are absent: deploy/check.sh --tools")
    location = f"{SCHEMAS}/v{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    everything = "\n---\n".join(rendered(values) for values in VALUES.values())
    summary = said(kubeconform, "-strict", "-summary", "-schema-location", location, text=everything)
    assert "Invalid: 0, Errors: 0, Skipped: 0" in summary
    count = re.search(r"(\d+) resources found", summary)
    assert count is not None
    assert int(count[1]) == sum(len(objects(values)) for values in VALUES.values()) > 20


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_pod_runs_as_nobody_on_a_root_that_it_cannot_write_to(values: dict[str, Any]) -> None:
    for pod in pods(values):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys()
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            variables = {each["name"]: each.get("value") for each in container["env"]}
            assert variables["TMPDIR"] in mounts


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_no_secret_is_in_what_is_rendered(values: dict[str, Any]) -> None:
    assert "Secret" not in [each["kind"] for each in objects(values)]
    for pod in pods(values):
        for container in pod["containers"]:
            for variable in container["env"]:
                assert ("valueFrom" in variable) == bool(
                    re.search("SECRET|PASSWORD|USERNAME|CLIENT_KEY", variable["name"])
                )


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_flag_is_one_of_ours(values: dict[str, Any]) -> None:
    known = set(re.findall(r"^\| `(--\w+)`", (ROOT / "docs/flags.md").read_text(), re.MULTILINE))
    flags = {word.partition("=")[0] for pod in pods(values) for each in pod["containers"] for word in each["args"]}
    assert {flag for flag in flags if flag.startswith("--")} - known <= {"--runner"}


def test_a_run_reads_the_registry_over_tls_and_has_its_own_output_and_state() -> None:
    run = pods({"runs": RUNS})[1]["containers"][0]
    assert run["command"] == ["once", "session-forwarder", "run"]
    address = "https://t-session-forwarder-registry:8380/api/v2/statementforwarding"
    assert {f"--forwarders={address}", "--output=/output/nightly", "--state=/state/nightly"} <= set(run["args"])
    assert {"name": "EXTRA_CA_FILE", "value": "/tls/ca.crt"} in run["env"]


def test_the_registry_shows_the_output_of_the_run_that_is_named() -> None:
    registry = pods({"runs": RUNS, "registry": {"deliveries": "nightly"}})[0]["containers"][0]
    assert "--deliveries=/output/nightly" in registry["args"]
    assert {"name": "data", "mountPath": "/output", "subPath": "output", "readOnly": True} in registry["volumeMounts"]
    elsewhere = pods({"registry": {"deliveries": "s3://bucket/out"}})[0]
    assert "--deliveries=s3://bucket/out" in elsewhere["containers"][0]["args"]
    assert "data" not in [volume["name"] for volume in elsewhere["volumes"]]


@pytest.mark.parametrize("store", ["sqlite", "mongodb"])
def test_the_registry_takes_the_config_of_its_jobs(store: str, tmp_path: Path) -> None:
    jobs = {"enabled": True, "config": 'input = ["s3://bucket/in/*.jsonl.gz"]\nmax_backoff = "10s"'}
    mongodb = {"url": "mongodb://mongo.example/forwarding"}
    values = {"runs": RUNS, "registry": {"deliveries": "nightly", "jobs": jobs, "store": store, "mongodb": mongodb}}
    (config,) = [each["data"]["jobs.toml"] for each in objects(values) if each["kind"] == "ConfigMap"]
    (tmp_path / "jobs.toml").write_text(config)
    read = JobsConfig.read(str(tmp_path / "jobs.toml"), "/output/nightly")
    assert read.has_input
    container = pods(values)[0]["containers"][0]
    flags = dict(word.split("=", 1) for word in container["args"] if "=" in word)
    assert flags["--store"] == read.places["forwarders"][0]
    # What jobs write to can be written to, and is there after a restart of the pod where there is a claim for it.
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert {"/output", f"/{flags['--jobs_dir'].split('/')[1]}", read.places["temp_dir"][0]} <= writable


def test_what_cannot_work_is_refused_with_what_to_do() -> None:
    assert "set registry.store to mongodb" in rendered({"registry": {"replicas": 2}}, status=1)
    plain = {"runs": RUNS, "registry": {"tls": {"secretName": ""}}}
    assert "over TLS only" in rendered(plain, status=1)
    assert "schedule" in rendered({"runs": {"nightly": {"args": ["--input=x"]}}}, status=1)
    assert "there is no run often" in rendered({"runs": RUNS, "registry": {"deliveries": "often"}}, status=1)
    own = {"nightly": {"schedule": "0 2 * * *", "args": ["--input=x", "--output=s3://b/out"]}}
    assert "name its url" in rendered({"runs": own, "registry": {"deliveries": "nightly"}}, status=1)
    assert "registry.deliveries" in rendered({"registry": {"jobs": {"enabled": True}}}, status=1)
    assert "registry.mongodb.url" in rendered({"registry": {"store": "mongodb"}}, status=1)
