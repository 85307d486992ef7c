"""Clients of Kinesis and Firehose: credentials, regions, endpoints and time-outs."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import boto3
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import Credentials

from transforms.forwarders import KinesisTarget
from transforms.sinks.user_agent import USER_AGENT

if TYPE_CHECKING:
    from mypy_boto3_firehose.client import FirehoseClient
    from mypy_boto3_kinesis.client import KinesisClient

CONNECT_TIMEOUT = 10.0
"""Seconds that a connection to AWS may take to be made."""

READ_TIMEOUT = 30.0
"""Seconds that AWS may take to answer. It usually takes tens of milliseconds. Without an answer a call is ambiguous."""

# In boto3, clients may be used by several threads, but sessions and clients must not be made by two at a time.
_making_clients = threading.Lock()

_ENDPOINT_VARIABLES = {
    "kinesis": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"),
    "firehose": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_FIREHOSE"),
}


def sending_config(calls_in_flight: int) -> Config:
    """The settings of a client that delivers, with as many connections as calls in flight.

    boto3's own retries are off, because they would multiply the lane's.
    """
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=calls_in_flight,
        parameter_validation=False,
        tcp_keepalive=True,
        # boto3 would make its own text anew for each call, which is a tenth of what a call costs.
        user_agent=f"{USER_AGENT} boto3/{boto3.__version__}",
    )


def describing_config() -> Config:
    """The settings of a client that describes a stream, with boto3's retries."""
    return Config(
        retries={"total_max_attempts": 4, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=CONNECT_TIMEOUT,
        max_pool_connections=1,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """How a service is reached: what boto3 makes of a target, the environment and the files of AWS.

    Attributes:
        client: of Kinesis or Firehose.
        credentials: those that the client signs with, which may renew themselves; None if nothing gives any.
        verify: the authorities that the client trusts: True for botocore's own, or a file of others.
    """

    client: BaseClient
    credentials: Credentials | None
    verify: bool | str


class Sessions:
    """Sessions of boto3, one for each region and login, which the forwarders of a worker share.

    A session reads the files of AWS, and finds and renews credentials. With one that is there, a client takes a third
    of the time.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str | None, str | None, str | None], _Session] = {}

    def of(self, region: str | None, key: str | None = None, secret: str | None = None) -> "_Session":
        """The session of a region, and of a login if one is given. To be called by one thread at a time."""
        login = (region, key, secret)
        session = self._sessions.get(login)
        if session is None:
            session = self._sessions[login] = _session(region, key, secret)
        return session


def kinesis_client(target: KinesisTarget, config: Config) -> "KinesisClient":
    """A client for a data stream. Raises botocore's errors for a region or a configuration that cannot be."""
    return cast("KinesisClient", access("kinesis", target, config).client)


def firehose_client(target: KinesisTarget, config: Config) -> "FirehoseClient":
    """A client for a delivery stream. Raises botocore's errors for a region or a configuration that cannot be."""
    return cast("FirehoseClient", access("firehose", target, config).client)


def access(
    service: Literal["kinesis", "firehose"], target: KinesisTarget, config: Config, sessions: Sessions | None = None
) -> Access:
    """How a target is reached.

    Args:
        service: that the target is of.
        target: a stream.
        config: of the client.
        sessions: of the worker; None for a session of the client's own.

    Raises:
        BotoCoreError: a region or a configuration cannot be.
    """
    endpoint = _localstack_endpoint(service)
    sessions = sessions or Sessions()
    with _making_clients:
        if target.access_key_id is not None and target.secret_access_key is not None:
            session, core = sessions.of(target.region, target.access_key_id, target.secret_access_key.reveal())
        else:
            session, core = sessions.of(target.region)
            if endpoint is not None and session.get_credentials() is None:
                # A local endpoint needs no account. These are the credentials that localstack-client uses.
                session, core = sessions.of(target.region, "test", "test")
        client: Any = session.client(service, config=config, endpoint_url=endpoint)
        verify = core.get_config_variable("ca_bundle")
        if verify is None:
            verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
        return Access(client, session.get_credentials(), verify)


_Session = tuple[boto3.Session, botocore.session.Session]


def _session(region: str | None, key: str | None, secret: str | None) -> _Session:
    core = botocore.session.Session()
    core.register_component("data_loader", _loader())
    return boto3.Session(key, secret, region_name=region, botocore_session=core), core


@cache
def _loader() -> object:
    """What reads boto3's descriptions of the services, shared by all sessions: else a client takes 200 ms, not 50."""
    return botocore.session.Session().get_component("data_loader")


def _localstack_endpoint(service: str) -> str | None:
    """The endpoint that localstack-client gives, if LOCALSTACK_HOST is set and no endpoint is set for boto3."""
    if not os.environ.get("LOCALSTACK_HOST") or any(os.environ.get(name) for name in _ENDPOINT_VARIABLES[service]):
        return None
    try:
        from localstack_client.config import get_service_endpoint
    except ImportError:
        return None
    endpoint: str | None = get_service_endpoint(service)
    return endpoint
