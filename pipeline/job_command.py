"""What the commands that run the job differ in: their names and their help. Their flags are those of one table.

A command stands for flags (`plan` for `--dry_run`). `--help` shows what is used most, on one screen; `--help_all` shows
every flag.
"""

import argparse
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import NoReturn

from pipeline.standard_output import print_all
from pipeline.usage import ScreenParser, example_lines
from transforms.sinks.user_agent import installed_version

_MOST_USED = (
    "--input",
    "--forwarders",
    "--output",
    "--config",
    "--allow_network",
    "--forwarder",
    "--kind",
    "--since, --until",
    "--state",
    "--replay",
    "--log_level",
)

_BRIEF = {
    "--input": "files to read, in quotes if a pattern; repeatable",
    "--forwarders": "forwarder documents: file, directory or service",
    "--output": "receipts, dead letters, rejects, report.json go here",
    "--allow_network": "a private network to send to: 127.0.0.1/32; repeatable",
    "--config": "a TOML file with flags; what is given here wins",
    "--forwarder": "only this forwarder; repeatable",
    "--kind": "only event, status, score or statement; repeatable",
    "--since, --until": "only records of this time: 2026-03-01, RFC 3339, -24h",
    "--state": "keep sessions between runs, and read only new files",
    "--replay": "all: send again what was delivered",
    "--outage_budget": "so long without progress, then dead letters (5m)",
    "--organisation": "of activity that names none",
    "--naive_times": "utc: times without a zone are UTC",
    "--log_format": "json: an object a line, with the run's id",
    "--log_level": "debug, info (default), warning or error",
    "--secrets_dir": "where file: references of secrets lie",
    "--on_failure": "block_user: give up the rest of a user's records, too",
    "--reason": "only letters given up for this reason; repeatable",
    "--id": "only the letter of this record; repeatable",
    "--redrive": "of the dead letters of --output, not of --input",
}
"""What a flag is for, in the few words that one line of a screen holds."""

_OF_INPUT = frozenset(("--input", "--input_auth", "--state", "--trust_clock", "--write_records"))
"""What a redrive goes without: a config file has it for the runs before."""


@dataclass(frozen=True)
class JobCommand:
    """A command that takes the job's flags.

    Attributes:
        prog: how it is called.
        description: what it does, in a sentence or two.
        examples: command lines, each without `prog`.
        implied: flags that the command stands for. They go before those that are given.
        shown: the flags that `--help` shows.
        needs_input: whether a run without `--input` is a mistake.
        takes_id: whether an id goes before the flags.
    """

    prog: str
    description: str
    examples: tuple[str, ...]
    implied: tuple[str, ...] = ()
    shown: tuple[str, ...] = _MOST_USED
    needs_input: bool = True
    takes_id: bool = False

    def not_from_config(self, argv: Sequence[str]) -> frozenset[str]:
        """The flags of a config file that do not count, since what is asked for goes without them.

        Args:
            argv: the command line.
        """
        return _OF_INPUT if "--redrive" in (*self.implied, *argv) else frozenset()


PIPELINE = JobCommand(
    prog="python -m pipeline",
    description="Learning-session activity in; events, status and score messages out, in order, to every forwarder "
    "whose query they match.",
    examples=(
        "--input 'in/*' --forwarders forwarders.json --output out",
        "--input 'in/*' --forwarders forwarders.json --dry_run",
    ),
)

_EXIT_STATUS = "exit status: 0 well, 1 failed or stopped, 2 bad arguments, 3 not all delivered"


class JobParser(ScreenParser):
    """The parser of a command, which has no flags of the job yet."""

    def __init__(self, command: JobCommand) -> None:
        super().__init__(
            command.prog,
            f"{command.prog}{' ID' if command.takes_id else ''} [FLAG ...]",
            command.description,
            list(_epilog(command)),
            {flag: _BRIEF[flag] for flag in command.shown},
        )
        self.add_argument("--version", action=Version, help="show the versions of this, Beam and Python, and exit")


def _epilog(command: JobCommand) -> Iterator[str]:
    yield "examples:"
    yield from example_lines(command.prog, command.examples)
    yield ""
    yield _EXIT_STATUS


class Version(argparse.Action):
    """Prints the versions that are installed, and exits."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        of_beam = metadata.version("apache-beam")
        print_all(
            f"session-forwarder {installed_version()} (apache-beam {of_beam}, Python {platform.python_version()})"
        )
        parser.exit()
