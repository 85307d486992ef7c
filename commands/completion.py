"""`session-forwarder completion bash|zsh`: prints a script that completes verbs, flags and their values."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module

import shtab

from commands.command import PROG, VERBS
from commands.show import parsers as parsers_of_show
from commands.verb import VerbParser
from pipeline.standard_output import print_all

_SHELLS = ("bash", "zsh")
_COMPLETED_AS = {
    "DIR": shtab.DIRECTORY,
    **dict.fromkeys(("FILE", "GLOB", "WHERE"), shtab.FILE),
}
"""What stands for a value in the help, with how a shell completes it."""


def parser() -> VerbParser:
    """The flags."""
    made = VerbParser(
        "completion SHELL",
        "Prints what lets a shell complete verbs, flags and their values. SHELL is bash or zsh.",
        (
            "completion bash > ~/.local/share/bash-completion/completions/session-forwarder",
            'completion zsh > "${fpath[1]}/_session-forwarder"',
        ),
    )
    made.add_argument("shell", metavar="SHELL", choices=_SHELLS, help="bash or zsh")
    return made


def main(argv: Sequence[str]) -> int:
    """Print the script. Returns the exit status."""
    print_all(shtab.complete(_whole(), parser().parse_all(argv).shell))
    return 0


def _whole() -> argparse.ArgumentParser:
    """The command with all of its verbs and flags, as one parser."""
    whole = argparse.ArgumentParser(PROG)
    verbs = whole.add_subparsers()
    for verb in VERBS:
        if verb.name == "show":
            show = verbs.add_parser("show", help=verb.summary)
            _add(show.add_subparsers(), parsers_of_show())
        else:
            _add(verbs, {verb.name: import_module(f"commands.{verb.name}").parser()}, verb.summary)
    return whole


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    parsers: Mapping[str, argparse.ArgumentParser],
    summary: str = "",
) -> None:
    for name, made in parsers.items():
        for action in made._actions:
            if isinstance(action.metavar, str) and action.metavar in _COMPLETED_AS:
                action.complete = _COMPLETED_AS[action.metavar]  # type: ignore[attr-defined]
        verbs.add_parser(name, parents=[made], add_help=False, help=summary or made.description)
