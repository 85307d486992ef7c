"""Which sink serves a Kinesis forwarder."""

from collections.abc import Mapping
from functools import cache

from transforms.forwarders import Forwarder
from transforms.sinks.base import AwsClient, BatchSink, BatchSinkFactory
from transforms.sinks.data_streams import StreamLimits


def batch_sinks(
    limits: Mapping[str, StreamLimits] | None = None, most_calls: int | None = None, aws_client: AwsClient = "auto"
) -> BatchSinkFactory:
    """What makes the sinks of Kinesis forwarders for a `DeliveryEngine`.

    Args:
        limits: of data streams, by forwarder id, as `preflight` gives them. A stream without has the default limits.
        most_calls: calls that a forwarder may have in flight, if its sink would have more; None for no such bound.
        aws_client: what makes the calls.
    """

    @cache
    def factory() -> BatchSinkFactory:
        # Late, because it brings boto3: a run that sends nothing to AWS starts without.
        from transforms.sinks.aws_sinks import aws_sinks

        return aws_sinks(limits, most_calls, aws_client)

    def batch_sink(forwarder: Forwarder) -> BatchSink:
        return factory()(forwarder)

    return batch_sink
