"""The command line: flags go in, a frozen and checked `Job` comes out. All flags but its own are Beam's."""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from pipeline import flag_values
from pipeline.beam_flags import parse_beam_flags
from pipeline.job_command import PIPELINE, JobCommand, JobParser
from pipeline.logs import LogFormat, LogLevel
from pipeline.usage import UsageError
from schemas import DERIVED_KINDS, KINDS, Kind
from schemas.record import RecordFormat
from transforms.accounting.summary import RejectLimit
from transforms.delivery.policy import DeliverySettings, OnFailure
from transforms.durability import Durability
from transforms.forwarders.secrets import is_reference, reference_of_flag_problem
from transforms.forwarders.service import is_remote, location_problem
from transforms.matching.statement import DEFAULT_HOME_PAGE
from transforms.reading.blocks import FILE_FORMATS
from transforms.reading.input_formats import INPUT_FORMATS, InputFormatName
from transforms.reading.leniency import Leniency
from transforms.receipts.settlement_filter import SettlementFilter
from transforms.sessions.derivation import SECONDS_PER_UNIT, DurationUnit
from transforms.sessions.window import EVERYTHING, Window
from transforms.sinks.base import AwsClient
from transforms.sources.credentials import reference_problem
from transforms.sources.kinesis_input import SCHEME, KinesisInput, KinesisUrlError
from transforms.sources.locations import implied_format, is_source, source_problem
from transforms.storage import local_path

Replay = Literal["new", "all"]
Mode = Literal["run", "replay", "redrive", "dry_run", "explain"]
NaiveTimes = Literal["refuse", "utc"]
StoredAs = Literal["now"]
CatchUp = Literal["on", "off"]

