"""Flags in a file: what they become, and what is refused."""

from pathlib import Path

import pytest

from pipeline.config_file import with_config_file
from pipeline.options import option_actions, parse
from pipeline.usage import UsageError


def words(path: Path, text: str, *argv: str) -> list[str]:
    file = path / "run.toml"
    file.write_text(text)
    return with_config_file(["--config", str(file), *argv], option_actions())


def test_any_flag_may_stand_in_it(tmp_path: Path) -> None:
    text = """
        input = ["in/*", "more/*"]
        forwarders = "f.json"
        output = "out"
        max_backoff = 2.5
        max_rejects = 3
        dry_run = true
        redrive = false
        since = 2026-03-01
        until = 2026-03-02T09:00:00Z
        direct_num_workers = 2
    """
    job = parse(words(tmp_path, text))
    assert job.inputs == ("in/*", "more/*")
    assert (job.max_backoff, job.max_rejects, job.dry_run, job.redrive) == (2.5, 3, True, False)
    assert job.window.since is not None
    assert job.window.until is not None
    assert job.beam_args == ("--direct_num_workers=2",)


def test_flags_win(tmp_path: Path) -> None:
    text = "input = ['in/*', 'more/*']\noutput = 'out'\nforwarders = 'f.json'\nsince = '-24h'"
    job = parse(words(tmp_path, text, "--input=mine/*", "--output", "other", "--since", "-1h"))
    assert (job.inputs, job.output, job.forwarders) == (("mine/*",), "other", "f.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("outptu = 'x'", "outptu is no flag; the nearest is output"),
        ("dry-run = true", "the nearest is dry_run"),
        ("output = true", "takes a value"),
        ("dry_run = 'yes'", "write true or false"),
        ("[run]\noutput = 'x'", "run is a table, and no flag: write each flag above all tables"),
        ("[output]\nx = 1", "is a table"),
        ("input = [['a']]", "what no flag takes"),
        ("output = ", "is not TOML"),
        ("config = 'other.toml'", "goes on the command line"),
        ("version = true", "goes on the command line"),
    ],
)
def test_what_is_no_flag_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=r"run\.toml") as refused:
        words(tmp_path, text)
    assert told in str(refused.value)


def test_every_name_that_is_no_flag_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        words(tmp_path, "outptu = 'x'\noutput = 'out'\nforwarder = 'f'\nforwaders = 'f'")
    told = str(refused.value).splitlines()
    assert [line.partition("run.toml: ")[2].partition(" ")[0] for line in told] == ["outptu", "forwaders"]


@pytest.mark.parametrize(
    "text",
    [
        "forwarders = 'mongodb://ann:hush-hush@host/db'",
        "input_auth = 'ann:hush-hush'\ninput = 'https://host/xAPI/statements'",
        "s3_secret_access_key = 'hush-hush'",
        "secret = 'hush-hush'",
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    usual = ["--forwarders=f", "--output=o"] if "forwarders" not in text else ["--input=i", "--output=o"]
    with pytest.raises(UsageError) as refused:
        parse(words(tmp_path, text, *usual))
    assert "hush" not in str(refused.value)


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        words(tmp_path, "", "--config=b")
