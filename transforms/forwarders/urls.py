"""The `configuration.url` of a forwarder document: `host[:port][/path][?query]`, without a scheme."""

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from transforms.forwarders.checks import has_control_character
from transforms.forwarders.secrets import is_redacted, is_reference

_ASCII_HOST = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Url:
    """A url in its parts.

    Attributes:
        host: a name or an address; of an IPv6 address without its brackets.
        authority: host and port as they are written.
        rest: path and query; it begins with a slash.
    """

    host: str
    authority: str
    rest: str

    @property
    def has_reference(self) -> bool:
        """Whether the value of a parameter is a reference to a secret."""
        return any(is_reference(value) for _, value in self.parameters)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The names and values of the query, percent-encoded as they are written."""
        _, _, query = self.rest.partition("?")
        return [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&"))]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a part that an address may not have.

    Attributes:
        scheme: about one that stands before the host.
        user: about a user's name and password.
    """

    scheme: str
    user: str


OF_FORWARDERS = Advice("leave it out, configuration.protocol says it", "use authType basic auth")
_SECOND_SCHEME = "leave the second one out"
OF_TOKENS = Advice(_SECOND_SCHEME, "leave it out, clientId and clientSecret are what is sent")
OF_ALERTS = Advice(
    _SECOND_SCHEME,
    "leave it out, it would not be sent; --alert_secret tells the receiver who sends, or a token in the query does "
    "(then give the address as env:NAME or file:/PATH)",
)


def parse_url(text: str, advice: Advice = OF_FORWARDERS) -> Url:
    """Take a url apart.

    Args:
        text: without a scheme.
        advice: for the one who wrote it.

    Raises:
        ValueError: the url breaks a rule of docs/spec/forwarders.md section 1. The text does not hold the url.
    """
    if not text:
        raise ValueError("is empty: give the host, and port, path and query if any")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) or text.startswith("//"):
        raise ValueError(f"starts with a scheme: {advice.scheme}")
    if any(character.isspace() for character in text):
        raise ValueError("holds white space")
    if "\\" in text:
        raise ValueError("holds a backslash")
    if has_control_character(text):
        raise ValueError("holds a control character")
    if "#" in text:
        raise ValueError("has a fragment (#...), which is never sent: leave it out")
    authority = re.split(r"[/?]", text, maxsplit=1)[0]
    if "@" in authority:
        raise ValueError(f"has user information before the host: {advice.user}")
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
    # The sink puts a name beyond ASCII into its IDNA form, and judges the address that this leads to when it dials.
    # Here the name is judged in its normalised form: a full-width slash or at sign must not become a plain one later.
    ascii_part = "".join(character for character in unicodedata.normalize("NFKC", host) if character.isascii())
    return (not ascii_part or bool(_ASCII_HOST.fullmatch(ascii_part))) and host.isprintable()


def full_url(scheme: str, url: Url) -> str:
    """The whole url to post to.

    Args:
        scheme: `http` or `https`.
        url: characters in its path and query that no url may hold are percent-encoded; the others stay as written.
    """
    return f"{scheme}://{url.authority}{quote(url.rest, safe=_URL_CHARACTERS)}"


# The characters that RFC 3986 allows somewhere in a path or query, and the percent sign of what is encoded already.
_URL_CHARACTERS = "!$%&'()*+,-./:;=?@[]_~"


def query_is_redacted(url: Url) -> bool:
    """Whether a redaction stands in the place of a parameter's value."""
    return any(is_redacted(unquote(value)) for _, value in url.parameters)


def resolve_query(url: str, resolve: Callable[[str], str]) -> str:
    """The url with every reference in its query replaced by the secret it stands for, percent-encoded.

    Args:
        url: complete. A reference is one only where it is the whole value of a parameter.
        resolve: gives the secret of a reference.
    """
    head, mark, query = url.partition("?")
    pairs = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        pairs.append(f"{name}={quote(resolve(value), safe='')}" if equals and is_reference(value) else pair)
    return head + mark + "&".join(pairs)
