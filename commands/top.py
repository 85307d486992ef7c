"""`session-forwarder top`: all forwarders of a running job, live."""

from collections.abc import Sequence

from commands.verb import VerbParser, output_of
from pipeline.top import top


def parser() -> VerbParser:
    """The flags."""
    made = VerbParser(
        "top",
        "Shows all forwarders of the job that runs on an output, until it ends or q is pressed. Arrows, space, g and G "
        "move. Exit status 1: no job runs there.",
        ("top --output out/",),
    )
    made.add_argument("--output", metavar="DIR", help="of the running job")
    made.add_argument("--once", action="store_true", help="print one table and end, as where there is no terminal")
    made.add_config()
    return made


def main(argv: Sequence[str]) -> int:
    """Show them. Returns the exit status."""
    arguments = parser().read(argv)
    return top(output_of(arguments, "name that of the running job"), once=arguments.once)
