"""Whether the hosts of HTTP receivers take connections now. Nothing is sent to them."""

import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from transforms.forwarders import Fault, Forwarder, HttpTarget
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.http_origin import Origin, origin

_SECONDS = 3.0
_AT_ONCE = 16


def unreachable(forwarders: Iterable[Forwarder], allow_networks: Sequence[str]) -> list[Fault]:
    """Connect to each host once, at an address that may be dialled.

    Args:
        forwarders: resolved ones, whose hosts have a valid form.
        allow_networks: CIDRs that may be reached though they are in a refused range (`--allow_network`).

    Returns:
        What is known of each host that has such an address and takes no connection, under one forwarder of it.
    """
    guard = AddressGuard(allow_networks)
    named: dict[Origin, str] = {}
    for forwarder in forwarders:
        if isinstance(forwarder.target, HttpTarget):
            named.setdefault(origin(forwarder.target), forwarder.id)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="knock") as pool:
        problems = pool.map(lambda host: _problem(host, guard), named)
        return [
            Fault(
                forwarder_id,
                "",
                "configuration.url",
                f"names {host.host}:{host.port}, which takes no connection now ({problem}): a run would wait for it, "
                "up to --outage_budget",
            )
            for (host, forwarder_id), problem in zip(named.items(), problems, strict=True)
            if problem is not None
        ]


def _problem(host: Origin, guard: AddressGuard) -> str | None:
    """Why no address of a host takes a connection; None if one does, or none may be dialled or is known."""
    try:
        found = socket.getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except OSError:
        return None  # That it does not resolve is told by who looks it up.
    problem: str | None = None
    for address in sorted({str(address[0]) for _, _, _, _, address in found}):
        if guard.refusal(address) is None:
            try:
                socket.create_connection((address, host.port), _SECONDS).close()
            except OSError as error:
                problem = error.strerror or str(error)
            else:
                return None
    return problem
