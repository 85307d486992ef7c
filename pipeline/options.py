"""The command line: flags in, one frozen and validated `Job` out. Everything else that Beam knows goes to Beam."""

import argparse
import difflib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from schemas import KINDS
from transforms.forwarders.service import location_problem
from transforms.matching.statement import DEFAULT_HOME_PAGE, is_absolute_iri
from transforms.read_kinesis import SCHEME, KinesisInput, KinesisUrlError
from transforms.reading.input_formats import INPUT_FORMATS, InputFormatName
from transforms.sessions.derivation import DurationUnit
from transforms.sessions.window import EVERYTHING, Window

Replay = Literal["new", "all"]
RecordFormat = Literal["jsonl", "avro", "parquet"]
OnFailure = Literal["continue", "block_user"]

# Options of Flink's job server: Beam's Python side passes them on without knowing them. The second are without a value.
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
FLINK_RUNNERS = ("flinkrunner", "flink")
# In ms. Without checkpoints nothing is known after a failure. Activity waits for the end of a bundle twice, on its way
# to its user's worker and there: with Flink's own 1,000 ms half of the records took 1.7 s, with these 0.6 s.
_STREAMING_ARGS = {"checkpointing_interval": 30_000, "max_bundle_time_mills": 200}
_RELATIVE = re.compile(r"-(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class UsageError(Exception):
    """Arguments or configuration the job cannot run with: exit status 2."""


@dataclass(frozen=True)
class Job:
    """What one run is to do. Holds no secret: it travels in the job graph.

    `runner` and `beam_args` are Beam's, and so are `streaming`,
    `checkpointing_interval` (milliseconds, 0 for none) and `job_server_jar` (its `--flink_job_server_jar`), which stay
    in `beam_args` too.
    """

    runner: str
    beam_args: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    input_format: InputFormatName = "activity"
    file_format: str | None = None
    forwarders: str | None = None
    output: str | None = None
    write_records: RecordFormat | None = None
    window: Window = EVERYTHING
    only_forwarders: tuple[str, ...] = ()
    organisation: str | None = None
    lrs_id: str | None = None
    actor_home_page: str = DEFAULT_HOME_PAGE
    session_duration_unit: DurationUnit = "minutes"
    max_reject_ratio: float = 0.05
    dry_run: bool = False
    explain: str | None = None
    allow_networks: tuple[str, ...] = ()
    max_backoff: float = 60.0
    outage_budget: float = 300.0
    on_failure: OnFailure = "continue"
    replay: Replay = "new"
    redrive: bool = False
    skip_invalid_forwarders: bool = False
    require_organisation: bool = False
    secret_env_prefix: str = "FORWARDER_"  # noqa: S105 - the start of a variable's name
    secrets_dir: str | None = None
    trust_references: bool = False
    state: str | None = None
    session_ttl: float = 30 * 86_400
    dedupe_horizon: float | None = None
    streaming: bool = False
    checkpointing_interval: int = 0
    job_server_jar: str | None = None

    @property
    def delivers(self) -> bool:
        """Whether anything is sent: not in a dry run, an explanation, or a run that only writes records."""
        return self.forwarders is not None and not self.dry_run and self.explain is None

    @property
    def looks_only(self) -> bool:
        """Whether the run changes nothing: a dry run or an explanation."""
        return self.dry_run or self.explain is not None


_EXAMPLES = """\
examples:
  a backfill: everything in the files, to every forwarder that asked for it
    python -m pipeline --runner=DirectRunner --input 'in/*.jsonl.gz' --forwarders forwarders.json --output out/

  what would be sent, without sending it
    python -m pipeline --runner=DirectRunner --input 'in/*.jsonl.gz' --forwarders forwarders.json --dry_run

  a replay of one day to one forwarder, though it was delivered before
    python -m pipeline --runner=DirectRunner --input 'in/*.jsonl.gz' --forwarders forwarders.json --output out/ \\
        --since 2026-03-01 --until 2026-03-02 --forwarder 59c8d14b0d82b3864a450604 --replay all

exit status: 0 all delivered; 1 the run failed, was stopped, or its books do not balance;
2 bad arguments or configuration; 3 finished with dead letters or rejects
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pipeline",
        description="Learning-session activity in; events, status and score messages out, in order, to every "
        "forwarder whose query they match.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--runner",
        default="DirectRunner",
        metavar="RUNNER",
        help="Beam's runner (DirectRunner: this machine). Flags that are not listed here go to Beam",
    )

    read = parser.add_argument_group("what is read")
    read.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="GLOB",
        help="session activity: local, or any file system Beam knows (s3://, gs://); repeatable. With --streaming "
        "one kinesis://STREAM?region=REGION",
    )
    read.add_argument(
        "--input_format",
        choices=tuple(INPUT_FORMATS),
        default="activity",
        help="the project's own session activity (default), or xAPI statements read as such",
    )
    read.add_argument(
        "--file_format",
        choices=("jsonl", "json", "avro", "parquet"),
        help="instead of going by the files' extensions",
    )
    read.add_argument("--organisation", metavar="ID", help="stamped on activity that carries none")
    read.add_argument("--lrs_id", metavar="ID", help="stamped on activity that carries none")
    read.add_argument(
        "--max_reject_ratio",
        type=_ratio,
        default=0.05,
        metavar="RATIO",
        help="more rejects than this share of what was read end the run before anything is delivered (default 0.05)",
    )

    keep = parser.add_argument_group("runs on a schedule, and --streaming")
    keep.add_argument(
        "--state",
        metavar="DIR",
        help="keep the sessions' activity here between runs: only input files that are new since the last run are "
        "read, and folded on to what came before",
    )
    keep.add_argument(
        "--session_ttl",
        type=_duration,
        default=30 * 86_400,
        metavar="TIME",
        help="forget a session of which nothing has arrived for so long, such as 12h or 30d (default 30d)",
    )
    keep.add_argument(
        "--dedupe_horizon",
        type=_duration,
        metavar="TIME",
        help="with --streaming: activity that arrives again within so long is dropped, and so old receipts of earlier "
        "jobs count (default 7d, or --session_ttl where that is shorter: what is known of a session is what its "
        "duplicates are known by)",
    )

    derive = parser.add_argument_group("what is derived")
    derive.add_argument(
        "--since",
        type=_instant,
        metavar="TIME",
        help="only records from this time on: RFC 3339, a date, or relative (-24h, -7d); "
        "earlier activity still counts as session history",
    )
    derive.add_argument("--until", type=_instant, metavar="TIME", help="only records before this time")
    derive.add_argument(
        "--kind", action="append", choices=KINDS, dest="kinds", help="only records of this kind; repeatable"
    )
    derive.add_argument(
        "--session_duration_unit",
        choices=("minutes", "seconds"),
        default="minutes",
        help="of a session_duration the player did not report (default minutes)",
    )
    derive.add_argument(
        "--actor_home_page",
        type=_home_page,
        default=DEFAULT_HOME_PAGE,
        metavar="IRI",
        help=f"homePage of a statement's actor (default {DEFAULT_HOME_PAGE})",
    )

    forward = parser.add_argument_group("who gets it")
    forward.add_argument(
        "--forwarders",
        metavar="WHERE",
        help="forwarder documents: a JSON array, JSON Lines, or a directory of documents; or a service, "
        "https://host/api/v2/statementforwarding (basic auth from REGISTRY_CLIENT_KEY and REGISTRY_CLIENT_SECRET), or "
        "its store, sqlite:///path or mongodb://host/database",
    )
    forward.add_argument(
        "--forwarder",
        action="append",
        default=[],
        dest="only_forwarders",
        metavar="ID",
        help="only this forwarder; repeatable",
    )
    forward.add_argument(
        "--skip_invalid_forwarders",
        action="store_true",
        help="run the valid forwarders when others are refused",
    )
    forward.add_argument(
        "--require_organisation",
        action="store_true",
        help="refuse forwarders without an organisation",
    )
    forward.add_argument(
        "--secret_env_prefix",
        type=_not_empty,
        default="FORWARDER_",
        metavar="PREFIX",
        help="an env: reference in a forwarder must name a variable that starts so (default FORWARDER_)",
    )
    forward.add_argument("--secrets_dir", metavar="DIR", help="a file: reference in a forwarder must lie under it")
    forward.add_argument(
        "--trust_references",
        action="store_true",
        help="resolve references in documents that come from a service or database too",
    )

    deliver = parser.add_argument_group("how it is delivered")
    deliver.add_argument("--output", metavar="DIR", help="receipts/, dead_letters/, rejects/ and report.json go here")
    deliver.add_argument(
        "--replay",
        choices=("new", "all"),
        default="new",
        help="new (default): only what --output does not know as delivered; all: everything again",
    )
    deliver.add_argument(
        "--redrive",
        action="store_true",
        help="send the dead letters of --output again instead of reading --input",
    )
    deliver.add_argument(
        "--on_failure",
        choices=("continue", "block_user"),
        default="continue",
        help="after a record is given up: go on with its user (default), or dead-letter the rest of that user too",
    )
    deliver.add_argument(
        "--max_backoff",
        type=_positive,
        default=60.0,
        metavar="SECONDS",
        help="longest wait before an attempt is repeated (default 60)",
    )
    deliver.add_argument(
        "--outage_budget",
        type=_positive,
        default=300.0,
        metavar="SECONDS",
        help="without progress for so long, what is left of a forwarder goes to the dead letters (default 300)",
    )
    deliver.add_argument(
        "--allow_network",
        action="append",
        default=[],
        dest="allow_networks",
        type=_network,
        metavar="CIDR",
        help="a private network that HTTP forwarders may reach; repeatable",
    )

    look = parser.add_argument_group("looking without sending")
    look.add_argument(
        "--dry_run",
        action="store_true",
        help="send nothing; say who would get how many of what, with one sample payload per forwarder",
    )
    look.add_argument("--explain", metavar="ID", help="for that record, which clause decided for each forwarder")
    look.add_argument(
        "--write_records",
        choices=("jsonl", "avro", "parquet"),
        help="also write the derived records under --output/records, by kind",
    )
    return parser


def parse(argv: Sequence[str]) -> Job:
    """The job that `argv` (without the program's name) asks for.

    Raises UsageError with everything a user needs to mend the call; `--help` prints and exits.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(_join_relative_times(argv))
    beam = _known_to_beam(parser, rest, arguments.runner)
    for name, value in _STREAMING_ARGS.items() if beam.streaming else ():
        if getattr(beam, name, None) is None:
            rest.append(f"--{name}={value}")
            setattr(beam, name, value)
    values = vars(arguments)
    for name in ("inputs", "only_forwarders", "allow_networks"):
        values[name] = tuple(dict.fromkeys(values[name]))
    kinds = values.pop("kinds") or KINDS
    window = Window(values.pop("since"), values.pop("until"), tuple(kind for kind in KINDS if kind in kinds))
    job = Job(
        **values,
        window=window,
        beam_args=tuple(rest),
        streaming=bool(beam.streaming),
        checkpointing_interval=getattr(beam, "checkpointing_interval", None) or 0,
        job_server_jar=beam.flink_job_server_jar,
    )
    _check_combination(job)
    return job


def _check_streaming(job: Job) -> None:
    streams = [given for given in job.inputs if given.startswith(SCHEME)]
    if not job.streaming:
        if streams:
            raise UsageError(f"--input {SCHEME}... is read as it happens: add --streaming (README.md, 'As it happens')")
        if job.dedupe_horizon is not None:
            raise UsageError("--dedupe_horizon goes with --streaming: a bounded run knows all duplicates in its input")
        return
    if job.runner.lower() not in FLINK_RUNNERS:
        raise UsageError("--streaming needs --runner=FlinkRunner: Flink itself runs the Kinesis source")
    if len(job.inputs) != 1 or not streams:
        raise UsageError(f"--streaming reads exactly one --input, {SCHEME}STREAM?region=REGION")
    try:
        KinesisInput.parse(job.inputs[0])
    except KinesisUrlError as error:
        raise UsageError(f"--input {SCHEME}... {error}") from None
    if job.job_server_jar is None or not Path(job.job_server_jar).is_file():
        raise UsageError(
            "--streaming needs --flink_job_server_jar=local/flink/target/flink-job-server.jar, which holds the Kinesis "
            "source: `mvn -q -f local/flink/pom.xml package` makes it"
        )
    if job.forwarders is None or job.output is None:
        raise UsageError("--streaming needs --forwarders and --output: who gets the records, and where receipts go")
    refused = {
        "--file_format": job.file_format,
        "--write_records": job.write_records,
        "--since": job.window.since,
        "--until": job.window.until,
        "--state": job.state,
        "--redrive": job.redrive,
        "--dry_run": job.dry_run,
        "--explain": job.explain,
    }
    for flag, value in refused.items():
        if value:
            raise UsageError(f"--streaming goes without {flag}: it sends records as they are derived, and has no end")
    if job.dedupe_horizon is not None and job.dedupe_horizon > job.session_ttl:
        raise UsageError(
            "--dedupe_horizon is longer than --session_ttl: a duplicate is known by its session, keep that as long"
        )


def _check_combination(job: Job) -> None:
    _check_streaming(job)
    if job.forwarders is not None and (problem := location_problem(job.forwarders)):
        raise UsageError(f"--forwarders {problem}")
    since, until = job.window.since, job.window.until
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until: the window they name is empty")
    if job.state is not None:
        if job.redrive or since is not None or until is not None or job.only_forwarders:
            raise UsageError(
                "--state goes without --redrive, --since, --until and --forwarder: what a run on it derives is not "
                "derived again, so all of it has to be for everybody"
            )
        if job.output is not None and Path(job.output).resolve() == Path(job.state).resolve():
            raise UsageError("--state and --output must be two directories: give --state one inside --output")
    if job.redrive:
        if job.forwarders is None or job.output is None:
            raise UsageError("--redrive needs --forwarders and --output: whose dead letters, and where they are")
        if job.inputs:
            raise UsageError("--redrive sends stored dead letters: leave --input out")
        if job.dry_run or job.explain or job.write_records:
            raise UsageError("--redrive goes without --dry_run, --explain and --write_records: it derives nothing")
        return
    if not job.inputs:
        raise UsageError("--input is missing: name the files to read, such as --input 'in/*.jsonl.gz'")
    if job.forwarders is None and not job.write_records:
        raise UsageError("--forwarders is missing: name the documents, or ask for --write_records alone")
    if job.forwarders is None and (job.dry_run or job.explain):
        raise UsageError("--dry_run and --explain need --forwarders")
    if job.output is None and (job.delivers or job.write_records):
        raise UsageError("--output is missing: name the directory for receipts, dead letters, rejects and report.json")


def _join_relative_times(argv: Sequence[str]) -> list[str]:
    """`--since -24h` as `--since=-24h`: argparse would take the value for a flag."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--since", "--until") and word.startswith("-") and not word.startswith("--"):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def _known_to_beam(parser: argparse.ArgumentParser, rest: Sequence[str], runner: str) -> argparse.Namespace:
    """What Beam makes of `rest`, when it knows the runner and every flag in it and can read every value."""
    runners = StandardOptions.KNOWN_RUNNER_NAMES
    if "." not in runner and runner.lower().removesuffix("runner") not in {
        name.lower().removesuffix("runner") for name in runners
    }:
        raise UsageError(f"--runner={runner} is not a runner that Beam knows: {', '.join(runners)}")
    beam = _Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(beam)  # type: ignore[arg-type]
    if runner not in ("DirectRunner", "FnApiRunner"):
        for name in _FLINK_JOB_SERVER_FLAGS:
            beam.add_argument(f"--{name}", type=int if name == "checkpointing_interval" else str)
        for name in _FLINK_JOB_SERVER_SWITCHES:
            beam.add_argument(f"--{name}", action="store_true")
    known, unknown = beam.parse_known_args(list(rest))
    if unknown:
        flags = [option for one in (parser, beam) for action in one._actions for option in action.option_strings]
        flag = unknown[0].split("=", 1)[0]
        nearest = difflib.get_close_matches(flag, flags, n=1)
        hint = f"; the nearest known flag is {nearest[0]}" if nearest else ""
        raise UsageError(f"unknown {'flag' if flag.startswith('-') else 'argument'} {flag}{hint}")
    if known.direct_running_mode == "multi_threading":
        raise UsageError(
            "--direct_running_mode=multi_threading loses data in Beam's runner (309 of 100,000 keys in one of 8 "
            "measured runs): use in_memory (the default) or multi_processing"
        )
    return known


def _instant(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time, a date (its start, UTC) or a time relative to now."""
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative:
            when = datetime.now(UTC) - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        else:
            when = datetime.fromisoformat(text)
            if when.tzinfo is None:
                if len(text) != len("2026-03-01"):
                    raise argparse.ArgumentTypeError(f"{text!r} has no time zone: add Z or an offset")
                when = when.replace(tzinfo=UTC)
        return int(when.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: use 2026-03-01, 2026-03-01T09:00:00Z or -24h"
        ) from None


def _duration(text: str) -> float:
    match = _RELATIVE.fullmatch("-" + text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time: use 12h, 30d or 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])}).total_seconds()


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty: it would open the whole environment to the documents")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a network such as 10.0.0.0/8: {error}") from None


def _home_page(text: str) -> str:
    if not is_absolute_iri(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute IRI such as https://example.org")
    return text
