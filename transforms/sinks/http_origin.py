"""Where the requests of an HTTP forwarder go: its url, and the TLS files that go with it."""

import re
import ssl
from typing import NamedTuple

from yarl import URL

from transforms.forwarders import HttpTarget
from transforms.sinks.http_errors import why


class SinkError(Exception):
    """A forwarder's sink cannot be made: a TLS file does not load, or the host has no valid form."""


_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Whom a forwarder's requests are sent to.

    Attributes:
        scheme: `http` or `https`.
        host: a name in its IDNA form, or an address without brackets.
        port: as the url says, or that of the scheme.
    """

    scheme: str
    host: str
    port: int

    @property
    def server_name(self) -> str:
        """The host as certificates and the header `Host` name it.

        A dot at its end tells only a resolver that the name is whole. TLS allows none there (RFC 6066, section 3).
        """
        return self.host.rstrip(".")

    @property
    def host_header(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.server_name
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"


def request_url(target: HttpTarget) -> str:
    """The url as it goes over the wire: the host in its IDNA form, all else as it was written.

    Raises:
        SinkError: the host has no valid form.
    """
    _, _, after = target.url.reveal().partition("://")
    # Only the host is put in another form: a signature in the query must not be quoted anew.
    return str(_origin(target).origin()) + after[len(_authority(after)) :]


def origin(target: HttpTarget) -> Origin:
    """Whom the target's requests are sent to. Raises SinkError if the host has no valid form."""
    url = _origin(target)
    return Origin(url.scheme, url.raw_host or "", url.port or 0)


def _origin(target: HttpTarget) -> URL:
    scheme, _, after = target.url.reveal().partition("://")
    try:
        return URL(f"{scheme}://{_authority(after)}/")
    except ValueError:
        raise SinkError(f"the host {target.host} has no valid form in the DNS") from None


def _authority(after_scheme: str) -> str:
    return re.split(r"[/?]", after_scheme, maxsplit=1)[0]


def request_target(url: str) -> str:
    """What of a url stands in the request line: its path and query."""
    after = url.partition("://")[2]
    target = after[len(_authority(after)) :]
    return target if target.startswith("/") else f"/{target}"


def tls_context(target: HttpTarget) -> ssl.SSLContext | None:
    """TLS by the files of a forwarder: its certificate is verified by `caFile` alone, or by the system's authorities.

    None: the forwarder names no file.

    Raises:
        SinkError: a TLS file does not load.
    """
    if not (target.ca_file or target.client_certificate):
        return None
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ValueError) as error:
        raise SinkError(f"configuration.caFile {target.ca_file} does not load: {why(error)}") from None
    context.set_alpn_protocols(["http/1.1"])
    if target.client_certificate:
        try:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal, and wait.
            context.load_cert_chain(target.client_certificate, target.client_key, password=lambda: "")
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (target.client_certificate, target.client_key)))
            raise SinkError(f"configuration.clientCertificate {files} does not load: {why(error)}") from None
    return context
