"""The command: flags and forwarders are checked first, then Beam is imported, then the job runs.

To import Beam takes longer than all checks. So nothing here imports it before the job is known to be one that can run.
"""

import logging
from collections.abc import Callable, Sequence

from pipeline.beam_logging import configure_beam_logging
from pipeline.config_file import with_config_file
from pipeline.job_command import PIPELINE, JobCommand
from pipeline.lock import OutputLockedError
from pipeline.logs import adjust_logging
from pipeline.monitoring import monitored
from pipeline.options import Job, option_actions, parse
from pipeline.preflight import choose_forwarders
from pipeline.report import FAILED, USAGE
from pipeline.usage import UsageError
from transforms.beam_import import import_beam, import_beam_file_systems, without_garbage_collection
from transforms.durability import private_files
from transforms.storage import StorageError, local_path

logger = logging.getLogger(__name__)


def main(argv: Sequence[str], command: JobCommand = PIPELINE) -> int:
    """Run the job that a command line asks for. Returns the exit status (docs/spec/forwarders.md section 4).

    Args:
        argv: without the name of the program.
        command: whose flags they are.
    """

    def launch() -> int:
        words = with_config_file(argv, option_actions(), command.not_from_config(argv))
        adjust_logging(words)
        return _launch(parse(words, command), [*command.prog.split(), *argv])

    return guarded(launch)


def guarded(launch: Callable[[], int]) -> int:
    """Run what may raise for its user, and log why. Returns the exit status: what `launch` returns, else 1 or 2."""
    configure_beam_logging()
    try:
        with private_files():
            return launch()
    except UsageError as error:
        for line in str(error).splitlines():
            logger.error("%s", line)
        return USAGE
    except (OutputLockedError, StorageError) as error:
        logger.error("%s", error)
        return FAILED


def _launch(job: Job, command_line: Sequence[str]) -> int:
    _check_redriven(job)
    with monitored(job, command_line) as monitor:
        if job.has_places_elsewhere:
            prepare_file_systems(job)
        chosen = choose_forwarders(job, on_this_machine=job.is_direct)
        with without_garbage_collection():
            import_beam()
            from pipeline.run import run
        monitor.exit_status = run(job, chosen, monitor)
    return monitor.exit_status


def _check_redriven(job: Job) -> None:
    """Raises UsageError where a redrive is of an output that is not there: it would make it, and find nothing."""
    if job.redrive and job.output is not None:
        path = local_path(job.output)
        if path is not None and not path.is_dir():
            raise UsageError(f"--output {job.output}: there is no such directory, so there are no dead letters in it")


def prepare_file_systems(job: Job) -> None:
    """Give Beam's file systems their settings, before the first path is opened: the clients of s3:// take them once."""
    import_beam_file_systems()
    from apache_beam.io.filesystems import FileSystems

    from pipeline.beam_options import beam_options

    FileSystems.set_options(beam_options(job))
