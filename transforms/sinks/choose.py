"""Which sink serves a Kinesis forwarder."""

from collections.abc import Mapping

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import BatchSink, BatchSinkFactory
from transforms.sinks.data_streams import StreamLimits


def batch_sinks(limits: Mapping[str, StreamLimits] | None = None, most_calls: int | None = None) -> BatchSinkFactory:
    """What makes the sinks of Kinesis forwarders for a `DeliveryEngine`.

    Args:
        limits: of data streams, by forwarder id, as `preflight` gives them. A stream without has the default limits.
        most_calls: calls that a forwarder may have in flight, if its sink would have more; None for no such bound.
    """
    known = limits or {}

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        target = forwarder.target
        if not isinstance(target, KinesisTarget):
            raise TypeError(f"{forwarder.id} is not a Kinesis forwarder")
        # Late, because these bring boto3: a run that sends nothing to AWS starts without.
        if target.service == "firehose":
            from transforms.sinks.firehose import FirehoseSink

            return FirehoseSink(target, most_calls)
        from transforms.sinks.kinesis import KinesisSink

        return KinesisSink(target, known.get(forwarder.id), most_calls)

    return batch_sink
