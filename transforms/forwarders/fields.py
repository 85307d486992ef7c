"""The fields of a forwarder document, in one table (docs/spec/forwarders.md section 1).

Four places go by this table: the rules (`rules.py`), the registry's redaction, the OpenAPI that it publishes, and the
form of its page. An entry here is enough for all four to know a field of one of the kinds below. A field that is to do
something needs its place in `model.py` too, and what uses it there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from schemas import KINDS
from schemas.delivery import PayloadKind
from transforms.forwarders import checks
from transforms.forwarders.model import (
    DEFAULT_BATCH_BYTES,
    DEFAULT_BATCH_RECORDS,
    DEFAULT_CONCURRENCY,
    DEFAULT_HTTP_RETRIES,
    DEFAULT_KINESIS_RETRIES,
    DEFAULT_TIMEOUT,
    AuthType,
    BatchFormat,
    BatchOutcome,
    ClientAuth,
    Compression,
    OnConflict,
    Service,
    TargetProtocol,
    XapiVersion,
)
from transforms.forwarders.values import INVALID

FieldKind = Literal[
    "any", "id", "active", "flag", "choice", "choices", "scope", "query", "text", "number", "count", "url",
    "endpoint", "headers", "secret", "secrets", "file",
]  # fmt: skip
"""What a field may hold.

- `any`: anything, since the job does not look at it.
- `id`: a text that is not empty, or mongoexport's `{"$oid": ...}`.
- `active`: true or false; anything but true counts as false, with a warning.
- `flag`: true or false.
- `choice`: one of the texts in `allowed`.
- `choices`: a list of one or more of the texts in `allowed`.
- `scope`: like `id`, but it may be absent.
- `query`: a MongoDB query, as a text or as an object.
- `text`: a text that the field's `check` accepts.
- `number`: a number above 0, or from `least` on, and up to `most`; a whole one if the field is `whole`.
- `count`: a whole number from 0 to `most`. The text "3" and the number 3.0 are read as 3.
- `url`: a host, and port, path and query if there are any. The values in the query are secrets.
- `endpoint`: a whole address with its scheme, https or http. The values in its query are secrets.
- `headers`: a text that holds a JSON object of header names and values. The values are secrets.
- `secret`: a text that the field's `check` accepts, or a reference to one.
- `secrets`: a secret, or a list of secrets.
- `file`: the path of a file on the worker, or a reference to one.
"""

PROTOCOLS: tuple[TargetProtocol, ...] = get_args(TargetProtocol)
HTTP: tuple[TargetProtocol, ...] = ("http", "https")
KINESIS: tuple[TargetProtocol, ...] = ("Kinesis",)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a forwarder document.

    Attributes:
        path: where the field stands, such as `configuration.url`. A name before a dot is that of an object.
        kind: what the field may hold.
        description: what the field does, for whoever writes documents.
        label: what a form calls the field. Empty: no form shows it, since an editor cannot change anything by it.
        secret: nobody is shown the value. (Of a url and of headers, the kind says which parts are not shown.)
        protocols: the field counts with these protocols alone. Empty: it counts with all.
        auth_type: the field counts with this `configuration.authType` alone. None: it counts with all.
        needed_by: what cannot do without the field; empty: nothing.
        blank_is_absent: an empty text counts as if the field were not there.
        default: what the field counts as when it is absent.
        otherwise: what holds when the field is absent, in words; empty: `default`, or nothing.
        allowed: of a choice, and of choices: every value.
        most: of a number or a count: the largest value.
        least: of a number: the smallest value; None: any above 0.
        whole: of a number: it has no fraction.
        check: of a text, of a secret, and of each header's value: what is asked of it.
        example: a value that a form shows while the field is empty.
        parent: the path of the object that the field stands in; empty for a field of the document itself.
        name: the field's own name, inside of its object.
        names: those of the path, one inside of the other.
    """

    path: str
    kind: FieldKind
    description: str
    label: str = ""
    secret: bool = False
    protocols: tuple[TargetProtocol, ...] = ()
    auth_type: AuthType | None = None
    needed_by: str = ""
    blank_is_absent: bool = False
    default: Any = None
    otherwise: str = ""
    allowed: tuple[str, ...] = ()
    most: int = 0
    least: float | None = None
    whole: bool = False
    check: checks.Check | None = None
    example: str = ""
    parent: str = field(init=False)
    name: str = field(init=False)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        parent, _, name = self.path.rpartition(".")
        object.__setattr__(self, "parent", parent)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "names", tuple(self.path.split(".")))

    @property
    def without_it(self) -> str:
        """What holds when the field is absent, for a reader; empty when that is nothing in particular."""
        if self.otherwise or self.default in (None, False, ()):
            return self.otherwise
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


