"""`session-forwarder compact`: an output in few files, without what nobody needs any more."""

from collections.abc import Sequence

from commands.verb import VerbParser
from pipeline.compact import add_compact_flags, compact_what_is_asked


def parser() -> VerbParser:
    """The flags."""
    text = (
        "Merges the receipts and dead letters of an output, of which a rerun and a redrive then know what they knew, "
        "and removes old rejects, dead letters that are settled, reports of runs and records. No run may be under way."
    )
    made = VerbParser("compact", text, ("compact out/ --keep 90d",))
    add_compact_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Compact an output. Returns the exit status."""
    return compact_what_is_asked(parser().read(argv))