FLINK_RUNNERS = ("flinkrunner", "flink")
_DATAFLOW_RUNNERS = ("dataflowrunner", "dataflow")
_DATAFLOW_PLACES = ("--temp_location", "--staging_location")
_DATAFLOW_CODE = ("--sdk_container_image", "--setup_file", "--extra_package")
_DIRECT_RUNNERS = ("directrunner", "direct", "fnapirunner", "fnapi")
# In ms, unless they are given. Without checkpoints nothing is known after a failure. Activity waits for the end of a
# bundle twice, before its user's worker and on it. With Flink's own 1,000 ms half of the records took 1.7 s, and with
# 200 ms they took 0.6 s.
_STREAMING_ARGS = {"checkpointing_interval": 30_000, "max_bundle_time_mills": 200}
_WITH_PASSWORD = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/+[^/?#:@]*:(?!\d+(?:/|$))[^@]*@")
"""An address with a password. A port is none, though an @ may come later: `hdfs://host:9000/a@b`."""

_DAY = 86_400
_DEDUPE_HORIZON = 7 * _DAY


_DELIVERY = DeliverySettings()


@dataclass(frozen=True)
class Job:
    """What one run is to do: the flags, under their names, with their defaults. It holds no secret.

    `runner` and `beam_args` are Beam's. `streaming`, `checkpointing_interval` and `job_server_jar` are read from
    `beam_args`, and stay in them.

    Attributes:
        runner: the name of Beam's runner.
        beam_args: the flags that are Beam's own, as they were given.
        temp_dir: the path of a directory of this machine; None for that of `TMPDIR`.
        inputs: what is read, globs, live sources or one kinesis:// url (`--input`).
        input_auth: a reference to the login of the live sources (`--input_auth`).
        window: which records are given on (`--since`, `--until`, `--kind`, `--id`). In a redrive the times are of the
            letters: see `chosen_letters`.
        only_forwarders: ids (`--forwarder`); empty for all.
        forwarder_documents: the digest that the documents must have (`forwarder_documents` of a report).
        reasons: of dead letters (`--reason`); empty for all.
        record_ids: of what is sent again (`--id`); empty for all.
        allow_networks: CIDRs (`--allow_network`).
        attachments: a directory with the data of attachments.
        max_backoff: seconds.
        outage_budget: seconds.
        session_ttl: seconds.
        dedupe_horizon: seconds; see `receipts_horizon` for None.
        metrics_port: where each process that has a board answers Prometheus.
        metrics_file: an absolute path that ends in `.prom`.
        alert_url: an address, or a reference to one.
        alert_secret: a reference to the key that signs alerts.
        alert_after: seconds.
        checkpointing_interval: milliseconds; 0 for none.
        job_server_jar: the path of Flink's job server (`--flink_job_server_jar`).
    """

    runner: str = "DirectRunner"
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    beam_args: tuple[str, ...] = ()
    temp_dir: str | None = None
    inputs: tuple[str, ...] = ()
    input_auth: str | None = None
    input_format: InputFormatName = "activity"
    file_format: str | None = None
    qualify_users: bool = False
    include_voided: bool = False
    stored_as: StoredAs | None = None
    organisation: str | None = None
    lrs_id: str | None = None
    naive_times: NaiveTimes = "refuse"
    lenient_numbers: bool = False
    max_reject_ratio: float = 0.05
    max_rejects: int = 10
    state: str | None = None
    session_ttl: float = 30 * _DAY
    max_forget_ratio: float = 0.1
    trust_clock: bool = False
    dedupe_horizon: float | None = None
    catch_up: CatchUp = "on"
    window: Window = EVERYTHING
    session_duration_unit: DurationUnit = "minutes"
    actor_home_page: str = DEFAULT_HOME_PAGE
    forwarders: str | None = None
    only_forwarders: tuple[str, ...] = ()
    forwarder_documents: str | None = None
    skip_invalid_forwarders: bool = False
    require_organisation: bool = False
    secret_env_prefix: str = "FORWARDER_"  # noqa: S105 - the start of a variable's name
    secrets_dir: str | None = None
    trust_references: bool = False
    output: str | None = None
    replay: Replay = "new"
    redrive: bool = False
    reasons: tuple[str, ...] = ()
    record_ids: tuple[str, ...] = ()
    on_failure: OnFailure = _DELIVERY.on_failure
    max_backoff: float = _DELIVERY.max_backoff
    outage_budget: float = _DELIVERY.outage_budget
    allow_networks: tuple[str, ...] = ()
    aws_client: AwsClient = "auto"
    durability: Durability = "group"
    attachments: str | None = None
    dry_run: bool = False
    explain: str | None = None
    write_records: RecordFormat | None = None
    metrics_port: flag_values.Listen | None = None
    metrics_file: str | None = None
    alert_url: str | None = None
    alert_secret: str | None = None
    alert_after: float = 60.0
    streaming: bool = False
    checkpointing_interval: int = 0
    job_server_jar: str | None = None

    @property
    def is_direct(self) -> bool:
        """Whether the job runs on this machine alone."""
        return self.runner.lower() in _DIRECT_RUNNERS

    @property
    def has_places_elsewhere(self) -> bool:
        """Whether files may be on other file systems than this machine's (s3://, gs://, hdfs://, ...)."""
        named = (self.output, self.state, self.attachments, self.forwarders, *self.inputs)
        places = [place for place in named if place is not None and not is_source(place) and not is_remote(place)]
        return not self.is_direct or any(local_path(place) is None for place in places)

    @property
    def forwards_statements(self) -> bool:
        """Whether statements are forwarded as they are."""
        return "statement" in self.window.kinds

    @property
    def catches_up(self) -> bool:
        """Whether the run begins with what an outage left of earlier ones (`--catch_up`)."""
        is_asked = self.state is not None and self.catch_up == "on" and self.output is not None
        return is_asked and self.forwarders is not None and self.explain is None and not self.sends_again

    @property
    def chosen_letters(self) -> SettlementFilter:
        """The dead letters that a redrive sends."""
        window = self.window
        return SettlementFilter(
            self.only_forwarders, self.reasons, self.record_ids, window.since, window.until, window.kinds
        )

    @property
    def leniency(self) -> Leniency:
        """What is read beyond the rules (`--naive_times`, `--lenient_numbers`)."""
        return Leniency(naive_utc=self.naive_times == "utc", lenient_numbers=self.lenient_numbers)

    @property
    def reject_limit(self) -> RejectLimit:
        """From how many rejects on a run ends before anything is delivered (`--max_reject_ratio`, `--max_rejects`)."""
        return RejectLimit(self.max_reject_ratio, self.max_rejects)

    @property
    def durable(self) -> bool:
        """Whether what the run leaves is to survive a power cut (`--durability`)."""
        return self.durability != "none"

    @property
    def reads_sources(self) -> bool:
        """Whether live sources are read, and no files."""
        return any(map(is_source, self.inputs))

    @property
    def delivers(self) -> bool:
        """Whether anything is sent: not in a dry run, an explanation, or a run that only writes records."""
        return self.forwarders is not None and not self.looks_only

    @property
    def looks_only(self) -> bool:
        """Whether the run changes nothing: a dry run or an explanation."""
        return self.dry_run or self.explain is not None

    @property
    def sends_again(self) -> bool:
        """Whether what earlier runs delivered is sent again (`--replay all`). A redrive never does that."""
        return self.replay == "all" and not self.redrive

    @property
    def mode(self) -> Mode:
        """What kind of run it is. Runs of one mode can be compared."""
        if self.explain is not None:
            return "explain"
        if self.dry_run:
            return "dry_run"
        if self.redrive:
            return "redrive"
        return "replay" if self.replay == "all" else "run"

    @property
    def receipts_horizon(self) -> float | None:
        """Seconds before the latest receipt from which on the receipts of earlier runs count; None for all of them."""
        if not self.streaming:
            return None
        return self.dedupe_horizon or min(_DEDUPE_HORIZON, self.session_ttl)


def parser_of(command: JobCommand) -> JobParser:
    """The parser of a command: the flags of `Job`, with the defaults of its fields."""
    parser = JobParser(command)
    _add_running(parser)
    _add_reading(parser.add_argument_group("what is read"))
    _add_state(parser.add_argument_group("runs on a schedule, and --streaming"))
    _add_deriving(parser.add_argument_group("what is derived"))
    _add_forwarders(parser.add_argument_group("who gets it"))
    _add_delivery(parser.add_argument_group("how it is delivered"))
    _add_watching(parser.add_argument_group("watching it"))
    _add_looking(parser.add_argument_group("looking without sending"))
    flags = vars(parser.parse_args([]))
    # A flag that may be given several times has no default here: argparse would append to it.
    # What is not given is told apart from what is: a live source implies another format.
    parser.set_defaults(**{field.name: field.default for field in fields(Job) if field.name in flags and field.default})
    parser.set_defaults(input_format=None)
    return parser


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runner",
        metavar="RUNNER",
        help="Beam's runner (DirectRunner: this machine). Flags that are not listed here go to Beam",
    )
    parser.add_argument(
        "--temp_dir",
        type=flag_values.directory,
        metavar="DIR",
        help="where temporary files of this machine go: what was read and is not derived yet, some 120 bytes an "
        "activity, and what slow forwarders have not taken (default: TMPDIR)",
    )
    parser.add_argument(
        "--config",
        dest=argparse.SUPPRESS,
        metavar="FILE",
        help="a TOML file with flags, their names without dashes: input = ['in/*'], output = 'out', dry_run = true. "
        "A flag on the command line wins",
    )
    parser.add_argument(
        "--log_format",
        choices=get_args(LogFormat),
        help="lines of the log, on standard error: text (default), or json, an object a line with the run's id",
    )
    parser.add_argument(
        "--log_level",
        choices=get_args(LogLevel),
        help=f"the least of what is logged (default {Job.log_level})",
    )


