import hashlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

import boto3
import pytest

from tests.support.forwarders import SECRET_KEY, aws_forwarder
from tests.support.laboratory.aws_fake import AwsFake, Word
from tests.support.laboratory.engine_experiment import FAST, deliver, judge
from tests.support.laboratory.scenarios import resharding
from tests.support.records import item, items
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks import aws_clients
from transforms.sinks.aws_calls import Callers
from transforms.sinks.base import AttemptResult, AwsClient, Item, Verdict
from transforms.sinks.data_streams import StreamLimits, partition_key
from transforms.sinks.kinesis import HASHED_KEYS, WATCHED_KEYS, KinesisSink, ShardWatch


def target(forwarder: Forwarder) -> KinesisTarget:
    assert isinstance(forwarder.target, KinesisTarget)
    return forwarder.target


def send(items: list[Item], limits: StreamLimits | None = None, aws_client: AwsClient = "auto") -> list[AttemptResult]:
    sink = KinesisSink(target(aws_forwarder()), limits, callers=Callers(aws_client))
    sink.open()
    try:
        return sink.send(items)
    finally:
        sink.close()


def test_delivers_every_record_with_its_shard_and_sequence_number(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=4)
    due = items(60, 5)
    settled, counts = deliver(aws_forwarder(), due)
    findings = judge(due, stream, settled, counts)
    findings.assert_clean()
    assert not findings.duplicated
    shards = {stored.partition_key: stored.shard for stored in stream.stored}
    assert len(set(shards.values())) == 4
    for settlement in settled:
        assert settlement.outcome.shard == shards[settlement.item.record.user_id]
        assert settlement.outcome.sequence_number
    assert fake.content_types == {"application/x-amz-json-1.1"}
    assert counts.bytes == sum(len(each.payload) for each in due)


FAULTS: list[Word] = [word for word in get_args(Word) if word != "ok"]


BOTH = pytest.mark.parametrize("aws_client", get_args(AwsClient))


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fake: AwsFake, fault: Word, aws_client: AwsClient) -> None:
    stream = fake.add_stream("stream", shards=2)
    fake.faults.script += [fault, "ok", fault, fault]
    due = items(50, 8)
    settled, counts = deliver(aws_forwarder(), due, aws_client=aws_client)
    judge(due, stream, settled, counts).assert_clean()
    assert counts.delivered == len(due)
    assert fake.faults.injected[fault] == 3


@pytest.mark.parametrize(("seed", "aws_client"), [(0, "auto"), (1, "auto"), (2, "auto"), (0, "boto3")])
def test_all_faults_together_while_shards_split_and_merge(fake: AwsFake, seed: int, aws_client: AwsClient) -> None:
    # Capacity enough: a record that is throttled most of the time meets many faults before it gets through.
    stream = fake.add_stream("stream", shards=2, records_per_second=1e5)
    fake.faults.seed = seed
    fake.faults.__post_init__()
    fake.faults.rates = dict.fromkeys(FAULTS, 0.05)
    fake.faults.delay = 0.01
    due = items(200, 20)
    reshards: Iterator[Callable[[], object]] = iter(
        [
            lambda: stream.split("shardId-000000000000"),
            lambda: stream.split("shardId-000000000001"),
            lambda: stream.merge("shardId-000000000002", "shardId-000000000003"),
        ]
    )

    def reshard() -> None:
        if fake.calls["PutRecords"] % 5 == 0 and (change := next(reshards, None)) is not None:
            change()

    fake.before_put = reshard
    settled, counts = deliver(aws_forwarder(), due, aws_client=aws_client)
    findings = judge(due, stream, settled, counts)
    findings.assert_clean()
    assert counts.delivered >= 0.99 * len(due)
    assert len(stream.shards) == 7
    assert sum(fake.faults.injected.values()) > 5


def test_a_stream_at_a_third_of_the_capacity_that_is_needed(fake: AwsFake) -> None:
    # 3,000 records at once for one shard that takes 1,000 a second.
    stream = fake.add_stream("stream", shards=1)
    due = items(500, 6)
    settled, counts = deliver(aws_forwarder(max_retries=0), due, DeliverySettings(linger=0.002))
    findings = judge(due, stream, settled, counts)
    findings.assert_clean()
    assert not findings.duplicated
    assert counts.delivered == len(due), "throttling spends no attempt"
    assert counts.attempts < 4 * len(due), "and is paced"


def test_throttled_records_come_back_together(fake: AwsFake) -> None:
    # Each waits a time of its own; a call for each of them would keep other forwarders from working.
    fake.add_stream("stream")
    fake.faults.script += ["call_throttled"]
    settled, counts = deliver(aws_forwarder(), items(100, 1), DeliverySettings(linger=0.002))
    assert (len(settled), counts.attempts) == (100, 200)
    assert len(fake.call_sizes) <= 20


