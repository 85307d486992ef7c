import base64
import logging
import pickle
import socket
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.support.forwarders import SECRET_KEY, aws_forwarder, http_forwarder
from tests.support.laboratory.aws_fake import AwsFake
from tests.support.records import item
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.forwarders.secrets import REDACTED, Secret
from transforms.sinks import stream_preflight
from transforms.sinks.aws_clients import sending_config
from transforms.sinks.aws_errors import call_outcome, code_word, entry_outcome, scrub_for
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.choose import batch_sinks
from transforms.sinks.data_streams import MIB, StreamLimits
from transforms.sinks.preflight import preflight

AWS_SECRET = "wJalrXUtnFEMI/K7MDENG"


def faults_of(*forwarders: Forwarder) -> list[tuple[str | None, str]]:
    return [(fault.forwarder_id, fault.field) for fault in preflight(forwarders).faults]


def test_what_is_right_has_no_fault_and_its_limits(fake: AwsFake) -> None:
    fake.add_stream("usual")
    fake.add_stream("big").max_record_kib = 10_240
    fake.add_stream("by-key").strategy = "USER_PARTITION_KEY"
    fake.add_delivery_stream("delivery")
    found = preflight(
        [
            aws_forwarder("a", stream_name="usual"),
            aws_forwarder("b", stream_name="big"),
            aws_forwarder("c", stream_name="by-key"),
            aws_forwarder("d", "firehose", "delivery"),
            http_forwarder("e"),
        ],
        getaddrinfo=lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))],
    )
    assert not found.faults
    assert not found.warnings
    assert found.limits == {
        "a": StreamLimits(1 * MIB, 5 * MIB),
        "b": StreamLimits(10 * MIB, 10 * MIB),
        "c": StreamLimits(1 * MIB, 5 * MIB),
    }
    assert pickle.loads(pickle.dumps(found.limits)) == found.limits  # noqa: S301


def test_all_faults_are_listed_at_once(fake: AwsFake) -> None:
    fake.add_stream("auto").strategy = "AUTO"
    fake.add_stream("new").status = "CREATING"
    fake.add_stream("stream")
    fake.add_stream("elsewhere", region="eu-west-1")
    fake.add_delivery_stream("delivery")
    fake.add_delivery_stream("going").status = "DELETING"
    fake.add_delivery_stream("from-kinesis").source = "KinesisStreamAsSource"
    found = preflight(
        [
            aws_forwarder("auto", stream_name="auto"),
            aws_forwarder("new", stream_name="new"),
            aws_forwarder("missing", stream_name="missing"),
            aws_forwarder("other-region", stream_name="elsewhere"),
            aws_forwarder("no-region", region=None),
            aws_forwarder("bad-region", region="us east 1"),
            aws_forwarder("is-firehose", stream_name="delivery"),
            aws_forwarder("is-stream", "firehose", "stream"),
            aws_forwarder("going", "firehose", "going"),
            aws_forwarder("from-kinesis", "firehose", "from-kinesis"),
        ]
    )
    assert [(fault.forwarder_id, fault.field.removeprefix("kinesisOptions.")) for fault in found.faults] == [
        ("auto", "streamName"),
        ("new", "streamName"),
        ("missing", "streamName"),
        ("other-region", "streamName"),
        ("no-region", "awsRegion"),
        ("bad-region", "awsRegion"),
        ("is-firehose", "service"),
        ("is-stream", "service"),
        ("going", "streamName"),
        ("from-kinesis", "streamName"),
    ]
    assert str(found.faults[1]) == "forwarder new: kinesisOptions.streamName: the data stream is CREATING, not ACTIVE"
    told = {fault.forwarder_id: fault.message for fault in found.faults}
    assert "partition key" in told["auto"]
    assert "CREATING" in told["new"]
    assert "awsRegion" in told["missing"]
    assert "'firehose'" in told["is-firehose"]
    assert "'streams'" in told["is-stream"]


def test_a_stream_that_is_being_resharded_is_usable(fake: AwsFake) -> None:
    fake.add_stream("stream").status = "UPDATING"
    assert faults_of(aws_forwarder()) == []


def test_an_arn_of_another_region_is_a_fault(fake: AwsFake) -> None:
    fake.add_stream("stream").region = "eu-west-1"
    assert faults_of(aws_forwarder()) == [("f", "kinesisOptions.awsRegion")]


def test_a_missing_permission_is_a_warning_that_names_the_action(fake: AwsFake) -> None:
    fake.add_stream("stream")
    fake.add_delivery_stream("delivery")
    fake.denied = {"kinesis:DescribeStreamSummary", "firehose:DescribeDeliveryStream"}
    found = preflight([aws_forwarder("s"), aws_forwarder("d", "firehose", "delivery")])
    assert not found.faults
    assert not found.limits, "so that the defaults apply"
    assert ["kinesis:DescribeStreamSummary" in found.warnings[0].message, found.warnings[1].forwarder_id] == [True, "d"]
    assert "firehose:DescribeDeliveryStream" in found.warnings[1].message


def test_an_endpoint_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(stream_preflight, "describing_config", lambda: sending_config(1))
    assert faults_of(aws_forwarder()) == [("f", "kinesisOptions.awsRegion")]


def test_no_credentials_anywhere_is_a_fault(fake: AwsFake) -> None:
    fake.add_stream("stream")
    bare = Forwarder("f", None, None, None, "record", 1, KinesisTarget("streams", "stream", "us-east-1"))
    assert faults_of(bare) == [("f", "kinesisOptions.awsClientKey")]


