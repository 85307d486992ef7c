"""How the service is run: the application behind the door, by uvicorn."""

import ssl
from typing import Any, cast

import uvicorn

from registry.app import build
from registry.door import Door, Limits
from registry.proxies import TrustedProxies
from registry.web import Registry


def configured(
    registry: Registry,
    limits: Limits,
    proxies: TrustedProxies,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Config:
    """What uvicorn is to run.

    Args:
        limits: what clients may hold.
        proxies: those whose word is taken on where a request comes from.
        host: the address to listen at.
        port: the port to listen at; 0: any that is free.
        tls: None: without TLS.
    """
    door = Door(limits, proxies, tls)
    return uvicorn.Config(
        build(registry, proxies, limits.connections_of_one),
        host=host,
        port=port,
        # It calls this as it would its own protocols' class.
        http=cast(Any, door.protocol),
        # A connection that turned into a web socket would be let go of by the door.
        ws="none",
        loop="asyncio",
        # uvicorn would believe such headers from this machine. Here the application itself knows whom to believe.
        proxy_headers=False,
        server_header=False,
        # The application logs a line of its own for each request, without the query.
        access_log=False,
        log_config=None,
    )
