"""The board as metrics: what there is, and that it stays bounded."""

import re
from collections.abc import Mapping

import pytest

from transforms.accounting.board import LATENCY_BOUNDS, Failing, JobCounts, LatencyHistogram, Snapshot, Standing
from transforms.observing.metrics import (
    METRICS,
    OTHER_FORWARDERS,
    PREFIX,
    Bins,
    End,
    Forwarders,
    Told,
    Value,
    families,
)

TOLD = Told("1.2.3", 1000.0, "r1", 0.05)


def values(
    snapshot: Snapshot, now: float = 2000.0, told: Told = TOLD, forwarders: Forwarders | None = None
) -> dict[str, Mapping[tuple[str, ...], Value]]:
    """By the name of the metric without its prefix: its values by labels."""
    found: dict[str, Mapping[tuple[str, ...], Value]] = {}
    for family in families(snapshot, now, told, forwarders or Forwarders()):
        name = family.metric.name.removeprefix(PREFIX)
        assert name not in found
        samples = dict(family.samples)
        assert len(samples) == len(family.samples), f"{name}: labels that occur twice"
        assert all(len(labels) == len(family.metric.labels) for labels in samples)
        found[name] = samples
    return found


def test_names_and_units_are_as_prometheus_has_them() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"session_forwarder_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.removesuffix("_total").endswith("_seconds") == (metric.unit == "s")
        assert metric.name.removesuffix("_total").endswith("_bytes") == (metric.unit == "By")
        assert metric.help.endswith(".")


def test_every_metric_is_exported() -> None:
    snapshot = Snapshot(job=JobCounts(rejected={"r": 1}, lag=1.0), forwarders={"a": Standing(dead={"timeout": 1})})
    told = Told("1", 0.0, "r1", 0.05, End(5.0, 3))
    found = values(snapshot, told=told)
    assert [f"{PREFIX}{name}" for name in found] == [metric.name for metric in METRICS]
    assert all(found.values())


def test_what_is_known_of_a_forwarder() -> None:
    latency = LatencyHistogram([0] * (len(LATENCY_BOUNDS) + 1), 1500)
    latency.counts[0], latency.counts[-1] = 2, 1
    standing = Standing(
        due=20,
        delivered=9,
        already_delivered=1,
        dead={"timeout": 2, "http_400": 1},
        waiting=5,
        in_flight=2,
        deferred=3,
        calls=30,
        bytes=4096,
        oldest_unsent=1990.0,
        last_success=1980.0,
        failing=Failing(1985.0, "503"),
        breaker="half_open",
        unavailable=True,
        latency=latency,
    )
    found = values(Snapshot(forwarders={"a": standing}))
    assert {name: samples["a",] for name, samples in found.items() if ("a",) in samples} == {
        "records_due_total": 20,
        "records_delivered_total": 9,
        "records_already_delivered_total": 1,
        "records_dead_total": 3,
        "records_waiting": 5,
        "records_in_flight": 2,
        "records_deferred": 3,
        "oldest_unsent_age_seconds": 10.0,
        "last_success_timestamp_seconds": 1980.0,
        "failing_seconds": 15.0,
        "breaker_state": 1,
        "unavailable": 1.0,
        "calls_total": 30,
        "delivered_bytes_total": 4096,
        "delivery_duration_seconds": Bins(tuple(latency.counts), 1.5),
    }
    assert found["dead_letters_total"] == {("a", "timeout"): 2, ("a", "http_400"): 1}


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    found = values(Snapshot(forwarders={"a": Standing(oldest_unsent=2001.0, failing=Failing(2001.0, "503"))}))
    assert found["oldest_unsent_age_seconds"] == found["failing_seconds"] == {("a",): 0.0}


@pytest.mark.parametrize("end", [None, End(1500.0, 1)])
def test_how_a_run_ended_is_told_once_it_has(end: End | None) -> None:
    found = values(Snapshot(), told=Told("1", 0.0, "r1", None, end))
    assert found["run_exit_status"] == ({} if end is None else {(): 1})
    assert found["run_end_time_seconds"] == ({} if end is None else {(): 1500.0})
    assert found["reject_limit_ratio"] == {}


def test_of_very_many_forwarders_the_first_have_values_of_their_own_and_the_others_are_added_up() -> None:
    forwarders = Forwarders(most=2)
    first = values(Snapshot(forwarders={"a": Standing(due=1), "b": Standing(due=2)}), forwarders=forwarders)
    assert first["records_due_total"] == {("a",): 1, ("b",): 2}
    many = {f"f{number}": Standing(due=10) for number in range(50)} | {"b": Standing(due=3), "a": Standing(due=1)}
    later = values(Snapshot(forwarders=many), forwarders=forwarders)
    assert later["records_due_total"] == {("a",): 1, ("b",): 3, (OTHER_FORWARDERS,): 500}


def test_of_the_others_those_that_fail_are_named() -> None:
    many = {f"f{number}": Standing(due=10) for number in range(50)}
    many["f49"] = Standing(due=10, failing=Failing(1990.0, "503"), breaker="open")
    found = values(Snapshot(forwarders=many), forwarders=Forwarders(most=2))
    assert found["failing_seconds"]["f49",] == 10.0
    assert found["breaker_state"]["f49",] == 2
    assert set(found["records_due_total"]) == {("f0",), ("f1",), (OTHER_FORWARDERS,)}


def test_a_forwarder_that_is_called_as_the_others_are_is_one_of_them() -> None:
    found = values(Snapshot(forwarders={OTHER_FORWARDERS: Standing(due=1), "a": Standing(due=2)}))
    assert found["records_due_total"] == {("a",): 2, (OTHER_FORWARDERS,): 1}
