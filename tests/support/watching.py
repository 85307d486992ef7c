"""Tools of those who watch a run: Prometheus, its promtool, and a collector of OpenTelemetry. They are not of PyPI."""

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port, listens
from tests.support.waiting import until

PROMTOOL = shutil.which(os.environ.get("PROMTOOL", "promtool"))
PROMETHEUS = shutil.which(os.environ.get("PROMETHEUS", "prometheus"))
OTELCOL = shutil.which(os.environ.get("OTELCOL", "otelcol"))

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is absent: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is absent: apt-get install prometheus")
needs_collector = pytest.mark.skipif(
    OTELCOL is None, reason="a collector is absent: tests/support/collector/README.md builds one, OTELCOL=... names it"
)


def promtool(*arguments: str, input_: bytes | None = None) -> str:
    """What promtool says. It fails the test if promtool finds fault."""
    done = subprocess.run(  # noqa: S603
        [str(PROMTOOL), *arguments], input=input_, capture_output=True, check=False, timeout=60
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@contextmanager
def prometheus(directory: Path, targets: Sequence[str], rules: Sequence[Path] = ()) -> Iterator[str]:
    """A Prometheus that scrapes the targets once a second; gives its url."""
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "forwarder", "static_configs": [{"targets": list(targets)}]}],
    }
    # JSON is YAML.
    (directory / "prometheus.yml").write_text(json.dumps(configuration))
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [
                str(PROMETHEUS),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _is_ready(url), every=0.1, failing=(directory / "prometheus.log").read_text)
            yield url
        finally:
            process.terminate()
            process.wait(120)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready") as response:  # noqa: S310
            return int(response.status) == 200
    except OSError:
        return False


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """The series that Prometheus has for an expression now: `metric` and `value` each."""
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}") as response:  # noqa: S310
        result: list[dict[str, Any]] = json.loads(response.read())["data"]["result"]
        return result


def alerts_firing(url: str) -> set[tuple[str, str]]:
    """(alert, forwarder) of the rules that fire now."""
    with urllib.request.urlopen(f"{url}/api/v1/alerts") as response:  # noqa: S310
        alerts = json.loads(response.read())["data"]["alerts"]
    return {
        (alert["labels"]["alertname"], alert["labels"].get("forwarder", ""))
        for alert in alerts
        if alert["state"] == "firing"
    }


class Collector:
    """A collector of OpenTelemetry, which writes down in words what reaches it by OTLP over HTTP and gRPC."""

    def __init__(self, http: int, grpc: int, log: Path) -> None:
        self.http = f"http://127.0.0.1:{http}"
        self.grpc = f"http://127.0.0.1:{grpc}"
        self._log = log

    def said(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text()


@contextmanager
def collector(directory: Path) -> Iterator[Collector]:
    """A collector that runs until the context ends."""
    http, grpc = free_port(), free_port()
    configuration = {
        "receivers": {
            "otlp": {
                "protocols": {
                    "http": {"endpoint": f"127.0.0.1:{http}"},
                    "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                }
            }
        },
        "exporters": {"debug": {"verbosity": "detailed"}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["debug"]},
                "metrics": {"receivers": ["otlp"], "exporters": ["debug"]},
            },
        },
    }
    (directory / "collector.yaml").write_text(json.dumps(configuration))
    log = directory / "collector.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [str(OTELCOL), f"--config={directory / 'collector.yaml'}"], stdout=output, stderr=output
        )
        try:
            until(lambda: listens(http) and listens(grpc), failing=log.read_text)
            yield Collector(http, grpc, log)
        finally:
            process.terminate()
            process.wait(20)