def test_the_default_chain_is_used_without_a_key(fake: AwsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_stream("stream")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDCHAIN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    bare = Forwarder("f", None, None, None, "record", 1, KinesisTarget("streams", "stream", "us-east-1"))
    assert faults_of(bare) == []


@pytest.fixture
def localstack(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFake]:
    with AwsFake() as server:
        monkeypatch.setenv("LOCALSTACK_HOST", server.endpoint.removeprefix("http://"))
        yield server


def test_localstack_host_is_honoured_through_localstack_client(localstack: AwsFake) -> None:
    pytest.importorskip("localstack_client")
    localstack.add_stream("stream")
    assert faults_of(aws_forwarder()) == []
    bare = Forwarder("f", None, None, None, "record", 1, KinesisTarget("streams", "stream", "us-east-1"))
    assert faults_of(bare) == [], "and needs no account"


def test_boto3_s_own_settings_come_before_localstack_host(localstack: AwsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    with AwsFake() as other:
        other.add_stream("stream")
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", other.endpoint)
        assert faults_of(aws_forwarder()) == []
    assert not localstack.calls


def client_error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutRecords")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (
            "ProvisionedThroughputExceededException",
            400,
            AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False),
        ),
        ("ThrottlingException", 400, AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False)),
        ("InternalFailure", 500, AttemptResult(Verdict.RETRY, "aws_internal_failure", ambiguous=True, failure=True)),
        (
            "ServiceUnavailable",
            503,
            AttemptResult(Verdict.RETRY, "aws_service_unavailable", ambiguous=True, failure=True),
        ),
        ("InvalidArgumentException", 400, AttemptResult(Verdict.GIVE_UP, "invalid_record")),
        ("SomethingNewException", 400, AttemptResult(Verdict.RETRY, "aws_something_new", failure=True)),
    ],
)
def test_what_a_failed_call_means(code: str, status: int, expected: AttemptResult) -> None:
    outcome = call_outcome(client_error(code, status), str)
    assert (outcome.status, outcome.response) == (status, code)
    assert (outcome.verdict, outcome.reason, outcome.ambiguous, outcome.spends_attempt, outcome.failure) == (
        expected.verdict,
        expected.reason,
        expected.ambiguous,
        expected.spends_attempt,
        expected.failure,
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("AccessDeniedException", "access_denied"),
        ("ExpiredTokenException", "expired_token"),
        ("UnrecognizedClientException", "invalid_credentials"),
        ("ResourceNotFoundException", "stream_not_found"),
        ("KMSDisabledException", "kms"),
    ],
)
def test_what_no_record_is_to_blame_for_opens_the_breaker_and_spends_nothing(code: str, reason: str) -> None:
    outcome = call_outcome(client_error(code, 400), str)
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, reason)
    assert outcome.opens_breaker
    assert not outcome.spends_attempt
    assert not outcome.ambiguous


def test_what_a_failed_entry_means() -> None:
    throttled = entry_outcome("ProvisionedThroughputExceededException", "Rate exceeded for shard", str)
    assert not throttled.spends_attempt
    assert not throttled.ambiguous
    internal = entry_outcome("InternalFailure", "Internal Service Failure", str)
    assert internal.ambiguous
    assert internal.spends_attempt


def test_a_bug_is_not_an_outcome() -> None:
    with pytest.raises(ZeroDivisionError):
        call_outcome(ZeroDivisionError(), str)


def test_codes_become_words() -> None:
    assert [code_word(code) for code in ("KMSThrottlingException", "SlowDown", "a.b-C", "Unknown")] == [
        "kmsthrottling",
        "slow_down",
        "a_b_c",
        "unknown",
    ]


def test_no_credential_is_told(fake: AwsFake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake.add_stream("stream")
    forwarder = aws_forwarder()
    sink = batch_sinks()(forwarder)
    sink.open()
    told = [repr(forwarder), repr(sink), repr(vars(sink))]
    for word in ("expired_token", "garbage", "answer_lost", "call_500_stored"):
        fake.faults.script.append(word)
        told.append(repr(sink.send([item("user", 0)])))
    fake.denied = {"kinesis:PutRecords", "kinesis:DescribeStreamSummary"}
    told.append(repr(sink.send([item("user", 0)])))
    told += [str(found) for found in preflight([forwarder, aws_forwarder(region="x y")]).faults]
    sink.close()
    assert len(told) == 9
    assert all(SECRET_KEY not in text for text in [*told, caplog.text])


@pytest.mark.parametrize(
    "echo", [AWS_SECRET, AWS_SECRET.encode().hex(), base64.b64encode(AWS_SECRET.encode()).decode()]
)
def test_nothing_of_the_credentials_is_in_an_outcome(echo: str) -> None:
    scrub = scrub_for(KinesisTarget("streams", "s", "eu-west-1", "AKIA-of-test", Secret(AWS_SECRET)))
    signature = "AWS4-HMAC-SHA256 Credential=AKIA-of-test/20260101/x, Signature=" + "0a" * 32
    message = f"you sent {echo} and {signature}, " + "." * 200
    outcome = entry_outcome(f"X{echo}Exception", message, scrub)
    kept = f"you sent {REDACTED} and AWS4-HMAC-SHA256 Credential={REDACTED}/20260101/x, Signature={REDACTED}, "
    assert (outcome.response or "").startswith(kept)
    assert len(outcome.response or "") == 200
    assert outcome.reason == "aws_x_redacted_"
    whole = call_outcome(client_error(echo, 400), scrub)
    assert (whole.reason, whole.response) == ("aws__redacted_", REDACTED)