def _add_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        action="append",
        dest="inputs",
        metavar="GLOB",
        help="session activity: local, or any file system Beam knows (s3://, gs://); - is standard input; repeatable. "
        "Quote a pattern. Or statements of a Learning Locker, mongodb://host/database.statements, or of an LRS, "
        "https://host/xAPI/statements?... With --streaming one kinesis://STREAM?region=REGION",
    )
    group.add_argument(
        "--input_auth",
        metavar="REFERENCE",
        help="the login of a live source: env:NAME or file:/PATH of a text user:password; without it an LRS has "
        "LRS_SOURCE_KEY and LRS_SOURCE_SECRET, a database REGISTRY_MONGODB_USERNAME and REGISTRY_MONGODB_PASSWORD",
    )
    group.add_argument(
        "--input_format",
        choices=tuple(INPUT_FORMATS),
        help="the project's own session activity (default); xapi: statements; or learninglocker: a mongoexport of "
        "Learning Locker's statements. A live source implies it. Of statements --kind says whether they are forwarded, "
        "derived from, or both",
    )
    group.add_argument(
        "--qualify_users",
        action="store_true",
        help="with --input_format xapi: a learner with an account is HOMEPAGE|NAME, not NAME alone, so that the same "
        "name on two home pages is two learners",
    )
    group.add_argument(
        "--include_voided",
        action="store_true",
        help="forward statements, too, whose document in Learning Locker says that they are voided or not active",
    )
    group.add_argument(
        "--stored_as",
        choices=get_args(StoredAs),
        help="a statement without timestamp and stored is refused (default), or has the time at which it is read (now)",
    )
    group.add_argument("--file_format", choices=FILE_FORMATS, help="instead of going by the files' extensions")
    group.add_argument("--organisation", metavar="ID", help="stamped on activity that carries none")
    group.add_argument("--lrs_id", metavar="ID", help="stamped on activity that carries none")
    group.add_argument(
        "--naive_times",
        choices=get_args(NaiveTimes),
        help="times without a zone: refuse them (default; only 'YYYY-MM-DD HH:MM:SS' is UTC), or take all of them as "
        "utc",
    )
    group.add_argument(
        "--lenient_numbers",
        action="store_true",
        help="read numbers in quotes as numbers, and ids that are numbers as their text",
    )
    group.add_argument(
        "--max_reject_ratio",
        type=flag_values.ratio,
        metavar="RATIO",
        help="more rejects than this share of what was read, by rows or by bytes, end the run before anything is "
        f"delivered (default {Job.max_reject_ratio})",
    )
    group.add_argument(
        "--max_rejects",
        type=flag_values.count,
        metavar="COUNT",
        help=f"fewer rejects than this never end the run, whatever their share is (default {Job.max_rejects})",
    )


