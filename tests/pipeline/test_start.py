"""What a start imports: Beam takes most of its time, and the client of AWS most of the rest."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import MethodType
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer
from apache_beam.transforms import core, userstate
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from pipeline.beam_flags import known_to_beam, parse_beam_flags
from pipeline.beam_logging import WorkersWords
from pipeline.beam_options import beam_options
from pipeline.beam_signatures import RememberedArguments, RememberedSpecs
from pipeline.options import parse
from pipeline.usage import Parser
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop

SEEN = beam.DoFn.StateParam(ReadModifyWriteStateSpec("seen", BytesCoder()))
HEAVY = ("apache_beam", "boto3", "pyarrow")

STARTS = f"""
import json, sys
from pipeline.__main__ import console
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        console()
    except SystemExit as ended:
        imported = [name for name in {HEAVY} if name in sys.modules]
        print(json.dumps([ended.code or 0, imported]), file=sys.stderr)
"""
"""Several starts in one process. What one imports counts for those after it, too."""


def starts(*command_lines: Iterable[str]) -> list[tuple[int, list[str], str]]:
    """The exit status of each command line, what it imported that is heavy, and what it said."""
    given = json.dumps([list(arguments) for arguments in command_lines])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", STARTS, given], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    ended, said = [], ""
    for line in done.stderr.splitlines():
        if not line.startswith("["):
            said += line
            continue
        status, imported = json.loads(line)
        ended.append((status, imported, said))
        said = ""
    return ended


def test_help_the_version_and_mistakes_are_told_without_beam(tmp_path: Path) -> None:
    usual = ("--input=in/*", "--forwarders=f.json", "--output=out")
    mistaken = tmp_path / "mistaken.json"
    mistaken.write_text('[{"_id": "a", "active": true, "query": "{", "configuration": {"url": "a.example"}}]')
    told = {
        ("--help",): (0, ""),
        ("--version",): (0, ""),
        (*usual, "--dry-run"): (2, "the nearest known flag is --dry_run"),
        (*usual, "--direct_num_worker=2"): (2, "the nearest known flag is --direct_num_workers"),
        (*usual, "stray"): (2, "unknown argument stray"),
        (*usual, "--runner=DirektRunner"): (2, "DirectRunner"),
        (*usual, "--output"): (2, "expected one argument"),
        (*usual, "--max_rejects=-1"): (2, "whole number"),
        (*usual, "--redrive"): (2, "leave --input out"),
        (*usual, "--streaming"): (2, "--runner=FlinkRunner"),
        (*usual, "--direct_running_mode=multi_threading"): (2, "loses data"),
        (*usual, f"--forwarders={tmp_path / 'none.json'}"): (2, "there is no such file"),
        (*usual, f"--forwarders={mistaken}"): (2, "query"),
    }
    for (expected, part), (status, imported, said) in zip(told.values(), starts(*told), strict=True):
        assert (status, imported) == (expected, []), said
        assert part in said


def test_a_run_imports_what_it_needs(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([])
    workshop.write_forwarders(http_document(receiver, "all"))
    arguments = workshop.arguments("--input", str(workshop.path / "in" / "*"))
    ((status, imported, said),) = starts([*arguments, "--write_records=jsonl", "--dry_run"])
    assert status == 0, said
    assert "apache_beam" in imported
    assert "boto3" not in imported


def test_file_systems_come_when_they_are_asked_for() -> None:
    code = (
        "import sys; from transforms.beam_import import import_beam, import_beam_file_systems as more\n"
        "import_beam(); before = 'boto3' in sys.modules; more()\n"
        "from apache_beam.io.filesystems import FileSystems\n"
        "print(before, FileSystems.get_filesystem('s3://bucket/key').scheme())\n"
        "from botocore.session import Session\n"
        "print(Session().get_component('data_loader') is Session().get_component('data_loader'))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert done.stdout.split() == ["False", "s3", "True"], "the last: a client for each file costs 25 ms, not 150"


def test_what_others_log_while_beam_is_imported_is_not_lost() -> None:
    """Threads open files of a run while others deliver and warn. Beam itself tells nothing of what is not installed."""
    code = (
        "import logging, threading; from transforms.beam_import import import_beam, import_beam_file_systems\n"
        "logging.basicConfig(format='%(message)s')\n"
        "threads = [threading.Thread(target=start) for start in [import_beam, *[import_beam_file_systems] * 4]]\n"
        "for thread in threads: thread.start(); logging.warning('meanwhile')\n"
        "for thread in threads: thread.join(); logging.warning('after')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert done.stderr.split() == ["meanwhile"] * 5 + ["after"] * 5


def test_beams_own_flags_and_runners_are_all_known_by_its_source() -> None:
    parser = Parser(add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # type: ignore[arg-type]
    flags = {flag for action in parser._actions for flag in action.option_strings}
    known = known_to_beam()
    assert flags <= known.flags
    assert list(known.runners) == StandardOptions.KNOWN_RUNNER_NAMES


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--streaming"],
        ["--direct_num_workers", "3", "--direct_running_mode=multi_processing"],
        ["--flink_job_server_jar=a.jar"],
    ],
)
def test_what_the_job_reads_of_beams_flags_is_what_beam_reads(given: list[str]) -> None:
    def read(arguments: list[str]) -> dict[str, Any]:
        return vars(parse_beam_flags(arguments, "DirectRunner", ()))

    # With a flag that is of no concern to the job Beam reads all of them.
    assert read(given).items() <= read([*given, "--job_name=of-beam"]).items()


def test_the_options_are_beams_own_whichever_view_is_asked() -> None:
    job = parse(["--input=a", "--forwarders=f", "--output=o", "--direct_num_workers=3"])
    options, of_beam = beam_options(job), PipelineOptions(list(job.beam_args), runner=job.runner)
    for view in PipelineOptions.__subclasses__():
        assert options.view_as(view).get_all_options() == of_beam.view_as(view).get_all_options()
    options.view_as(DirectOptions).direct_num_workers = 7
    assert options.get_all_options()["direct_num_workers"] == 7
    pickled = pickler.loads(pickler.dumps(options))
    assert pickled.view_as(DirectOptions).direct_num_workers == 7


class Stateful(beam.DoFn):
    """A step with state, and with a method that a subclass changes."""

    def process(self, element: Any, seen: Any = SEEN, at: Any = beam.DoFn.TimestampParam) -> None:
        """Nothing."""

    def finish_bundle(self, given: int = 1) -> None:
        """Nothing."""


class Changed(Stateful):
    """The same with another default."""

    def finish_bundle(self, given: int = 2) -> None:
        """Nothing."""


def test_signatures_that_are_remembered_are_those_that_beam_reads() -> None:
    read: Any = core.get_function_args_defaults
    if isinstance(read, RememberedArguments):  # A run in this process has put it in its place.
        read = read._read
    remembered = RememberedArguments(read)
    stateful: Any = Stateful()  # type: ignore[no-untyped-call]
    changed = Changed()  # type: ignore[no-untyped-call]
    steps = [stateful, changed, stateful, *map(core.CallableWrapperDoFn, (str, stateful.process))]
    for _ in range(2):
        for step in steps:
            methods = [each for name in dir(step) if isinstance(each := getattr(step, name), MethodType)]
            assert len(methods) > 20
            for method in methods:
                names, defaults = remembered(method)
                assert (names, defaults) == read(method)
                names.append("what Beam may do with its list")


def test_what_a_worker_process_logs_is_logged_in_its_words() -> None:
    words = 'forwarder "f": a line\nand another: é 漢 \\'
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    handler.addFilter(WorkersWords())
    logger = logging.getLogger("apache_beam.runners.portability.local_job_service")
    logger.addHandler(handler)
    try:
        severity = beam_fn_api_pb2.LogEntry.Severity.WARN
        entry = beam_fn_api_pb2.LogEntry(severity=severity, message=words, thread="Thread-1", log_location="a.py:3")
        BeamFnLoggingServicer().Logging([beam_fn_api_pb2.LogEntry.List(log_entries=[entry])])
        logger.error("of its %s: 3 %%", "own")
    finally:
        logger.removeHandler(handler)
    assert lines == [f"WARNING {words}", "ERROR of its own: 3 %"]


def test_the_state_that_is_remembered_of_a_class_is_what_beam_finds() -> None:
    find: Any = userstate.get_dofn_specs
    if isinstance(find, RememberedSpecs):
        find = find._find
    remembered = RememberedSpecs(find)
    stateful: Any = Stateful()  # type: ignore[no-untyped-call]
    steps = [stateful, Changed(), core.DoFn(), *map(core.CallableWrapperDoFn, (str, stateful.process))]  # type: ignore[no-untyped-call]
    for _ in range(2):
        for step in steps:
            states, timers = remembered(step)
            assert (states, timers) == find(step)
            states.add("what Beam may do with its set")
    assert [bool(find(step)[0]) for step in steps] == [True, True, False, False, True]


WATCHING = ("opentelemetry.sdk", "opentelemetry.exporter", "pipeline.active_monitor", "prometheus_client")

RUNS = f"""
import sys
from pipeline.command import main
status = main(sys.argv[1:])
found = [name for name in {WATCHING!r} if name in sys.modules]
print(status, found, file=sys.stderr)
"""


def test_a_run_that_nobody_watches_imports_nothing_for_those_who_would(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver))
    arguments = ["--input", str(workshop.path / "in" / "*"), *workshop.arguments()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", RUNS, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr.splitlines()[-1] == "0 []"
