"""The flags that go to Beam or to Flink's job server: which there are, and what the job reads of them itself.

To import Beam takes longer than all else of a start. So a mistake is told without it: which flags and runners Beam
knows stands in the source of its options. Beam is imported, and parses them, only if a command line has flags that are
its own and of no concern to the job.
"""

import argparse
import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline import flag_values
from pipeline.usage import Parser, UsageError, unknown
from transforms.beam_import import import_beam

# The flags of Flink's job server. Beam for Python passes them on without knowing them. The switches have no value.
_FLINK_JOB_SERVER_FLAGS = (
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "flink_conf_dir",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "number_of_execution_retries",
    "savepoint_path",
    "state_backend",
    "state_backend_storage_path",
)
_FLINK_JOB_SERVER_SWITCHES = (
    "allow_non_restored_state",
    "externalized_checkpoints_enabled",
    "object_reuse",
    "re_iterable_group_by_key_result",
    "retain_externalized_checkpoints_on_cancellation",
    "unaligned_checkpoint_enabled",
)
_ON_THIS_MACHINE = ("DirectRunner", "FnApiRunner")

_TYPES_AT_RUN_TIME = (
    "fails with every run: Beam holds what a step gives beside its main output to the type of the main one. Leave it "
    "out; types are checked when the graph is built"
)
_IS_A_SECRET = "is a secret, and runners show the flags of a job: leave it out, and give it {}"  # noqa: S105
_REFUSED = {
    "--runtime_type_check": _TYPES_AT_RUN_TIME,
    "--performance_runtime_type_check": _TYPES_AT_RUN_TIME,
    "--direct_runner_bundle_repeat": "works on everything several times, and so would deliver it: leave it out",
    "--s3_secret_access_key": _IS_A_SECRET.format("by AWS_SECRET_ACCESS_KEY or a profile of AWS"),
    "--s3_session_token": _IS_A_SECRET.format("by AWS_SESSION_TOKEN or a profile of AWS"),
    "--azure_connection_string": _IS_A_SECRET.format("by AZURE_STORAGE_CONNECTION_STRING"),
}
"""Flags of Beam with which no run of this job can be right, each with the reason and what to do."""

_VALUE = re.compile(r"-|-\d+|-\d*\.\d+|-.* .*", re.DOTALL)
"""What begins like a flag, and is a value to argparse: a number below zero, and what has a space in it."""

_FLAG = re.compile(r"""["'](--[a-z0-9_-]+)["']""")
_RUNNER = re.compile(r"""["']apache_beam\.runners\.(?:\w+\.)*(\w+Runner)["']""")


@dataclass(frozen=True)
class KnownToBeam:
    """What Beam for Python knows.

    Attributes:
        flags: each with its `--`. There may be some more, which stand in the same source, but none is missing.
        runners: their names.
    """

    flags: frozenset[str]
    runners: tuple[str, ...]


@cache
def known_to_beam() -> KnownToBeam:
    """What the installed Beam knows, as the source of its options says. Beam is not imported."""
    beam = find_spec("apache_beam")
    if beam is None or beam.origin is None:
        raise UsageError("Apache Beam is not installed: pip install apache-beam")
    source = (Path(beam.origin).parent / "options" / "pipeline_options.py").read_text(encoding="utf-8")
    return KnownToBeam(frozenset(_FLAG.findall(source)), tuple(dict.fromkeys(_RUNNER.findall(source))))