def _add_state(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--state",
        metavar="DIR",
        help="keep the sessions' activity here between runs: only input files that are new since the last run are "
        "read, and folded on to what came before",
    )
    group.add_argument(
        "--session_ttl",
        type=flag_values.duration,
        metavar="TIME",
        help="forget a session of which nothing has arrived for so long, such as 12h or 30d "
        f"(default {Job.session_ttl // _DAY}d)",
    )
    group.add_argument(
        "--max_forget_ratio",
        type=flag_values.ratio,
        metavar="RATIO",
        help="with --state: a run that would forget more than this share of the sessions stops before anything is sent "
        f"(default {Job.max_forget_ratio})",
    )
    group.add_argument(
        "--trust_clock",
        action="store_true",
        help="with --state: the clock of this machine is right, so forget what is due, however much, and go on from a "
        "state that is later",
    )
    group.add_argument(
        "--catch_up",
        choices=get_args(CatchUp),
        help="with --state: a run first tries the dead letters again that an outage of a forwarder has left, each "
        "user's before what is new of the user (on, the default), or leaves them to --redrive (off)",
    )
    group.add_argument(
        "--dedupe_horizon",
        type=flag_values.duration,
        metavar="TIME",
        help="with --streaming: activity that arrives again within so long is dropped, and so old receipts of earlier "
        f"jobs count (default {_DEDUPE_HORIZON // _DAY}d, or --session_ttl where that is shorter: what is known of a "
        "session is what its duplicates are known by)",
    )


def _add_deriving(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--since",
        type=flag_values.instant,
        metavar="TIME",
        help="only records from this time on: RFC 3339, a date, or relative (-24h, -7d); "
        "earlier activity still counts as session history. With --redrive: only dead letters that were given up from "
        "this time on",
    )
    group.add_argument(
        "--until",
        type=flag_values.instant,
        metavar="TIME",
        help="only records before this time; with --redrive: only dead letters that were given up before it",
    )
    group.add_argument(
        "--kind",
        action="append",
        choices=KINDS,
        dest="kinds",
        help="only records of this kind; repeatable (default: event, status and score; of statements that are read: "
        "statement)",
    )
    group.add_argument(
        "--session_duration_unit",
        choices=tuple(SECONDS_PER_UNIT),
        help=f"of a session_duration the player did not report (default {Job.session_duration_unit})",
    )
    group.add_argument(
        "--actor_home_page",
        type=flag_values.home_page,
        metavar="IRI",
        help=f"homePage of a statement's actor (default {Job.actor_home_page})",
    )


