"""`session-forwarder plan`: a dry run, of input or of dead letters."""

from collections.abc import Sequence
from dataclasses import replace

from commands.command import PROG
from pipeline.command import main as run_job
from pipeline.job_command import PIPELINE, JobParser
from pipeline.options import parser_of

COMMAND = replace(
    PIPELINE,
    prog=f"{PROG} plan",
    description="Says how many records each forwarder would get, with a sample of what it would be sent, and sends "
    "nothing. With --redrive: which dead letters would be sent again, by forwarder and reason.",
    examples=(
        "--input 'in/*' --forwarders forwarders.json",
        "--config run.toml --redrive",
    ),
    implied=("--dry_run",),
    shown=(
        "--input",
        "--forwarders",
        "--output",
        "--config",
        "--redrive",
        "--forwarder",
        "--reason",
        "--id",
        "--kind",
        "--since, --until",
    ),
)


def parser() -> JobParser:
    """The flags, which are those of the job."""
    return parser_of(COMMAND)


def main(argv: Sequence[str]) -> int:
    """Say what a run would do. Returns the exit status."""
    return run_job(argv, COMMAND)
