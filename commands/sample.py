"""`session-forwarder sample`: input that looks real."""

from collections.abc import Sequence

from commands.verb import VerbParser
from pipeline.sample import sample_parser, write_what_is_asked


def parser() -> VerbParser:
    """The flags."""
    made = VerbParser("sample", "", ("sample --sessions 300 --output in/sample.jsonl.gz --compress gz",))
    sample_parser(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Write a sample. Returns the exit status."""
    return write_what_is_asked(parser(), argv)
