"""`session-forwarder`: its verbs, their help, and what is said of a wrong call."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from commands.command import VERBS, main
from commands.show import WHATS
from pipeline.report import FAILED, LEFT_OVER, USAGE
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

HEAVY = ("aiohttp", "apache_beam", "boto3", "botocore", "fastapi", "pyarrow")

STARTS = f"""
import json, sys
from commands.__main__ import console
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        console()
    except SystemExit as ended:
        print(json.dumps([ended.code or 0, [name for name in {HEAVY} if name in sys.modules]]), file=sys.stderr)
"""


def said(*words: str, status: int = USAGE, caplog: pytest.LogCaptureFixture) -> str:
    """What is logged of a call that ends with a status."""
    caplog.clear()
    assert main(words) == status, words
    return "\n".join(record.getMessage() for record in caplog.records)


def help_of(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_the_help_names_every_verb_and_each_has_one_that_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    whole = help_of([], capsys).splitlines()
    assert all(any(line.split()[:1] == [verb.name] for line in whole) for verb in VERBS)
    for words in ([], *([verb.name] for verb in VERBS), *(["show", what] for what in WHATS)):
        lines = help_of(words, capsys).splitlines()
        # The prompt that comes next takes the last line of 24.
        assert len(lines) <= 23, words
        assert max(map(len, lines)) <= 80, words


def test_the_help_of_a_run_names_where_all_flags_are(capsys: pytest.CaptureFixture[str]) -> None:
    brief = help_of(["run"], capsys)
    assert "--help_all" in brief
    assert "--max_forget_ratio" not in brief
    with pytest.raises(SystemExit):
        main(["run", "--help_all"])
    everything = capsys.readouterr().out
    assert "--max_forget_ratio" in everything
    for group in ("what is read", "what is derived", "who gets it", "how it is delivered", "looking without sending"):
        assert group in everything


def test_a_start_that_tells_of_itself_or_of_a_mistake_imports_nothing_that_takes_long() -> None:
    calls = {
        ("--help",): 0,
        ("--version",): 0,
        ("help",): 0,
        ("show", "--help"): 0,
        ("rnu",): 2,
        ("run",): 2,
        ("run", "--inptu=x"): 2,
        ("plan", "--max_rejects=-1"): 2,
        ("explain", "--input=x"): 2,
        ("redrive", "--output=o"): 2,
        ("check", "--runner=X"): 2,
        ("sample", "--sessions=x"): 2,
        ("serve", "--port=x"): 2,
        ("init",): 2,
        ("top",): 2,
        ("show", "lettres"): 2,
        ("show", "letters"): 2,
        ("show", "letters", "--output=nowhere"): 2,
        ("completion", "fish"): 2,
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", STARTS, json.dumps(list(calls))], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    ended = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    assert dict(zip(calls, ended, strict=True)) == {call: [status, []] for call, status in calls.items()}
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rnu"], "did you mean run?"),
        (["run", "--input=in/*", "--forwarders=f"], "--output is missing"),
        (["run", "--input=in/*", "--forwarders=f", "--output="], "--output is empty"),
        (["run", "--temp_dir", ""], "--temp_dir"),
        (["run", "--runner=a.b.C"], "cannot be imported"),
        (["run", "--runner=json.JSONDecoder"], "not one of Beam's runners"),
        (["run", "--runtime_type_check"], "fails with every run"),
        (["run", "--s3_secret_access_key=abc"], "is a secret"),
        (["run", "--direct_num_workers", "-1"], "whole number"),
        (["run", "--profile_cpu"], "--profile_location"),
        (["run", "--log_level=loud"], "--log_level"),
        (["run", "--config=nowhere.toml"], "there is no such file"),
        (["explain", "--input=x"], "name the id first"),
        (["redrive", "--forwarders=f"], "needs --forwarders and --output"),
        (["redrive", "--forwarders=f", "--output=o", "--input=x"], "leave --input out"),
        (["redrive", "--forwarders=f", "--output=nowhere"], "there is no such directory"),
        (["show", "lettres"], "did you mean letters?"),
        (["show", "letters"], "--output is missing"),
        (["show", "letters", "--output=nowhere"], "there is no such directory"),
        (["show", "letters", "--output=.", "--kind=scores"], "--kind"),
        (["show", "letters", "--output=.", "--since=yesterday"], "not a time"),
        (["init", "x", "--port=0"], "not a port"),
        (["serve", "--port=x"], "not a port"),
        (["sample", "--sessions=-1", "--output=x"], "whole number"),
        (["sample", "--invalid=1", "--output=x"], "below 1"),
        (["top"], "--output is missing"),
        (["completion", "fish"], "bash"),
        (["top", "--output=x", "--onec"], "unknown flag --onec; the nearest known flag is --once"),
        (["show", "letters", "--output=.", "--reson=abc"], "unknown flag --reson; the nearest known flag is --reason"),
        (["compact", "out", "more"], "unknown argument more"),
    ],
)
def test_a_wrong_call_is_told_in_a_sentence(
    words: list[str], told: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = said(*words, caplog=caplog)
    assert told in text
    assert "abc" not in text
    assert list(tmp_path.iterdir()) == []


def test_beam_refusing_its_own_flags_is_a_wrong_call(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.write_activity([activity("START")])
    usual = ("run", f"--input={workshop.path}/in/*", "--write_records=jsonl", f"--output={workshop.output}")
    text = said(*usual, "--type_check_additional=nothing", caplog=caplog)
    assert "Beam cannot start with the flags that are its own" in text
    assert "--type_check_additional" in text


def test_what_stood_before_there_were_verbs_is_a_run(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver, "all"))
    assert main(workshop.arguments("--input", str(workshop.path / "in" / "*"))) == 0
    assert len(receiver.stored()) == 1


def test_explain_takes_a_record_a_session_or_an_activity(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_activity([activity("START"), activity("SUBMIT", 60), activity("START", session_id="other")])
    workshop.write_forwarders(http_document(receiver, "scores", query='{"kind": "score"}'))
    flags = ["--input", str(workshop.path / "in" / "*"), "--forwarders", str(workshop.path / "forwarders.json")]
    assert main(["explain", "s", *flags]) == 0
    of_session = capsys.readouterr().out.splitlines()
    records = [line for line in of_session if not line.startswith(" ")]
    assert len(records) >= 2
    assert all(line.endswith("session s") for line in records)
    assert all("scores: no match: kind" in line or "scores: match" in line for line in of_session if line[0] == " ")
    id_ = records[0].partition(":")[0]
    assert main(["explain", id_.upper(), *flags]) == 0
    assert capsys.readouterr().out.splitlines() == of_session[:2]
    assert main(["explain", "SUBMIT@60", *flags]) == 0
    assert capsys.readouterr().out.splitlines() == of_session[2:]
    assert main(["explain", "nobody", *flags]) == LEFT_OVER
    unknown = capsys.readouterr().out
    assert re.match(r"nobody: none of the \d+ records", unknown)
    assert "show receipts" in unknown
    assert " 0  " not in unknown
    assert receiver.log == []


def test_top_says_that_no_job_runs(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    workshop.output.mkdir()
    assert main(["top", f"--output={workshop.output}"]) == FAILED
    assert "no job runs on" in capsys.readouterr().out
