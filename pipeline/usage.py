"""What a command line is refused with, the parsers that refuse it so, and help that fits a screen."""

import argparse
import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

WIDTH = 80
"""Characters of a line of help."""


_HEAD = 21


class UsageError(Exception):
    """The job cannot run with these arguments or this configuration (exit status 2). The text says what to change."""


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, where argparse prints its own text and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags of a command line. Raises UsageError, which names the nearest flag of one that there is not."""
        found, rest = self.parse_known_args(argv)
        if rest:
            raise unknown(rest[0], self._option_string_actions)
        return found


def unknown(argument: str, names: Iterable[str]) -> UsageError:
    """What a word of a command line is refused with that is no flag, and no value of one.

    Args:
        argument: the word. What follows its `=` is not repeated: it may be a secret.
        names: of the flags that there are.
    """
    flag = argument.partition("=")[0]
    nearest = difflib.get_close_matches(flag, sorted(names), n=1)
    hint = f"; the nearest known flag is {nearest[0]}" if nearest else ""
    if not flag.startswith("-") and Path(flag).exists():
        hint = "; if the shell made it of a pattern, quote the pattern: --input 'in/*.jsonl'"
    return UsageError(f"unknown {'flag' if flag.startswith('-') else 'argument'} {flag}{hint}")


def example_lines(prog: str, examples: Sequence[str]) -> Iterator[str]:
    """Command lines as a help shows them, those that are too long on several lines.

    Args:
        prog: how the command is called.
        examples: what may follow it.
    """
    for example in examples:
        whole = f"{prog} {example}"
        lines = [whole]
        if len(whole) > WIDTH - 2:
            lines = textwrap.wrap(
                whole, WIDTH - 4, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
            )
        yield from ("  " + line + (" \\" if line != lines[-1] else "") for line in lines)


class ScreenParser(Parser):
    """A parser of many flags: `--help` shows those that are used most, a line each, and `--help_all` shows all.

    Args:
        prog: how the command is called.
        usage: the same, with what follows it.
        description: what it does.
        epilog: what stands below the flags.
        brief: the flags that are used most, each with a few words. A line may be of two: `--since, --until`.
    """

    def __init__(
        self, prog: str, usage: str, description: str, epilog: Sequence[str], brief: Mapping[str, str]
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog="\n".join(epilog),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._brief = brief
        self._shows_all = True
        self.add_argument("-h", "--help", action=_Help, help="show the flags that are used most, and exit")
        self.add_argument("--help_all", action=_Help, help="show every flag, and exit")

    def show(self, *, everything: bool) -> None:
        """Print the help: of every flag, or of those that are used most."""
        self._shows_all = everything
        self.print_help()

    def format_help(self) -> str:
        """The text of the help."""
        return super().format_help() if self._shows_all else "\n".join(self._brief_lines()) + "\n"

    def _brief_lines(self) -> Iterator[str]:
        yield f"usage: {self.usage}"
        yield ""
        yield from textwrap.wrap(self.description or "", WIDTH)
        yield ""
        for flags, text in self._brief.items():
            action = self._option_string_actions[flags.split(", ")[-1]]
            head = flags if action.nargs == 0 or action.choices else f"{flags} {action.metavar}"
            yield f"  {head if len(head) <= _HEAD else flags:<{_HEAD}}  {text}"
        yield f"  {'--help_all':<{_HEAD}}  every flag; docs/flags.md explains them"
        yield ""
        yield from (self.epilog or "").splitlines()


class _Help(argparse.Action):
    """Prints the help, and exits."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        if isinstance(parser, ScreenParser):
            parser.show(everything="--help" not in self.option_strings)
        parser.exit()
