"""What an error of Kinesis or Firehose means for the records of the call.

No text made here holds a credential: errors are told by their code, never by the exception's own words, because some
services repeat the request's signature in theirs.
"""

import re
from collections.abc import Callable, Sequence

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from transforms.sinks.base import AttemptResult, Item, Verdict

KIB = 1024
MIB = 1024 * KIB


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
FORWARDER_CODES = {
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

_THROTTLED = AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False)
_UNREADABLE = AttemptResult(Verdict.RETRY, "unreadable_answer", ambiguous=True, failure=True)


def entry_outcome(code: str, message: str | None) -> AttemptResult:
    """Of a record that failed inside a call that succeeded (`ErrorCode` of PutRecords and PutRecordBatch)."""
    # Firehose has one code for every limit of a delivery stream: "the throughput limits ... may have been exceeded".
    if code in THROTTLING_CODES or code in ("ServiceUnavailableException", "ServiceUnavailable"):
        return _THROTTLED
    # "Internal Service Failure": the record may be stored all the same (beam-notes.md section 4).
    internal = code in ("InternalFailure", "InternalFailureException", "InternalServerError")
    reason = "internal_failure" if internal else "aws_" + code_word(code)
    return AttemptResult(Verdict.RETRY, reason, response=(message or "")[:200], ambiguous=internal, failure=True)


def unreadable_answer() -> AttemptResult:
    return _UNREADABLE


def oversize(limit: int) -> AttemptResult:
    return AttemptResult(Verdict.GIVE_UP, "oversize", response=f"more than {limit} bytes")


def is_about_one(outcome: AttemptResult, items: Sequence[Item]) -> bool:
    """Whether a call of several was refused for what is in one of them, which the service does not name."""
    return outcome.reason == "invalid_record" and len(items) > 1


def each_half(send: Callable[[Sequence[Item]], list[AttemptResult]], items: Sequence[Item]) -> list[AttemptResult]:
    """Send the halves of a refused call, so that only the record that is to blame is given up."""
    middle = len(items) // 2
    return send(items[:middle]) + send(items[middle:])


def call_outcome(error: Exception) -> AttemptResult:
    """Of every record of a call that failed as a whole; raises the error itself if it is not AWS's or the network's."""
    if isinstance(error, ClientError):
        return _client_error_outcome(error)
    if isinstance(error, ResponseParserError):
        return _UNREADABLE
    if isinstance(error, SSLError):
        return AttemptResult(Verdict.RETRY, "tls", spends_attempt=False, failure=True, opens_breaker=True)
    if isinstance(error, CREDENTIAL_ERRORS):
        return AttemptResult(Verdict.RETRY, "no_credentials", spends_attempt=False, failure=True, opens_breaker=True)
    if isinstance(error, ConnectTimeoutError):
        return AttemptResult(Verdict.RETRY, "connect_timeout", failure=True)
    if isinstance(error, EndpointConnectionError):
        return AttemptResult(Verdict.RETRY, "connection", failure=True)
    if isinstance(error, ReadTimeoutError):
        return AttemptResult(Verdict.RETRY, "timeout", ambiguous=True, failure=True)
    if isinstance(error, BotoCoreError):
        # Cut somewhere between the request's first byte and the answer's last.
        return AttemptResult(Verdict.RETRY, "connection_cut", ambiguous=True, failure=True)
    raise error


CREDENTIAL_ERRORS = (
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


def _client_error_outcome(error: ClientError) -> AttemptResult:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in THROTTLING_CODES or status == 429:
        return AttemptResult(Verdict.RETRY, "throttled", status, code, spends_attempt=False)
    if code in FORWARDER_CODES:
        return AttemptResult(
            Verdict.RETRY, FORWARDER_CODES[code], status, code, spends_attempt=False, failure=True, opens_breaker=True
        )
    if code in INVALID_CODES:
        return AttemptResult(Verdict.GIVE_UP, "invalid_record", status, code)
    if status is not None and status >= 500:
        # Whatever the code: the service broke while it had the records.
        return AttemptResult(Verdict.RETRY, "aws_" + code_word(code), status, code, ambiguous=True, failure=True)
    return AttemptResult(Verdict.RETRY, "aws_" + code_word(code), status, code, failure=True)
