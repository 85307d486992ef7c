"""The AWS endpoint of a run: the one that already listens, or moto's, and the credentials that belong to it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import boto3
import localstack_client.session
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError
from localstack_client.config import get_service_endpoint

from local.process import ROOT

HOST = "127.0.0.1"
SERVER = "session-forwarder-local"
"""How moto's server calls itself in its answers: another run must not rely on it, for it ends with the run it is of."""

REGION = "us-east-1"
DEFAULT_PORT = 4566

# Dummies. A stand-in takes anything; whoever answers at a real endpoint refuses them.
_ACCESS_KEY_ID = "test"
_SECRET_ACCESS_KEY = "test"  # noqa: S105


class EndpointError(Exception):
    """There is no AWS endpoint to run against. The text says what to do."""


class Answer(Enum):
    """Who answers at a url."""

    NOTHING = "nothing answers"
    NOT_AWS = "something answers that is no AWS endpoint"
    AWS = "an AWS endpoint"
    OF_ANOTHER_RUN = "the AWS endpoint of another run"


@dataclass(frozen=True)
class Endpoint:
    """Where all AWS calls of a run go. `ends_with_run`: nothing made there has to be cleared away."""

    url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    ends_with_run: bool = False

    def client(self, service: str, *, timeout: float = 30.0, attempts: int = 3) -> Any:
        """A boto3 client for `service`, made by localstack-client."""
        session = localstack_client.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=REGION,
        )
        # Where calls go is settled here: an AWS_ENDPOINT_URL of the environment must not win over it.
        session._service_endpoint_mapping = {service: self.url}
        return session.client(
            service,
            aws_session_token=self.session_token,
            config=Config(
                connect_timeout=timeout,
                read_timeout=timeout,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                s3={"addressing_style": "path"},
                # No proxy of the environment goes between a local endpoint and us.
                proxies={} if _is_loopback(self.url) else None,
            ),
        )

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` for a child process, with this endpoint and its credentials in place of any other."""
        environment = {
            name: value
            for name, value in base.items()
            if not name.startswith("AWS_ENDPOINT_URL")
            and name not in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "LOCALSTACK_HOST")
        }
        environment |= {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.session_token:
            environment["AWS_SESSION_TOKEN"] = self.session_token
        if _is_loopback(self.url):
            for name in ("NO_PROXY", "no_proxy"):
                environment[name] = ",".join(filter(None, (base.get(name), "localhost", HOST)))
        return environment


@contextmanager
def aws_endpoint(environment: Mapping[str, str] = os.environ, default_port: int = DEFAULT_PORT) -> Iterator[Endpoint]:
    """The endpoint that AWS_ENDPOINT_URL or LOCALSTACK_HOST names, or one on `default_port`; else moto's server.

    Raises EndpointError when something else answers where the environment says that AWS is.
    """
    named = _named(environment)
    url = named or f"http://{HOST}:{default_port}"
    answer = probe(url)
    if answer is Answer.AWS or (named and answer is Answer.OF_ANOTHER_RUN):
        print(f"AWS: {url}, which was already listening")
        yield _endpoint(url)
        return
    if named and answer is Answer.NOT_AWS:
        raise EndpointError(
            f"{url} (AWS_ENDPOINT_URL or LOCALSTACK_HOST) does not answer Kinesis calls as AWS does: "
            "correct the variable, or unset it to have moto's server started"
        )
    if named or answer is not Answer.NOTHING:
        print(f"AWS: {answer.value} at {url}; starting moto's server instead")
    with moto_server(default_port) as started:
        print(f"AWS: moto's server at {started}")
        yield Endpoint(started, _ACCESS_KEY_ID, _SECRET_ACCESS_KEY, ends_with_run=True)


def _named(environment: Mapping[str, str]) -> str | None:
    """The url the user asked for: boto3's own variable, else localstack-client's."""
    url = environment.get("AWS_ENDPOINT_URL", "").strip()
    host = environment.get("LOCALSTACK_HOST", "").strip()
    if url:
        return url
    if not host:
        return None
    found: str | None = get_service_endpoint("kinesis", localstack_host=host)
    return found


def _endpoint(url: str) -> Endpoint:
    """`url` with the user's own credentials when it is elsewhere and they have some; with dummies on this machine."""
    own = None if _is_loopback(url) else boto3.Session().get_credentials()
    if own is None:
        return Endpoint(url, _ACCESS_KEY_ID, _SECRET_ACCESS_KEY)
    frozen = own.get_frozen_credentials()
    return Endpoint(url, frozen.access_key or "", frozen.secret_key or "", frozen.token)


def probe(url: str) -> Answer:
    """Who answers at `url`, going by a Kinesis call."""
    client = _endpoint(url).client("kinesis", timeout=3, attempts=1)
    try:
        answer = client.list_streams(Limit=1)
    except (EndpointConnectionError, ConnectTimeoutError):
        return Answer.NOTHING
    except ClientError as error:
        # Refused by AWS: the code is a name such as AccessDeniedException. By any other server: an HTTP status.
        return Answer.AWS if error.response["Error"]["Code"].isalpha() else Answer.NOT_AWS
    except (BotoCoreError, ValueError):
        return Answer.NOT_AWS
    finally:
        client.close()
    if "StreamNames" not in answer:
        return Answer.NOT_AWS
    server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")
    return Answer.OF_ANOTHER_RUN if server.startswith(SERVER) else Answer.AWS


def _is_loopback(url: str) -> bool:
    """Whether every address of the url's host is this machine's own."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, UnicodeError):
        return False
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found if address)


@contextmanager
def moto_server(port: int = 0) -> Iterator[str]:
    """moto's AWS (`local.moto_server`) in a process of its own, on `port` or another that is free; yields its url.

    Raises EndpointError when it does not start.
    """
    # In a session of its own: Ctrl-C is for the job, which still needs AWS to finish what is in flight.
    server = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "local.moto_server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert server.stdin  # noqa: S101 - what PIPE promises
    assert server.stdout  # noqa: S101
    try:
        url = server.stdout.readline().strip()
        if not url:
            raise EndpointError("moto's server did not start; what it printed above says why")
        yield url
    finally:
        server.stdin.close()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()