def _add_forwarders(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--forwarders",
        metavar="WHERE",
        help="forwarder documents: a JSON array, JSON Lines, or a directory of documents; or a service, "
        "https://host/api/v2/statementforwarding (basic auth from REGISTRY_CLIENT_KEY and REGISTRY_CLIENT_SECRET), or "
        "its store, sqlite:///path or mongodb://host/database",
    )
    group.add_argument(
        "--forwarder", action="append", dest="only_forwarders", metavar="ID", help="only this forwarder; repeatable"
    )
    group.add_argument(
        "--forwarder_documents",
        metavar="DIGEST",
        help="run only if the documents are those of a plan: forwarder_documents in its report",
    )
    group.add_argument(
        "--skip_invalid_forwarders", action="store_true", help="run the valid forwarders when others are refused"
    )
    group.add_argument("--require_organisation", action="store_true", help="refuse forwarders without an organisation")
    group.add_argument(
        "--secret_env_prefix",
        type=flag_values.variable_prefix,
        metavar="PREFIX",
        help=f"an env: reference in a forwarder must name a variable that starts so (default {Job.secret_env_prefix})",
    )
    group.add_argument("--secrets_dir", metavar="DIR", help="a file: reference in a forwarder must lie under it")
    group.add_argument(
        "--trust_references",
        action="store_true",
        help="resolve references in documents that come from a service or database too",
    )


