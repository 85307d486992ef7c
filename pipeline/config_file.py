"""Flags in a TOML file (`--config`): they become words of the command line, so all that is refused there is refused."""

import argparse
import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pipeline.beam_flags import known_to_beam
from pipeline.usage import UsageError

_FLAG = "--config"


def with_config_file(
    argv: Sequence[str], own: Mapping[str, argparse.Action], passes_over: frozenset[str] = frozenset()
) -> list[str]:
    """A command line with the flags of the file that its `--config` names, if it names one.

    A flag that is given counts in the place of the file's, one that may be repeated with all its values.

    Args:
        argv: the command line.
        own: the flags of the command, each with how it is read.
        passes_over: flags that count for other commands alone.

    Raises:
        UsageError: the file cannot be read, or holds what is no flag. No value is repeated, since it may be a secret.
    """
    place, rest = _config_of(argv)
    if place is None:
        return rest
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    words: list[str] = []
    for flag, values in _flags_in(place, own):
        if flag not in given and flag not in passes_over:
            words += values
    return words + rest


def _config_of(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """What follows `--config`, and the command line without the two."""
    place: str | None = None
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == _FLAG or word.startswith(f"{_FLAG}="):
            if place is not None:
                raise UsageError(f"{_FLAG} is given twice: one file holds all flags")
            place = word.partition("=")[2] if "=" in word else next(words, "")
            if not place:
                raise UsageError(f"{_FLAG} is empty: name a TOML file")
        else:
            rest.append(word)
    return place, rest


def _flags_in(place: str, own: Mapping[str, argparse.Action]) -> Iterator[tuple[str, list[str]]]:
    """Each flag in a file, with its words on a command line."""
    try:
        content = tomllib.loads(Path(place).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{_FLAG} {place}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{_FLAG} {place} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{_FLAG} {place} is not TOML: {error}") from None
    known = known_to_beam().flags
    faults = [
        f"{_FLAG} {place}: {name} is no flag{_nearest(name, own)}"
        if not isinstance(value, dict)
        else f"{_FLAG} {place}: {name} is a table, and no flag: write each flag above all tables, as NAME = VALUE"
        for name, value in content.items()
        if f"--{name}" not in own and f"--{name}" not in known
    ]
    if faults:
        raise UsageError("\n".join(faults))
    for name, value in content.items():
        flag = f"--{name}"
        if flag in ("--config", "--help", "--help_all", "--version"):
            raise UsageError(f"{_FLAG} {place}: {name} goes on the command line, not into a file")
        action = own.get(flag)
        is_switch = None if action is None else action.nargs == 0
        yield flag, _words(f"{_FLAG} {place}: {name}", flag, value, is_switch=is_switch)


def _words(where: str, flag: str, value: Any, *, is_switch: bool | None) -> list[str]:
    """A flag and its value or values.

    Args:
        where: the place in the file, for a message.
        flag: with its dashes.
        value: as TOML has it.
        is_switch: whether the flag has no value; None if nobody knows.
    """
    if isinstance(value, bool):
        if is_switch is False:
            raise UsageError(f"{where} takes a value, not true or false")
        return [flag] if value else []
    if is_switch:
        raise UsageError(f"{where} is a switch: write true or false")
    if isinstance(value, dict):
        raise UsageError(f"{where} is a table: write each flag at the top, as NAME = VALUE")
    values = value if isinstance(value, list) else [value]
    words = []
    for each in values:
        if isinstance(each, bool) or not isinstance(each, str | int | float | date):
            raise UsageError(f"{where} holds what no flag takes: write texts, numbers or times")
        words.append(f"{flag}={each.isoformat() if isinstance(each, date | datetime) else each}")
    return words


def _nearest(name: str, own: Mapping[str, argparse.Action]) -> str:
    names = sorted({flag.removeprefix("--") for flag in (*own, *known_to_beam().flags) if flag.startswith("--")})
    spelled = name.lower().replace("-", "_")
    close = difflib.get_close_matches(spelled, names, n=1)
    return f"; the nearest is {close[0]}" if close else ""
