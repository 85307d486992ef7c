"""What it means when an HTTP attempt ends without an answer (the table of docs/spec/forwarders.md section 2).

Each stage of an attempt has a function here: the same error of the system means another thing in each.
"""

import errno
import os
import socket
import ssl

import msgspec

from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http_connection import BadResponseError, ClosedError
from transforms.sinks.http_exchange import NoAnswer
from transforms.sinks.lacks import LACK, lack_in, lacking, no_descriptor

ADDRESS_REFUSED = AttemptResult(Verdict.GIVE_UP, "address_refused")
"""The outcome when no address of the host may be dialled."""

_CERTIFICATE_REFUSED = AttemptResult(Verdict.GIVE_UP, "tls", failure=True, opens_breaker=True)

UNANSWERED = frozenset(
    (
        "connection_refused", "reset", "closed", "connection_failed", "unreachable", "dns", "timeout", "tls",
        "tls_handshake", "bad_response", "address_refused", "internal_error", LACK,
    )
)  # fmt: skip
"""The reasons of attempts that ended without an answer of a receiver. They say how far the attempt got."""


def not_found(error: Exception) -> NoAnswer:
    """The name of the host could not be looked up."""
    if isinstance(error, UnicodeError):
        # A label that is empty or too long has no form in which a name server could be asked for it.
        return _failed("dns", "the host name has no valid form")
    if isinstance(error, OSError) and not timed_out(error):
        lack = lack_in(error) or no_descriptor()
        return _failed("dns", why(error)) if lack is None else NoAnswer(lacking(lack))
    return _failed_anyhow(error)


def not_connected(error: Exception) -> NoAnswer:
    """No address of the host took the connection."""
    if isinstance(error, OSError) and not timed_out(error) and lack_in(error) is None:
        return _failed(_connect_reason(error), why(error))
    return _failed_anyhow(error)


def no_handshake(error: Exception) -> NoAnswer:
    """There was a connection, but no TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoAnswer(_CERTIFICATE_REFUSED, error.verify_message)
    if isinstance(error, ssl.SSLError):
        return _failed("tls_handshake", why(error))
    return not_connected(error)


def no_answer(error: Exception) -> NoAnswer:
    """A request went out, or a part of it. The receiver may have it."""
    if isinstance(error, BadResponseError):
        return _failed("bad_response", "what came is not an HTTP response", ambiguous=True)
    if isinstance(error, ClosedError):
        return _failed("closed", ambiguous=True)
    if isinstance(error, ssl.SSLError):
        return _failed("tls_handshake", why(error), ambiguous=True)
    if isinstance(error, OSError) and not timed_out(error) and lack_in(error) is None:
        return _failed("reset", why(error), ambiguous=True)
    return _failed_anyhow(error, ambiguous=True)


def timed_out(error: BaseException) -> bool:
    """Whether an attempt ended because its time, or that of TCP, was over."""
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT


def _failed_anyhow(error: Exception, ambiguous: bool = False) -> NoAnswer:
    """What an error means at any stage."""
    if timed_out(error):
        return _failed("timeout", ambiguous=ambiguous)
    if lack := lack_in(error):
        return NoAnswer(msgspec.structs.replace(lacking(lack), ambiguous=ambiguous))
    # An error that nobody foresaw: at worst the record becomes a dead letter. Its text may hold the url, its type
    # cannot.
    return _failed("internal_error", type(error).__name__, ambiguous)


def _failed(reason: str, detail: str = "", ambiguous: bool = False) -> NoAnswer:
    return NoAnswer(AttemptResult(Verdict.RETRY, reason, ambiguous=ambiguous, failure=True), detail)


def _connect_reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, ConnectionError):
        return "reset"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return "unreachable"
    return "connection_failed"


def why(error: object) -> str:
    """What an error of the operating system or of OpenSSL means, as the system says it for the error's number.

    The error's own text is never used, because some clients put the url into it.
    """
    if isinstance(error, ssl.SSLError) and (reason := getattr(error, "reason", None)):
        return str(reason)  # Only OpenSSL's own errors have one.
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return type(error).__name__
