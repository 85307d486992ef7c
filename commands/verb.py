"""What the verbs share: their name, and the parser of those that are no run of the job."""

import argparse
import textwrap
from collections.abc import Sequence

from commands.command import PROG
from pipeline.command import prepare_file_systems
from pipeline.config_file import with_config_file
from pipeline.logs import adjust_logging
from pipeline.options import Job, option_actions
from pipeline.usage import WIDTH, Parser, UsageError, example_lines
from transforms.storage import local_path


class VerbParser(Parser):
    """A parser whose help fits a screen. A mistake raises UsageError, whose text names the verb.

    Args:
        verb: its name, and what it is about, such as `show letters`.
        description: what it does.
        examples: what may follow `session-forwarder`, each a line.
    """

    def __init__(self, verb: str, description: str, examples: Sequence[str] = ()) -> None:
        super().__init__(
            prog=f"{PROG} {verb}",
            usage=f"{PROG} {verb} [FLAG ...]",
            description=description if "\n" in description else textwrap.fill(description, WIDTH),
            epilog="\n".join(["examples:", *example_lines(PROG, examples)]) if examples else None,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=24, width=WIDTH),
            allow_abbrev=False,
        )

    def add_config(self) -> None:
        """Take `--config`: of a file with the flags of a run, those that this verb has too."""
        self.add_argument("--config", dest=argparse.SUPPRESS, metavar="FILE", help="a TOML file with flags, as of run")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags of a command line. A config file may have flags of the job that are not the verb's.

        Raises:
            UsageError: a flag or a value cannot be read.
        """
        mine = self._option_string_actions
        of_others = frozenset(option_actions()) - frozenset(mine)
        words = with_config_file(argv, {**option_actions(), **mine}, of_others) if "--config" in mine else list(argv)
        adjust_logging(words)
        return self.parse_all(words)


def output_of(arguments: argparse.Namespace, what: str) -> str:
    """The output that `--output` names, on whatever file system it is. Raises UsageError where none is named.

    Args:
        arguments: with the flag.
        what: is asked for in the message.
    """
    output = required(arguments.output, "--output", what)
    if local_path(output) is None:
        prepare_file_systems(Job(output=output))
    return output


def required(value: str | None, flag: str, what: str) -> str:
    """The value of a flag that must be given, on the command line or in a config file. Raises UsageError."""
    if not value:
        raise UsageError(f"{flag} is missing: {what}")
    return value
