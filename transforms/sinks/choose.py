"""Which sink serves a Kinesis forwarder."""

from collections.abc import Mapping

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import BatchSink, BatchSinkFactory
from transforms.sinks.firehose import FirehoseSink
from transforms.sinks.kinesis import KinesisSink, StreamLimits


def batch_sinks(limits: Mapping[str, StreamLimits] | None = None) -> BatchSinkFactory:
    """What makes the sinks of Kinesis forwarders for a `DeliveryEngine`.

    Args:
        limits: of data streams, by forwarder id, as `preflight` gives them. A stream without has the default limits.
    """
    known = limits or {}

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        target = forwarder.target
        if not isinstance(target, KinesisTarget):
            raise TypeError(f"{forwarder.id} is not a Kinesis forwarder")
        if target.service == "firehose":
            return FirehoseSink(target)
        return KinesisSink(target, known.get(forwarder.id))

    return batch_sink