def _add_delivery(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--output", metavar="DIR", help="receipts/, dead_letters/, rejects/ and report.json go here")
    group.add_argument(
        "--replay",
        choices=get_args(Replay),
        help="new (default): only what --output does not know as delivered; all: everything again",
    )
    group.add_argument(
        "--redrive",
        action="store_true",
        help="send the dead letters of --output again instead of reading --input; with --dry_run: say which would be "
        "sent, and which not and why",
    )
    group.add_argument(
        "--reason",
        action="append",
        dest="reasons",
        metavar="REASON",
        help="with --redrive: only dead letters of this reason, such as http_503; repeatable",
    )
    group.add_argument(
        "--id",
        action="append",
        dest="record_ids",
        metavar="ID",
        type=str.lower,
        help="with --redrive or --replay all: only this record; repeatable",
    )
    group.add_argument(
        "--on_failure",
        choices=get_args(OnFailure),
        help="after a record is given up: go on with its user (default), or dead-letter the rest of that user too",
    )
    group.add_argument(
        "--max_backoff",
        type=flag_values.duration_or_seconds,
        metavar="TIME",
        help=f"longest wait before an attempt is repeated, such as 5s or 1m (default {Job.max_backoff:g}s)",
    )
    group.add_argument(
        "--outage_budget",
        type=flag_values.duration_or_seconds,
        metavar="TIME",
        help="without progress for so long, such as 90s or 5m, what is left of a forwarder goes to the dead letters "
        f"(default {Job.outage_budget / 60:g}m)",
    )
    group.add_argument(
        "--allow_network",
        action="append",
        dest="allow_networks",
        type=flag_values.network,
        metavar="CIDR",
        help="a private network that HTTP forwarders may reach; repeatable",
    )
    group.add_argument(
        "--aws_client",
        choices=get_args(AwsClient),
        help="what makes the calls to Kinesis and Firehose: connections of the job's own where they can (auto, the "
        "default), or boto3",
    )
    group.add_argument(
        "--durability",
        choices=get_args(Durability),
        help="what is synced to a local disk, to survive a power cut: nothing; receipts in groups, 20 times a second "
        "(group, the default); or each receipt before its user's next record is sent",
    )
    group.add_argument(
        "--attachments",
        metavar="DIR",
        help="where the data of statements' attachments is, in files named by their SHA-2; forwarders with "
        "sendAttachments send it",
    )


def _add_watching(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metrics_port",
        type=flag_values.listen,
        metavar="PORT",
        help="answer Prometheus at this port of 127.0.0.1, or at the first free one of a range (9464-9483); 0 is any "
        "free one, which the log names; 0.0.0.0:9464 is of every address. On Flink each worker has its own",
    )
    group.add_argument(
        "--metrics_file",
        type=flag_values.metrics_file,
        metavar="FILE",
        help="write the metrics to this file for node_exporter's textfile collector, every 10 s and at the end; it "
        "ends in .prom",
    )
    group.add_argument(
        "--alert_url",
        metavar="URL",
        help="send a webhook when something needs a hand: an address, or env:NAME or file:/PATH of one",
    )
    group.add_argument(
        "--alert_secret",
        metavar="REFERENCE",
        help="what signs webhooks, as Standard Webhooks says: env:NAME or file:/PATH of a key in base64",
    )
    group.add_argument(
        "--alert_after",
        type=flag_values.duration,
        metavar="TIME",
        help="a forwarder that has taken nothing for so long is told, such as 60s or 5m "
        f"(default {Job.alert_after:g}s)",
    )


def _add_looking(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="send nothing; say who would get how many of what, with one sample payload per forwarder",
    )
    group.add_argument(
        "--explain",
        metavar="ID",
        help="for that record, which clause decided for each forwarder; "
        "or for those of a session_id, or of an activity's record_id",
    )
    group.add_argument(
        "--write_records",
        choices=get_args(RecordFormat),
        help="also write the derived records under --output/records, by kind",
    )


def parse(argv: Sequence[str], command: JobCommand = PIPELINE) -> Job:
    """The job that a command line asks for. `--help` prints and exits.

    Args:
        argv: without the name of the program. A config file has been read by then (`pipeline.config_file`).
        command: whose flags they are.

    Raises:
        UsageError: with all that a user needs to correct the call.
    """
    job, faults = parse_with_faults(argv, command)
    if faults:
        raise UsageError("\n".join(faults))
    return job


def option_actions() -> Mapping[str, argparse.Action]:
    """The job's own flags, each with how it is read."""
    return parser_of(PIPELINE)._option_string_actions


def parse_with_faults(argv: Sequence[str], command: JobCommand) -> tuple[Job, tuple[str, ...]]:
    """As `parse`, but what does not go together is given back: who checks a job wants to know what else is wrong.

    Raises:
        UsageError: a flag or a value cannot be read.
    """
    parser = parser_of(command)
    arguments, rest = parser.parse_known_args(join_relative_times((*command.implied, *argv)))
    _refuse_empty(parser, arguments)
    beam = parse_beam_flags(rest, arguments.runner, parser._option_string_actions)
    for name, value in _STREAMING_ARGS.items() if beam.streaming else ():
        if getattr(beam, name, None) is None:
            rest.append(f"--{name}={value}")
            setattr(beam, name, value)
    values = vars(arguments)
    for name in ("inputs", "only_forwarders", "reasons", "record_ids", "allow_networks"):
        values[name] = tuple(dict.fromkeys(values[name] or ()))
    arguments.input_format = _input_format(arguments.inputs, arguments.input_format)
    kinds = values.pop("kinds") or _usual_kinds(arguments)
    window = Window(
        since=values.pop("since"),
        until=values.pop("until"),
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        record_ids=frozenset() if arguments.redrive else frozenset(arguments.record_ids),
    )
    job = Job(
        **values,
        window=window,
        beam_args=tuple(rest),
        streaming=bool(beam.streaming),
        checkpointing_interval=getattr(beam, "checkpointing_interval", None) or 0,
        job_server_jar=beam.flink_job_server_jar,
    )
    return job, tuple(_faults(job, needs_input=command.needs_input))


def _usual_kinds(arguments: argparse.Namespace) -> tuple[Kind, ...]:
    """The kinds of a run that names none: what was read, or what is derived of it. Dead letters are of any kind."""
    if arguments.redrive:
        return KINDS
    return DERIVED_KINDS if arguments.input_format == "activity" else ("statement",)


def _input_format(inputs: Sequence[str], given: InputFormatName | None) -> InputFormatName:
    """The format of the input: what was given, else what a live source implies.

    Raises:
        UsageError: the sources do not have the format that was given, or not the same.
    """
    implied = {input_: implied_format(input_) for input_ in inputs if is_source(input_)}
    if len(set(implied.values())) > 1:
        raise UsageError("--input: an LRS and a database give statements in two formats: read them in two runs")
    for format_ in implied.values():
        if given not in (None, format_):
            raise UsageError(f"--input_format {given} is not what the source gives: leave it out ({format_})")
        return format_
    return given or Job.input_format


def _check_sources(job: Job) -> None:
    """Raises UsageError where live sources cannot be read as given. No url is repeated: it may hold a secret."""
    if job.input_auth is not None:
        if not job.reads_sources:
            raise UsageError("--input_auth is the login of a live source: --input names none")
        if problem := reference_problem(job.input_auth):
            raise UsageError(f"--input_auth {problem}")
    if not job.reads_sources:
        return
    if job.streaming:
        raise UsageError(f"--streaming reads exactly one --input, {SCHEME}STREAM?region=REGION")
    for location in job.inputs:
        if not is_source(location):
            raise UsageError("--input: files and live sources are read in two runs")
        if problem := source_problem(location):
            raise UsageError(f"--input {location.partition('://')[0]}://... {problem}")
    if job.file_format is not None:
        raise UsageError("--file_format is of files: a live source has none")


def _check_streaming(job: Job) -> None:
    streams = [url for url in job.inputs if url.startswith(SCHEME)]
    if not job.streaming:
        if streams:
            raise UsageError(f"--input {SCHEME}... is a stream: add --streaming (docs/streaming.md)")
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
        "--metrics_file": job.metrics_file,
    }
    for flag, value in refused.items():
        if value:
            raise UsageError(f"--streaming goes without {flag}: it sends records as they are derived, and has no end")
    if job.dedupe_horizon is not None and job.dedupe_horizon > job.session_ttl:
        raise UsageError(
            "--dedupe_horizon is longer than --session_ttl: a duplicate is known by its session, keep that as long"
        )


