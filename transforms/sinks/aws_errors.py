"""What an error of Kinesis or Firehose means for the records of the call.

No text that is made here holds a credential. It names an error by its code, and never repeats the exception's own
message, because some services put the request's signature into theirs.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
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

from transforms.forwarders import KinesisTarget
from transforms.forwarders.scrubber import Scrubber
from transforms.forwarders.secrets import REDACTED
from transforms.sinks.aws_connections import ResentError
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.lacks import lack_in, lacking, no_descriptor

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
"""Codes that ask to send more slowly. They spend no attempt."""

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
"""Codes that are about the forwarder and not about a record, and the reason that each is given in dead letters.

Nothing of the forwarder can work until somebody changes something outside, such as a permission. Its records are not to
blame, so they spend no attempts, and wait until the outage budget is over. Credentials may be renewed meanwhile.
"""

INVALID_CODES = frozenset({"InvalidArgumentException", "ValidationException", "SerializationException"})
"""Codes of a call that is refused for what is in it. If it had several records, one of them is to blame."""

_MESSAGE_KEPT = 200
"""Characters of a record's error message that a dead letter keeps."""

_MESSAGE_SEARCHED = 2000
"""Characters of an error message in which credentials are searched for before it is cut."""

_SIGNED = re.compile(r"((?:credential|signature|security-token)[\"'\s:=]{1,4})[0-9A-Za-z+/=%_.-]{8,}", re.IGNORECASE)
"""Values of a signed request's headers or query, by the names that Signature Version 4 gives them."""

_THROTTLED = AttemptResult(Verdict.RETRY, "throttled", spends_attempt=False)
_UNREADABLE = AttemptResult(Verdict.RETRY, "unreadable_answer", ambiguous=True, failure=True)


Scrub = Callable[[str], str]
"""Takes credentials out of a text of the service."""


def scrub_for(target: KinesisTarget) -> Scrub:
    """What takes the target's credentials, and what requests are signed with, out of a text of the service.

    AWS repeats none of them. An endpoint of somebody else (`AWS_ENDPOINT_URL`) may.
    """
    secret = target.secret_access_key
    known = Scrubber([text for text in (target.access_key_id, secret.reveal() if secret else None) if text])

    def scrub(text: str) -> str:
        is_cut = len(text) > _MESSAGE_SEARCHED
        return _SIGNED.sub(rf"\1{REDACTED}", known.scrub(text[:_MESSAGE_SEARCHED], cut=is_cut))

    return scrub


def entry_outcome(code: str, message: str | None, scrub: Scrub) -> AttemptResult:
    """The outcome of a record that failed in a call that succeeded.

    Args:
        code: the record's `ErrorCode` in the answer to PutRecords or PutRecordBatch.
        message: its `ErrorMessage`.
        scrub: takes credentials out of both.
    """
    # Firehose has this one code for every throughput limit of a delivery stream.
    if code in THROTTLING_CODES or code in ("ServiceUnavailableException", "ServiceUnavailable"):
        return _THROTTLED
    # After "Internal Service Failure" the record may be stored all the same (docs/beam-notes.md section 4).
    internal = code in ("InternalFailure", "InternalFailureException", "InternalServerError")
    reason = "internal_failure" if internal else "aws_" + code_word(scrub(code))
    kept = scrub(message or "")[:_MESSAGE_KEPT]
    return AttemptResult(Verdict.RETRY, reason, response=kept, ambiguous=internal, failure=True)


def unreadable_answer() -> AttemptResult:
    """The outcome of a record when the answer does not say what became of it."""
    return _UNREADABLE


def doubted(outcomes: Sequence[AttemptResult]) -> list[AttemptResult]:
    """The outcomes of a call that was sent twice, of which the service may have taken the first one, too."""
    return [msgspec.structs.replace(outcome, ambiguous=True) for outcome in outcomes]


def oversize(limit: int) -> AttemptResult:
    """The outcome of a record of more than `limit` bytes."""
    return AttemptResult(Verdict.GIVE_UP, "oversize", response=f"more than {limit} bytes")


def is_about_one(outcome: AttemptResult, items: Sequence[Item]) -> bool:
    """Whether a call of several records was refused for one of them. The service does not say which."""
    return outcome.reason == "invalid_record" and len(items) > 1


def each_half(send: Callable[[Sequence[Item]], list[AttemptResult]], items: Sequence[Item]) -> list[AttemptResult]:
    """Send both halves of a call that was refused, so that in the end only the record that is to blame is given up."""
    middle = len(items) // 2
    return send(items[:middle]) + send(items[middle:])


def call_outcome(error: Exception, scrub: Scrub) -> AttemptResult:
    """The outcome of every record of a call that failed as a whole.

    Args:
        error: what a Call raised.
        scrub: takes credentials out of what the service said.

    Raises:
        Exception: `error` itself, if it is neither of AWS nor of the network, but a bug.
    """
    if isinstance(error, ResentError):
        return doubted([call_outcome(error.error, scrub)])[0]
    if isinstance(error, ClientError):
        return _client_error_outcome(error, scrub)
    lack = lack_in(error)
    if lack is None and isinstance(error, EndpointConnectionError):
        lack = no_descriptor()  # A name cannot be looked up without one.
    if lack is not None:
        return lacking(lack)
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
        # The connection was cut somewhere between the first byte of the request and the last of the answer.
        return AttemptResult(Verdict.RETRY, "connection_cut", ambiguous=True, failure=True)
    raise error


CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
"""What botocore raises when nothing gives it credentials."""


def error_code(error: ClientError) -> str:
    """The code of an error that AWS answered, such as `AccessDeniedException`."""
    return str(error.response.get("Error", {}).get("Code") or "Unknown")


def code_word(code: str) -> str:
    """An AWS error code as a word for dead letters: `SomeThingException` becomes `some_thing`."""
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()
    return re.sub(r"[^a-z0-9]+", "_", word)[:60]


def _client_error_outcome(error: ClientError, scrub: Scrub) -> AttemptResult:
    code = scrub(error_code(error))
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
        # Whatever the code is, the service failed while it had the records.
        return AttemptResult(Verdict.RETRY, "aws_" + code_word(code), status, code, ambiguous=True, failure=True)
    return AttemptResult(Verdict.RETRY, "aws_" + code_word(code), status, code, failure=True)
