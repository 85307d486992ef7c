"""`session-forwarder show`: what an output has, as a table and as lines of JSON."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from commands.command import main
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.settlements import delivered, given_up
from tests.support.workshop import Workshop
from transforms.receipts.journal import Journal


@pytest.fixture
def settled(workshop: Workshop, receiver: Receiver) -> Workshop:
    """An output with one letter of three records, and a reject."""
    workshop.write_activity([activity("START"), activity("SUBMIT", 60, pending_scoring=True)])
    workshop.write_lines([b'{"no": "activity"}'], "broken.jsonl")
    workshop.write_forwarders(
        http_document(receiver, "begun", query='{"event": "session-started"}', description="those who begin"),
        http_document(receiver, "refused", query='{"event": "session-completed"}'),
    )
    receiver.script = lambda arrival: Answer(422 if "refused" in arrival.request_line else 200)
    assert workshop.run("--max_reject_ratio=0.5") == 3
    receiver.script = scripted()
    return workshop


def lines(*words: str, workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["show", *words, f"--output={workshop.output}"]) == 0
    return capsys.readouterr().out.splitlines()


def rows(*words: str, workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(*words, "--json", workshop=workshop, capsys=capsys)]


def test_letters_are_those_that_a_redrive_would_look_at(settled: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    (letter,) = rows("letters", workshop=settled, capsys=capsys)
    assert (letter["forwarder_id"], letter["reason"], letter["status"]) == ("refused", "http_422", 422)
    assert "payload" not in letter
    (with_payload,) = rows("letters", "--payload", workshop=settled, capsys=capsys)
    assert json.loads(with_payload["payload"])["event"] == "session-completed"
    header, line = lines("letters", workshop=settled, capsys=capsys)
    assert header.split()[:2] == ["time", "(UTC)"]
    assert letter["id"] in line
    for filtered in (["--forwarder=begun"], ["--reason=timeout"], ["--until=-1h"], ["--user=nobody"], ["--id=x"]):
        assert rows("letters", *filtered, workshop=settled, capsys=capsys) == []
        said = lines("letters", *filtered, workshop=settled, capsys=capsys)
        assert said == [f"no letters in {settled.output} that these flags choose"]
    for filtered in (["--forwarder=refused"], ["--reason=http_422"], ["--since=-1h"], ["--id", letter["id"].upper()]):
        assert rows("letters", *filtered, workshop=settled, capsys=capsys) == [letter]
    assert settled.redrive() == 0
    assert lines("letters", workshop=settled, capsys=capsys) == [f"no letters in {settled.output}"]
    assert [row["id"] for row in rows("letters", "--all", workshop=settled, capsys=capsys)] == [letter["id"]]


def test_receipts_come_in_the_order_of_time_the_newest_last(
    settled: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settled.redrive() == 0
    found = rows("receipts", workshop=settled, capsys=capsys)
    assert [row["settled_at"] for row in found] == sorted(row["settled_at"] for row in found)
    assert [row["outcome"] for row in found].count("delivered") == 2
    assert rows("receipts", "--limit=1", workshop=settled, capsys=capsys) == found[-1:]
    assert rows("receipts", "--run", found[-1]["run_id"], workshop=settled, capsys=capsys) == found[-1:]


def test_rejects_runs_and_forwarders(settled: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    (reject,) = rows("rejects", "--payload", workshop=settled, capsys=capsys)
    assert reject["content"] == '{"no": "activity"}'
    assert reject["file"].endswith("broken.jsonl")
    assert rows("rejects", "--reason=nothing like it", workshop=settled, capsys=capsys) == []
    (run,) = rows("runs", workshop=settled, capsys=capsys)
    assert (run["id"], run["delivered"], run["dead_lettered"]) == (reject["run_id"], 1, 1)
    documents = f"--forwarders={settled.path / 'forwarders.json'}"
    begun, refused = rows("forwarders", documents, workshop=settled, capsys=capsys)
    assert (begun["forwarder"], begun["delivered"], begun["letters"], begun["to"]) == ("begun", 1, 0, "http 127.0.0.1")
    assert (refused["delivered"], refused["letters"], refused["reasons"]) == (0, 1, {"http_422": 1})
    assert rows("forwarders", "--forwarder=begun", workshop=settled, capsys=capsys)[0]["delivered"] == 1


def test_what_a_job_is_writing_is_shown(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(str(workshop.output), "r000001-20260203T101500Z-5f3a9c", "000001-host-1-aaaaaa")
    journal.settle([delivered("1"), given_up("2")])
    try:
        receipts = rows("receipts", workshop=workshop, capsys=capsys)
        assert [row["outcome"] for row in receipts] == ["delivered", "dead_lettered"]
        (letter,) = rows("letters", workshop=workshop, capsys=capsys)
        assert letter["id"] == receipts[1]["id"]
        assert list((workshop.output / "receipts").glob("*.journal"))
    finally:
        journal.close()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_fits_the_terminal(settled: Workshop, columns: int) -> None:
    script = f"stty cols {columns}; exec {sys.executable} -m commands show receipts --output {settled.output}"
    # These would say more than the terminal does.
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(  # noqa: S603
        ["script", "-qec", script, "/dev/null"],  # noqa: S607
        cwd=ROOT,
        env={**environment, "TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    shown = done.stdout.splitlines()
    assert len(shown) == 3, done.stdout
    assert all(len(line) <= columns for line in shown)
    ids = [row["id"] for row in settled.avro("receipts")]
    assert columns < 80 or all(any(id_ in line for line in shown) for id_ in ids)


def test_beam_is_not_imported_for_a_local_output(settled: Workshop) -> None:
    code = (
        "import sys; from commands.command import main\n"
        "for what in ('letters', 'receipts', 'rejects', 'runs', 'forwarders'):\n"
        f"    assert main(['show', what, '--output={settled.output}']) == 0\n"
        "assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)  # noqa: S603