def test_at_most_one_record_of_a_user_in_a_call(fake: AwsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_stream("stream")
    seen: list[list[str]] = []
    original = KinesisSink.send

    def spying(self: KinesisSink, sent: list[Item]) -> list[AttemptResult]:
        seen.append([each.record.user_id for each in sent])
        return original(self, sent)

    monkeypatch.setattr(KinesisSink, "send", spying)
    deliver(aws_forwarder(), items(20, 20))
    assert all(len(users) == len(set(users)) for users in seen)


def test_a_call_stays_within_records_and_bytes(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=8, bytes_per_second=1e9)
    deliver(aws_forwarder(), items(1200, 1))
    assert max(fake.call_sizes) == 500
    fake.call_sizes.clear()
    stream.stored.clear()
    big = [item(f"user-{number}", 0, payload=b"x" * 1_000_000) for number in range(12)]
    _, counts = deliver(aws_forwarder(), big)
    assert counts.delivered == 12
    assert max(fake.call_sizes) == 5


def test_an_oversize_record_is_given_up_whole_and_alone(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", bytes_per_second=1e9)
    edge = 1024 * 1024 - len("edge")
    sent = [
        item("edge", 0, payload=b"x" * edge),
        item("over", 0, payload=b"x" * (edge + 1)),
        item("small", 0),
    ]
    outcomes = send(sent)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED, Verdict.GIVE_UP, Verdict.DELIVERED]
    assert outcomes[1].reason == "oversize"
    assert [stored.partition_key for stored in stream.stored] == ["edge", "small"]
    assert [outcome.reason for outcome in send(sent[1:2])] == ["oversize"]


def test_a_stream_for_bigger_records_takes_them(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", bytes_per_second=1e9)
    stream.max_record_kib = 4096
    limits = StreamLimits.for_record_size(4096)
    sent = [item(f"user-{number}", 0, payload=b"x" * 3_000_000) for number in range(3)]
    assert [outcome.verdict for outcome in send(sent, limits)] == [Verdict.DELIVERED] * 3


def test_the_record_that_makes_a_call_invalid_is_found_and_the_others_are_delivered(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", bytes_per_second=1e9)
    sent = items(9, 1)
    sent[6] = item("user-6", 0, payload=b"x" * 2_000_000)
    # The service's limit is smaller than the one the job was told.
    outcomes = send(sent, StreamLimits.for_record_size(10_240))
    assert [outcome.reason for outcome in outcomes] == [""] * 6 + ["invalid_record"] + [""] * 2
    assert len(stream.stored) == 8


@pytest.mark.parametrize(
    ("user", "hashed"),
    [("x" * 256, False), ("x" * 257, True), ("😀" * 128, False), ("😀" * 129, True), ("é" * 256, False)],
)
def test_partition_keys_longer_than_256_utf_16_units_are_hashed(fake: AwsFake, user: str, hashed: bool) -> None:
    stream = fake.add_stream("stream")
    expected = hashlib.sha256(user.encode()).hexdigest() if hashed else user
    assert partition_key(user) == expected
    due = [item(user, number) for number in range(3)]
    _, counts = deliver(aws_forwarder(), due)
    assert {stored.partition_key for stored in stream.stored} == {expected}
    assert counts.remarks == ({HASHED_KEYS: 3} if hashed else {})


def test_order_is_kept_through_a_throttled_middle(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=1, records_per_second=400.0)
    fake.faults.rates = {"throttle_some": 0.5}
    due = items(40, 25)
    settled, counts = deliver(aws_forwarder(), due)
    judge(due, stream, settled, counts).assert_clean()
    for user in {each.record.user_id for each in due}:
        mine = [stored.data for stored in stream.stored if stored.partition_key == user]
        assert mine == [each.payload for each in due if each.record.user_id == user]


def test_a_reshard_never_looks_like_a_stream_that_ignores_keys(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=3)
    reshard = resharding(stream, random.Random(1), every=1)  # noqa: S311
    watch = ShardWatch()
    for _ in range(50):
        assert not any(watch.is_back(key, stream.shard_of(key).id) for key in map(str, range(200)))
        reshard()
    stream.strategy = "AUTO"
    taken = [stream.put(b"x", "a key") for _ in range(3 * len(stream.open_shards()))]
    assert any(watch.is_back("a key", stored.shard) for stored in taken if stored is not None)


def test_keys_beyond_those_that_are_watched_take_the_place_of_others() -> None:
    watch = ShardWatch()
    keys = [str(number) for number in range(3 * WATCHED_KEYS)]
    for key in keys:
        assert not watch.is_back(key, "shard-1")
        assert not watch.is_back(key, "shard-2")
    assert 0 < sum(watch.is_back(key, "shard-1") for key in reversed(keys)) <= WATCHED_KEYS
    assert [watch.is_back("last", shard) for shard in ("1", "1", "2", "1")] == [False, False, False, True]


def test_a_stream_that_is_switched_to_auto_is_refused_until_it_is_switched_back(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=4)
    switched_back_after = 3

    def flip() -> None:
        described = fake.calls["DescribeStreamSummary"]
        stream.strategy = "AUTO" if fake.calls["PutRecords"] > 2 and described <= switched_back_after else None

    fake.before_put = fake.before_describe = flip
    due = items(50, 20)
    settled, counts = deliver(aws_forwarder(max_retries=0), due)
    assert counts.delivered == len(due)
    assert {settlement.item.attempts for settlement in settled} == {1}
    assert fake.calls["DescribeStreamSummary"] > switched_back_after


def test_without_permission_to_describe_a_switched_stream_ends_as_unavailable(fake: AwsFake) -> None:
    stream = fake.add_stream("stream", shards=4)
    stream.strategy = "AUTO"
    fake.denied.add("kinesis:DescribeStreamSummary")
    settings = DeliverySettings(max_backoff=0.02, outage_budget=0.2, linger=0.002)
    settled, counts = deliver(aws_forwarder(), items(50, 20), settings)
    # Each user's first few records got there before one of them came back to a shard.
    assert counts.delivered < 300
    dead = [settlement for settlement in settled if not settlement.delivered]
    assert {settlement.outcome.reason for settlement in dead} == {"unavailable"}
    assert all("auto_distribution" in (settlement.outcome.response or "") for settlement in dead)


def test_credentials_that_expire_for_a_while_cost_no_attempts(fake: AwsFake) -> None:
    stream = fake.add_stream("stream")
    fake.faults.script += ["expired_token"] * 6
    due = items(10, 3)
    settled, counts = deliver(aws_forwarder(max_retries=0), due)
    judge(due, stream, settled, counts).assert_clean()
    assert counts.delivered == 30
    assert {settlement.item.attempts for settlement in settled} == {1}


def test_a_stream_that_is_deleted_ends_as_unavailable(fake: AwsFake) -> None:
    settings = DeliverySettings(max_backoff=0.02, outage_budget=0.3, linger=0.002)
    settled, counts = deliver(aws_forwarder(), items(20, 3), settings)
    assert Counter(settlement.outcome.reason for settlement in settled) == {"unavailable": 60}
    assert settled[0].outcome.response == "the receiver's last failure: stream_not_found"
    assert counts.unavailable


def test_a_refused_connection_is_not_ambiguous_and_an_unanswered_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        (refused,) = send(items(1, 1))
        assert (refused.reason, refused.ambiguous, refused.failure) == ("connection", False, True)
        nobody.listen()
        monkeypatch.setattr(aws_clients, "READ_TIMEOUT", 0.05)
        (silent,) = send(items(1, 1))
        assert (silent.reason, silent.ambiguous, silent.failure) == ("timeout", True, True)


@BOTH
def test_a_client_itself_never_repeats_a_call(fake: AwsFake, aws_client: AwsClient) -> None:
    fake.add_stream("stream")
    for word in ("call_500_not_stored", "answer_lost", "call_throttled"):
        fake.calls.clear()
        fake.faults.script.append(word)
        send(items(1, 1), aws_client=aws_client)
        assert fake.calls["PutRecords"] == 1


def test_without_the_fast_encoding_the_calls_are_the_same(fake: AwsFake, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = fake.add_stream("stream")
    due = [item("ü😀\u2028", 0, payload=bytes(range(256))), *items(5, 1)]
    fake.faults.script += ["ok", "throttle_some"]
    fast = send(due, aws_client="boto3") + send(due, aws_client="boto3")
    with_c = [(stored.partition_key, stored.data) for stored in stream.stored]
    stream.stored.clear()
    fake.faults.__post_init__()
    fake.faults.script += ["ok", "throttle_some"]
    monkeypatch.setattr("transforms.sinks.aws_boto3.encode_in_c", lambda *_: None)
    assert send(due, aws_client="boto3") + send(due, aws_client="boto3") == fast
    assert [(stored.partition_key, stored.data) for stored in stream.stored] == with_c


def test_moto_gets_the_same_records(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    client = boto3.client(
        "kinesis", region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=SECRET_KEY
    )
    client.create_stream(StreamName="stream", ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName="stream", WaiterConfig={"Delay": 1})
    due = items(30, 4)
    settled, counts = deliver(aws_forwarder(), due, FAST)
    assert counts.delivered == 120
    stored = []
    for shard in client.list_shards(StreamName="stream")["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName="stream", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for record in client.get_records(ShardIterator=iterator)["Records"]:
            stored.append((record["PartitionKey"], record["Data"], shard["ShardId"], record["SequenceNumber"]))
    assert len(stored) == 120
    for user in {each.record.user_id for each in due}:
        mine = [data for key, data, _, _ in stored if key == user]
        assert mine == [each.payload for each in due if each.record.user_id == user]
    said = {(s.item.record.user_id, s.item.payload, s.outcome.shard, s.outcome.sequence_number) for s in settled}
    assert said == set(stored)
