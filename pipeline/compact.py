"""What an output holds in few files, and without what nobody needs any more (docs/operations.md, Retention)."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline import flag_values
from pipeline.command import prepare_file_systems
from pipeline.lock import OutputLock
from pipeline.options import Job
from pipeline.runs import RUNS
from pipeline.standard_output import print_lines
from pipeline.usage import UsageError
from schemas.times import now_ms
from transforms.accounting.words import counted
from transforms.receipts.compaction import Ages, Compacted, compact
from transforms.receipts.journal import recover
from transforms.receipts.runs import place
from transforms.storage import Storage, local_path, storage_at

KEEP = 90 * 86_400.0
"""Seconds for which everything is kept, unless something else is asked for."""

_RECORDS = "records"
_REJECTS = "rejects"


@dataclass(frozen=True)
class Removed:
    """What a compaction has left of an output.

    Attributes:
        merged: what became of receipts and dead letters.
        rejects: files that were removed.
        runs: reports and pages of runs that were removed.
        records: files of `--write_records` that were removed.
    """

    merged: Compacted
    rejects: int
    runs: int
    records: int

    def lines(self) -> Iterable[str]:
        """What the terminal shows."""
        merged = self.merged
        yield f"receipts and dead letters: {counted(merged.parts_before, 'file')} before, {merged.parts:,} now"
        for count, what in (
            (merged.receipts, "receipts that a later one replaces"),
            (merged.dead_letters, "dead letters that were delivered, or given up before and again"),
            (self.rejects, "files of rejects"),
            (self.runs, "reports of runs"),
            (self.records, "files of records"),
        ):
            if count:
                yield f"removed, since they are old: {count:,} {what}"


def compact_output(output: str, keep: float = KEEP, now: Callable[[], int] = now_ms) -> Removed:
    """Merge receipts and dead letters of an output, and remove what is old and of no more use.

    What a run knows of the output is the same before and after, and at any moment between: it may be killed.

    Args:
        output: a path or a url.
        keep: seconds; what is younger stays.
        now: epoch ms.

    Raises:
        OutputLockedError: a run is under way on the output, or another compaction.
        StorageError: a file cannot be read or written, or is none of the job's.
        OSError: the directory cannot be written.
    """
    with OutputLock(output) as lock:
        storage, present = storage_at(output), now()
        before = present - round(keep * 1000)
        recover(output)
        lock.check()
        merged = compact(storage, lambda: Ages(before, present))
        lock.check()
        rejects = _old(storage.list(_REJECTS), Ages(before, present))
        storage.remove_each(f"{_REJECTS}/{name}" for name in rejects)
        # The latest stays, whatever its age: the next run is compared with it.
        runs = _old(sorted(storage.directories(RUNS), key=place)[:-1], Ages(before, present))
        for name in runs:
            storage.remove_all(f"{RUNS}/{name}")
        records = _old_records(storage, before / 1000)
        storage.remove_each(f"{_RECORDS}/{name}" for name in records)
    return Removed(merged, len(rejects), len(runs), len(records))


def _old(names: Iterable[str], ages: Ages) -> list[str]:
    return [name for name in sorted(names, key=place) if ages.is_old(name)]


def _old_records(storage: Storage, before: float) -> list[str]:
    """The files of records, if all are old: each run that writes any replaces those of the one before."""
    written = storage.modified(_RECORDS)
    return sorted(written) if all(0 < modified < before for modified in written.values()) else []


def add_compact_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `compact`."""
    parser.add_argument("directory", nargs="?", metavar="OUTPUT", help="of the runs, a directory or a url")
    parser.add_argument("--output", metavar="DIR", help="the same, as a flag")
    parser.add_argument(
        "--keep",
        type=flag_values.duration,
        default=KEEP,
        metavar="TIME",
        help="nothing that is younger is removed (default 90d)",
    )


def compact_what_is_asked(arguments: argparse.Namespace) -> int:
    """Compact an output, and say what was done. Returns the exit status.

    Raises:
        UsageError: no output is named, or there is none.
    """
    output = arguments.directory or arguments.output
    if not output or (arguments.directory and arguments.output):
        raise UsageError("name one output: the directory of the runs, such as out/")
    path = local_path(output)
    if path is not None and not path.is_dir():
        raise UsageError(f"{output}: there is no such directory")
    if path is None:
        prepare_file_systems(Job(output=output))
        storage = storage_at(output)
        if not storage.list("") and not storage.directories(""):
            raise UsageError(f"{output}: nothing is there")
    try:
        removed = compact_output(output, arguments.keep)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror or error}") from None
    print_lines(removed.lines())
    return 0
