"""What the single fields of a forwarder document may hold. Each check answers with what is wrong, without the value."""

import base64
import binascii
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from transforms.forwarders.secrets import is_redacted, is_reference

Check = Callable[[str], str | None]
"""Looks at a value, a secret perhaps: what is wrong with it in words that do not hold it, or None."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ASCII_HOST = re.compile(r"[A-Za-z0-9._-]+")


def names(text: str) -> frozenset[str]:
    """The blank-separated names in `text`."""
    return frozenset(text.split())


_RESERVED_HEADERS = names(
    "content-type content-length transfer-encoding host connection accept accept-encoding user-agent via te expect "
    "proxy-authorization x-request-id x-request-start connect-time total-route-time idempotency-key x-forward-hops"
)
_RESERVED_PREFIXES = ("x-forwarded-", "cf-", "webhook-")


def header_name(name: str, *, authorised: bool) -> str | None:
    """What is wrong with a header name. `authorised`: an authType already sends `Authorization`."""
    if not _TOKEN.fullmatch(name):
        return "is not a valid header name"
    lower = name.lower()
    if lower in _RESERVED_HEADERS or lower.startswith(_RESERVED_PREFIXES):
        return "is a reserved header, which the forwarder sets itself: leave it out"
    if lower == "authorization" and authorised:
        return "stands beside an authType that sends it already: leave one of the two out"
    return None


def header_value(value: str) -> str | None:
    if "\r" in value or "\n" in value:
        return "holds a line break (CR or LF)"
    if _CONTROL.search(value.replace("\t", " ")):
        return "holds a control character"
    return None


def token(value: str) -> str | None:
    if not value:
        return "is empty"
    return header_value(value)


def password(value: str) -> str | None:
    return "holds a control character" if _CONTROL.search(value) else None


def basic_username(value: str) -> str | None:
    if not value:
        return "is empty"
    if ":" in value:
        return "holds a colon, which would end the user name"
    return password(value)


def not_empty(value: str) -> str | None:
    return None if value else "is empty"


def signing_secret(value: str) -> str | None:
    if not value.startswith("whsec_"):
        return "does not start with whsec_ (a secret of Standard Webhooks is whsec_ and base64)"
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return "is not base64 after whsec_"
    return None if key else "holds no key after whsec_"


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of `configuration.url`: `host` without brackets, `authority` as it stands, `rest` path and query."""

    host: str
    authority: str
    rest: str

    @property
    def has_reference(self) -> bool:
        return any(is_reference(value) for _, value in self.parameters)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query's `name=value` pairs as they stand, still percent-encoded."""
        _, _, query = self.rest.partition("?")
        return [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&"))]


def parse_url(text: str) -> Url:
    """`host[:port][/path][?query]`. Raises ValueError saying which rule of section 1 it breaks, without the url."""
    if not text:
        raise ValueError("is empty: give the host, and port, path and query if any")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) or text.startswith("//"):
        raise ValueError("starts with a scheme: leave it out, configuration.protocol says it")
    if any(character.isspace() for character in text):
        raise ValueError("holds white space")
    if "\\" in text:
        raise ValueError("holds a backslash")
    if _CONTROL.search(text):
        raise ValueError("holds a control character")
    if "#" in text:
        raise ValueError("has a fragment (#...), which is never sent: leave it out")
    authority = re.split(r"[/?]", text, maxsplit=1)[0]
    if "@" in authority:
        raise ValueError("has user information before the host: use authType basic auth")
    rest = text[len(authority) :]
    return Url(_host(authority), authority, rest if rest.startswith("/") else "/" + rest)


def _host(authority: str) -> str:
    port: str | None
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        try:
            valid = bool(bracket) and "%" not in host and bool(ipaddress.IPv6Address(host))
        except ValueError:
            valid = False
        if not valid or (port and not port.startswith(":")):
            raise ValueError("has no valid IPv6 address in its brackets")
        port = port.removeprefix(":") or None
    else:
        host, colon, after = authority.partition(":")
        port = after if colon else None
    if not host:
        raise ValueError("has no host")
    if not authority.startswith("[") and not _host_name(host):
        raise ValueError("has no valid host name")
    if port is not None and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError("has a port that is not a number from 1 to 65535")
    return host


def _host_name(host: str) -> bool:
    # A name beyond ASCII is put into its IDNA form by the sink, with what that turns out to be judged when dialled.
    # Judged as it looks once normalised: a full-width slash or at sign must not become one.
    ascii_part = "".join(character for character in unicodedata.normalize("NFKC", host) if character.isascii())
    return (not ascii_part or bool(_ASCII_HOST.fullmatch(ascii_part))) and host.isprintable()


def full_url(scheme: str, url: Url) -> str:
    """The url to post to. What may not stand in a url is percent-encoded, all else stays as it was written."""
    return f"{scheme}://{url.authority}{quote(url.rest, safe=_URL_CHARACTERS)}"


# What RFC 3986 allows somewhere in a path or query, and the percent sign of what is encoded already.
_URL_CHARACTERS = "!$%&'()*+,-./:;=?@[]_~"


def query_is_redacted(url: Url) -> bool:
    return any(is_redacted(unquote(value)) for _, value in url.parameters)


def resolve_query(url: str, resolve: Callable[[str], str]) -> str:
    """`url` with the parameters whose whole value is a reference replaced by what it stands for, percent-encoded."""
    head, mark, query = url.partition("?")
    pairs = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        pairs.append(f"{name}={quote(resolve(value), safe='')}" if equals and is_reference(value) else pair)
    return head + mark + "&".join(pairs)
