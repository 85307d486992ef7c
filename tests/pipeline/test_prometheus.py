"""Metrics for Prometheus, held against its own tools: promtool, and a server that scrapes a run."""

import os
import signal
import socket
import stat
import urllib.request
from pathlib import Path

import pytest

from pipeline.flag_values import Listen
from pipeline.prometheus import MetricsFile, MetricsServer
from tests.support.activity import activity
from tests.support.forked import start_job
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer
from tests.support.paths import ROOT
from tests.support.ports import free_port, listens
from tests.support.receiver import Receiver
from tests.support.waiting import until
from tests.support.watching import (
    alerts_firing,
    needs_prometheus,
    needs_promtool,
    prometheus,
    promtool,
    query,
)
from tests.support.workshop import Workshop
from transforms.accounting.board import JobCounts, LatencyHistogram, Snapshot, Standing
from transforms.observing.metrics import End, Family, Forwarders, Told, families

RULES = ROOT / "docs/monitoring/rules.yml"


def everything(forwarders: int = 2) -> list[Family]:
    """All metrics with values, of labels that are hard to write, too."""
    latency = LatencyHistogram([3, *[0] * 12, 1, 1], 12_345)
    standing = Standing(due=9, dead={"http_400": 2}, latency=latency)
    names = ['a"b\\c\nd', *(f"f{number}" for number in range(1, forwarders))]
    job = JobCounts(phase="ending", read=9, rejected={'seq: is "quoted"\\': 2, "others": 1}, lag=0.5)
    snapshot = Snapshot(job=job, forwarders=dict.fromkeys(names, standing))
    return list(families(snapshot, 2000.0, Told("1", 0.0, "r1", 0.05, End(9.0, 3)), Forwarders()))


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text: str = answer.read().decode()
        return text


@needs_promtool
def test_promtool_finds_no_fault_with_what_is_served_and_written(tmp_path: Path) -> None:
    server = MetricsServer(Listen("127.0.0.1", 0, 0), everything)
    try:
        text = scraped(server.port)
    finally:
        server.close()
    assert promtool("check", "metrics", input_=text.encode()) == ""
    file = tmp_path / "job.prom"
    MetricsFile(str(file), everything).write()
    assert promtool("check", "metrics", input_=file.read_bytes()) == ""


def test_the_files_of_two_jobs_of_a_machine_have_no_labels_in_common(tmp_path: Path) -> None:
    series = []
    for name in ("nightly.prom", "hourly.prom"):
        MetricsFile(str(tmp_path / name), everything).write()
        lines = (tmp_path / name).read_text().splitlines()
        series += [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) > 60
    assert len(set(series)) == len(series)


def test_a_histogram_is_cumulated_and_ends_with_all() -> None:
    server = MetricsServer(Listen("127.0.0.1", 0, 0), everything)
    try:
        lines = scraped(server.port).splitlines()
    finally:
        server.close()
    mine = [line for line in lines if "duration_seconds" in line and 'forwarder="f1"' in line]
    assert mine[0].endswith('le="0.005"} 3.0')
    assert [line.rpartition(" ")[2] for line in mine[-3:]] == ["5.0", "5.0", "12.345"]


def test_the_first_free_port_of_a_range_is_taken_and_given_back() -> None:
    first = free_port()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()
        server = MetricsServer(Listen("127.0.0.1", first, first + 20), everything)
        port = server.port
        assert first < port <= first + 20
        assert "session_forwarder_run_info" in scraped(port)
        server.close()
        assert not listens(port)


def test_a_file_is_for_every_reader_though_the_run_makes_private_ones_and_no_half_of_it_is_seen(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        file = MetricsFile(str(tmp_path / "job.prom"), everything)
        file.check()
        assert list(tmp_path.iterdir()) == []
        file.write()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "job.prom").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["job.prom"]


def test_a_file_that_cannot_be_written_is_told_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = MetricsFile(str(folder / "job.prom"), everything)
    folder.rmdir()
    file.write()
    file.write()
    assert [record.getMessage() for record in caplog.records] == [
        f"--metrics_file {folder}/job.prom cannot be written: No such file or directory; the run goes on without"
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--metrics_port=x"], "is not a port"),
        (["--metrics_port=9-8"], "is not a port"),
        (["--metrics_port=0-5"], "is not a port"),
        (["--metrics_port=65536"], "is not a port"),
        (["--metrics_port=example.org:9464"], "names no address of this machine"),
        (["--metrics_file=job.txt"], "does not end in .prom"),
        (["--metrics_file=/nowhere/at/all/job.prom"], "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, flags: list[str], said: str
) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*flags) == 2
    (told,) = [record.getMessage() for record in caplog.records if said in record.getMessage()]
    assert not told.endswith("the run goes on without")
    assert not workshop.output.exists()


