"""`session-forwarder sample`: input that looks real."""

from collections.abc import Sequence

from commands.verb import VerbParser
from pipeline.sample import add_sample_flags, write_what_is_asked


def parser() -> VerbParser:
    """The flags."""
    text = "Makes input of any size that looks real. The same seed gives the same input."
    made = VerbParser("sample", text, ("sample --sessions 300 --output in/sample.jsonl",))
    add_sample_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Write a sample. Returns the exit status."""
    return write_what_is_asked(parser(), argv)
