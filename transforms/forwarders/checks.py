"""What a text in a forwarder document may hold: header names, tokens, passwords, stream names.

A check judges a value that is written in a document, and the value that a reference to a secret turns out to be.
"""

import base64
import binascii
import re
from collections.abc import Callable

Check = Callable[[str], str | None]
"""Takes a text, which may be a secret. Returns what is wrong with it in words that do not repeat it, or None."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STREAM_NAME_FORM = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_RESERVED_HEADERS = frozenset(
    (
        "content-type", "content-length", "transfer-encoding", "host", "connection", "accept", "accept-encoding",
        "user-agent", "via", "te", "expect", "proxy-authorization", "x-request-id", "x-request-start", "connect-time",
        "total-route-time", "idempotency-key", "x-forward-hops",
    )
)  # fmt: skip
_RESERVED_PREFIXES = ("x-forwarded-", "cf-", "webhook-")


def has_control_character(text: str) -> bool:
    """Whether an ASCII control character is in the text."""
    return bool(_CONTROL.search(text))


def header_name(name: str, *, authorised: bool) -> str | None:
    """What is wrong with the name of a header.

    Args:
        name: as it is written in the document.
        authorised: the forwarder's `authType` sends an `Authorization` header already.
    """
    if not _TOKEN.fullmatch(name):
        return "is not a valid header name"
    lower = name.lower()
    if lower in _RESERVED_HEADERS or lower.startswith(_RESERVED_PREFIXES):
        return "is a reserved header, which the forwarder sets itself: leave it out"
    if lower == "authorization" and authorised:
        return "stands beside an authType that sends it already: leave one of the two out"
    return None


def header_value(value: str) -> str | None:
    """A `Check` of a header's value: it may be empty and may hold tabs, but no other control character."""
    if "\r" in value or "\n" in value:
        return "holds a line break (CR or LF)"
    if has_control_character(value.replace("\t", " ")):
        return "holds a control character"
    return None


def token(value: str) -> str | None:
    """A `Check` of a bearer token or an AWS key: what a header's value may be, and not empty."""
    if not value:
        return "is empty"
    return header_value(value)


def password(value: str) -> str | None:
    """A `Check` of the password of basic auth, which may be empty."""
    return "holds a control character" if has_control_character(value) else None


def basic_username(value: str) -> str | None:
    """A `Check` of the user name of basic auth."""
    if not value:
        return "is empty"
    if ":" in value:
        return "holds a colon, which would end the user name"
    return password(value)


_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


def client_id(value: str) -> str | None:
    """A `Check` of a client's id of OAuth 2.0."""
    return password(value) if value else "is empty"


def client_secret(value: str) -> str | None:
    """A `Check` of a client's secret of OAuth 2.0."""
    return password(value) if value else "is empty"


def oauth_scope(value: str) -> str | None:
    """A `Check` of the scopes of a token (RFC 6749 section 3.3)."""
    return None if _SCOPE.fullmatch(value) else "is not a list of scopes with one space between two"


_UNPADDED = re.compile(r"[A-Za-z0-9+/]+", re.ASCII)


def signing_secret(value: str) -> str | None:
    """A `Check` of a secret of Standard Webhooks: `whsec_` and the key in base64."""
    if not value.startswith("whsec_"):
        return "does not start with whsec_ (a secret of Standard Webhooks is whsec_ and base64)"
    encoded = value.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        lacking = -len(encoded) % 4
        if lacking < 3 and _UNPADDED.fullmatch(encoded):
            return f"is base64 without its padding after whsec_: write {'=' * lacking} at its end"
        return "is not base64 after whsec_"
    return None if key else "holds no key after whsec_"


def stream_name(value: str) -> str | None:
    """A `Check` of the name of a Kinesis data stream or a Firehose delivery stream."""
    return None if _STREAM_NAME_FORM.fullmatch(value) else "is not a stream's name: 1 to 128 of A-Z a-z 0-9 _ . -"
