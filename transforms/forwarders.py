"""Forwarder documents: Learning Locker's statement-forwarding documents, validated (forwarders.md section 1)."""

from dataclasses import dataclass, field
from typing import Literal

from transforms.secrets import Secret

Payload = Literal["statement", "record", "document"]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where and how an HTTP forwarder posts. `url` is complete (scheme and all) and may hold secrets in its query."""

    url: Secret
    host: str
    auth_type: Literal["no auth", "token", "basic auth"] = "no auth"
    secret: Secret | None = None
    basic_username: str | None = None
    basic_password: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    timeout: float = 10.0
    concurrency: int = 16
    signing_secrets: tuple[Secret, ...] = ()
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class KinesisTarget:
    """A Kinesis data stream (`service` streams) or an Amazon Data Firehose delivery stream (firehose).

    No key and secret: the AWS default credential chain.
    """

    service: Literal["streams", "firehose"]
    stream_name: str
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One active, valid forwarder. Attempts per record are `max_retries` + 1."""

    id: str
    organisation: str | None
    lrs_id: str | None
    query: str | None = field(repr=False)
    payload: Payload
    max_retries: int
    target: HttpTarget | KinesisTarget
    description: str = ""
