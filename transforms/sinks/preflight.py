"""The checks of targets before a run: is each stream there, may each address be dialled, do the TLS files load?

Nothing is sent. Kinesis and Firehose are asked to describe their streams; the hosts of HTTP forwarders are looked up.
"""

import functools
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transforms.forwarders import Fault, Forwarder, HttpTarget, KinesisTarget
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.findings import Preflight
from transforms.sinks.http import SinkError, request_url, tls_context
from transforms.sinks.http_connections import GetAddrInfo


def preflight(
    forwarders: Iterable[Forwarder],
    allow_networks: Sequence[str] = (),
    getaddrinfo: GetAddrInfo = socket.getaddrinfo,
) -> Preflight:
    """Check the targets of `forwarders` (docs/spec/forwarders.md section 3).

    Waits for at most some 40 s for every eight streams, when their endpoint does not answer. Connects to no HTTP
    receiver.

    Args:
        forwarders: resolved ones, so that their secrets can be used.
        allow_networks: CIDRs that HTTP may reach though they are in a refused range (`--allow_network`).
        getaddrinfo: stands in for the system's resolver in tests.

    Returns:
        All faults and warnings at once, those of streams first. A fault: the stream is not there or cannot be used,
        every address of a host is refused, or a TLS file does not load. A warning: the permission to describe a stream
        is missing (default limits apply), a host does not resolve, or some of its addresses are refused.
    """
    forwarders = list(forwarders)
    result = Preflight()
    streams = [forwarder for forwarder in forwarders if isinstance(forwarder.target, KinesisTarget)]
    if streams:
        # Late, because it brings boto3: a run that sends nothing to AWS starts without.
        from transforms.sinks.stream_preflight import check_streams

        result.add(check_streams(streams))
    guard = AddressGuard(allow_networks)
    for forwarder in forwarders:
        if isinstance(forwarder.target, HttpTarget):
            result.add(_check_host(forwarder.id, forwarder.target, guard, getaddrinfo))
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
    url = request_url(target)
    try:
        resolved = getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Host((), ())
    addresses = sorted({str(address[0]) for _, _, _, _, address in resolved})
    refused = [f"{address} ({why})" for address in addresses if (why := guard.refusal(address))]
    return Host(tuple(addresses), tuple(refused))


def _check_host(forwarder_id: str, target: HttpTarget, guard: AddressGuard, getaddrinfo: GetAddrInfo) -> Preflight:
    result = Preflight()
    fault = functools.partial(Fault, forwarder_id, "preflight")
    try:
        tls_context(target)
        host = look_up(target, guard, getaddrinfo)
    except SinkError as error:
        result.faults.append(fault("", str(error)))
        return result
    if not host.addresses:
        result.warnings.append(fault("configuration.url", f"names the host {target.host}, which does not resolve"))
    if host.refused:
        message = f"names a host at {', '.join(host.refused)}: refused unless --allow_network names the network"
        # Addresses that are refused are left out when the host is dialled: one that is left is enough.
        kind = result.faults if len(host.refused) == len(host.addresses) else result.warnings
        kind.append(fault("configuration.url", message))
    return result
