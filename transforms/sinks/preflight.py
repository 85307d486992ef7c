"""The checks of targets before a run: is each stream there, may each address be dialled, do the TLS files load?

Nothing is sent. Kinesis and Firehose are asked to describe their streams; the hosts of HTTP forwarders are looked up.
"""

import functools
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal, cast

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, InvalidRegionError, NoRegionError

from transforms.forwarders import Fault, Forwarder, HttpTarget, KinesisTarget
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.aws_clients import describing_config, firehose_client, kinesis_client
from transforms.sinks.aws_errors import CREDENTIAL_ERRORS, FORWARDER_CODES, error_code, scrub_for
from transforms.sinks.http_origin import Origin, SinkError, origin, tls_context
from transforms.sinks.kinesis import StreamLimits
from transforms.sinks.resolver import LOOK_UPS_AT_ONCE, GetAddrInfo

DESCRIBES_AT_ONCE = 8
"""Streams described at a time: an endpoint that does not answer costs some 40 s, once for each eight of them."""

LOOK_UP_SECONDS = 20.0
"""Seconds that all hosts of HTTP receivers are looked up for: with many of them, and a name server that is not there, a
run would begin hours later."""

_STREAM_NAME = "kinesisOptions.streamName"
_REGION = "kinesisOptions.awsRegion"
_KEY = "kinesisOptions.awsClientKey"
_SERVICE = "kinesisOptions.service"


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known about the targets of forwarders before anything is sent.

    `faults` say why a forwarder cannot be delivered to; `warnings` what could not be checked, or may go wrong. `limits`
    are by forwarder id, for the data streams that could be described. Pickles, and holds no secret.
    """

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    limits: dict[str, StreamLimits] = field(default_factory=dict)

    def add(self, other: "Preflight") -> None:
        """Adds what another check came to."""
        self.faults.extend(other.faults)
        self.warnings.extend(other.warnings)
        self.limits.update(other.limits)


def preflight(
    forwarders: Iterable[Forwarder],
    allow_networks: Sequence[str] = (),
    getaddrinfo: GetAddrInfo = socket.getaddrinfo,
) -> Preflight:
    """Check the targets of `forwarders` (docs/spec/forwarders.md section 3).

    Waits for at most some 40 s for every eight streams, when their endpoint does not answer, and for LOOK_UP_SECONDS
    for the hosts of HTTP receivers. Connects to none of these.

    Args:
        forwarders: resolved ones, so that their secrets can be used.
        allow_networks: CIDRs that HTTP may reach though they are in a refused range (`--allow_network`).
        getaddrinfo: stands in for the system's resolver in tests.

    Returns:
        All faults and warnings at once, those of streams first. A fault: the stream is not there or cannot be used,
        every address of a host is refused, or a TLS file does not load. A warning: the permission to describe a stream
        is missing (default limits apply), a host does not resolve (in time), or some of its addresses are refused.
    """
    forwarders = list(forwarders)
    result = Preflight()
    streams = [forwarder for forwarder in forwarders if isinstance(forwarder.target, KinesisTarget)]
    if streams:
        with ThreadPoolExecutor(DESCRIBES_AT_ONCE, thread_name_prefix="preflight") as pool:
            for checked in pool.map(_check_stream, streams):
                result.add(checked)
    result.add(_check_hosts(forwarders, AddressGuard(allow_networks), getaddrinfo))
    return result


# HTTP: TLS files and addresses.


@dataclass(frozen=True, slots=True)
class Host:
    """Where the name of a receiver's host leads to.

    Attributes:
        addresses: sorted; none if the name does not resolve.
        refused: those of them that may not be dialled, each with the reason.
    """

    addresses: tuple[str, ...]
    refused: tuple[str, ...]


def look_up(target: HttpTarget, guard: AddressGuard, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> Host:
    """Ask the system's resolver where a receiver is. Raises SinkError if the host has no valid form."""
    return _host(origin(target), guard, getaddrinfo)


def _host(of: Origin, guard: AddressGuard, getaddrinfo: GetAddrInfo) -> Host:
    try:
        resolved = getaddrinfo(of.host, of.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Host((), ())
    addresses = sorted({str(address[0]) for _, _, _, _, address in resolved})
    refused = [f"{address} ({why})" for address in addresses if (why := guard.refusal(address))]
    return Host(tuple(addresses), tuple(refused))


def _check_hosts(forwarders: Iterable[Forwarder], guard: AddressGuard, getaddrinfo: GetAddrInfo) -> Preflight:
    """Look each host up once, however many forwarders name it."""
    result = Preflight()
    origins: dict[str, Origin] = {}
    targets: dict[str, HttpTarget] = {}
    for forwarder in forwarders:
        if not isinstance(forwarder.target, HttpTarget):
            continue
        try:
            tls_context(forwarder.target)
            origins[forwarder.id] = origin(forwarder.target)
        except SinkError as error:
            result.faults.append(Fault(forwarder.id, "preflight", "", str(error)))
            continue
        targets[forwarder.id] = forwarder.target
    hosts = _look_up_all(set(origins.values()), guard, getaddrinfo)
    unknown = []
    for forwarder_id, of in origins.items():
        host = hosts.get(of)
        if host is None:
            unknown.append(forwarder_id)
        else:
            _judge_host(forwarder_id, targets[forwarder_id], host, result)
    if unknown:
        message = (
            f"names a host that was not looked up within {LOOK_UP_SECONDS:g} s, as those of {len(unknown) - 1} other "
            "forwarders: it is looked up when there is something to send"
        )
        result.warnings.append(Fault(unknown[0], "preflight", "configuration.url", message))
    return result


def _look_up_all(origins: set[Origin], guard: AddressGuard, getaddrinfo: GetAddrInfo) -> dict[Origin, Host]:
    """What was found out within LOOK_UP_SECONDS."""
    if not origins:
        return {}
    pool = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="preflight")
    try:
        asked = {pool.submit(_host, each, guard, getaddrinfo): each for each in sorted(origins)}
        done, _ = wait(asked, LOOK_UP_SECONDS)
        return {asked[future]: future.result() for future in done}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _judge_host(forwarder_id: str, target: HttpTarget, host: Host, result: Preflight) -> None:
    fault = functools.partial(Fault, forwarder_id, "preflight", "configuration.url")
    if not host.addresses:
        result.warnings.append(fault(f"names the host {target.host}, which does not resolve"))
    if host.refused:
        message = f"names a host at {', '.join(host.refused)}: refused unless --allow_network names the network"
        # Addresses that are refused are left out when the host is dialled: one that is left is enough.
        kind = result.faults if len(host.refused) == len(host.addresses) else result.warnings
        kind.append(fault(message))


# Kinesis and Firehose: the stream is described.


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
