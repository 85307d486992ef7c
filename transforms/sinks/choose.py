"""Which sink a Kinesis forwarder is served by."""

from collections.abc import Mapping

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import BatchSink, BatchSinkFactory
from transforms.sinks.firehose import FirehoseSink
from transforms.sinks.kinesis import KinesisSink, StreamLimits


def batch_sinks(limits: Mapping[str, StreamLimits] | None = None) -> BatchSinkFactory:
    """A factory of AWS sinks for `DeliveryEngine`; `limits` are those of `preflight`, by forwarder id."""
    known = limits or {}

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        target = forwarder.target
        if not isinstance(target, KinesisTarget):
            raise TypeError(f"{forwarder.id} is not a Kinesis forwarder")
        if target.service == "firehose":
            return FirehoseSink(target)
        return KinesisSink(target, known.get(forwarder.id))

    return batch_sink
