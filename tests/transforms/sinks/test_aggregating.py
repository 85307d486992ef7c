"""Aggregated records through the real engine to the AWS laboratory, and read back."""

import base64
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aws_kinesis_agg.deaggregator import deaggregate_records

from schemas.aggregated_records import MAGIC
from tests.support.forwarders import aws_forwarder
from tests.support.laboratory.aws_fake import AMBIGUOUS, AwsFake, Faults, Stream
from tests.support.laboratory.checker import Findings, check
from tests.support.laboratory.engine_experiment import FAST, deliver
from tests.support.laboratory.scenarios import BAD_DAY, environment, resharding
from tests.support.records import item, items
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import Item, Settlement


def aggregating(service: str = "streams") -> Forwarder:
    forwarder = aws_forwarder(service=service)
    assert isinstance(forwarder.target, KinesisTarget)
    return replace(forwarder, target=replace(forwarder.target, aggregate=True))


def payloads_in(data: bytes, key: str = "k") -> list[bytes]:
    """What is in one record of a stream: of several lines, or aggregated."""
    if not data.startswith(MAGIC):
        return data.splitlines()
    kinesis = {"partitionKey": key, "data": base64.b64encode(data).decode(), "sequenceNumber": "1"}
    kinesis |= {"kinesisSchemaVersion": "1.0", "approximateArrivalTimestamp": "1"}
    found = [record["kinesis"] for record in deaggregate_records({"kinesis": kinesis})]
    assert {record["partitionKey"] for record in found} == {key}, "a record of another key would be dropped"
    return [base64.b64decode(record["data"]) for record in found]


def judged(due: Sequence[Item], stream: Stream, settled: Sequence[Settlement]) -> Findings:
    ids = {each.payload: each.record.id for each in due}
    arrivals = [ids[payload] for stored in stream.stored for payload in payloads_in(stored.data, stored.partition_key)]
    doubtful = {
        ids[payload]
        for data, words in list(stream.told.items())
        if any(word in AMBIGUOUS for word in words)
        for payload in payloads_in(data, key_of(data))
    }
    found = check(
        [(each.record.user_id, each.record.id) for each in due], arrivals, settled, dict.fromkeys(doubtful, True)
    )
    found.assert_clean()
    return found


def key_of(data: bytes) -> str:
    """The first key in an aggregated record's table: one field of bytes stands behind the magic."""
    return data[6 : 6 + data[5]].decode() if data.startswith(MAGIC) else "k"


def test_what_waits_for_a_user_is_one_record_of_the_stream() -> None:
    due = [item("ann", number) for number in range(3000)]
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
        stream = fake.add_stream("stream", records_per_second=1e6, bytes_per_second=1e9)
        settled, counts = deliver(aggregating(), due)
    judged(due, stream, settled)
    assert [payload for stored in stream.stored for payload in payloads_in(stored.data, "ann")] == [
        each.payload for each in due
    ]
    assert fake.calls["PutRecords"] < 30
    assert counts.calls == fake.calls["PutRecords"]
    assert {each.outcome.shard for each in settled} == {stream.shards[0].id}
    assert len({each.outcome.sequence_number for each in settled}) == len(stream.stored)


def test_a_call_holds_one_entry_of_a_user_and_each_fits_the_stream() -> None:
    due = [
        item(f"user-{number % 40}", number, payload=b'{"number":%d,"text":"%b"}' % (number, b"x" * (number % 7 * 3000)))
        for number in range(1200)
    ]
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
        stream = fake.add_stream("stream", records_per_second=1e6, bytes_per_second=1e9)
        settled, _ = deliver(aggregating(), due)
    judged(due, stream, settled)
    assert all(settlement.delivered for settlement in settled), "the fake refuses what is larger than the limits"
    assert len(stream.stored) < len(due)


def test_entries_are_short_while_many_others_wait() -> None:
    due = [
        item(f"user-{user}", number, payload=b'{"user":%d,"number":%d,"text":"%b"}' % (user, number, b"x" * 900))
        for number in range(60)
        for user in range(60)
    ]
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
        stream = fake.add_stream("stream", records_per_second=1e6, bytes_per_second=1e9)
        settled, _ = deliver(aggregating(), due)
    judged(due, stream, settled)
    assert max(len(stored.data) for stored in stream.stored[:60]) <= 25 * 1024
    assert max(Counter(fake.call_sizes)) <= 500


def test_a_record_by_itself_is_sent_as_it_is() -> None:
    due = [item("ann", 0)]
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
        stream = fake.add_stream("stream")
        deliver(aggregating(), due)
    assert stream.data() == [due[0].payload]


def test_a_record_that_is_too_large_is_given_up_and_the_rest_is_not() -> None:
    due = [item("ann", number) for number in range(5)]
    due[2].payload = b"x" * (1024 * 1024 + 1)
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
        fake.add_stream("stream", records_per_second=1e6, bytes_per_second=1e9)
        settled, _ = deliver(aggregating(), due)
    assert [each.item.record.id for each in settled if not each.delivered] == ["ann/2"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("service", ["streams", "firehose"])
def test_a_bad_day_loses_nothing_and_keeps_order(service: str, seed: int) -> None:
    due = items(15, 80)
    chance = random.Random(seed)  # noqa: S311
    with (
        AwsFake(Faults(seed=seed)) as fake,
        environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint, AWS_ENDPOINT_URL_FIREHOSE=fake.endpoint),
    ):
        fake.faults.rates = dict(BAD_DAY)
        if service == "streams":
            stream = fake.add_stream("stream", shards=2)
            fake.before_put = resharding(stream, chance)
        else:
            stream = fake.add_delivery_stream("stream")
        settled, _ = deliver(aggregating(service), due, DeliverySettings(max_backoff=0.02, linger=0.002, user_items=8))
    judged(due, stream, settled)
    assert all(each.delivered for each in settled)


def test_a_delivery_stream_gets_lines_of_at_most_a_thousand_kib() -> None:
    due = [
        item(f"user-{number % 9}", number, payload=b'{"number":%d,"text":"%b"}' % (number, b"x" * 3000))
        for number in range(2000)
    ]
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_FIREHOSE=fake.endpoint):
        stream = fake.add_delivery_stream("stream", records_per_second=1e6, bytes_per_second=1e9)
        settled, _ = deliver(aggregating("firehose"), due, replace(FAST, linger=0.05))
    judged(due, stream, settled)
    assert all(stored.data.endswith(b"\n") for stored in stream.stored)
    assert max(len(stored.data) for stored in stream.stored) <= 1000 * 1024
    assert len(stream.stored) < 60


def test_where_only_put_record_is_allowed_lines_are_put_together_too() -> None:
    due = items(9, 100)
    with AwsFake() as fake, environment(AWS_ENDPOINT_URL_FIREHOSE=fake.endpoint):
        fake.denied.add("firehose:PutRecordBatch")
        stream = fake.add_delivery_stream("stream", records_per_second=1e6)
        settled, _ = deliver(aggregating("firehose"), due)
    judged(due, stream, settled)
    assert all(each.delivered for each in settled)
    assert len(stream.stored) < 300
