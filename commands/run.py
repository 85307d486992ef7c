"""`session-forwarder run`: the job."""

from collections.abc import Sequence
from dataclasses import replace

from commands.command import PROG
from pipeline.command import main as run_job
from pipeline.job_command import PIPELINE, JobParser
from pipeline.options import parser_of

COMMAND = replace(
    PIPELINE,
    prog=f"{PROG} run",
    examples=(
        "--input 'in/*' --forwarders forwarders.json --output out",
        "--config run.toml --since -24h",
    ),
)


def parser() -> JobParser:
    """The flags, which are those of the job."""
    return parser_of(COMMAND)


def main(argv: Sequence[str]) -> int:
    """Run the job. Returns the exit status."""
    return run_job(argv, COMMAND)
