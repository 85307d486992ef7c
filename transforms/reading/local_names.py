"""Files on this machine by name or by pattern."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several files."""
    return bool(_MAGIC.search(name))


def matching(pattern: str, translate: Callable[[str], str]) -> Iterator[str]:
    """The files that a pattern matches, spelled as it is; or the file of just that name, where it is there.

    Folders at the pattern's beginning that are there under just that name are those, also when a name has brackets.
    What is left of the pattern is the regular expression that `translate` makes of it.
    """
    if Path(pattern).exists():
        yield pattern
        return
    folder, rest = _split(pattern)
    matches = re.compile(translate(rest)).match
    depth = None if "**" in rest else rest.count("/")
    for name in _names_below(folder or ".", depth):
        if matches(name):
            path = name if folder is None else f"{folder.rstrip('/')}/{name}"
            if Path(path).is_file():  # a pattern does not mean pipes
                yield path


def missing_folder(pattern: str) -> str | None:
    """The folder that a pattern looks in, if it is not there."""
    fixed: list[str] = []
    for part in pattern.split("/")[:-1]:
        folder = "/".join([*fixed, part])
        if is_pattern(part) and not Path(folder).is_dir():
            break
        fixed.append(part)
    folder = "/".join(fixed)
    return folder if folder and not Path(folder).is_dir() else None


def _split(pattern: str) -> tuple[str | None, str]:
    """The folders at the beginning that are there (None for this directory), and what is left."""
    parts = pattern.split("/")
    count = 0
    while count < len(parts) - 1 and Path("/".join(parts[: count + 1]) or "/").is_dir():
        count += 1
    return ("/".join(parts[:count]) or "/") if count else None, "/".join(parts[count:])


def _names_below(top: str, depth: int | None) -> Iterator[str]:
    """The files in `top` and in the folders below it, down to `depth` of them, by their names from there on."""
    for directory, folders, files in os.walk(top):
        below = Path(directory).relative_to(top)
        if depth is not None and len(below.parts) >= depth:
            folders.clear()
        for name in files:
            yield str(below / name)
