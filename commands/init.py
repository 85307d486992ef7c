"""`session-forwarder init DIR`: a folder to try it in."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from commands.command import PROG
from commands.verb import VerbParser
from pipeline import flag_values
from pipeline.usage import UsageError

_PORT = 8099
"""The port in the files as they are kept."""


def parser() -> VerbParser:
    """The flags."""
    made = VerbParser(
        "init DIR",
        "Makes a folder to try it in: activity of one session, two forwarders, a receiver that needs nothing but "
        "Python, and run.toml with the flags of a run.",
        ("init try",),
    )
    made.add_argument("directory", metavar="DIR", help="made if it is not there; no file is replaced")
    made.add_argument(
        "--port", type=flag_values.port, default=_PORT, metavar="PORT", help=f"of the receiver (default {_PORT})"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Make the folder. Returns the exit status."""
    arguments = parser().parse_all(argv)
    directory = Path(arguments.directory)
    starter = _texts(files("commands") / "starter", "")
    there = [name for name in starter if (directory / name).exists()]
    if there:
        raise UsageError(f"{directory} has {', '.join(there)} already: name another folder")
    try:
        for name, text in starter.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text.replace(str(_PORT), str(arguments.port)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename or directory} cannot be written: {error.strerror}") from None
    print(f"made {', '.join(str(directory / name) for name in starter)}\n")
    print(f"cd {directory}")
    steps = (
        ("python receiver.py > received.jsonl &", "takes what is sent"),
        (f"{PROG} run --config run.toml", "reads, derives, matches, delivers"),
        (f"{PROG} show receipts --config run.toml", "what became of each record"),
    )
    width = max(len(command) for command, _ in steps)
    for command, effect in steps:
        print(f"{command:<{width}}  # {effect}")
    return 0


def _texts(folder: Traversable, prefix: str) -> dict[str, str]:
    """The texts of the files in a folder of this package, by their names in it."""
    texts: dict[str, str] = {}
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                texts |= _texts(entry, f"{prefix}{entry.name}/")
        else:
            texts[prefix + entry.name] = entry.read_text(encoding="utf-8")
    return texts