@dataclass(frozen=True)
class FieldTable:
    """Fields, each path once, in the order in which a document's faults are told."""

    fields: tuple[Field, ...]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __getitem__(self, path: str) -> Field:
        return self._by_path[path]

    def at(self, *names: str | int) -> Field | None:
        """The field that these names lead to, one inside of the other; None if there is none."""
        return self._by_names.get(names)

    def names(self, parent: str = "") -> frozenset[str]:
        """The names that are known in an object; with an empty `parent`, those in the document itself."""
        return self._names.get(parent, frozenset())

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """The paths of the objects that fields stand in, such as `configuration.batch`; each after those it is in."""
        return tuple(sorted(parent for parent in self._names if parent))

    @cached_property
    def redacted(self) -> tuple[Field, ...]:
        """The fields that may come with a redaction in the place of a secret."""
        return tuple(entry for entry in self.fields if entry.secret or entry.kind == "headers")

    @cached_property
    def secret_names(self) -> frozenset[str]:
        """The names, without their objects' and in lower case, of the fields that are secret as a whole."""
        return frozenset(entry.name.lower() for entry in self.fields if entry.secret)

    @cached_property
    def _by_path(self) -> dict[str, Field]:
        return {entry.path: entry for entry in self.fields}

    @cached_property
    def _by_names(self) -> dict[tuple[str | int, ...], Field]:
        return {entry.names: entry for entry in self.fields}

    @cached_property
    def _names(self) -> dict[str, frozenset[str]]:
        names: dict[str, set[str]] = {"": set()}
        for entry in self.fields:
            inner = entry.path
            while inner:
                outer, _, name = inner.rpartition(".")
                names.setdefault(outer, set()).add(name)
                inner = outer
        return {parent: frozenset(known) for parent, known in names.items()}


