"""The checks of targets before a run: is each stream there, may each address be dialled, do the TLS files load?

Nothing is sent. Kinesis and Firehose are asked to describe their streams; the hosts of HTTP forwarders are looked up.
"""

import functools
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from transforms.forwarders import Fault, Forwarder, HttpTarget, KinesisTarget
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.findings import Preflight
from transforms.sinks.http_client import HttpClient
from transforms.sinks.http_origin import Origin, SinkError, origin, tls_context
from transforms.sinks.oauth2 import token_endpoint, token_guard
from transforms.sinks.resolver import LOOK_UPS_AT_ONCE, GetAddrInfo

LOOK_UP_SECONDS = 20.0
"""Seconds that all hosts of HTTP receivers are looked up for: with many of them, and a name server that is not there, a
run would begin hours later."""


def preflight(
    forwarders: Iterable[Forwarder],
    allow_networks: Sequence[str] = (),
    getaddrinfo: GetAddrInfo = socket.getaddrinfo,
) -> Preflight:
    """Check the targets of `forwarders` (docs/spec/forwarders.md section 3).

    Waits for at most some 40 s for every eight streams, when their endpoint does not answer, and for LOOK_UP_SECONDS
    for the hosts of HTTP receivers and token endpoints. Connects to none of these.

    Args:
        forwarders: resolved ones, so that their secrets can be used.
        allow_networks: CIDRs that HTTP may reach though they are in a refused range (`--allow_network`).
        getaddrinfo: stands in for the system's resolver in tests.

    Returns:
        All faults and warnings at once, those of streams first. A fault: the stream is not there or cannot be used,
        every address of a host is refused, or a TLS file does not load. A warning: the permission to describe a stream
        is missing (default limits apply), a host does not resolve (in time), or some of its addresses are refused.
    """
    forwarders = list(forwarders)
    result = Preflight()
    streams = [forwarder for forwarder in forwarders if isinstance(forwarder.target, KinesisTarget)]
    if streams:
        # Late, because it brings boto3: a run that sends nothing to AWS starts without.
        from transforms.sinks.stream_preflight import check_streams

        result.add(check_streams(streams))
    result.add(_check_hosts(forwarders, HttpClient(allow_networks), getaddrinfo))
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
    return _judged(_addresses(origin(target), getaddrinfo), guard)


def _addresses(of: Origin, getaddrinfo: GetAddrInfo) -> tuple[str, ...]:
    try:
        resolved = getaddrinfo(of.host, of.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(address[0]) for _, _, _, _, address in resolved}))


def _judged(addresses: tuple[str, ...], guard: AddressGuard) -> Host:
    return Host(addresses, tuple(f"{address} ({why})" for address in addresses if (why := guard.refusal(address))))


class _Named(NamedTuple):
    """A host that a forwarder's requests go to.

    Attributes:
        forwarder_id: whose.
        field: of the document, which names it.
        origin: the host and its port.
        guard: says which of its addresses may be dialled.
    """

    forwarder_id: str
    field: str
    origin: Origin
    guard: AddressGuard


def _named_by(forwarder_id: str, target: HttpTarget, client: HttpClient) -> list[_Named]:
    """The hosts of a forwarder: its receiver's, and its token endpoint's. Raises SinkError as a sink does."""
    tls_context(target)
    named = [_Named(forwarder_id, "configuration.url", origin(target), client.guard)]
    if target.oauth2 is not None:
        endpoint = token_endpoint(target, target.oauth2)
        named.append(_Named(forwarder_id, "configuration.tokenUrl", origin(endpoint), token_guard(endpoint, client)))
    return named


def _check_hosts(forwarders: Iterable[Forwarder], client: HttpClient, getaddrinfo: GetAddrInfo) -> Preflight:
    """Look each host up once, however many forwarders name it."""
    result = Preflight()
    named: list[_Named] = []
    for forwarder in forwarders:
        if not isinstance(forwarder.target, HttpTarget):
            continue
        try:
            named += _named_by(forwarder.id, forwarder.target, client)
        except SinkError as error:
            result.faults.append(Fault(forwarder.id, "preflight", "", str(error)))
    addresses = _look_up_all({each.origin for each in named}, getaddrinfo)
    judged = functools.cache(_judged)  # many names lead to one gateway
    unknown: list[_Named] = []
    for each in named:
        if each.origin in addresses:
            _judge_host(each, judged(addresses[each.origin], each.guard), result)
        else:
            unknown.append(each)
    if unknown:
        others = len({each.forwarder_id for each in unknown}) - 1
        message = (
            f"names a host that was not looked up within {LOOK_UP_SECONDS:g} s, as those of {others} other "
            "forwarders: it is looked up when there is something to send"
        )
        result.warnings.append(Fault(unknown[0].forwarder_id, "preflight", unknown[0].field, message))
    return result


def _look_up_all(origins: set[Origin], getaddrinfo: GetAddrInfo) -> dict[Origin, tuple[str, ...]]:
    """The addresses that were found within LOOK_UP_SECONDS; none of a host whose name does not resolve."""
    found: dict[Origin, tuple[str, ...]] = {}
    waiting: SimpleQueue[Origin] = SimpleQueue()
    for each in sorted(origins):
        waiting.put(each)

    def look_up_waiting() -> None:
        with suppress(Empty):
            while not is_over.is_set():
                of = waiting.get_nowait()
                found[of] = _addresses(of, getaddrinfo)

    # Not a task for each: of ten thousand hosts the tasks would take longer than what is asked of them.
    is_over = Event()
    pool = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="preflight")
    try:
        lookers = [pool.submit(look_up_waiting) for _ in range(min(LOOK_UPS_AT_ONCE, len(origins)))]
        done, _ = wait(lookers, LOOK_UP_SECONDS)
        for looker in done:
            looker.result()  # raises what it raised
        return dict(found)
    finally:
        is_over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _judge_host(named: _Named, host: Host, result: Preflight) -> None:
    fault = functools.partial(Fault, named.forwarder_id, "preflight", named.field)
    if not host.addresses:
        result.warnings.append(fault(f"names the host {named.origin.host}, which does not resolve"))
    if host.refused:
        message = f"names a host at {', '.join(host.refused)}: refused unless --allow_network names the network"
        # Addresses that are refused are left out when the host is dialled: one that is left is enough.
        kind = result.faults if len(host.refused) == len(host.addresses) else result.warnings
        kind.append(fault(message))
