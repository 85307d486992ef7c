"""The command line: what it makes of arguments, and what it refuses."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.options import parse
from pipeline.usage import UsageError

USUAL = ("--input=in/*", "--forwarders=f.json", "--output=out")
STREAMING = (
    "--input=kinesis://a?region=eu-west-1",
    "--forwarders=f.json",
    "--output=out",
    "--runner=FlinkRunner",
    "--streaming",
    f"--flink_job_server_jar={__file__}",  # any file will do: that it is there is what is checked
)


def test_the_usual_call() -> None:
    job = parse(USUAL)
    assert job.inputs == ("in/*",)
    assert job.forwarders == "f.json"
    assert job.output == "out"
    assert job.runner == "DirectRunner"
    assert job.delivers
    assert job.window.kinds == ("event", "status", "score")


def test_repeated_flags_add_up_and_kinds_keep_their_order() -> None:
    job = parse([*USUAL, "--input", "more/*", "--input", "in/*", "--kind=score", "--kind", "event", "--forwarder=a"])
    assert job.inputs == ("in/*", "more/*")
    assert job.window.kinds == ("event", "score")
    assert job.only_forwarders == ("a",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T09:00:00Z", datetime(2026, 3, 1, 9, tzinfo=UTC)),
        ("2026-03-01T09:00:00.250+02:00", datetime(2026, 3, 1, 7, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_epoch_milliseconds(text: str, expected: datetime) -> None:
    assert parse([*USUAL, "--since", text]).window.since == expected.timestamp() * 1000


@pytest.mark.parametrize(("text", "ago"), [("-24h", timedelta(hours=24)), ("-7d", timedelta(days=7))])
def test_a_relative_time_counts_back_from_now(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    since = parse([*USUAL, "--since", text]).window.since
    after = datetime.now(UTC)
    assert since is not None
    assert int((before - ago).timestamp() * 1000) <= since <= (after - ago).timestamp() * 1000


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--number_of_worker_harness_threads", "-1"),
        ("--labels", "-a b"),
        ("--job_name", "-"),
    ],
)
def test_a_value_of_beams_may_begin_like_a_flag(flag: str, value: str) -> None:
    assert parse([*USUAL, flag, value]).beam_args == (flag, value)


def test_what_beam_knows_goes_to_beam_untouched() -> None:
    job = parse([*USUAL, "--direct_num_workers=2", "--direct_running_mode", "multi_processing"])
    assert job.beam_args == ("--direct_num_workers=2", "--direct_running_mode", "multi_processing")
    job = parse(
        [*USUAL, "--runner=FlinkRunner", "--flink_master=[local]", "--checkpointing_interval=30000", "--object_reuse"]
    )
    assert job.runner == "FlinkRunner"
    assert job.beam_args == ("--flink_master=[local]", "--checkpointing_interval=30000", "--object_reuse")


def test_a_streaming_job_has_checkpoints_and_short_bundles_unless_told_otherwise() -> None:
    job = parse([*STREAMING, "--session_ttl=3d"])
    assert job.streaming
    assert job.job_server_jar == __file__
    assert job.session_ttl == 3 * 86_400
    assert job.beam_args[:2] == ("--streaming", f"--flink_job_server_jar={__file__}")
    assert job.beam_args[2:] == ("--checkpointing_interval=30000", "--max_bundle_time_mills=200")
    job = parse([*STREAMING, "--checkpointing_interval=5000", "--max_bundle_time_mills=900"])
    assert job.beam_args[2:] == ("--checkpointing_interval=5000", "--max_bundle_time_mills=900")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*USUAL, "--dry-run"], "unknown flag --dry-run; the nearest known flag is --dry_run"),
        ([*USUAL, "--forwarder_ids=a"], "--forwarder"),
        ([*USUAL, "--inp=x"], "--input"),
        ([*USUAL, "stray"], "unknown argument stray"),
        ([*USUAL, "--checkpointing_interval=1"], "--checkpointing_interval"),
        ([*USUAL, "--kind=events"], "--kind"),
        ([*USUAL, "--max_reject_ratio=2"], "between 0 and 1"),
        ([*USUAL, "--max_rejects=-1"], "whole number"),
        ([*USUAL, "--naive_times=local"], "--naive_times"),
        ([*USUAL, "--max_backoff=0"], "not a length of time above 0"),
        ([*USUAL, "--outage_budget=inf"], "not a length of time above 0"),
        ([*USUAL, "--outage_budget=40x"], "is not a length of time: use 30s, 5m, 12h, 30d or 8w"),
        ([*USUAL, "--alert_after=40"], "is not a length of time"),
        ([*USUAL, "--allow_network=localhost"], "10.0.0.0/8"),
        ([*USUAL, "--secret_env_prefix="], "must not be empty"),
        ([*USUAL, "--since=yesterday"], "not a time"),
        ([*USUAL, "--since=2026-01-01T00:00:00"], "time zone"),
        ([*USUAL, "--since=2026-01-01", "--until=2026-01-01"], "--since must be before --until"),
        ([*USUAL, "--actor_home_page=example.org"], "absolute IRI"),
        ([*USUAL, "--state=s", "--since=-1d"], "--state goes without"),
        ([*USUAL, "--state=out/"], "two directories"),
        ([*USUAL, "--state=s", "--session_ttl=30"], "30d"),
        ([*USUAL, "--state=s", f"--session_ttl={10**12}d"], "30d"),
        ([*USUAL, "--runner=DirektRunner"], "DirectRunner"),
        ([*USUAL, "--direct_num_workers=many"], "--direct_num_workers"),
        ([*USUAL, "--direct_running_mode=multi_threading"], "multi_processing"),
        ([*USUAL, "--streaming"], "--runner=FlinkRunner"),
        (
            [*STREAMING, "--flink_master=[local]", "--savepoint_path=file:///chk-1"],
            "no effect with --flink_master=[local]: name the JobManager",
        ),
        ([*STREAMING, "--savepoint_path=file:///chk-1"], "no effect with --flink_master=[auto]"),
        ([*USUAL, "--streaming", "--runner=FlinkRunner"], "exactly one --input"),
        ([*USUAL, "--dedupe_horizon=7d"], "goes with --streaming"),
        ([*USUAL, "--input=kinesis://a?region=eu-west-1"], "add --streaming"),
        ([*STREAMING, "--input=kinesis://b?region=eu-west-1"], "exactly one --input"),
        ([*STREAMING[1:], "--input=kinesis://a"], "needs its region"),
        (STREAMING[:-1], "mvn -q -f local/flink/pom.xml package"),
        ([*STREAMING, "--state=s"], "goes without --state"),
        ([*STREAMING, "--dry_run"], "goes without --dry_run"),
        ([*STREAMING, "--dedupe_horizon=7d", "--session_ttl=3d"], "longer than --session_ttl"),
        (["--forwarders=f", "--output=o"], "--input"),
        (["--input=x", "--output=o"], "--forwarders"),
        (["--input=x", "--forwarders=f"], "--output"),
        (["--input=x", "--write_records=jsonl"], "--output"),
        (["--input=x", "--dry_run", "--write_records=jsonl", "--output=o"], "--forwarders"),
        (["--redrive", "--forwarders=f"], "--output"),
        ([*USUAL, "--redrive"], "--input"),
        (["--redrive", "--forwarders=f", "--output=o", "--explain=x"], "--explain"),
        ([*USUAL, "--reason=http_503"], "--reason goes with --redrive"),
        ([*USUAL, "--id=x"], "--id goes with --redrive or --replay all"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(arguments: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("[", r"\[")):
        parse(arguments)


def test_help_fits_a_screen_and_names_the_help_of_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert len(told.splitlines()) <= 23
    assert max(map(len, told.splitlines())) <= 80
    assert told.count("  python -m pipeline --") == 2
    assert "--help_all" in told
    with pytest.raises(SystemExit):
        parse(["--help_all"])
    told = capsys.readouterr().out
    for group in ("what is read", "what is derived", "who gets it", "how it is delivered", "looking without sending"):
        assert group in told


@pytest.mark.parametrize(
    ("text", "seconds"), [("40", 40.0), ("40s", 40.0), ("0.5s", 0.5), ("0.5", 0.5), ("1.5m", 90.0), ("2h", 7200.0)]
)
def test_every_length_of_time_is_written_alike_and_seconds_alone_where_they_always_were(
    text: str, seconds: float
) -> None:
    job = parse([*USUAL, f"--outage_budget={text}", f"--max_backoff={text}"])
    assert (job.outage_budget, job.max_backoff) == (seconds, seconds)
    if not text[-1].isdigit():
        assert parse([*USUAL, f"--alert_after={text}"]).alert_after == seconds
