"""The commands that a run with dead letters ends with."""

import shlex

import pytest

from pipeline.alert_message import AlertTexts
from pipeline.next_steps import next_commands, shown_address
from pipeline.options import Job, parse
from transforms.observing.alerts import Alert

DEAD = {"gradebook": {"http_400": 3, "timeout": 1}, "it's": {"http_400": 1}}
JOB = ["--input", "in/*", "--forwarders", "f x.json", "--output", "out/"]


def test_they_name_forwarders_and_reasons_and_can_be_pasted() -> None:
    letters, redrive = next_commands(parse(JOB), DEAD)
    assert letters == (
        "session-forwarder show letters --output out/ --forwarder gradebook --forwarder 'it'\"'\"'s' "
        "--reason http_400 --reason timeout"
    )
    assert shlex.split(redrive) == [
        *("session-forwarder", "redrive", "--output", "out/", "--forwarders", "f x.json"),
        *("--forwarder", "gradebook", "--forwarder", "it's", "--reason", "http_400", "--reason", "timeout"),
    ]


def test_with_many_forwarders_or_reasons_they_are_for_all() -> None:
    letters, _ = next_commands(parse(JOB), {f"f{number}": {f"http_40{number}": 1} for number in range(4)})
    assert letters == "session-forwarder show letters --output out/"
    letters, _ = next_commands(parse(JOB), {f"f{number}": {"http_400": 1} for number in range(4)})
    assert letters == "session-forwarder show letters --output out/ --reason http_400"


def test_what_the_run_was_told_of_delivery_is_told_again_and_means_the_same() -> None:
    told = [
        *("--allow_network", "10.0.0.0/8", "--allow_network", "127.0.0.0/8", "--on_failure", "block_user"),
        *("--max_backoff", "0.5", "--outage_budget", "20", "--secret_env_prefix", "X_", "--secrets_dir", "secrets"),
        *("--durability", "each", "--aws_client", "boto3", "--attachments", "data", "--trust_references"),
        *("--skip_invalid_forwarders", "--require_organisation", "--direct_num_workers=2"),
    ]
    job = parse([*JOB, *told])
    _, redrive = next_commands(job, DEAD)
    again = parse(["--redrive", *shlex.split(redrive.replace(" --reason http_400 --reason timeout", ""))[2:]])
    unlike = {name for name in Job.__dataclass_fields__ if getattr(again, name) != getattr(job, name)}
    assert unlike == {"inputs", "redrive", "only_forwarders", "window"}


@pytest.mark.parametrize("flag", [["--s3_secret_access_key=abc123"], ["--s3_secret_access_key", "abc123"]])
def test_no_secret_of_beams_flags_is_printed(flag: list[str]) -> None:
    _, redrive = next_commands(Job(forwarders="f.json", output="out", beam_args=(*flag, "--s3_region_name=x")), DEAD)
    assert "abc123" not in redrive
    assert redrive.endswith("--s3_region_name=x")


@pytest.mark.parametrize("equals", [True, False])
def test_an_alert_does_not_tell_the_secrets_of_the_command_line(equals: bool) -> None:
    """It may go to a room that many read: neither the address that lets one into it, nor Beam's keys."""
    words = ["session-forwarder", "run", "--input", "in/*", "--secrets_dir", "keys", "--alert_secret", "env:KEY"]
    for flag, value in (("--alert_url", "https://hooks.example/T0/abc123"), ("--s3_secret_access_key", "abc123")):
        words += [f"{flag}={value}"] if equals else [flag, value]
    body = AlertTexts(Job(), words).body(None, Alert("run.failed", 0.0, reason="no room"))
    assert b"abc123" not in body
    for told in (b"https://hooks.example/...", b"--input 'in/*'", b"--secrets_dir keys --alert_secret env:KEY"):
        assert told in body


def test_an_address_is_shown_without_what_may_let_one_in() -> None:
    for address in ("env:HOOK", "file:/run/hook", "https://hooks.example", "http://127.0.0.1:80"):
        assert shown_address(address) == address
    for rest in ("/T0/abc", "?key=abc", "#abc"):
        assert shown_address(f"https://hooks.example:1{rest}") == "https://hooks.example:1/..."


def test_an_alert_of_a_run_that_is_caught_up_with_says_so() -> None:
    def told(reason: str, *more: str) -> str:
        texts = AlertTexts(parse([*JOB, *more]))
        return texts.body(
            "r", Alert("forwarder.dead_letters", 0.0, forwarder_id="f", dead_letters={reason: 1})
        ).decode()

    assert "not sent again by themselves" in told("http_503")
    assert "The next run tries them first." in told("http_503", "--state", "state")
    assert "Those of http_400 are not sent again by themselves" in told("http_400", "--state", "state")
    assert "not sent again by themselves" in told("http_503", "--state", "state", "--catch_up=off")


def test_without_dead_letters_there_is_none() -> None:
    assert next_commands(parse(JOB), {}) == []
    assert next_commands(Job(), DEAD) == []