def test_a_port_that_is_taken_is_refused_before_anything_is_read(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(f"--metrics_port={receiver.port}") == 2
    assert f"--metrics_port 127.0.0.1:{receiver.port}: Address already in use; name a port that is free" in caplog.text
    assert receiver.log == []


def test_the_file_says_at_the_end_what_the_report_says(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u3" else 200)
    workshop.write_activity([activity("START", user_id=f"u{number}", session_id=f"s{number}") for number in range(9)])
    workshop.write_lines([b"{}"], "rejected.jsonl")
    workshop.write_forwarders(http_document(receiver))
    file = workshop.path / "job.prom"
    assert workshop.run(f"--metrics_file={file}") == 3
    lines = (
        file.read_text()
        .replace(',name="job"', "")
        .replace('{name="job"}', "")
        .replace('{name="job",', "{")
        .splitlines()
    )
    values = dict(line.rpartition(" ")[::2] for line in lines if not line.startswith("#"))
    account = workshop.account("http")
    prefix = "session_forwarder_"
    of_forwarder = '{forwarder="http"}'
    expected = {
        "run_exit_status": 3,
        "input_read_total": 10,
        "records_derived_total": account["matched"],
        f"records_due_total{of_forwarder}": account["matched"],
        f"records_delivered_total{of_forwarder}": account["delivered"],
        f"records_dead_total{of_forwarder}": account["dead_lettered"],
        f"calls_total{of_forwarder}": account["calls"],
        f"delivery_duration_seconds_count{of_forwarder}": account["delivered"] + account["dead_lettered"],
        'dead_letters_total{forwarder="http",reason="http_400"}': account["dead_lettered"],
        'run_phase{phase="ending"}': 1,
    }
    assert {name: float(values[prefix + name]) for name in expected} == expected
    assert float(values[f"{prefix}run_end_time_seconds"]) >= float(values[f"{prefix}run_start_time_seconds"])
    assert account["dead_lettered"] > 0


def test_a_run_that_cannot_begin_leaves_its_status_in_the_file(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_forwarders(http_document(receiver, configuration={"maxRetries": "many"}))
    workshop.write_activity([activity("START")])
    file = workshop.path / "job.prom"
    assert workshop.run(f"--metrics_file={file}") == 2
    assert 'session_forwarder_run_exit_status{name="job"} 2.0' in file.read_text()


def test_no_label_holds_a_url_or_what_it_holds(workshop: Workshop, receiver: Receiver) -> None:
    url = receiver.url("in?token=SECRET-IN-URL")
    workshop.write_activity([activity("START")])
    document = http_document(
        receiver, configuration={"url": url, "secret": "a-secret", "headers": '{"X-Key": "a-key"}'}
    )
    workshop.write_forwarders(document | {"description": "what it is"})
    file = workshop.path / "job.prom"
    assert workshop.run(f"--metrics_file={file}") == 0
    text = file.read_text()
    assert 'forwarder="http"' in text
    for secret in ("SECRET-IN-URL", "token", "a-secret", "a-key", "127.0.0.1", "what it is"):
        assert secret not in text


def test_a_dry_run_tells_nobody(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver))
    file = workshop.path / "job.prom"
    assert workshop.run(f"--metrics_file={file}", f"--metrics_port={receiver.port}", "--dry_run") == 0
    assert not file.exists()


@pytest.mark.long
@needs_prometheus
def test_a_prometheus_scrapes_a_run_and_its_rules_fire(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = lambda arrival: Answer(503 if "/down" in arrival.request_line else 200)
    workshop.write_activity([activity("START", user_id=f"u{number}", session_id=f"s{number}") for number in range(9)])
    workshop.write_forwarders(
        http_document(receiver, "up"), http_document(receiver, "down", configuration={"maxRetries": 10})
    )
    port = free_port()
    # As the rules are, but for how long they wait.
    rules = workshop.path / "rules.yml"
    rules.write_text(RULES.read_text().replace("> 300", "> 2").replace("for: 5m", "for: 1s"))
    arguments = workshop.arguments(
        *("--input", str(workshop.path / "in" / "*"), "--max_backoff=2", "--outage_budget=60"),
        f"--metrics_port={port}",
    )
    with prometheus(workshop.path, [f"127.0.0.1:{port}"], [rules]) as url:
        run = start_job(arguments, Path(os.devnull))
        try:
            until(lambda: ("SessionForwarderFailing", "down") in alerts_firing(url), 60)
            delivered = query(url, 'session_forwarder_records_delivered_total{forwarder="up"}')
            assert [float(series["value"][1]) for series in delivered] == [9.0]
            assert {forwarder for _, forwarder in alerts_firing(url)} <= {"down"}
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(60)
