"""Clients for Kinesis and Firehose, what their errors mean, and what is checked before anything is read.

No text made here holds a credential: errors are told by their code, never by the exception's own words, because some
services repeat the request's signature in theirs.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from transforms.forwarders import Forwarder, KinesisTarget
from transforms.sinks.base import Item, Outcome, Verdict
from transforms.sinks.user_agent import USER_AGENT

if TYPE_CHECKING:
    from mypy_boto3_firehose.client import FirehoseClient
    from mypy_boto3_kinesis.client import KinesisClient

KIB = 1024
MIB = 1024 * KIB

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds. PutRecords usually answers in tens of milliseconds; a call without an answer after 30 s is ambiguous."""

DESCRIBES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a data stream takes: bytes a record (data and partition key), bytes a PutRecords request."""

    record_bytes: int = 1 * MIB
    request_bytes: int = 5 * MIB

    @classmethod
    def for_record_size(cls, kib: int | None) -> "StreamLimits":
        """From `MaxRecordSizeInKiB` of DescribeStreamSummary; None: absent, which means 1,024.

        Requests of 10 MiB are for streams that were configured for records above 1 MiB.
        """
        kib = 1024 if kib is None else kib
        return cls(kib * KIB, 10 * MIB if kib > 1024 else 5 * MIB)


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


# --- clients ---------------------------------------------------------------------------------------------------------

# Making a session or a client is not thread-safe in boto3; clients are.
_making_clients = threading.Lock()

_ENDPOINT_VARIABLES = {
    "kinesis": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"),
    "firehose": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_FIREHOSE"),
}


def sending_config(calls_in_flight: int) -> Config:
    """For clients that deliver: no retries of boto3's own, because they would multiply the lane's."""
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=calls_in_flight,
        parameter_validation=False,
        tcp_keepalive=True,
        # boto3 makes its own anew for each call, which is a tenth of what a call costs.
        user_agent=f"{USER_AGENT} boto3/{boto3.__version__}",
    )


def _describing_config() -> Config:
    return Config(
        retries={"total_max_attempts": 4, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=CONNECT_TIMEOUT,
        max_pool_connections=1,
    )


def kinesis_client(target: KinesisTarget, config: Config) -> "KinesisClient":
    """A client for a data stream. Raises botocore's errors for a region or a configuration that cannot be."""
    return cast("KinesisClient", _client("kinesis", target, config))


def firehose_client(target: KinesisTarget, config: Config) -> "FirehoseClient":
    """A client for a delivery stream. Raises botocore's errors for a region or a configuration that cannot be."""
    return cast("FirehoseClient", _client("firehose", target, config))


def _client(service: Literal["kinesis", "firehose"], target: KinesisTarget, config: Config) -> object:
    endpoint = _localstack_endpoint(service)
    with _making_clients:
        if target.access_key_id is not None and target.secret_access_key is not None:
            session = _session(target.region, target.access_key_id, target.secret_access_key.reveal())
        else:
            session = _session(target.region)
            if endpoint is not None and session.get_credentials() is None:
                # localstack-client's own way: a local endpoint needs no account.
                session = _session(target.region, "test", "test")
        client: object = session.client(service, config=config, endpoint_url=endpoint)
        return client


def _session(region: str | None, key: str | None = None, secret: str | None = None) -> boto3.Session:
    core = botocore.session.Session()
    core.register_component("data_loader", _loader())
    return boto3.Session(key, secret, region_name=region, botocore_session=core)


@cache
def _loader() -> object:
    """boto3's descriptions of the services, read once: a client of a session with its own takes 200 ms, not 50."""
    return botocore.session.Session().get_component("data_loader")


def _localstack_endpoint(service: str) -> str | None:
    """The endpoint localstack-client gives, if LOCALSTACK_HOST asks for it and boto3 was given none of its own."""
    if not os.environ.get("LOCALSTACK_HOST") or any(os.environ.get(name) for name in _ENDPOINT_VARIABLES[service]):
        return None
    try:
        from localstack_client.config import get_service_endpoint
    except ImportError:
        return None
    endpoint: str | None = get_service_endpoint(service)
    return endpoint


# --- what an error means ---------------------------------------------------------------------------------------------

THROTTLING_CODES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "BandwidthLimitExceeded",
        "KMSThrottlingException",
    }
)

# Nothing of this forwarder can work until somebody changes something outside; its records are not to blame, so they
# spend no attempts and wait until the outage budget is over. Credentials may be renewed meanwhile.
_FORWARDER_CODES = {
    "AccessDenied": "access_denied",
    "AccessDeniedException": "access_denied",
    "UnauthorizedOperation": "access_denied",
    "NotAuthorized": "access_denied",
    "OptInRequired": "access_denied",
    "KMSAccessDeniedException": "access_denied",
    "ExpiredToken": "expired_token",
    "ExpiredTokenException": "expired_token",
    "RequestExpired": "expired_token",
    "TokenRefreshRequired": "expired_token",
    "InvalidClientTokenId": "invalid_credentials",
    "UnrecognizedClientException": "invalid_credentials",
    "UnrecognizedClient": "invalid_credentials",
    "InvalidSignatureException": "invalid_credentials",
    "SignatureDoesNotMatch": "invalid_credentials",
    "IncompleteSignature": "invalid_credentials",
    "IncompleteSignatureException": "invalid_credentials",
    "MissingAuthenticationToken": "invalid_credentials",
    "MissingAuthenticationTokenException": "invalid_credentials",
    "RequestTimeTooSkewed": "clock_skew",
    "ResourceNotFoundException": "stream_not_found",
    "ResourceInUseException": "stream_not_active",
    "KMSDisabledException": "kms",
    "KMSInvalidStateException": "kms",
    "KMSNotFoundException": "kms",
    "KMSOptInRequired": "kms",
    "InvalidKMSResourceException": "kms",
    "InvalidSourceException": "invalid_source",
}

