from collections import Counter
from typing import get_args

import boto3
import pytest

from tests.support.forwarders import SECRET_KEY, aws_forwarder
from tests.support.laboratory.aws_fake import AwsFake, Word
from tests.support.laboratory.engine_experiment import FAST, deliver, judge
from tests.support.records import item, items
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import AttemptResult, AwsClient, Item, Verdict
from transforms.sinks.firehose import FALLBACK, FirehoseSink


def forwarder(max_retries: int = 10) -> Forwarder:
    return aws_forwarder(service="firehose", stream_name="delivery", max_retries=max_retries)


def send(items: list[Item]) -> list[AttemptResult]:
    target = forwarder().target
    assert isinstance(target, KinesisTarget)
    sink = FirehoseSink(target)
    sink.open()
    try:
        return sink.send(items)
    finally:
        sink.close()


def test_records_end_with_a_newline_and_keep_their_order(fake: AwsFake) -> None:
    stream = fake.add_delivery_stream("delivery")
    due = items(20, 10)
    settled, counts = deliver(forwarder(), due)
    findings = judge(due, stream, settled, counts)
    findings.assert_clean()
    assert not findings.duplicated
    assert all(data.endswith(b"}\n") for data in stream.data())
    assert counts.delivered == 200


@pytest.mark.parametrize("aws_client", get_args(AwsClient))
@pytest.mark.parametrize(
    "fault",
    [
        "throttle_some",
        "internal_stored",
        "internal_not_stored",
        "lying_count",
        "call_503",
        "call_500_stored",
        "answer_lost",
        "garbage",
        "expired_token",
    ],
)
def test_each_fault_alone(fake: AwsFake, fault: Word, aws_client: AwsClient) -> None:
    stream = fake.add_delivery_stream("delivery")
    fake.faults.script += [fault, "ok", fault, fault]
    due = items(50, 8)
    settled, counts = deliver(forwarder(), due, aws_client=aws_client)
    judge(due, stream, settled, counts).assert_clean()
    assert counts.delivered == len(due)
    assert fake.faults.injected[fault] == 3


def test_only_the_failed_entries_are_sent_again(fake: AwsFake) -> None:
    fake.add_delivery_stream("delivery")
    fake.faults.script += ["throttle_some"]
    outcomes = send(items(100, 1))
    failed = Counter(outcome.reason for outcome in outcomes)["throttled"]
    assert 0 < failed < 100
    fake.call_sizes.clear()
    fake.faults.__post_init__()
    fake.faults.script += ["throttle_some"]
    deliver(forwarder(max_retries=0), items(100, 1))
    assert fake.call_sizes[0] == 100
    assert sum(fake.call_sizes) == 100 + failed


@pytest.mark.parametrize("reads", ["nothing", "the answer of a call that was refused"])
def test_the_documented_policy_suffices(fake: AwsFake, reads: str) -> None:
    stream = fake.add_delivery_stream("delivery")
    fake.denied = {"firehose:PutRecordBatch", "firehose:DescribeDeliveryStream"}
    if reads != "nothing":
        fake.faults.script += ["answer_lost", "throttle_some", "call_503"]
    due = items(30, 6)
    settled, counts = deliver(forwarder(max_retries=2), due)
    judge(due, stream, settled, counts).assert_clean()
    assert counts.delivered == 180
    assert counts.remarks == {FALLBACK: 1}
    assert set(fake.call_sizes) == {1}
    assert all(1 <= settlement.item.attempts <= 2 for settlement in settled)


def test_without_any_permission_the_records_end_as_unavailable(fake: AwsFake) -> None:
    fake.add_delivery_stream("delivery")
    fake.denied = {"firehose:PutRecordBatch", "firehose:PutRecord"}
    settings = DeliverySettings(max_backoff=0.02, outage_budget=0.3, linger=0.002)
    settled, _ = deliver(forwarder(), items(20, 3), settings)
    assert Counter(settlement.outcome.reason for settlement in settled) == {"unavailable": 60}
    assert "access_denied" in (settled[-1].outcome.response or "")


def test_an_oversize_record_is_given_up_whole_and_alone(fake: AwsFake) -> None:
    stream = fake.add_delivery_stream("delivery", bytes_per_second=1e9)
    sent = [
        item("edge", 0, payload=b"x" * (1000 * 1024 - 1)),
        item("over", 0, payload=b"x" * (1000 * 1024)),
        item("small", 0),
    ]
    outcomes = send(sent)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED, Verdict.GIVE_UP, Verdict.DELIVERED]
    assert outcomes[1].reason == "oversize"
    assert len(stream.stored) == 2


def test_a_call_stays_within_four_mebibytes(fake: AwsFake) -> None:
    fake.add_delivery_stream("delivery", bytes_per_second=1e9)
    _, counts = deliver(forwarder(), [item(f"user-{number}", 0, payload=b"x" * 1_000_000) for number in range(9)])
    assert counts.delivered == 9
    assert max(fake.call_sizes) == 3


def test_moto_writes_the_same_lines_to_the_bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    session = boto3.Session("AKIDEXAMPLE", SECRET_KEY, region_name="us-east-1")
    s3, firehose = session.client("s3"), session.client("firehose")
    s3.create_bucket(Bucket="delivered")
    firehose.create_delivery_stream(
        DeliveryStreamName="delivery",
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::111122223333:role/firehose",
            "BucketARN": "arn:aws:s3:::delivered",
        },
    )
    due = items(10, 5)
    _, counts = deliver(forwarder(), due, FAST)
    assert counts.delivered == 50
    lines: list[bytes] = []
    for entry in s3.list_objects_v2(Bucket="delivered")["Contents"]:
        lines += s3.get_object(Bucket="delivered", Key=entry["Key"])["Body"].read().splitlines()
    assert sorted(lines) == sorted(each.payload for each in due)
