"""One experiment of the AWS laboratory: records through the real engine and sinks into the fake, then judged."""

from collections.abc import Iterable, Sequence

from tests.support.laboratory.aws_fake import AMBIGUOUS, Stream
from tests.support.laboratory.checker import Findings, check
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder
from transforms.sinks.base import AwsClient, HttpSink, Item, Settlement
from transforms.sinks.choose import batch_sinks

FAST = DeliverySettings(max_backoff=0.02, outage_budget=30.0, linger=0.002)


def no_http(forwarder: Forwarder) -> HttpSink:
    raise AssertionError("no HTTP here")


def deliver(
    forwarder: Forwarder, items: Sequence[Item], settings: DeliverySettings = FAST, aws_client: AwsClient = "auto"
) -> tuple[list[Settlement], LaneCounts]:
    """Deliver all of them to the end."""
    settled: list[Settlement] = []
    engine = DeliveryEngine(
        [forwarder], settled.extend, settings, http_sink=no_http, batch_sink=batch_sinks(aws_client=aws_client)
    )
    try:
        for start in range(0, len(items), 1000):
            engine.submit(items[start : start + 1000])
        engine.drain()
        return settled, engine.counts()[forwarder.id]
    finally:
        engine.close()


def judge(items: Iterable[Item], stream: Stream, settled: Sequence[Settlement], counts: LaneCounts) -> Findings:
    """Against the stream's own log and contents; the books too."""
    ids = {item.payload: item.record.id for item in items}
    told = {ids[data.rstrip(b"\n")]: words for data, words in stream.told.items()}
    findings = check(
        [(item.record.user_id, item.record.id) for item in items],
        [ids[data.rstrip(b"\n")] for data in stream.data()],
        settled,
        {id_: any(word in AMBIGUOUS for word in words) for id_, words in told.items()},
    )
    delivered = [settlement for settlement in settled if settlement.delivered]
    assert (counts.delivered, counts.dead_lettered, counts.pending) == (
        len(delivered),
        len(settled) - len(delivered),
        0,
    )
    for settlement in settled:
        in_doubt = any(word in AMBIGUOUS for word in told.get(settlement.item.record.id, []))
        assert in_doubt or not settlement.item.ambiguous, "said to be ambiguous, but the log knows of nothing"
    return findings