def parse_beam_flags(arguments: Sequence[str], runner: str, own_flags: Iterable[str]) -> argparse.Namespace:
    """What the job reads of the flags that are not its own; in the fields, the values as Beam's options have them.

    Args:
        arguments: those of a command line that are not the job's own.
        runner: the name of Beam's runner.
        own_flags: those of the job, to name the nearest one of a flag that nobody knows.

    Raises:
        UsageError: Beam does not know the runner, a flag or a value; or its runner loses data with one.
    """
    _check_runner(runner)
    for flag, why in _REFUSED.items():
        if any(argument.partition("=")[0] == flag for argument in arguments):
            raise UsageError(f"{flag} {why}")
    parser = _read_by_the_job(runner)
    known, rest = parser.parse_known_args(list(arguments))
    if rest:
        names = known_to_beam().flags.union(own_flags, parser._option_string_actions)
        _check_names(rest, names)
        known, rest = _beams_own(runner).parse_known_args(list(arguments))
        if rest:
            raise unknown(rest[0], names)
    if known.direct_running_mode == "multi_threading":
        raise UsageError(
            "--direct_running_mode=multi_threading loses data in Beam's runner (309 of 100,000 keys in one of 8 "
            "measured runs): use in_memory (the default) or multi_processing"
        )
    profiles = any(getattr(known, name, None) for name in ("profile_cpu", "profile_memory"))
    if profiles and not getattr(known, "profile_location", None):
        raise UsageError("--profile_cpu and --profile_memory need --profile_location: where profiles are written")
    if getattr(known, "savepoint_path", None) and known.flink_master.startswith("["):
        # Beam gives it on to a cluster alone, and begins anew elsewhere, without a word.
        raise UsageError(
            f"--savepoint_path has no effect with --flink_master={known.flink_master}: name the JobManager of a "
            "cluster, HOST:PORT"
        )
    return known


def _check_runner(runner: str) -> None:
    if runner in _ON_THIS_MACHINE:
        return
    if "." in runner:
        _check_runner_class(runner)
        return
    runners = known_to_beam().runners
    if runner.lower().removesuffix("runner") not in {name.lower().removesuffix("runner") for name in runners}:
        raise UsageError(f"--runner={runner} is not a runner that Beam knows: {', '.join(runners)}")


def _check_runner_class(path: str) -> None:
    """Raises UsageError where a runner that is given as module.Class is none."""
    module, _, name = path.rpartition(".")
    # Late, because it takes a second.
    import_beam()
    from apache_beam.runners.runner import PipelineRunner

    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--runner={path} cannot be imported: {error}") from None
    if not (isinstance(found, type) and issubclass(found, PipelineRunner)):
        raise UsageError(f"--runner={path} is not one of Beam's runners: give a name such as DirectRunner")


def _read_by_the_job(runner: str) -> argparse.ArgumentParser:
    """The few flags of Beam that the job's own checks go by, as Beam declares them."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--direct_num_workers", type=flag_values.count, default=1)
    parser.add_argument(
        "--direct_running_mode", default="in_memory", choices=["in_memory", "multi_threading", "multi_processing"]
    )
    parser.add_argument("--flink_job_server_jar")
    parser.add_argument("--flink_master", default="[auto]")
    _add_flinks(parser, runner)
    return parser


def _beams_own(runner: str) -> argparse.ArgumentParser:
    # Late, because it takes a second.
    import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # type: ignore[arg-type]
    _add_flinks(parser, runner)
    return parser


def _add_flinks(parser: argparse.ArgumentParser, runner: str) -> None:
    if runner in _ON_THIS_MACHINE:
        return
    for name in _FLINK_JOB_SERVER_FLAGS:
        parser.add_argument(f"--{name}", type=int if name == "checkpointing_interval" else str)
    for name in _FLINK_JOB_SERVER_SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")


def _check_names(arguments: Sequence[str], names: frozenset[str]) -> None:
    """Raises UsageError for a flag that nobody knows, or a word that is no flag's value."""
    before = ""
    for argument in arguments:
        flag = argument.partition("=")[0]
        is_flag = argument.startswith("-") and (flag in names or not _VALUE.fullmatch(argument))
        # A flag may have several values. What follows `--flag=value` is none.
        if flag not in names if is_flag else not before.startswith("-") or "=" in before:
            raise unknown(argument, names)
        before = argument if is_flag else before
