"""All that keeps a job from starting, told at once: flags, forwarders, and the places it reads and writes."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.command import prepare_file_systems
from pipeline.config_file import with_config_file
from pipeline.job_command import JobCommand
from pipeline.lock import OutputLock, OutputLockedError, holder_of
from pipeline.logs import adjust_logging
from pipeline.monitoring import monitor_problems
from pipeline.options import Job, option_actions, parse_with_faults
from pipeline.preflight import choose_forwarders
from pipeline.report import DONE, USAGE, target
from pipeline.usage import UsageError
from transforms.beam_import import import_beam
from transforms.forwarders import resolve
from transforms.forwarders.secrets import References
from transforms.sources.locations import is_source, login_problem
from transforms.storage import local_path

logger = logging.getLogger(__name__)

LEAST_FREE = 100 * 1024 * 1024
"""Bytes: with less room on a disk, a run would end before its first parts are full."""


def check_job(argv: Sequence[str], command: JobCommand) -> int:
    """Say what a run with these arguments needs and does not have. Faults are logged, what is well is printed.

    Returns:
        The exit status: 0, or 2 with faults.

    Raises:
        UsageError: the command line cannot be read.
    """
    words = with_config_file(argv, option_actions(), command.not_from_config(argv))
    adjust_logging(words)
    job, unfit = parse_with_faults(words, command)
    faults = list(unfit)
    if job.has_places_elsewhere:
        prepare_file_systems(job)
    well = [*_forwarders(job, faults), *_places(job, faults), *_input(job, faults)]
    # A flag whose form is wrong is told already.
    named = {fault.split()[0] for fault in unfit}
    faults += [problem for problem in monitor_problems(job) if problem.split()[0] not in named]
    for line in well:
        print(line)
    for fault in faults:
        logger.error("%s", fault)
    if faults:
        print(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}: a run would not start, or not end well")
        return USAGE
    print("a run can start: nothing was sent")
    return DONE


def _forwarders(job: Job, faults: list[str]) -> Iterator[str]:
    if job.forwarders is None:
        return
    try:
        chosen = choose_forwarders(job, on_this_machine=job.is_direct)
    except UsageError as error:
        faults += str(error).splitlines()
        return
    for forwarder in chosen.forwarders:
        yield f"forwarder {forwarder.id}: {target(forwarder)}"
    if job.is_direct:
        # Late, because it brings what HTTP needs, as the checks before this have.
        from transforms.sinks.knock import unreachable

        resolved = resolve(chosen.forwarders, References(job.secret_env_prefix, job.secrets_dir)).forwarders
        for warning in unreachable(resolved, job.allow_networks):
            logger.warning("%s", warning)
    for forwarder_id in chosen.inactive:
        yield f"forwarder {forwarder_id}: not active"


def _places(job: Job, faults: list[str]) -> Iterator[str]:
    """The output and the state: whether they can be written and are free. And the room on all disks that are used."""
    for flag, place in (("--output", job.output), ("--state", job.state)):
        if place is None:
            continue
        path = local_path(place)
        problem = _remote_problem(place) if path is None else _local_problem(path)
        if problem is not None:
            faults.append(f"{flag} {place} {problem}")
        elif path is None:
            yield f"{flag} {place}: can be written, and is free"
        else:
            yield from _room(flag, place, path, faults)
    yield from _temporary(job, faults)
    if job.secrets_dir is not None and not Path(job.secrets_dir).is_dir():
        faults.append(f"--secrets_dir {job.secrets_dir}: there is no such directory")


def _temporary(job: Job, faults: list[str]) -> Iterator[str]:
    """The directory of temporary files: whether it can be written, and the room on its disk."""
    try:
        flag, place = ("--temp_dir", job.temp_dir) if job.temp_dir else ("TMPDIR", tempfile.gettempdir())
    except OSError:  # It looks for a directory that it can write to, and there is none.
        faults.append("TMPDIR: there is no directory of temporary files that can be written: give --temp_dir one")
        return
    problem = _write_problem(Path(place))
    if problem is not None:
        faults.append(f"{flag} {place} {problem}")
    else:
        yield from _room(flag, place, Path(place), faults)


def _local_problem(path: Path) -> str | None:
    problem = _write_problem(path)
    if problem is not None:
        return problem
    holder = holder_of(path)
    return None if holder is None else f"is in use by another run ({holder}): wait for its end"


def _write_problem(path: Path) -> str | None:
    """Why nothing can be written in a directory that may not be there yet; None if it can. Nothing is made."""
    beside = _existing(path)
    if not beside.is_dir():
        return f"cannot be written: {beside} is a file"
    if os.statvfs(beside).f_flag & os.ST_RDONLY:
        return f"cannot be written: the file system of {beside} takes no writes, name another directory"
    if not os.access(beside, os.W_OK | os.X_OK):
        return f"cannot be written: {beside} does not let this user write"
    return None


def _remote_problem(place: str) -> str | None:
    """Takes the lease for a moment, as a run does: so it can be written, and nobody has it."""
    try:
        with OutputLock(place):
            return None
    except OutputLockedError as error:
        return f": {error}"
    except Exception as error:  # Each file system raises its own.
        return f"cannot be written: {error}"


def _room(flag: str, place: str, path: Path, faults: list[str]) -> Iterator[str]:
    free = shutil.disk_usage(_existing(path)).free
    if free < LEAST_FREE:
        faults.append(f"{flag} {place}: its disk has {free / 1e6:,.0f} MB left: make room, or name another one")
    else:
        yield f"{flag} {place}: {free / 1e9:,.1f} GB free"


def _existing(path: Path) -> Path:
    """The path, or the nearest of the directories above it that is there."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _input(job: Job, faults: list[str]) -> Iterator[str]:
    """How many files there are to read, and whether their formats are known. None is opened, nor a source asked."""
    if job.is_direct:
        problems = [login_problem(location, job.input_auth) for location in job.inputs if is_source(location)]
        faults += dict.fromkeys(problem for problem in problems if problem is not None)
    if not job.inputs or job.streaming or job.reads_sources:
        return
    # Late: it brings Beam.
    import_beam()
    from transforms.read import InputError, match_files, ranges_of
    from transforms.reading.input_formats import INPUT_FORMATS

    try:
        files = match_files(job.inputs, none_is_fine=job.state is not None)
        for file in files:
            ranges_of(file, INPUT_FORMATS[job.input_format], job.file_format)
    except InputError as error:
        faults += str(error).splitlines()
        return
    yield f"--input: {len(files):,} file{'' if len(files) == 1 else 's'}, {_size(sum(file.size for file in files))}"


def _size(count: int) -> str:
    """A number of bytes as people say it."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"
