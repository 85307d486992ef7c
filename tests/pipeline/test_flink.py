"""The same job on Flink: an embedded cluster in Beam's job server, user code in workers of the launching process.

FLINK_JOB_SERVER_JAR names the jar. Without it these, and the other tests on Flink, are skipped, since they take
minutes: `./run_flink.sh --tests` makes what they need and runs them.
"""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import boto3

from pipeline.sample import main as sample
from tests.pipeline.test_originals import to_statements
from tests.pipeline.test_voiding import of, unwilling, voiding
from tests.support.activity import sessions
from tests.support.aws import read_stream
from tests.support.flink import flink, metrics_at, needs_flink
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, in_thread, scripted
from tests.support.ports import free_port
from tests.support.receiver import Receiver, by_user
from tests.support.statements import text
from tests.support.waiting import until
from tests.support.workshop import Workshop

pytestmark = needs_flink

PATIENCE = 600
EARLY = "2026-03-01T08:00:00Z"


def record_lines(output: Path) -> list[bytes]:
    return sorted(line for part in (output / "records").iterdir() for line in part.read_bytes().splitlines())


def counts(report: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the input, the records and each forwarder, without times and what depends on chance."""
    changing = {"run_id", "started", "elapsed_seconds", "runner"}
    kept = {name: value for name, value in report.items() if name not in changing}
    kept["forwarders"] = [
        {
            name: entry[name]
            for name in ("id", "matched", "delivered", "already_delivered", "dead_letter_reasons", "pending")
        }
        for entry in report["forwarders"]
    ]
    return kept


def test_workers_answer_prometheus_and_tell_of_forwarders_and_the_launcher_of_the_run(
    workshop: Workshop, receiver: Receiver, started: list["subprocess.Popen[str]"]
) -> None:
    receiver.script = lambda arrival: Answer(503 if "/down" in arrival.request_line else 200)
    workshop.write_activity(sessions(20))
    workshop.write_forwarders(
        http_document(receiver, "up"), http_document(receiver, "down", configuration={"maxRetries": 10})
    )
    first = free_port()
    file = workshop.path / "job.prom"
    with in_thread(Receiver()) as hook:
        assert isinstance(hook, Receiver)
        job = flink(
            workshop,
            workshop.output,
            *(f"--metrics_port={first}-{first + 9}", f"--metrics_file={file}"),
            *(f"--alert_url=http://{hook.url('alerts')}", "--alert_after=2s"),
            *("--max_backoff=1", "--outage_budget=6"),
        )
        started.append(job)
        until(lambda: 'failing_seconds{forwarder="down"} ' in metrics_at(first) and hook.log, PATIENCE, every=0.5)
        assert 'records_delivered_total{forwarder="up"} ' in metrics_at(first)
        _, said = job.communicate(timeout=PATIENCE)
        assert job.returncode == 3, said
        told = [json.loads(arrival.body)["type"] for arrival in hook.log]
    assert set(told) == {"forwarder.failing", "forwarder.unavailable", "forwarder.dead_letters"}
    assert len(told) == 3
    lines = file.read_text().splitlines()
    delivered = workshop.account("up")["delivered"]
    assert f'session_forwarder_records_delivered_total{{forwarder="up",name="job"}} {delivered}.0' in lines
    assert 'session_forwarder_run_exit_status{name="job"} 3.0' in lines


def test_flink_gives_the_same_records_ids_books_and_order(
    workshop: Workshop, receiver: Receiver, aws: boto3.Session, started: list["subprocess.Popen[str]"]
) -> None:
    kinesis = aws.client("kinesis")
    (workshop.path / "in").mkdir()
    for part in ("1", "2"):
        file = str(workshop.path / "in" / f"{part}.jsonl")
        assert not sample(["--sessions=60", f"--seed={part}", "--invalid=0.01", f"--output={file}"])

    def documents(run: str) -> list[dict[str, Any]]:
        kinesis.create_stream(StreamName=run, ShardCount=2)
        stream = {"service": "streams", "streamName": run, "awsRegion": "us-east-1"}
        return [
            http_document(receiver, "http", configuration={"url": receiver.url(run)}),
            http_document(
                receiver, "refused", query='{"kind": "score"}', configuration={"url": receiver.url("refused")}
            ),
            {"_id": "stream", "active": True, "configuration": {"protocol": "Kinesis"}, "kinesisOptions": stream},
        ]

    receiver.script = lambda arrival: Answer(400) if "/refused" in arrival.request_line else Answer(200)
    workshop.write_forwarders(*documents("direct"))
    assert workshop.run("--write_records=jsonl") == 3
    workshop.write_forwarders(*documents("flink"))
    output = workshop.path / "flink"
    job = flink(workshop, output, "--write_records=jsonl", "--parallelism=2")
    started.append(job)
    _, trouble = job.communicate(timeout=PATIENCE)

    assert job.returncode == 3, trouble
    assert record_lines(output) == record_lines(workshop.output)
    report = json.loads((output / "report.json").read_text())
    assert report["balanced"] is True
    direct = workshop.report()
    for each in (report, direct):
        each["forwarder_documents"] = None  # the documents name another stream and path
        assert each["input"]["reject_files"]
        each["input"]["reject_files"] = None  # they are named after the run, under its output
    assert counts(report) == counts(direct)
    arrived = {
        path: [(arrival.user, arrival.key) for arrival in receiver.log if f"/{path} " in arrival.request_line]
        for path in ("direct", "flink")
    }
    assert len(arrived["flink"]) == direct["forwarders"][0]["delivered"] > 100
    assert by_user(arrived["flink"]) == by_user(arrived["direct"])
    assert by_user(read_stream(kinesis, "flink")) == by_user(read_stream(kinesis, "direct"))
    assert not list((output / "receipts").glob("*.journal")), "every journal is a part at the end"


def test_statements_leave_flink_as_they_are_in_order_and_voiding_ones_last(
    workshop: Workshop, receiver: Receiver, started: list["subprocess.Popen[str]"]
) -> None:
    users = [f"user {number}" for number in range(7)]
    others = [of(users[number % 7], number, result={"score": {"raw": 1.0}}) for number in range(1, 301)]
    # Each is stored before the statement that it names, by another user.
    voids = [voiding(users[(number + 1) % 7], 300 + number, number, timestamp=EARLY) for number in range(1, 31)]
    sent = {each["id"]: f" {text(each)}\t".replace("1.0", "1.00").encode() for each in [*voids, *others]}
    workshop.write_lines(sent.values(), "statements.jsonl")
    workshop.write_forwarders(to_statements(receiver))
    receiver.script = unwilling(1)
    output = workshop.path / "flink"
    job = flink(workshop, output, "--input_format=xapi", "--parallelism=2")
    started.append(job)
    _, trouble = job.communicate(timeout=PATIENCE)

    assert job.returncode in (0, 3), trouble
    report = json.loads((output / "report.json").read_text())
    assert report["balanced"] is True
    assert report["records"] == {"statement": len(sent)}
    assert {arrival.key for arrival in receiver.log} == set(sent)
    assert all(arrival.body == sent[arrival.key].strip() for arrival in receiver.log)
    firsts = list(dict.fromkeys(arrival.key for arrival in receiver.log))
    assert {*firsts[-len(voids) :]} == {each["id"] for each in voids}
    for user in users:
        theirs = [each["id"] for each in others if each["actor"]["account"]["name"] == user]
        assert [key for key in firsts if key in theirs] == theirs


def test_ctrl_c_stops_a_run_on_flink_in_good_order_and_the_next_goes_on(
    workshop: Workshop, receiver: Receiver, started: list["subprocess.Popen[str]"]
) -> None:
    taken = 40
    receiver.script = lambda arrival: Answer() if len(receiver.log) < taken else Answer(fault="hold")
    workshop.write_activity(sessions(30))
    workshop.write_forwarders(http_document(receiver))
    output = workshop.path / "flink"
    job = flink(workshop, output)
    started.append(job)
    receiver.wait_for(taken + 1, PATIENCE)
    job.send_signal(signal.SIGINT)
    assert job.stderr is not None
    assert any("taking no more records" in line for line in job.stderr)
    receiver.release()
    told, trouble = job.communicate(timeout=PATIENCE)

    assert job.returncode == 1, trouble
    assert "stopped before the end" in told
    report = json.loads((output / "report.json").read_text())
    (account,) = report["forwarders"]
    assert report["balanced"] is True
    assert account["pending"] > 0
    assert account["delivered"] == len(receiver.stored())

    receiver.script = scripted()
    assert workshop.run("--output", str(output)) == 0
    keys = [key for _, key in receiver.stored()]
    assert len(keys) == len(set(keys)) == 120
