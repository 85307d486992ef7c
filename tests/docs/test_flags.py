"""docs/flags.md says what the commands' own parsers say, and every command that a page prints is one that is taken."""

import argparse
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest

import commands.command
import local.__main__ as run_local
import local.flink.__main__ as run_flink
import local.flink.streaming as run_streaming
from commands import check, compact, completion, explain, init, plan, redrive, run, serve, show, top
from commands import sample as sample_verb
from pipeline import options, sample
from pipeline.config_file import with_config_file
from pipeline.job_command import PIPELINE
from pipeline.options import join_relative_times
from registry import command
from tests.docs.page import sections, tables
from tests.support.paths import ROOT

FLAGS = ROOT / "docs/flags.md"

JOB_VERBS = {"run": run, "plan": plan, "check": check, "explain": explain, "redrive": redrive}

VERBS: dict[str, Callable[[Sequence[str]], object]] = {
    "compact": compact.main,
    "completion": completion.main,
    "init": init.main,
    "sample": sample_verb.main,
    "serve": serve.main,
    "top": top.main,
}

COMMANDS: dict[str, Callable[[Sequence[str]], object]] = {
    "session-forwarder": commands.command.main,
    **{f"session-forwarder {verb}": VERBS[verb] for verb in ("compact", "completion", "init", "top")},
    **{f"session-forwarder show {what}": partial(show.show, what) for what in show.WHATS},
    "python -m pipeline": options.parse,
    "python -m pipeline.sample": sample.main,
    "python -m registry": command.main,
    "./run_local.sh": run_local.main,
    "./run_flink.sh": run_flink.main,
    "./run_flink.sh --streaming": run_streaming.main,
}

_CODE = re.compile(r"`([^`]+)`")


def parser_of(main: Callable[[Sequence[str]], object], monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that answers `--help` of a command, caught as it does."""
    caught: list[argparse.ArgumentParser] = []
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: caught.append(parser))
        with pytest.raises(SystemExit):
            main(["--help"])
    return caught[0]


def parsers(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A command and the commands below it, each with its name as it is typed."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below, inner in action.choices.items():
                yield from parsers(f"{name} {below}", inner)


def flags_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags of a parser, `--help` aside."""
    flags = {flag: action for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    del flags["--help"]
    return flags


def documented() -> dict[str, dict[str, tuple[str | None, str]]]:
    """By the heading of a command: its flags, each with the default and the sentence that the page gives."""
    commands: dict[str, dict[str, tuple[str | None, str]]] = {}
    name = ""
    for section in sections(FLAGS):
        if section.level == 2 or section.title.startswith(("python -m ", "session-forwarder ")):
            name = section.title
        for header, *rows in tables(section):
            if header == ["flag", "default", "meaning"]:
                page = commands.setdefault(name, {})
                page.update({flag.strip("`"): (default.strip("`") or None, text) for flag, default, text in rows})
    return commands


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_flag_of_a_command_with_its_default_and_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = documented()
    for each, parser in parsers(name, parser_of(COMMANDS[name], monkeypatch)):
        rows, flags = page.get(each, {}), flags_of(parser)
        assert rows.keys() == flags.keys(), each
        for flag, action in flags.items():
            default, sentence = rows[flag]
            # The job's parser leaves a flag out that is not given: its default is that of the job description's field.
            own = getattr(options.Job, action.dest, None) if name == "python -m pipeline" else action.default
            has_none = own is None or own is False or own in ((), [])
            assert (default is None) == has_none, f"{each} {flag}"
            if default is not None:
                read = action.type if callable(action.type) else str
                assert read(default) == own, f"{each} {flag}"
            assert set(action.choices or ()) <= set(_CODE.findall(sentence)), f"{each} {flag}"
            assert not action.required or sentence.startswith("Required."), f"{each} {flag}"


@pytest.mark.parametrize("verb", JOB_VERBS)
def test_a_verb_of_the_job_has_the_flags_of_the_job(verb: str) -> None:
    assert flags_of(JOB_VERBS[verb].parser()).keys() == flags_of(options.parser_of(PIPELINE)).keys()
    assert f"session-forwarder {verb}" in [section.title for section in sections(FLAGS)]


@pytest.mark.parametrize(
    ("verb", "same"), [("sample", "python -m pipeline.sample"), ("serve", "python -m registry serve")]
)
def test_a_verb_that_is_another_command_has_its_flags(verb: str, same: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = flags_of(parser_of(VERBS[verb], monkeypatch))
    assert flags.keys() - {"--help_all"} == documented()[same].keys()


def test_every_verb_is_on_the_page() -> None:
    titles = {section.title for section in sections(FLAGS)}
    for verb in commands.command.VERBS:
        assert any(title.split()[:2] == ["session-forwarder", verb.name] for title in titles), verb.name


def test_the_page_names_no_command_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {each for name in COMMANDS for each, _ in parsers(name, parser_of(COMMANDS[name], monkeypatch))}
    assert documented().keys() <= known


def printed_commands() -> Iterator[tuple[str, str, list[str]]]:
    """(page, command, arguments) of every command of the project in a fenced block of a page."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in (block for section in sections(page) for block in section.blocks):
            for line in block.text.replace("\\\n", " ").splitlines():
                if re.search(r"python -m (pipeline|registry|local)\b|^(?!#).*session-forwarder [a-z]", line):
                    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
                    lexer.whitespace_split = True
                    words = list(lexer)
                    if "session-forwarder" in words:
                        name, *rest = words[words.index("session-forwarder") :]
                    else:
                        name, *rest = words[words.index("-m") + 1 :]
                        name = f"python -m {name}"
                    arguments = list(takewhile(lambda word: not set(word) <= set("();<>|&"), rest))
                    yield str(page.relative_to(ROOT)), name, arguments


@pytest.mark.parametrize(("page", "name", "arguments"), list(printed_commands()))
def test_a_printed_command_is_taken(
    page: str, name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jar = tmp_path / "local/flink/target/flink-job-server.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    (tmp_path / "run.toml").write_text("input = ['in/*']\nforwarders = 'f.json'\noutput = 'out'\n")
    monkeypatch.chdir(tmp_path)
    if name == "session-forwarder":
        _take(arguments, monkeypatch)
    elif (main := COMMANDS[name]) is options.parse:
        options.parse(with_config_file(arguments, options.option_actions()))
    else:
        parser_of(main, monkeypatch).parse_args(arguments)


def _take(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises for a command line that `session-forwarder` does not take."""
    verb, *rest = arguments
    if verb == "show":
        parser_of(partial(show.show, rest[0]), monkeypatch).parse_args(join_relative_times(rest[1:]))
    elif verb in VERBS:
        parser_of(VERBS[verb], monkeypatch).parse_args(rest)
    else:
        of = JOB_VERBS[verb].COMMAND
        if of.takes_id:
            of, rest = replace(of, implied=("--explain", rest[0])), rest[1:]
        options.parse(with_config_file(rest, options.option_actions(), of.not_from_config(rest)), of)


def test_pages_print_commands() -> None:
    assert len(list(printed_commands())) > 15
