"""`session-forwarder check`: every fault that would keep a run from starting, at once. Nothing is read or sent."""

from collections.abc import Sequence
from dataclasses import replace

from commands.command import PROG
from pipeline.job_command import PIPELINE, JobParser
from pipeline.options import parser_of

COMMAND = replace(
    PIPELINE,
    prog=f"{PROG} check",
    description="Looks at all that a run needs: how the flags go together, documents, secrets, hosts, streams and "
    "permissions, whether the output is free, and the room on its disk. Reads no input and sends nothing. Every "
    "fault is told at once, with exit status 2.",
    examples=(
        "--forwarders forwarders.json --output out/",
        "--config run.toml",
    ),
    shown=(
        "--forwarders",
        "--output",
        "--state",
        "--config",
        "--forwarder",
        "--allow_network",
        "--secrets_dir",
        "--input",
        "--log_format",
    ),
    needs_input=False,
)


def parser() -> JobParser:
    """The flags, which are those of the job."""
    return parser_of(COMMAND)


def main(argv: Sequence[str]) -> int:
    """Check a job. Returns the exit status: 0, or 2 with faults."""
    from pipeline.check import check_job

    return check_job(argv, COMMAND)
