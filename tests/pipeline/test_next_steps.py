"""The commands that a run with dead letters ends with."""

import shlex

import pytest

from pipeline.next_steps import next_commands
from pipeline.options import Job, parse

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


def test_without_dead_letters_there_is_none() -> None:
    assert next_commands(parse(JOB), {}) == []
    assert next_commands(Job(), DEAD) == []