def _check_dataflow(job: Job) -> None:
    """Raises UsageError where Dataflow would fail minutes later, or ask the cloud for what was not given."""
    if job.runner.lower() not in _DATAFLOW_RUNNERS:
        return
    if find_spec("google") is None or find_spec("google.auth") is None:
        raise UsageError("--runner=DataflowRunner needs packages that are not installed: pip install '.[gcp]'")
    given = {argument.partition("=")[0] for argument in job.beam_args}
    if "--template_location" in given:
        raise UsageError(
            "--template_location leaves a graph for later, but which files are new, what is delivered already and the "
            "report are the launcher's: leave it out, and launch each run (docs/dataflow.md)"
        )
    if "--project" not in given:
        raise UsageError("--runner=DataflowRunner needs --project: the id of the project that pays")
    if given.isdisjoint(_DATAFLOW_PLACES):
        raise UsageError("--runner=DataflowRunner needs --temp_location: a gs:// directory for what workers are given")
    if given.isdisjoint(_DATAFLOW_CODE):
        raise UsageError(
            "--runner=DataflowRunner needs --sdk_container_image: workers have nothing of this project otherwise "
            "(the target `worker` of deploy/Dockerfile)"
        )


def _check_places(job: Job) -> None:
    """Raises UsageError where a place has a password in it. Places are shown in messages and in the report."""
    places = {
        "--input": job.inputs,
        "--output": (job.output,),
        "--state": (job.state,),
        "--attachments": (job.attachments,),
        "--forwarders": (job.forwarders,),
        "--alert_url": (job.alert_url,),
    }
    for flag, named in places.items():
        if any(place is not None and _WITH_PASSWORD.match(place) for place in named):
            raise UsageError(f"{flag} holds a user and a password: leave them out, or check how the address is spelled")


