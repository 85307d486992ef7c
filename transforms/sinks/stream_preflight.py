"""The checks of streams before a run: Kinesis and Firehose are asked to describe them. Nothing is sent."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, InvalidRegionError, NoRegionError

from transforms.forwarders import Fault, Forwarder, KinesisTarget
from transforms.sinks.aws_clients import describing_config, firehose_client, kinesis_client
from transforms.sinks.aws_errors import CREDENTIAL_ERRORS, FORWARDER_CODES, error_code, scrub_for
from transforms.sinks.data_streams import StreamLimits
from transforms.sinks.findings import Preflight

DESCRIBES_AT_ONCE = 8
"""Streams described at a time: an endpoint that does not answer costs some 40 s, once for each eight of them."""

_STREAM_NAME = "kinesisOptions.streamName"
_REGION = "kinesisOptions.awsRegion"
_KEY = "kinesisOptions.awsClientKey"
_SERVICE = "kinesisOptions.service"


def check_streams(forwarders: Iterable[Forwarder]) -> Preflight:
    """What is known of the streams of Kinesis forwarders, which are described DESCRIBES_AT_ONCE at a time."""
    result = Preflight()
    with ThreadPoolExecutor(DESCRIBES_AT_ONCE, thread_name_prefix="preflight") as pool:
        for checked in pool.map(_check_stream, forwarders):
            result.add(checked)
    return result


def _stream_fault(forwarder_id: str, field: str, message: str) -> Fault:
    """A fault of what `field` of the document names, which is no place in the document."""
    return Fault(forwarder_id, "", field, message)


def _check_stream(forwarder: Forwarder) -> Preflight:
    target = cast(KinesisTarget, forwarder.target)
    result = Preflight()
    if not target.region:
        result.faults.append(_stream_fault(forwarder.id, _REGION, "is required: the region the stream is in"))
        return result
    kind = _KINDS[target.service]
    try:
        kind.describe(forwarder.id, target, result)
    except ClientError as error:
        _explain(forwarder.id, target, error, kind, result)
    except (InvalidRegionError, NoRegionError):
        result.faults.append(_stream_fault(forwarder.id, _REGION, f"{target.region!r} is not a region"))
    except CREDENTIAL_ERRORS:
        message = "no credentials: neither awsClientKey and awsClientSecret nor AWS's default chain gives any"
        result.faults.append(_stream_fault(forwarder.id, _KEY, message))
    except EndpointConnectionError:
        message = f"the endpoint for {target.region!r} cannot be reached: is it a region, and is there a network?"
        result.faults.append(_stream_fault(forwarder.id, _REGION, message))
    except BotoCoreError as error:
        message = f"{kind.action} failed: {type(error).__name__}"
        result.faults.append(_stream_fault(forwarder.id, _STREAM_NAME, message))
    return result


def _explain(forwarder_id: str, target: KinesisTarget, error: ClientError, kind: "_Kind", result: Preflight) -> None:
    """Add to `result` what it means that AWS answered the description with an error."""
    code = error_code(error)
    meaning = FORWARDER_CODES.get(code)
    if meaning == "access_denied":
        message = f"not allowed to {kind.action}: not checked that it is there and active; default limits apply"
        result.warnings.append(_stream_fault(forwarder_id, _STREAM_NAME, message))
    elif meaning == "stream_not_found":
        other = _KINDS[kind.other]
        if _exists(target, other):
            message = (
                f"{target.stream_name!r} is {other.article}, not {kind.article}: set service to {kind.other!r},"
                f" or name {kind.article}"
            )
            result.faults.append(_stream_fault(forwarder_id, _SERVICE, message))
        else:
            message = f"there is no {kind.name} {target.stream_name!r} in {target.region}: is awsRegion the right one?"
            result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, message))
    elif meaning in ("expired_token", "invalid_credentials", "clock_skew"):
        result.faults.append(_stream_fault(forwarder_id, _KEY, f"AWS refuses the credentials: {code}"))
    else:
        told = scrub_for(target)(code)
        result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, f"{kind.action} failed: {told}"))


def _exists(target: KinesisTarget, kind: "_Kind") -> bool:
    """Whether there is something of this kind with the target's name."""
    try:
        kind.describe("", target, Preflight())
    except (ClientError, BotoCoreError):
        return False
    return True


def _check_region(forwarder_id: str, target: KinesisTarget, arn: str | None, result: Preflight) -> None:
    # An ARN is like arn:aws:kinesis:us-east-1:111122223333:stream/name.
    parts = (arn or "").split(":")
    if len(parts) > 3 and parts[3] and parts[3] != target.region:
        result.faults.append(
            _stream_fault(forwarder_id, _REGION, f"the stream is in {parts[3]}, not in {target.region}")
        )


def _describe_stream(forwarder_id: str, target: KinesisTarget, result: Preflight) -> None:
    client = kinesis_client(target, describing_config())
    try:
        summary = client.describe_stream_summary(StreamName=target.stream_name)["StreamDescriptionSummary"]
    finally:
        client.close()
    # Typed loosely, because the stubs of one boto3 version know fewer fields than the service sends.
    described = cast("Mapping[str, object]", summary)
    status = described.get("StreamStatus")
    # A stream that is UPDATING, because it is being resharded, takes records as usual.
    if status not in ("ACTIVE", "UPDATING"):
        result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, f"the data stream is {status}, not ACTIVE"))
    if described.get("RecordDistributionStrategy") == "AUTO":
        message = (
            "the data stream's RecordDistributionStrategy is AUTO: it ignores the partition key, so no order is kept;"
            " set it to USER_PARTITION_KEY"
        )
        result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, message))
    _check_region(forwarder_id, target, cast("str | None", described.get("StreamARN")), result)
    kib = described.get("MaxRecordSizeInKiB")
    result.limits[forwarder_id] = StreamLimits.for_record_size(kib if isinstance(kib, int) else None)


def _describe_delivery_stream(forwarder_id: str, target: KinesisTarget, result: Preflight) -> None:
    client = firehose_client(target, describing_config())
    try:
        answer = client.describe_delivery_stream(DeliveryStreamName=target.stream_name, Limit=1)
    finally:
        client.close()
    described = answer["DeliveryStreamDescription"]
    status = described.get("DeliveryStreamStatus")
    if status != "ACTIVE":
        result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, f"the delivery stream is {status}, not ACTIVE"))
    source = described.get("DeliveryStreamType", "DirectPut")
    if source != "DirectPut":
        message = f"the delivery stream takes no records from clients: its source is {source}"
        result.faults.append(_stream_fault(forwarder_id, _STREAM_NAME, message))
    _check_region(forwarder_id, target, described.get("DeliveryStreamARN"), result)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two services: what a thing of it is called, and how it is described.

    Attributes:
        name: what it is called in short.
        article: its full name, with an article.
        action: the permission to describe it, as IAM names it.
        other: the `service` of the other kind.
        describe: adds what is known of a target to the findings. Raises what boto3 raises.
    """

    name: str
    article: str
    action: str
    other: Literal["streams", "firehose"]
    describe: Callable[[str, KinesisTarget, Preflight], None]


_KINDS: dict[str, _Kind] = {
    "streams": _Kind(
        "data stream", "a Kinesis data stream", "kinesis:DescribeStreamSummary", "firehose", _describe_stream
    ),
    "firehose": _Kind(
        "delivery stream",
        "an Amazon Data Firehose delivery stream",
        "firehose:DescribeDeliveryStream",
        "streams",
        _describe_delivery_stream,
    ),
}