INVALID_CODES = frozenset({"InvalidArgumentException", "ValidationException", "SerializationException"})
"""The call was refused because of what is in it: of one of its records, if it had several."""

_THROTTLED = Outcome(Verdict.RETRY, "throttled", spends_attempt=False)
_UNREADABLE = Outcome(Verdict.RETRY, "unreadable_answer", ambiguous=True, failure=True)


def entry_outcome(code: str, message: str | None) -> Outcome:
    """Of a record that failed inside a call that succeeded (`ErrorCode` of PutRecords and PutRecordBatch)."""
    # Firehose has one code for every limit of a delivery stream: "the throughput limits ... may have been exceeded".
    if code in THROTTLING_CODES or code in ("ServiceUnavailableException", "ServiceUnavailable"):
        return _THROTTLED
    # "Internal Service Failure": the record may be stored all the same (beam-notes.md section 4).
    internal = code in ("InternalFailure", "InternalFailureException", "InternalServerError")
    reason = "internal_failure" if internal else "aws_" + code_word(code)
    return Outcome(Verdict.RETRY, reason, response=(message or "")[:200], ambiguous=internal, failure=True)


def unreadable_answer() -> Outcome:
    return _UNREADABLE


def oversize(limit: int) -> Outcome:
    return Outcome(Verdict.GIVE_UP, "oversize", response=f"more than {limit} bytes")


def is_about_one(outcome: Outcome, items: Sequence[Item]) -> bool:
    """Whether a call of several was refused for what is in one of them, which the service does not name."""
    return outcome.reason == "invalid_record" and len(items) > 1


def each_half(send: Callable[[Sequence[Item]], list[Outcome]], items: Sequence[Item]) -> list[Outcome]:
    """Send the halves of a refused call, so that only the record that is to blame is given up."""
    middle = len(items) // 2
    return send(items[:middle]) + send(items[middle:])


def call_outcome(error: Exception) -> Outcome:
    """Of every record of a call that failed as a whole; raises the error itself if it is not AWS's or the network's."""
    if isinstance(error, ClientError):
        return _client_error_outcome(error)
    if isinstance(error, ResponseParserError):
        return _UNREADABLE
    if isinstance(error, SSLError):
        return Outcome(Verdict.RETRY, "tls", spends_attempt=False, failure=True, opens_breaker=True)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return Outcome(Verdict.RETRY, "no_credentials", spends_attempt=False, failure=True, opens_breaker=True)
    if isinstance(error, ConnectTimeoutError):
        return Outcome(Verdict.RETRY, "connect_timeout", failure=True)
    if isinstance(error, EndpointConnectionError):
        return Outcome(Verdict.RETRY, "connection", failure=True)
    if isinstance(error, ReadTimeoutError):
        return Outcome(Verdict.RETRY, "timeout", ambiguous=True, failure=True)
    if isinstance(error, BotoCoreError):
        # Cut somewhere between the request's first byte and the answer's last.
        return Outcome(Verdict.RETRY, "connection_cut", ambiguous=True, failure=True)
    raise error


_CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code") or "Unknown")


def code_word(code: str) -> str:
    """An AWS error code as a word of the dead-letter taxonomy: `SomeThingException` is `some_thing`."""
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()
    return re.sub(r"[^a-z0-9]+", "_", word)[:60]


def _client_error_outcome(error: ClientError) -> Outcome:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in THROTTLING_CODES or status == 429:
        return Outcome(Verdict.RETRY, "throttled", status, code, spends_attempt=False)
    if code in _FORWARDER_CODES:
        return Outcome(
            Verdict.RETRY, _FORWARDER_CODES[code], status, code, spends_attempt=False, failure=True, opens_breaker=True
        )
    if code in INVALID_CODES:
        return Outcome(Verdict.GIVE_UP, "invalid_record", status, code)
    if status is not None and status >= 500:
        # Whatever the code: the service broke while it had the records.
        return Outcome(Verdict.RETRY, "aws_" + code_word(code), status, code, ambiguous=True, failure=True)
    return Outcome(Verdict.RETRY, "aws_" + code_word(code), status, code, failure=True)


# --- before anything is read -----------------------------------------------------------------------------------------

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
    except _CREDENTIAL_ERRORS:
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
    meaning = _FORWARDER_CODES.get(code)
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
    client = kinesis_client(target, _describing_config())
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
    client = firehose_client(target, _describing_config())
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
