"""What forwarder documents become, and what a run lets them do (docs/spec/forwarders.md section 1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas import KINDS, Kind
from schemas.delivery import PayloadKind
from transforms.forwarders.secrets import References, Secret

TargetProtocol = Literal["http", "https", "Kinesis"]
AuthType = Literal["no auth", "token", "basic auth", "oauth2"]
ClientAuth = Literal["basic", "post"]
BatchFormat = Literal["array", "lines"]
BatchOutcome = Literal["all_or_nothing", "per_record"]
Compression = Literal["none", "gzip"]
Service = Literal["firehose", "streams"]
OnConflict = Literal["compare", "accept", "refuse"]
XapiVersion = Literal["1.0.3", "2.0.0"]

DEFAULT_TIMEOUT = 10.0
"""Seconds an HTTP attempt may take when the document does not say."""

DEFAULT_CONCURRENCY = 16
"""Requests an HTTP forwarder has under way at a time when the document does not say."""

DEFAULT_BATCH_RECORDS = 1
"""Records a request holds, at most, when the document does not say: each goes alone."""

DEFAULT_BATCH_BYTES = 1024 * 1024
"""Bytes of a batch's body before compression when the document does not say."""

DEFAULT_HTTP_RETRIES = 0
DEFAULT_KINESIS_RETRIES = 10
"""How often an attempt is repeated when the document does not say, by target."""

CompileQuery = Callable[[Any], object]
"""`transforms.query.compile_query`: takes a query's text, its object or None, and raises ValueError for a bad one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run lets documents do.

    Attributes:
        compile_query: judges queries.
        references: which references to secrets a document may use.
        trusted: false for documents from a service or a database, unless `--trust_references` is given. Documents that
            are not trusted may use no reference, no file of the worker, and not the AWS default credential chain.
        require_organisation: an active document without an organisation is refused.
        kinds: of the records that there may be, by which a query is warned of that can match none.
    """

    compile_query: CompileQuery = field(repr=False)
    references: References = field(default_factory=References)
    trusted: bool = True
    require_organisation: bool = False
    kinds: tuple[Kind, ...] = KINDS


@dataclass(frozen=True, slots=True)
class Batch:
    """How many records go in one HTTP request, and what its answer is about.

    Attributes:
        records: that a request may hold.
        bytes: of the body before compression. A record that is larger goes alone.
        wait: seconds that a request which is not full may wait for more records; None: as a Kinesis call.
        format: a JSON array, or a JSON text a line.
        outcome: whether an answer is about the whole request, or says a status for each record.
    """

    records: int
    bytes: int = DEFAULT_BATCH_BYTES
    wait: float | None = None
    format: BatchFormat = "array"
    outcome: BatchOutcome = "all_or_nothing"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How fast one worker sends to one forwarder, at most. At least one of the two rates is given.

    Attributes:
        requests: a second; None: no limit.
        records: a second; None: no limit.
        burst: requests that may be made at once after a pause (records, if only those are limited); None: one second's
            worth.
    """

    requests: float | None = None
    records: float | None = None
    burst: float | None = None


@dataclass(frozen=True, slots=True)
class OAuth2:
    """How a token is had by the client credentials of OAuth 2.0 (RFC 6749 section 4.4).

    Attributes:
        token_url: complete, with its scheme. Its query may hold secrets.
        scope: names with spaces between; None: not asked for.
        audience: whom the token is for; None: not asked for.
        client_auth: whether the client shows itself by basic auth, or in the body.
    """

    token_url: Secret
    client_id: str
    client_secret: Secret
    scope: str | None = None
    audience: str | None = None
    client_auth: ClientAuth = "basic"


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where and how an HTTP forwarder posts.

    Attributes:
        url: complete, with its scheme. Its query may hold secrets.
        host: a name, or an address without brackets.
        headers: names and values, sent with each request.
        timeout: seconds an attempt may take.
        concurrency: requests that are under way at a time.
        signing_secrets: each signs every request, as Standard Webhooks says.
        ca_file: a path on the worker, as are the two that follow; None: the certificates of the system.
        client_certificate: None: the forwarder shows no certificate.
        client_key: None: the key is in the file of the certificate.
        on_conflict: what an answer of 409 to a statement that is forwarded as it is means.
        xapi_version: what the receiver speaks; None: 1.0.3, or what a statement says if that is another 1.0.
        send_attachments: statements that are forwarded as they are go with the data of their attachments.
        batch: None: each record goes alone, and as it is.
        compression: of the bodies of requests.
        rate_limit: None: there is none.
        oauth2: how the token is had with `auth_type` `oauth2`.
    """

    url: Secret
    host: str
    auth_type: AuthType = "no auth"
    secret: Secret | None = None
    basic_username: str | None = None
    basic_password: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    concurrency: int = DEFAULT_CONCURRENCY
    signing_secrets: tuple[Secret, ...] = ()
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    on_conflict: OnConflict = "compare"
    xapi_version: XapiVersion | None = None
    send_attachments: bool = False
    batch: Batch | None = None
    compression: Compression = "none"
    rate_limit: RateLimit | None = None
    oauth2: OAuth2 | None = None


@dataclass(frozen=True, slots=True)
class KinesisTarget:
    """A Kinesis data stream or an Amazon Data Firehose delivery stream.

    Attributes:
        service: `streams` for a data stream, `firehose` for a delivery stream.
        region: None: not given, and nothing can be delivered.
        access_key_id: with `secret_access_key`, or neither: then the AWS default credential chain gives credentials.
        aggregate: several records go in one record of the stream.
    """

    service: Service
    stream_name: str
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: Secret | None = None
    aggregate: bool = False


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One active, valid forwarder.

    As loaded it may hold references in place of secrets; `transforms.forwarders.resolve` makes the one to send with.

    Attributes:
        organisation: records of this organisation only; None: of all.
        lrs_id: records of this store only; None: of all.
        query: a MongoDB query as JSON; None matches every record.
        payload: what is sent of a record.
        max_retries: a record is attempted once more than this.
        kinds: records of these kinds only; None: of all that the run forwards.
    """

    id: str
    organisation: str | None
    lrs_id: str | None
    query: str | None = field(repr=False)
    payload: PayloadKind
    max_retries: int
    target: HttpTarget | KinesisTarget
    description: str = ""
    kinds: tuple[Kind, ...] | None = None

    @property
    def scope(self) -> dict[str, str]:
        """The fields, and their values, that a record must hold to be in scope; empty: every record is."""
        scope = {"organisation": self.organisation, "lrs_id": self.lrs_id}
        return {field: value for field, value in scope.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule that one document breaks, or, as a warning, one thing in it that is probably not meant.

    No part of it holds a secret.

    Attributes:
        forwarder_id: the document's id; None if it has no usable one.
        where: the document's place in its source. Empty if the fault is not in the document but in what `field` names,
            such as a stream that is not there.
        field: the path of what is meant; empty for the document as a whole.
        message: the rest of a sentence that begins with the field; a sentence of its own if `where` is empty.
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

    Attributes:
        forwarders: the active and valid ones, in the order of the documents.
        inactive: the ids of the documents that are not active.
        faults: if there are any, the set is to be refused, unless the user asked for the valid forwarders alone.
        digest: the same for the same documents, however they are laid out in files.
        digests: of each document that alone has its id, by that.
        queries: what the rules' `compile_query` made of each forwarder's query, by the forwarder's id.
    """

    forwarders: tuple[Forwarder, ...]
    inactive: tuple[str, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    digest: str
    digests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    queries: Mapping[str, object] = field(default_factory=dict, repr=False)