FIELDS = FieldTable(
    (
        Field("_id", "id", "The document's id, unique among all documents."),
        Field("description", "any", "What people call the forwarder.", label="Description"),
        Field("active", "active", "Only true forwards records.", label="Active: records are forwarded"),
        Field(
            "isPublic",
            "flag",
            "Whether the organisation's other users may see the document. It does not change what is forwarded.",
            label="Public: visible to the organisation's other users",
            default=False,
        ),
        Field("organisation", "scope", "Only records of this organisation are forwarded."),
        Field("lrs_id", "scope", "Only records of this store are forwarded.", label="Store", otherwise="any"),
        Field(
            "configuration.protocol",
            "choice",
            "How records are sent.",
            label="Protocol",
            allowed=PROTOCOLS,
            default="http",
        ),
        Field(
            "configuration.url",
            "url",
            "Where to: host, and port, path and query if there are any; without a scheme.",
            label="Address, without a scheme",
            protocols=HTTP,
            needed_by="an active HTTP forwarder",
            example="example.org/records",
        ),
        Field(
            "configuration.authType",
            "choice",
            "How the forwarder logs in to the receiver.",
            label="Authentication",
            protocols=HTTP,
            allowed=get_args(AuthType),
            default="no auth",
        ),
        Field(
            "configuration.secret",
            "secret",
            "The token that is sent as `Authorization: Bearer`.",
            label="Token",
            secret=True,
            protocols=HTTP,
            auth_type="token",
            needed_by="authType token",
            check=checks.token,
        ),
        Field(
            "configuration.basicUsername",
            "text",
            "The user name of basic auth: not empty, and without a colon.",
            label="User",
            protocols=HTTP,
            auth_type="basic auth",
            needed_by="authType basic auth",
            check=checks.basic_username,
        ),
        Field(
            "configuration.basicPassword",
            "secret",
            "The password of basic auth.",
            label="Password",
            secret=True,
            protocols=HTTP,
            auth_type="basic auth",
            needed_by="authType basic auth",
            check=checks.password,
        ),
        Field(
            "configuration.tokenUrl",
            "endpoint",
            "Where the token of OAuth 2.0 is asked for: the whole address, with https://.",
            label="Token endpoint, with its scheme",
            protocols=HTTP,
            auth_type="oauth2",
            needed_by="authType oauth2",
            example="https://login.example.org/token",
        ),
        Field(
            "configuration.clientId",
            "text",
            "The client's id at the token endpoint.",
            label="Client id",
            protocols=HTTP,
            auth_type="oauth2",
            needed_by="authType oauth2",
            check=checks.client_id,
        ),
        Field(
            "configuration.clientSecret",
            "secret",
            "The client's secret at the token endpoint.",
            label="Client secret",
            secret=True,
            protocols=HTTP,
            auth_type="oauth2",
            needed_by="authType oauth2",
            check=checks.client_secret,
        ),
        Field(
            "configuration.scope",
            "text",
            "The scopes that the token is asked for, with a space between two.",
            label="Scopes of the token",
            protocols=HTTP,
            auth_type="oauth2",
            otherwise="what the token endpoint gives",
            blank_is_absent=True,
            check=checks.oauth_scope,
        ),
        Field(
            "configuration.audience",
            "text",
            "Whom the token is for, where the token endpoint asks for that.",
            label="Audience of the token",
            protocols=HTTP,
            auth_type="oauth2",
            blank_is_absent=True,
            check=checks.password,
        ),
        Field(
            "configuration.clientAuth",
            "choice",
            "How the client shows itself to the token endpoint: by basic auth, or in the body.",
            label="Client authentication",
            protocols=HTTP,
            auth_type="oauth2",
            allowed=get_args(ClientAuth),
            default="basic",
        ),
        Field(
            "configuration.headers",
            "headers",
            "Headers that are sent with each request, as a text that holds a JSON object of names and values.",
            label="Headers",
            protocols=HTTP,
            default=(),
            check=checks.header_value,
            example='{"Name": "value"}',
        ),
        Field(
            "configuration.signingSecret",
            "secrets",
            "Signs each request as Standard Webhooks says: `whsec_` and a key in base64. A list signs with each.",
            label="Signing secrets, one a line",
            secret=True,
            protocols=HTTP,
            default=(),
            check=checks.signing_secret,
            example="whsec_...",
        ),
        Field(
            "configuration.timeout",
            "number",
            "Seconds that an attempt may take.",
            label="Seconds an attempt may take",
            protocols=HTTP,
            most=3600,
            default=DEFAULT_TIMEOUT,
        ),
        Field(
            "configuration.concurrency",
            "number",
            "Requests that are under way at a time.",
            label="Requests at a time",
            protocols=HTTP,
            most=1000,
            whole=True,
            default=DEFAULT_CONCURRENCY,
        ),
        Field(
            "configuration.batch.records",
            "number",
            "Records that a request may hold.",
            label="Batch: records a request may hold",
            protocols=HTTP,
            most=1000,
            whole=True,
            default=DEFAULT_BATCH_RECORDS,
        ),
        Field(
            "configuration.batch.bytes",
            "number",
            "Bytes that the body of a request with several records may have, before compression.",
            label="Batch: bytes a request may hold",
            protocols=HTTP,
            least=1024,
            most=10 * 1024 * 1024,
            whole=True,
            default=DEFAULT_BATCH_BYTES,
        ),
        Field(
            "configuration.batch.wait",
            "number",
            "Seconds that a request which is not full may wait for more records while these are still coming in.",
            label="Batch: seconds a part-filled request may wait",
            protocols=HTTP,
            least=0,
            most=60,
            otherwise="0.05",
        ),
        Field(
            "configuration.batch.format",
            "choice",
            "How records stand in a request: a JSON array, or one a line (application/x-ndjson).",
            label="Batch: format",
            protocols=HTTP,
            allowed=get_args(BatchFormat),
            default="array",
        ),
        Field(
            "configuration.batch.outcome",
            "choice",
            "What an answer is about: the request as a whole, or each record by an array of statuses.",
            label="Batch: outcome",
            protocols=HTTP,
            allowed=get_args(BatchOutcome),
            default="all_or_nothing",
        ),
        Field(
            "configuration.compression",
            "choice",
            "How the bodies of requests are compressed.",
            label="Compression",
            protocols=HTTP,
            allowed=get_args(Compression),
            default="none",
        ),
        Field(
            "configuration.rateLimit.requests",
            "number",
            "Requests a second that a worker makes, at most.",
            label="Rate limit: requests a second",
            protocols=HTTP,
            most=1_000_000,
        ),
        Field(
            "configuration.rateLimit.records",
            "number",
            "Records a second that a worker sends, at most.",
            label="Rate limit: records a second",
            protocols=HTTP,
            most=1_000_000,
        ),
        Field(
            "configuration.rateLimit.burst",
            "number",
            "Requests that may be made at once after a pause; records, where only those are limited.",
            label="Rate limit: burst",
            protocols=HTTP,
            least=1,
            most=1_000_000,
            otherwise="one second's worth",
        ),
        Field(
            "configuration.xapiVersion",
            "choice",
            "The version of xAPI that the receiver speaks. To one of 1.0.3 a statement of 2.0 goes without what 1.0.3 "
            "does not have.",
            label="Version of xAPI",
            protocols=HTTP,
            allowed=get_args(XapiVersion),
            otherwise="1.0.3, or what a statement says if that is another 1.0",
        ),
        Field(
            "configuration.onConflict",
            "choice",
            "What an answer of 409 to a statement that is forwarded as it is means: the receiver is asked for what it "
            "holds and that is compared, or the statement counts as delivered, or as refused.",
            label="On conflict (409)",
            protocols=HTTP,
            allowed=get_args(OnConflict),
            default="compare",
        ),
        Field(
            "configuration.caFile",
            "file",
            "The certificates that the receiver's is judged by.",
            label="CA file on the worker",
            protocols=HTTP,
            otherwise="those of the system",
        ),
        Field(
            "configuration.clientCertificate",
            "file",
            "The certificate that the forwarder shows to the receiver.",
            label="Client certificate, a file on the worker",
            protocols=HTTP,
        ),
        Field(
            "configuration.clientKey",
            "file",
            "The key of the client certificate, where that is not in the same file.",
            label="Key of the client certificate, a file on the worker",
            secret=True,
            protocols=HTTP,
        ),
        Field(
            "kinesisOptions.service",
            "choice",
            "Whether the stream is an Amazon Data Firehose delivery stream or a Kinesis data stream.",
            label="Service",
            protocols=KINESIS,
            allowed=get_args(Service),
            default="firehose",
        ),
        Field(
            "kinesisOptions.streamName",
            "text",
            "The stream's name.",
            label="Stream",
            protocols=KINESIS,
            needed_by="an active Kinesis forwarder",
            blank_is_absent=True,
            check=checks.stream_name,
        ),
        Field(
            "kinesisOptions.awsRegion",
            "text",
            "The region that the stream is in; delivering needs it.",
            label="Region",
            protocols=KINESIS,
            blank_is_absent=True,
            example="eu-west-1",
        ),
        Field(
            "kinesisOptions.awsClientKey",
            "secret",
            "The id of an AWS access key.",
            label="Access key",
            secret=True,
            protocols=KINESIS,
            blank_is_absent=True,
            otherwise="with no secret key either, AWS's default credential chain",
            check=checks.token,
        ),
        Field(
            "kinesisOptions.awsClientSecret",
            "secret",
            "The secret of that access key.",
            label="Secret key",
            secret=True,
            protocols=KINESIS,
            blank_is_absent=True,
            check=checks.token,
        ),
        Field(
            "kinesisOptions.aggregate",
            "flag",
            "Whether several records go in one record of the stream: on a data stream those of one user, in the "
            "format of the Kinesis Producer Library; on a delivery stream as lines.",
            label="Aggregate: several records in one record of the stream",
            protocols=KINESIS,
            default=False,
        ),
        Field(
            "fullDocument",
            "flag",
            "True: the whole query document is sent, unless `payload` says another.",
            label="Full document: the whole query document is sent",
            default=False,
        ),
        Field(
            "sendAttachments",
            "flag",
            "Whether statements that are forwarded as they are go with the data of their attachments, as "
            "multipart/mixed.",
            label="Send attachments: statements go with the data of their attachments",
            protocols=HTTP,
            default=False,
        ),
        Field(
            "payload",
            "choice",
            "What is sent: the record's xAPI statement, the record itself, or its whole query document.",
            label="Payload",
            allowed=get_args(PayloadKind),
            otherwise="record on a data stream, statement elsewhere",
        ),
        Field(
            "kinds",
            "choices",
            "Only records of these kinds are forwarded: event, status, score, or statement for xAPI statements as they "
            "are.",
            label="Kinds",
            allowed=KINDS,
            otherwise="all that the run forwards",
        ),
        Field(
            "configuration.maxRetries",
            "count",
            "How often an attempt is repeated, for each record.",
            label="Retries",
            most=10,
            otherwise=f"{DEFAULT_HTTP_RETRIES} (Kinesis: {DEFAULT_KINESIS_RETRIES})",
        ),
        Field(
            "query",
            "query",
            "Only records whose query document this MongoDB query matches are forwarded.",
            label="Query",
            otherwise="every record in scope",
            example='{"kind": "score"}',
        ),
        Field("createdAt", "any", "When the document was created. It is kept."),
        Field("updatedAt", "any", "When the document was last changed. It is kept."),
        Field("owner", "any", "The user whose document it is. It is kept."),
        Field("__v", "any", "A version of Learning Locker's. It is kept."),
        Field("timezone", "any", "A field of Learning Locker's. It is kept."),
        Field("oldQuery", "any", "A field of Learning Locker's. It has no effect here."),
        Field("hasBeenMigrated", "any", "A field of Learning Locker's. It has no effect here."),
        Field(INVALID, "any", "A service's own: it holds the document and cannot give it back, for this reason."),
        Field("configuration.method", "any", "A field of Learning Locker's. It has no effect here: requests are POST."),
    )
)
"""Every field that is known.

What goes by the table looks it up as `fields.FIELDS` each time, so that a test can put a longer one in its place.
"""
