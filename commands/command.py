"""The command with its verbs. Only the verb that is asked for is imported."""

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from pipeline.job_command import Version
from pipeline.usage import Parser, UsageError

PROG = "session-forwarder"


@dataclass(frozen=True)
class _Verb:
    """What `--help` says of a verb; `commands.<name>` carries it out."""

    name: str
    summary: str


VERBS = (
    _Verb("init", "make a folder to try it in: activity, a forwarder, a receiver"),
    _Verb("check", "find every fault of documents, secrets, hosts, streams and places"),
    _Verb("plan", "say who would get what, and send nothing"),
    _Verb("run", "read, derive, match and deliver"),
    _Verb("explain", "say of a record or a session why who gets it"),
    _Verb("show", "list letters, receipts, rejects, runs or forwarders of an output"),
    _Verb("top", "watch all forwarders of a running job"),
    _Verb("redrive", "send dead letters again"),
    _Verb("compact", "merge old receipts, and remove what nobody needs any more"),
    _Verb("sample", "make input of any size that looks real"),
    _Verb("serve", "serve the registry: forwarder documents over HTTP"),
    _Verb("completion", "print what lets bash or zsh complete the command"),
)

_EPILOG = """\
begin with:
  session-forwarder init try && cd try

VERB --help says more; --version says which versions these are. Without a verb,
flags are those of run.
"""


def main(argv: Sequence[str]) -> int:
    """Carry out what a command line asks for. Returns the exit status (docs/operations.md)."""

    words = list(argv)
    if not words or words[0] in ("help", "-h", "--help", "--version"):
        parser().parse_args(words if words[:1] == ["--version"] else ["--help"])
        raise AssertionError("help and version end the process")
    if words[0].startswith("-"):
        words.insert(0, "run")  # As the command was before it had verbs.
    # Late: what the command says of itself takes none of the job.
    from pipeline.command import guarded

    return guarded(lambda: carry_out(words[0])(words[1:]))


def carry_out(name: str) -> Callable[[Sequence[str]], int]:
    """The function that carries out a verb, given what follows it. Raises UsageError for a verb that there is not."""
    names = [verb.name for verb in VERBS]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f": did you mean {close[0]}?" if close else "."
        raise UsageError(f"there is no verb {name}{hint} There are {', '.join(names)}")
    run: Callable[[Sequence[str]], int] = import_module(f"commands.{name}").main
    return run


def parser() -> argparse.ArgumentParser:
    """The parser of the command itself, which knows its verbs by name alone."""
    width = max(len(verb.name) for verb in VERBS)
    lines = [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS]
    made = Parser(
        prog=PROG,
        usage=f"{PROG} VERB ...",
        description="Learning-session activity in; events, status and score messages out.\n\nverbs:\n"
        + "\n".join(lines),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    # Neither is listed: the text below says what there is in two lines.
    made.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    made.add_argument("--version", action=Version, help=argparse.SUPPRESS)
    return made
