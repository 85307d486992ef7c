"""`session-forwarder explain ID`: who gets a record, and which clause decided."""

from collections.abc import Sequence
from dataclasses import replace

from commands.command import PROG
from pipeline.command import main as run_job
from pipeline.job_command import PIPELINE, JobParser
from pipeline.options import parser_of
from pipeline.usage import UsageError

COMMAND = replace(
    PIPELINE,
    prog=f"{PROG} explain",
    description="Says for each forwarder whether it gets a record, and which clause of its query decided. ID is a "
    "record's id (in receipts, dead letters and the Idempotency-Key of a request: `show receipts`), a session_id, or "
    "the record_id of an activity: then all records are explained that come of it. Exit status 3: there is none.",
    examples=(
        "s1 --input 'in/*' --forwarders forwarders.json",
        "e30a276b-6dab-56d6-9df0-d4588a970cf7 --config run.toml",
    ),
    takes_id=True,
    shown=("--input", "--forwarders", "--config", "--forwarder", "--kind", "--organisation", "--naive_times"),
)


def parser() -> JobParser:
    """The flags, which are those of the job."""
    return parser_of(COMMAND)


def main(argv: Sequence[str]) -> int:
    """Explain what an id stands for. Returns the exit status."""
    if argv and argv[0] in ("-h", "--help", "--help_all", "--version"):
        return run_job(argv, COMMAND)
    if not argv or argv[0].startswith("-"):
        raise UsageError(f"name the id first: {PROG} explain ID --input ... --forwarders ...")
    return run_job(argv[1:], replace(COMMAND, implied=("--explain", argv[0])))
