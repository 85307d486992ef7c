"""The types a forwarder document becomes (forwarders.md section 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.delivery import PayloadKind
from transforms.forwarders.secrets import Secret

AuthType = Literal["no auth", "token", "basic auth"]
Service = Literal["streams", "firehose"]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where and how an HTTP forwarder posts. `url` is complete (scheme and all) and may hold secrets in its query.

    `timeout` is in seconds per attempt, `concurrency` in requests in flight. The TLS files are paths on the worker.
    """

    url: Secret
    host: str
    auth_type: AuthType = "no auth"
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

    service: Service
    stream_name: str
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One active, valid forwarder. Attempts per record are `max_retries` + 1.

    As loaded its secrets may be references still; `transforms.forwarders.resolve` makes the one that can be sent with.
    """

    id: str
    organisation: str | None
    lrs_id: str | None
    query: str | None = field(repr=False)
    payload: PayloadKind
    max_retries: int
    target: HttpTarget | KinesisTarget
    description: str = ""

    @property
    def scope(self) -> dict[str, str]:
        """The fields, and their values, that a record must hold to be in scope; empty: every record is."""
        scope = {"organisation": self.organisation, "lrs_id": self.lrs_id}
        return {field: value for field, value in scope.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule that one document breaks, or (as a warning) one thing in it that is probably not meant.

    `forwarder_id` is None when the document has no usable `_id`; `where` is its place in its source; `field` is a
    dotted path, empty for the document as a whole. `where` is empty when the fault is not in the document but in what
    `field` names, such as a stream that is not there; `message` is then a sentence of its own. No part holds a secret.
    """

    forwarder_id: str | None
    where: str
    field: str
    message: str

    def __str__(self) -> str:
        if not self.where:
            return f"forwarder {self.forwarder_id}: {self.field}: {self.message}"
        who = self.where if self.forwarder_id is None else f"forwarder {self.forwarder_id} ({self.where})"
        return f"{who}: {self.field} {self.message}" if self.field else f"{who}: {self.message}"


@dataclass(frozen=True, slots=True)
class Forwarders:
    """What a set of documents says.

    `forwarders` are active and valid, in the order of the documents; `queries` holds the compiled query of each by id;
    `inactive` are ids. With `faults` the set is to be refused, unless the user asked for the valid ones alone.
    `digest` is the same for the same documents however they are laid out in files.
    """

    forwarders: tuple[Forwarder, ...]
    inactive: tuple[str, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    digest: str
    queries: Mapping[str, object] = field(default_factory=dict, repr=False)