def _refuse_empty(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raises UsageError for a flag with an empty value, as a variable that is not set leaves it."""
    for action in parser._actions:
        value = getattr(arguments, action.dest, None)
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{action.option_strings[0]} is empty: give it a value, or leave it out")


def _faults(job: Job, *, needs_input: bool) -> Iterator[str]:
    """What does not go together in a job, and what is missing, each said once."""
    told: set[str] = set()
    for check in (*_CHECKS, *((_check_input,) if needs_input else ())):
        try:
            check(job)
        except UsageError as error:
            if str(error) not in told:
                told.add(str(error))
                yield str(error)


def _check_alerts(job: Job) -> None:
    """Raises UsageError where alerts cannot be sent as asked. No url is repeated: it may hold a secret."""
    if job.alert_url is None:
        if job.alert_secret is not None:
            raise UsageError("--alert_secret signs what goes to --alert_url: name that, too")
        return
    if is_reference(job.alert_url):
        problem = reference_of_flag_problem(job.alert_url)
    elif not job.alert_url.startswith(("https://", "http://")):
        problem = "is no address that begins with https:// or http://, nor a reference to one (env:NAME, file:/PATH)"
    else:
        problem = None
    if problem:
        raise UsageError(f"--alert_url {problem}")
    if job.alert_secret is not None and (problem := reference_of_flag_problem(job.alert_secret)):
        raise UsageError(f"--alert_secret {problem}")


def _check_forwarders(job: Job) -> None:
    if job.forwarders is not None and (problem := location_problem(job.forwarders)):
        raise UsageError(f"--forwarders {problem}")


def _check_kinds(job: Job) -> None:
    if job.input_format == "activity" and not job.redrive:
        if job.qualify_users:
            raise UsageError("--qualify_users goes with --input_format xapi: activity has no home pages")
        if job.forwards_statements:
            raise UsageError("--kind statement goes with --input_format xapi or learninglocker: activity has none")
    if not job.forwards_statements:
        for flag, given in (("--include_voided", job.include_voided), ("--stored_as", job.stored_as)):
            if given:
                raise UsageError(f"{flag} goes with --kind statement, and --input_format xapi or learninglocker")


def _check_window(job: Job) -> None:
    since, until = job.window.since, job.window.until
    if since is not None and until is not None and since >= until:
        raise UsageError("--since must be before --until: the window they name is empty")


def _check_state(job: Job) -> None:
    if job.state is not None:
        bounded = job.window.since is not None or job.window.until is not None
        if job.redrive or bounded or job.only_forwarders or job.record_ids:
            raise UsageError(
                "--state goes without --redrive, --since, --until, --id and --forwarder: what a run on it derives is "
                "not derived again, so all of it has to be for everybody"
            )
        if job.output is not None and Path(job.output).resolve() == Path(job.state).resolve():
            raise UsageError("--state and --output must be two directories: give --state one inside --output")
    if job.trust_clock and job.state is None:
        raise UsageError("--trust_clock goes with --state: only what is kept there is forgotten by the clock")
    if job.catch_up == "off" and job.state is None:
        raise UsageError("--catch_up goes with --state: a run without it tries the dead letters of its input again")


def _check_redrive(job: Job) -> None:
    if not job.redrive:
        if job.reasons:
            raise UsageError("--reason goes with --redrive: it chooses among dead letters")
        if job.record_ids and job.replay != "all":
            raise UsageError("--id goes with --redrive or --replay all: it chooses what is sent again")
        return
    if job.forwarders is None or job.output is None:
        raise UsageError("--redrive needs --forwarders and --output: whose dead letters, and where they are")
    if job.inputs:
        raise UsageError("--redrive sends stored dead letters: leave --input out")
    if job.explain or job.write_records:
        raise UsageError("--redrive goes without --explain and --write_records: it derives nothing")


def _check_ends(job: Job) -> None:
    """Raises UsageError where nobody is named who gets anything."""
    if job.redrive or job.forwarders is not None:
        return
    if job.dry_run or job.explain:
        raise UsageError("--dry_run and --explain need --forwarders")
    if not job.write_records:
        raise UsageError("--forwarders is missing: name the documents, or ask for --write_records alone")


def _check_input(job: Job) -> None:
    """Raises UsageError where there is nothing to read, or no place for what comes out."""
    if job.redrive:
        return
    if not job.inputs:
        raise UsageError("--input is missing: name the files to read, such as --input 'in/*.jsonl.gz'")
    if job.output is None and (job.delivers or job.write_records):
        raise UsageError("--output is missing: name the directory for receipts, dead letters, rejects and report.json")


_CHECKS: tuple[Callable[[Job], None], ...] = (
    _check_alerts,
    _check_sources,
    _check_streaming,
    _check_dataflow,
    _check_forwarders,
    _check_places,
    _check_kinds,
    _check_window,
    _check_state,
    _check_redrive,
    _check_ends,
    _check_alerts,
)


def join_relative_times(argv: Sequence[str]) -> list[str]:
    """`--since -24h` as `--since=-24h`, since argparse takes a value with a dash for a flag."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--since", "--until") and word.startswith("-") and not word.startswith("--"):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined
