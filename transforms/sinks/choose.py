"""Which sink serves a Kinesis forwarder."""

from collections.abc import Mapping

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.aggregating import AggregatingFirehoseSink, AggregatingKinesisSink
from transforms.sinks.aws_calls import Callers
from transforms.sinks.base import AwsClient, BatchSink, BatchSinkFactory
from transforms.sinks.firehose import FirehoseSink
from transforms.sinks.kinesis import KinesisSink, StreamLimits


def batch_sinks(
    limits: Mapping[str, StreamLimits] | None = None, most_calls: int | None = None, aws_client: AwsClient = "auto"
) -> BatchSinkFactory:
    """What makes the sinks of Kinesis forwarders for a `DeliveryEngine`.

    Args:
        limits: of data streams, by forwarder id, as `preflight` gives them. A stream without has the default limits.
        most_calls: calls that a forwarder may have in flight, if its sink would have more; None for no such bound.
        aws_client: what makes the calls.
    """
    known_limits = limits or {}
    callers = Callers(aws_client)

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        target = forwarder.target
        if not isinstance(target, KinesisTarget):
            raise TypeError(f"{forwarder.id} is not a Kinesis forwarder")
        if target.service == "firehose":
            firehose = FirehoseSink(target, most_calls, callers)
            return AggregatingFirehoseSink(firehose) if target.aggregate else firehose
        limits = known_limits.get(forwarder.id)
        kinesis = KinesisSink(target, limits, most_calls, callers)
        return AggregatingKinesisSink(kinesis, limits) if target.aggregate else kinesis

    return batch_sink
