"""The sinks of Kinesis and Firehose, which share their connections. This brings boto3: `choose` imports it late."""

from collections.abc import Mapping

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.aggregating import AggregatingFirehoseSink, AggregatingKinesisSink
from transforms.sinks.aws_calls import Callers
from transforms.sinks.base import AwsClient, BatchSink, BatchSinkFactory
from transforms.sinks.data_streams import StreamLimits
from transforms.sinks.firehose import FirehoseSink
from transforms.sinks.kinesis import KinesisSink


def aws_sinks(
    limits: Mapping[str, StreamLimits] | None = None, most_calls: int | None = None, aws_client: AwsClient = "auto"
) -> BatchSinkFactory:
    """What `choose.batch_sinks` gives, and takes."""
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
