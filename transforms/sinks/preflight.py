"""Whether every target is there, before anything is read."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, cast

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, InvalidRegionError, NoRegionError

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.aws_clients import describing_config, firehose_client, kinesis_client
from transforms.sinks.aws_errors import CREDENTIAL_ERRORS, FORWARDER_CODES, error_code
from transforms.sinks.kinesis import StreamLimits

DESCRIBES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a forwarder cannot be delivered to (or, in a list of warnings, what could not be checked)."""

    forwarder_id: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.forwarder_id}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Preflight:
    """`limits` are by forwarder id, for the data streams that could be described; they pickle and hold no secret."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    limits: dict[str, StreamLimits] = field(default_factory=dict)


_STREAM_NAME = "kinesisOptions.streamName"
_REGION = "kinesisOptions.awsRegion"
_KEY = "kinesisOptions.awsClientKey"
_SERVICE = "kinesisOptions.service"


def preflight(forwarders: Iterable[Forwarder]) -> Preflight:
    """Describe every stream and delivery stream (forwarders.md section 3). All faults at once; raises nothing for one.

    A missing permission to describe is a warning that names the action, and the default limits apply. Waits for at most
    some 40 s per eight forwarders, when the endpoint does not answer.
    """
    checks = [forwarder for forwarder in forwarders if isinstance(forwarder.target, KinesisTarget)]
    result = Preflight()
    if not checks:
        return result
    with ThreadPoolExecutor(DESCRIBES_AT_ONCE, thread_name_prefix="preflight") as pool:
        for found in pool.map(_check, checks):
            result.faults.extend(found.faults)
            result.warnings.extend(found.warnings)
            result.limits.update(found.limits)
    return result


def _check(forwarder: Forwarder) -> Preflight:
    target = cast(KinesisTarget, forwarder.target)
    found = Preflight()
    if not target.region:
        found.faults.append(Fault(forwarder.id, _REGION, "is required: the region the stream is in"))
        return found
    kind = _KINDS[target.service]
    try:
        kind.describe(forwarder.id, target, found)
    except ClientError as error:
        _explain(forwarder.id, target, error, kind, found)
    except (InvalidRegionError, NoRegionError):
        found.faults.append(Fault(forwarder.id, _REGION, f"{target.region!r} is not a region"))
    except CREDENTIAL_ERRORS:
        message = "no credentials: neither awsClientKey and awsClientSecret nor AWS's default chain gives any"
        found.faults.append(Fault(forwarder.id, _KEY, message))
    except EndpointConnectionError:
        message = f"the endpoint for {target.region!r} cannot be reached: is it a region, and is there a network?"
        found.faults.append(Fault(forwarder.id, _REGION, message))
    except BotoCoreError as error:
        message = f"{kind.action} failed: {type(error).__name__}"
        found.faults.append(Fault(forwarder.id, _STREAM_NAME, message))
    return found


def _explain(forwarder_id: str, target: KinesisTarget, error: ClientError, kind: "_Kind", found: Preflight) -> None:
    code = error_code(error)
    meaning = FORWARDER_CODES.get(code)
    if meaning == "access_denied":
        message = f"not allowed to {kind.action}: not checked that it is there and active; default limits apply"
        found.warnings.append(Fault(forwarder_id, _STREAM_NAME, message))
    elif meaning == "stream_not_found":
        other = _KINDS[kind.other]
        if _exists(target, other):
            message = (
                f"{target.stream_name!r} is {other.article}, not {kind.article}: set service to {kind.other!r},"
                f" or name {kind.article}"
            )
            found.faults.append(Fault(forwarder_id, _SERVICE, message))
        else:
            message = f"there is no {kind.name} {target.stream_name!r} in {target.region}: is awsRegion the right one?"
            found.faults.append(Fault(forwarder_id, _STREAM_NAME, message))
    elif meaning in ("expired_token", "invalid_credentials", "clock_skew"):
        found.faults.append(Fault(forwarder_id, _KEY, f"AWS refuses the credentials: {code}"))
    else:
        found.faults.append(Fault(forwarder_id, _STREAM_NAME, f"{kind.action} failed: {code}"))


def _exists(target: KinesisTarget, kind: "_Kind") -> bool:
    try:
        kind.describe("", target, Preflight())
    except (ClientError, BotoCoreError):
        return False
    return True


def _check_region(forwarder_id: str, target: KinesisTarget, arn: str | None, found: Preflight) -> None:
    # arn:aws:kinesis:us-east-1:111122223333:stream/name
    parts = (arn or "").split(":")
    if len(parts) > 3 and parts[3] and parts[3] != target.region:
        found.faults.append(Fault(forwarder_id, _REGION, f"the stream is in {parts[3]}, not in {target.region}"))


def _describe_stream(forwarder_id: str, target: KinesisTarget, found: Preflight) -> None:
    client = kinesis_client(target, describing_config())
    try:
        summary = client.describe_stream_summary(StreamName=target.stream_name)["StreamDescriptionSummary"]
    finally:
        client.close()
    # Typed loosely: the stubs of one boto3 version know fewer fields than the service sends.
    described = cast("Mapping[str, object]", summary)
    status = described.get("StreamStatus")
    # "Read and write operations continue to work while the stream is in the UPDATING state."
    if status not in ("ACTIVE", "UPDATING"):
        found.faults.append(Fault(forwarder_id, _STREAM_NAME, f"the data stream is {status}, not ACTIVE"))
    if described.get("RecordDistributionStrategy") == "AUTO":
        message = (
            "the data stream's RecordDistributionStrategy is AUTO: it ignores the partition key, so no order is kept;"
            " set it to USER_PARTITION_KEY"
        )
        found.faults.append(Fault(forwarder_id, _STREAM_NAME, message))
    _check_region(forwarder_id, target, cast("str | None", described.get("StreamARN")), found)
    kib = described.get("MaxRecordSizeInKiB")
    found.limits[forwarder_id] = StreamLimits.for_record_size(kib if isinstance(kib, int) else None)


def _describe_delivery_stream(forwarder_id: str, target: KinesisTarget, found: Preflight) -> None:
    client = firehose_client(target, describing_config())
    try:
        answer = client.describe_delivery_stream(DeliveryStreamName=target.stream_name, Limit=1)
    finally:
        client.close()
    described = answer["DeliveryStreamDescription"]
    status = described.get("DeliveryStreamStatus")
    if status != "ACTIVE":
        found.faults.append(Fault(forwarder_id, _STREAM_NAME, f"the delivery stream is {status}, not ACTIVE"))
    source = described.get("DeliveryStreamType", "DirectPut")
    if source != "DirectPut":
        message = f"the delivery stream takes no records from clients: its source is {source}"
        found.faults.append(Fault(forwarder_id, _STREAM_NAME, message))
    _check_region(forwarder_id, target, described.get("DeliveryStreamARN"), found)


@dataclass(frozen=True, slots=True)
class _Kind:
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
