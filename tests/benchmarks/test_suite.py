"""Every benchmark at a tiny size, and what makes their figures comparable: the same records, in the same order."""

import importlib.util
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import batches, growth, hostile, report, watching
from benchmarks.measuring import Run, Task, run
from benchmarks.sinks import running_sinks
from benchmarks.suite import COMPARISONS, Comparison, DifferentError, Row, Suite, check_same
from benchmarks.workload import (
    STATEMENT_WISHES,
    Tally,
    activity_as_large_as,
    count_lines,
    many_forwarders,
    sample_file,
    statement_file,
    sum_of,
    wishes,
    write_forwarders,
)

TINY = 400
BYTEWAX = importlib.util.find_spec("bytewax") is not None


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running_sinks() as sinks:
        yield Suite(
            tmp_path_factory.mktemp("benchmarks"),
            sinks,
            rounds=1,
            rounds_of_large=1,
            peers_python=sys.executable if BYTEWAX else None,
            kafka=None,
        )


_KEPT = "end_to_end"
"""The comparison that every run of the tests makes. The others are long: each starts several programs."""


@pytest.mark.parametrize(
    "comparison",
    [pytest.param(each, id=each.name, marks=[] if each.name == _KEPT else [pytest.mark.long]) for each in COMPARISONS],
)
def test_every_comparison_runs_and_its_programs_deliver_the_same(suite: Suite, comparison: Comparison) -> None:
    rows = suite.compare(comparison, TINY)
    assert [row.label for row in rows if row.label not in ("bytewax", "quix")] == [
        one.label for one in comparison.contestants if not one.of_peer
    ]
    assert all(run.wall > 0 and run.cpu > 0 and run.peak > 10_000_000 for row in rows for run in row.runs)
    assert all(run.delivered["count"] > 0 for row in rows for run in row.runs)
    assert rows[0].label in report.table(rows)
    assert all(promise["what"] for promise in report.promises(rows))


