"""docs/monitoring.md, the rules and the dashboard name the metrics that there are, and the tools find no fault."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.page import sections, tables
from tests.support.paths import ROOT
from tests.support.watching import needs_promtool, promtool
from transforms.accounting.board import MOST_REASONS
from transforms.observing.alerts import ALERT_TYPES
from transforms.observing.metrics import METRICS, MOST_FORWARDERS

PAGE = ROOT / "docs/monitoring.md"
FOLDER = ROOT / "docs/monitoring"
CHECK = ROOT / "tests/support/dashboard_check"

_NAME = re.compile(r"session_forwarder_[a-z_]+")
_OF_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


def table(first: str) -> list[list[str]]:
    """The rows of the page's table whose first column is called so."""
    found = [rows for section in sections(PAGE) for header, *rows in tables(section) if header[0] == first]
    (rows,) = found
    return rows


def named(text: str) -> set[str]:
    """The metrics that a text names."""
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    bare = {name: _OF_HISTOGRAM.sub("", name) for name in _NAME.findall(text)}
    return {base if base in histograms else name for name, base in bare.items()}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_page_has_every_metric_as_it_is_exported_and_no_other() -> None:
    rows = [
        (name.strip("`"), kind, re.findall(r"`(\w+)`", labels), text) for name, kind, labels, text in table("metric")
    ]
    assert rows == [(metric.name, metric.kind, list(metric.labels), metric.help) for metric in METRICS]


def test_the_page_has_every_type_of_alert() -> None:
    assert [row[0].strip("`") for row in table("type")] == list(ALERT_TYPES)


def test_the_page_says_the_bounds() -> None:
    text = PAGE.read_text()
    assert f"The first {MOST_FORWARDERS:,} forwarders" in text
    assert f"at most {MOST_REASONS} and `others`" in text


@pytest.mark.parametrize("name", ["rules.yml", "rules_test.yml", "dashboard.json"])
def test_what_is_named_is_exported(name: str) -> None:
    assert named((FOLDER / name).read_text()) <= {metric.name for metric in METRICS}


def test_the_dashboard_shows_every_metric_but_the_limit_of_rejects() -> None:
    shown = named((FOLDER / "dashboard.json").read_text())
    assert {metric.name for metric in METRICS} - shown == {"session_forwarder_reject_limit_ratio"}


def test_every_rule_is_tried() -> None:
    rules = set(re.findall(r"- alert: (\w+)", (FOLDER / "rules.yml").read_text()))
    tried = re.findall(r"alertname: (\w+)\n\s+exp_alerts:(.*)", (FOLDER / "rules_test.yml").read_text())
    assert {name for name, alerts in tried if alerts == ""} == rules
    assert {name for name, alerts in tried if alerts == " []"} == rules


@needs_promtool
def test_promtool_finds_no_fault_with_the_rules() -> None:
    count = len(re.findall("- alert:", (FOLDER / "rules.yml").read_text()))
    assert f"SUCCESS: {count} rules found" in promtool("check", "rules", "--lint-fatal", str(FOLDER / "rules.yml"))


@needs_promtool
def test_each_rule_fires_when_it_is_due_and_not_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(FOLDER / "rules_test.yml"))


@needs_promtool
def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    expressions = [
        target["expr"]
        for panel in panels(json.loads((FOLDER / "dashboard.json").read_text()))
        for target in panel["targets"]
    ]
    assert len(expressions) > 25
    rules = [
        {"record": f"r{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(expressions)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_the_dashboard_is_laid_out_without_overlaps_and_explains_itself() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["description"] for panel in panels(board))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.long
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is absent, which Grafana's schema is checked with")
def test_the_dashboard_is_of_grafanas_schema(tmp_path: Path) -> None:
    built = tmp_path / "dashboard-check"
    environment = {**os.environ, "GOFLAGS": "-mod=readonly"}
    build = subprocess.run(  # noqa: S603
        ["go", "build", "-o", str(built), "."],  # noqa: S607
        cwd=CHECK,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "proxy.golang.org" in build.stderr:
        pytest.skip("Grafana's schema cannot be had from the Go module proxy")
    assert build.returncode == 0, build.stderr
    board = json.loads((FOLDER / "dashboard.json").read_text())
    board["panels"][1]["tittle"] = "A field that no panel has"
    (tmp_path / "wrong.json").write_text(json.dumps(board))
    done = subprocess.run(  # noqa: S603
        [str(built), str(FOLDER / "dashboard.json"), str(tmp_path / "wrong.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    right, wrong = done.stdout.splitlines()
    assert right.endswith(f"{len(board['panels'])} panels")
    assert "unexpected field 'tittle'" in wrong
