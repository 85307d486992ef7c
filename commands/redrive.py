"""`session-forwarder redrive`: sends dead letters again."""

from collections.abc import Sequence
from dataclasses import replace

from commands.command import PROG
from pipeline.command import main as run_job
from pipeline.job_command import PIPELINE, JobParser
from pipeline.options import parser_of

COMMAND = replace(
    PIPELINE,
    prog=f"{PROG} redrive",
    description="Sends the dead letters of an output again, in order, those that the present documents still want. "
    f"`{PROG} plan --redrive` says before which these are.",
    examples=(
        "--output out/ --forwarders forwarders.json",
        "--config run.toml --reason unavailable --since -24h",
    ),
    implied=("--redrive",),
    shown=(
        "--output",
        "--forwarders",
        "--config",
        "--forwarder",
        "--reason",
        "--since, --until",
        "--id",
        "--kind",
        "--allow_network",
        "--on_failure",
    ),
)


def parser() -> JobParser:
    """The flags, which are those of the job."""
    return parser_of(COMMAND)


def main(argv: Sequence[str]) -> int:
    """Send dead letters again. Returns the exit status."""
    return run_job(argv, COMMAND)