def test_matching_is_measured_against_more_forwarders(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.suite.FORWARDER_COUNTS", (10, 20))
    monkeypatch.setattr("benchmarks.suite.MATCHED_ACTIVITIES", TINY)
    rows = suite.matching()
    assert [row.runs[0].delivered["count"] for row in rows] == [rows[0].runs[0].delivered["count"]] * 2
    assert set(growth.hits(rows)) == {10, 20}
    assert set(growth.slopes(rows)) == {"microseconds: match a record"}


@pytest.mark.long
def test_memory_has_a_hot_user(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.suite.HOT_ACTIVITIES", TINY)
    rows = suite.memory((2 * TINY,))
    assert [row.label for row in rows] == ["a handful", "hot user of 100 k"]
    lines = sample_file(suite.directory, 2 * TINY, hot_share=0.5).read_text().splitlines()
    assert sum(json.loads(line)["user_id"] == "learner-00000000-00000000" for line in lines) > TINY / 2


@pytest.mark.long
def test_floor_script_and_job_keep_each_user_in_the_same_order(tmp_path: Path) -> None:
    orders = []
    with running_sinks(keep=True) as sinks:
        task = Task(sample_file(tmp_path, TINY), write_forwarders(tmp_path, sinks.port))
        for program in ("floor", "job", "script-batches"):
            run(program, "deliver", task, sinks)
            by_user: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
            for forwarder_id, payload in sinks.report()["kept"]:
                if forwarder_id not in ("completed-status", "ipads"):  # Firehose keeps no order
                    sent = json.loads(payload)
                    by_user[forwarder_id, sent.get("user_id") or sent["actor"]["account"]["name"]].append(payload)
            orders.append(by_user)
    assert orders[0] == orders[1] == orders[2]
    assert max(map(len, orders[0].values())) > 5


def test_different_deliveries_are_found() -> None:
    tally, other = Tally(), Tally()
    tally.add("a", b"1")
    other.add("a", b"2")
    rows = [Row("encode", "", 1, label) for label in ("floor", "job")]
    rows[0].runs.append(_run(tally.as_json()))
    rows[1].runs.append(_run(tally.as_json()))
    check_same(rows)
    rows[1].runs.append(_run(other.as_json()))
    with pytest.raises(DifferentError, match="encode"):
        check_same(rows)


def test_a_tally_does_not_depend_on_order_or_workers() -> None:
    one, other, both = Tally(), Tally(), Tally()
    for tally in (one, both):
        tally.add("a", b"first")
    for tally in (other, both):
        tally.add("b", b"second")
    assert sum_of(iter([other.as_json(), one.as_json()])) == both.as_json()


def test_a_tally_tells_forwarders_apart() -> None:
    one, other = Tally(), Tally()
    one.add("a", b"payload")
    other.add("b", b"payload")
    assert one.as_json() != other.as_json()


def test_many_forwarders_are_valid_and_distinct() -> None:
    found = many_forwarders(50)
    assert len({document["_id"] for document in found}) == 50
    assert found[:10] == [wish.forwarder(1) for wish in wishes()]


def test_a_sample_has_about_as_many_activities_as_were_asked_for(tmp_path: Path) -> None:
    assert count_lines(sample_file(tmp_path, 5_000)) == pytest.approx(5_000, rel=0.05)


def test_samples_of_statements_and_of_as_many_bytes_of_activity(tmp_path: Path) -> None:
    statements = statement_file(tmp_path, 9_000)
    assert count_lines(statements) == pytest.approx(9_000, rel=0.05)
    activity = activity_as_large_as(statements)
    assert activity.stat().st_size == pytest.approx(statements.stat().st_size, abs=10_000)
    assert json.loads(activity.read_text().splitlines()[-1])["action"]
    documents = [{"statement": json.loads(line)} for line in statements.read_text().splitlines()]
    for wish in STATEMENT_WISHES:
        assert 0 < sum(map(wish.wants, documents)) < 0.6 * len(documents), wish.id


def test_the_slope_of_what_is_proportional_is_one() -> None:
    assert growth.slope([(10, 5.0), (100, 50.0), (1000, 500.0)]) == pytest.approx(1)
    assert growth.slope([(10, 5.0), (100, 5.0)]) == pytest.approx(0)


def test_promises_are_judged_by_their_side(tmp_path: Path) -> None:
    encode = next(comparison for comparison in COMPARISONS if comparison.name == "encode")
    rows = [Row("encode", encode.title, 1000, label) for label in ("floor", "job")]
    for row, wall in zip(rows, (1.0, 1.3), strict=True):
        row.runs.append(_run({"count": 1}, wall))
    met = {promise["target"]: promise["met"] for promise in report.promises(rows)}
    assert met == {"at most 1.4x the floor": True, "75,000 activities/s": False}
    path = tmp_path / "result.json"
    report.write_json(path, rows, report.promises(rows), {})
    assert [row["wall"] for row in json.loads(path.read_text())["rows"]] == [1.0, 1.3]


def _run(delivered: dict[str, Any], wall: float = 1.0) -> Run:
    return Run("job", "encode", wall, wall, 1, delivered)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_plot_is_small(tmp_path: Path) -> None:
    rows = []
    for activities in (1000, 10_000):
        row = Row("encode", "derive + match + encode", activities, "job")
        row.runs.append(_run({"count": 1}, activities / 1000))
        rows.append(row)
    growth.plot(rows, tmp_path / "plot.png")
    assert 1_000 < (tmp_path / "plot.png").stat().st_size < 150_000


def test_what_a_hostile_file_takes_is_measured() -> None:
    (outcome,) = hostile.outcomes(["avro_nulls"], 1024 * hostile.MIB)
    assert outcome.is_good
    assert (outcome.accepted, outcome.rejected) == (2000, 1)
    assert f"{1024 * hostile.MIB} values in a block of" in outcome.reason


@pytest.mark.long
def test_batches_are_measured_beside_one_by_one_and_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    batches.measure(400, 1, 300)
    told = capsys.readouterr().out
    assert all(way in told for way in batches.WAYS)
    assert "300 records of one user" in told
    assert "with aggregate, 15 ms a call" in told


def test_what_it_costs_to_watch_a_run_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    watching.main(["--forwarders", "3", "--rounds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 2
