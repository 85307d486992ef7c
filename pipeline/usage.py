"""What a command line is refused with, and the parser that refuses it so."""

import argparse
from typing import NoReturn


class UsageError(Exception):
    """The job cannot run with these arguments or this configuration (exit status 2). The text says what to change."""


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, where argparse prints its own text and exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)
