"""What it means when an HTTP attempt ends without an answer."""

import errno
import os
import socket
import ssl

import aiohttp
import msgspec

from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.lacks import LACK, lack_in, lacking, no_descriptor

ADDRESS_REFUSED = AttemptResult(Verdict.GIVE_UP, "address_refused")
"""The outcome when no address of the host may be dialled."""

UNANSWERED = frozenset(
    (
        "connection_refused", "reset", "closed", "connection_failed", "unreachable", "dns", "timeout", "tls",
        "tls_handshake", "bad_response", "address_refused", "internal_error", LACK,
    )
)  # fmt: skip
"""The reasons of attempts that ended without an answer of a receiver. They say how far the attempt got."""


def classify(error: Exception, *, connected: bool) -> tuple[AttemptResult, str]:
    """The outcome of an attempt that ended without an answer (the table of docs/spec/forwarders.md section 2).

    Args:
        error: what aiohttp raised.
        connected: there was a connection, so the request may have reached the receiver.

    Returns:
        The outcome, and a detail for the log, which is made of numbers and names of errors only. If this machine lacks
        something, such as a descriptor, the outcome says so: it is no failure of the receiver's.
    """
    cause = getattr(error, "os_error", None) or error.__cause__
    lack = lack_in(error)
    if lack is None and isinstance(error, aiohttp.ClientConnectorDNSError):
        lack = no_descriptor()
    if lack is not None:
        return msgspec.structs.replace(lacking(lack), ambiguous=connected), ""
    if isinstance(error, aiohttp.InvalidURL):
        return ADDRESS_REFUSED, "the host is a number, but no address in its usual form"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verify_message = getattr(error.certificate_error, "verify_message", "")
        return AttemptResult(Verdict.GIVE_UP, "tls", failure=True, opens_breaker=True), str(verify_message)
    if timed_out(error):
        reason, detail = "timeout", ""
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        reason, detail = "dns", why(cause)
    elif isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
        reason, detail = "tls_handshake", why(cause if isinstance(cause, ssl.SSLError) else error)
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason, detail = _connect_reason(cause), why(cause)
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        reason, detail = "closed", ""
    elif isinstance(error, ConnectionError | OSError | aiohttp.ClientConnectionError):
        reason, detail = "reset", why(error)
    elif isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        reason, detail = "bad_response", "what came is not an HTTP response"
    else:
        # An error that nobody foresaw: at worst the record becomes a dead letter. Its text may hold the url, its type
        # cannot.
        reason, detail = "internal_error", type(error).__name__
    return AttemptResult(Verdict.RETRY, reason, ambiguous=connected, failure=True), detail


def timed_out(error: BaseException) -> bool:
    """Whether an attempt ended because its time, or that of TCP, was over."""
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT


def _connect_reason(cause: object) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(cause, ConnectionError):
        return "reset"
    if getattr(cause, "errno", None) in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return "unreachable"
    return "connection_failed"


def why(error: object) -> str:
    """What an error of the operating system or of OpenSSL means, as the system says it for the error's number.

    The error's own text is never used, because aiohttp puts the url into the `strerror` of some.
    """
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return type(error).__name__
