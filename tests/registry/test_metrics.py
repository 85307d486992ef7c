"""What Prometheus is told: who may ask, how requests are counted, and what happens to the store."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from registry.app import build
from registry.metrics import Metrics
from registry.rest import PATH
from registry.stores.base import StoreError
from registry.stores.sqlite import SqliteStore
from tests.support.paths import ROOT
from tests.support.registry_house import House, create

Sample = tuple[str, frozenset[tuple[str, str]]]


def scraped(client: TestClient) -> dict[Sample, float]:
    """The samples at `/metrics`, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def requests(metrics: dict[Sample, float]) -> dict[tuple[str, str, str], float]:
    """How many requests were answered, by method, route and status."""
    counted = {}
    for (name, labels), value in metrics.items():
        if name == "registry_requests_total":
            by = dict(labels)
            counted[by["method"], by["route"], by["status"]] = value
    return counted


def test_requests_are_counted_by_route_and_not_by_what_clients_write(house: House, editor: TestClient) -> None:
    create(editor, _id="first")
    for _ in range(2):
        editor.get(f"{PATH}/first")
    editor.get(f"{PATH}/nobody")
    editor.get("/wp-admin/hunter")
    editor.request("HUNTER", PATH)
    metrics = scraped(house.visitor())
    assert requests(metrics) == {
        ("POST", PATH, "201"): 1,
        ("GET", f"{PATH}/{{id}}", "200"): 2,
        ("GET", f"{PATH}/{{id}}", "404"): 1,
        ("GET", "other", "404"): 1,
        ("other", PATH, "405"): 1,
    }
    seen = ("registry_request_duration_seconds_count", frozenset({("method", "GET"), ("route", f"{PATH}/{{id}}")}))
    assert metrics[seen] == 3
    # The one that asks.
    assert metrics["registry_requests_under_way", frozenset()] == 1


def test_a_store_that_does_not_answer_shows(house: House, editor: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scraped(house.visitor())["registry_store_up", frozenset()] == 1

    def broken(*_: object) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(house.store, "check", broken)
    monkeypatch.setattr(house.store, "get", broken)
    assert editor.get(f"{PATH}/first").status_code == 503
    metrics = scraped(house.visitor())
    assert metrics["registry_store_up", frozenset()] == 0
    assert metrics["registry_store_errors_total", frozenset()] == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 200),
        ("10.2.0.1", {}, 403),
        # A proxy of this machine that nobody has named.
        ("127.0.0.1", {"X-Forwarded-For": "10.1.2.3"}, 403),
    ],
)
def test_metrics_are_for_this_machine_and_named_networks(
    house: House, address: str, headers: dict[str, str], status: int
) -> None:
    registry = replace(house.registry, metrics=Metrics(("10.1.0.0/16",)))
    client = TestClient(build(registry), client=(address, 50000))
    assert client.get("/metrics", headers=headers).status_code == status


def test_jobs_are_counted_by_state(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "forwarders.db"))
    text = Metrics().text(store, ["planned", "done", "done"]).decode()
    store.close()
    assert 'registry_jobs{state="done"} 2.0' in text
    assert 'registry_jobs{state="planned"} 1.0' in text
    assert 'registry_jobs{state="sending"} 0.0' in text


def test_the_page_has_every_metric(house: House) -> None:
    families = text_string_to_metric_families(house.visitor().get("/metrics").text)
    # When a counter began comes with it, as a metric of its own.
    known = [each for each in families if not each.name.endswith("_created")]
    names = {f"{each.name}_total" if each.type == "counter" else each.name for each in known}
    rows = re.findall(r"^\| `(registry_\w+)` \|", (ROOT / "docs/registry.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names)
