"""From documents to forwarders, with every fault of every document at once (docs/spec/forwarders.md section 1).

What a single field may hold is in the table of fields. Here are the rules about several fields, or several documents.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.json_values import JsonObject
from transforms.forwarders import fields
from transforms.forwarders.documents import Document, Documents
from transforms.forwarders.field_reader import REDACTION, FieldReader, read_id
from transforms.forwarders.findings import Findings, nearest, shown
from transforms.forwarders.model import (
    DEFAULT_BATCH_RECORDS,
    DEFAULT_HTTP_RETRIES,
    DEFAULT_KINESIS_RETRIES,
    Batch,
    Fault,
    Forwarder,
    Forwarders,
    HttpTarget,
    KinesisTarget,
    OAuth2,
    RateLimit,
    Rules,
)
from transforms.forwarders.secrets import Secret, is_redacted
from transforms.forwarders.urls import full_url
from transforms.forwarders.values import INVALID, value_faults


@dataclass(frozen=True, slots=True)
class Checked:
    """What one document says.

    Attributes:
        id: None if the document has no usable one.
        active: whether the document says that it forwards.
        forwarder: None if the document is not active, or has a fault.
        query: what the rules' `compile_query` made of the query; None where there is no forwarder.
    """

    id: str | None
    active: bool
    forwarder: Forwarder | None
    query: object
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def load_forwarders(documents: Documents, rules: Rules) -> Forwarders:
    """Every forwarder in the documents, and every fault in them. Reads no secret and makes no request."""
    checked = [check_document(document, rules) for document in documents.documents]
    counts = Counter(document.id for document in checked if document.id is not None)
    faults = list(documents.faults)
    warnings: list[Fault] = []
    for document, result in zip(documents.documents, checked, strict=True):
        faults += result.faults
        warnings += result.warnings
        if result.id is not None and counts[result.id] > 1:
            message = f"is the id of {counts[result.id]} documents: all of them are refused"
            faults.append(Fault(result.id, document.where, "_id", message))
    unique = [result for result in checked if result.id is not None and counts[result.id] == 1]
    return Forwarders(
        forwarders=tuple(result.forwarder for result in unique if result.forwarder is not None),
        inactive=tuple(result.id for result in unique if result.id is not None and not result.active),
        faults=tuple(faults),
        warnings=tuple(warnings),
        digest=documents.digest,
        digests={
            result.id: digest
            for digest, result in zip(documents.digests, checked, strict=True)
            if result.id is not None and counts[result.id] == 1
        },
        queries={result.forwarder.id: result.query for result in unique if result.forwarder is not None},
    )


def check_document(document: Document, rules: Rules) -> Checked:
    """What one document says, with all of its faults at once. Whether its id is unique is for the caller to check."""
    return _Check(document, rules).run()


class _Check:
    """One pass over one document."""

    def __init__(self, document: Document, rules: Rules) -> None:
        self._document = document
        self._content = document.content
        self._rules = rules
        self._findings = Findings(read_id(document.content.get("_id")), document.where)
        self._reader = FieldReader(document.content, rules, self._findings)

    def run(self) -> Checked:
        active = self._reader.is_active
        self._check_values()
        forwarder = None
        if not self._findings.faults:
            self._read()
            forwarder = self._forwarder()
        faults, warnings = self._findings.faults, self._findings.warnings
        if not active:
            # The rule asks an inactive document for its _id alone.
            faults, warnings = [], faults + warnings
        if not faults and not {"active", "_id"}.isdisjoint(self._document.duplicates):
            faults = [self._findings.about("", "has _id or active twice: it is not clear what is meant")]
        if self._findings.forwarder_id is None:
            message = 'is absent or not a non-empty string (or {"$oid": 24 hex digits})'
            faults = [self._findings.about("_id", message), *faults]
        if faults or not active:
            forwarder = None
        query = None if forwarder is None else self._reader.compiled_query
        return Checked(self._findings.forwarder_id, active, forwarder, query, tuple(faults), tuple(warnings))

    def _check_values(self) -> None:
        """Refuse what could not be given back, and what a service says that it cannot give back."""
        for path, message in value_faults(self._content):
            self._findings.fault(path, message)
        reason = self._content.get(INVALID)
        if reason is not None:
            told = f"is held by the service, which cannot give it back: {shown(reason, 300)}"
            self._findings.fault("", told)

    def _read(self) -> None:
        """Read every field that counts in this document, and judge what is around the fields."""
        for path in self._document.duplicates:
            self._findings.fault(path, "occurs twice in one object: it is not clear which is meant")
        self._check_objects()
        self._check_redactions()
        for field in fields.FIELDS:
            if self._counts(field):
                self._reader.read(field)
                if field.path in _TOGETHER:
                    _TOGETHER[field.path](self)

    def _check_objects(self) -> None:
        self._check_names("", self._content)
        for path in fields.FIELDS.objects:
            options: Any = self._content
            for name in path.split("."):
                options = options.get(name) if isinstance(options, dict) else None
            if isinstance(options, dict):
                self._check_names(path, options)
            elif options is not None:
                self._findings.fault(path, "is not an object")

    def _check_names(self, parent: str, values: JsonObject) -> None:
        known = fields.FIELDS.names(parent)
        for name in values:
            if name not in known:
                path = f"{parent}.{name}" if parent else name
                self._findings.warn(path, f"is not a known field and has no effect{nearest(name, known)}")

    def _check_redactions(self) -> None:
        """Refuse redactions where they do not count, too: they tell that whoever read the document sees no secrets."""
        for field in fields.FIELDS.redacted:
            text = self._reader.given(field)
            if isinstance(text, str) and is_redacted(text):
                self._findings.fault(field.path, REDACTION)

    def _counts(self, field: fields.Field) -> bool:
        """Whether the field has an effect in this document. The fields that this hangs on come first in the table."""
        values = self._reader.values
        return (not field.protocols or values["configuration.protocol"] in field.protocols) and (
            field.auth_type is None or values["configuration.authType"] == field.auth_type
        )

    def _forwarder(self) -> Forwarder | None:
        target = self._target()
        if self._findings.faults or self._findings.forwarder_id is None or target is None:
            return None
        values = self._reader.values
        description = values["description"]
        retries = values["configuration.maxRetries"]
        if retries is None:
            if isinstance(target, HttpTarget):
                self._findings.warn(
                    "configuration.maxRetries",
                    "is absent, which is 0: a record becomes a dead letter when its first attempt fails; give up to 10",
                )
            retries = DEFAULT_KINESIS_RETRIES if isinstance(target, KinesisTarget) else DEFAULT_HTTP_RETRIES
        return Forwarder(
            id=self._findings.forwarder_id,
            organisation=values["organisation"],
            lrs_id=values["lrs_id"],
            query=values["query"],
            payload=values["payload"] or _usual_payload(target, values["fullDocument"]),
            max_retries=retries,
            target=target,
            description=description if isinstance(description, str) else "",
            kinds=values["kinds"],
        )

    def _target(self) -> HttpTarget | KinesisTarget | None:
        if self._reader.values["configuration.protocol"] == "Kinesis":
            return self._kinesis_target()
        return self._http_target()

    def _http_target(self) -> HttpTarget | None:
        values = self._values_in("configuration")
        url = values["url"]
        if url is None:
            return None
        return HttpTarget(
            url=Secret(full_url(values["protocol"], url), pending=url.has_reference),
            host=url.host,
            auth_type=values["authType"],
            secret=values["secret"],
            basic_username=values["basicUsername"],
            basic_password=values["basicPassword"],
            headers=values["headers"],
            timeout=values["timeout"],
            concurrency=values["concurrency"],
            signing_secrets=values["signingSecret"],
            ca_file=values["caFile"],
            client_certificate=values["clientCertificate"],
            client_key=values["clientKey"],
            on_conflict=values["onConflict"],
            xapi_version=values["xapiVersion"],
            send_attachments=self._reader.values["sendAttachments"],
            batch=self._batch(),
            compression=values["compression"],
            rate_limit=self._rate_limit(),
            oauth2=self._oauth2(values),
        )

    def _batch(self) -> Batch | None:
        values = self._values_in("configuration.batch")
        return None if values["records"] == DEFAULT_BATCH_RECORDS else Batch(**values)

    def _rate_limit(self) -> RateLimit | None:
        values = self._values_in("configuration.rateLimit")
        return None if values["requests"] is None and values["records"] is None else RateLimit(**values)

    def _oauth2(self, values: dict[str, Any]) -> OAuth2 | None:
        if values["authType"] != "oauth2" or None in (values["tokenUrl"], values["clientId"], values["clientSecret"]):
            return None
        return OAuth2(
            token_url=values["tokenUrl"],
            client_id=values["clientId"],
            client_secret=values["clientSecret"],
            scope=values["scope"],
            audience=values["audience"],
            client_auth=values["clientAuth"],
        )

    def _kinesis_target(self) -> KinesisTarget | None:
        values = self._values_in("kinesisOptions")
        if values["streamName"] is None:
            return None
        return KinesisTarget(
            service=values["service"],
            stream_name=values["streamName"],
            region=values["awsRegion"],
            # As it is written: an id may be shown to whoever sees the forwarder, and a reference is resolved later.
            access_key_id=self._reader.given(fields.FIELDS["kinesisOptions.awsClientKey"]) or None,
            secret_access_key=values["awsClientSecret"],
            aggregate=values["aggregate"],
        )

    def _values_in(self, parent: str) -> dict[str, Any]:
        """What was read of an object's fields, by name; None for those that do not count."""
        return {name: self._reader.values.get(f"{parent}.{name}") for name in fields.FIELDS.names(parent)}

    # Rules about several fields

    def _check_organisation(self) -> None:
        path = "organisation"
        if self._reader.values[path] is not None or not self._reader.is_active or self._findings.is_faulty(path):
            return
        if self._rules.require_organisation:
            self._findings.fault(path, "is absent, and --require_organisation is given: set it")
        else:
            self._findings.warn(path, "is absent: records of every organisation are forwarded")

    def _check_http(self) -> None:
        values = self._reader.values
        if values["configuration.clientKey"] and not values["configuration.clientCertificate"]:
            self._findings.fault("configuration.clientKey", "stands without a clientCertificate")
        options = self._content.get("kinesisOptions")
        if options and isinstance(options, dict):
            protocol = values["configuration.protocol"]
            self._findings.warn("kinesisOptions", f"has no effect with configuration.protocol {protocol}")

    def _check_kinesis(self) -> None:
        """Warn of what is asked for in vain. What Learning Locker writes into any document is no wish."""
        configuration = self._content.get("configuration")
        given = configuration if isinstance(configuration, dict) else {}
        paths = [f"configuration.{name}" for name in _HTTP_WISHES if given.get(name) not in (None, "", "none", {})]
        if self._content.get("sendAttachments") is True:
            paths.append("sendAttachments")
        for path in paths:
            self._findings.warn(path, "has no effect with configuration.protocol Kinesis")

    def _check_compression(self) -> None:
        values = self._reader.values
        if values["configuration.compression"] != "gzip":
            return
        for name, _ in values["configuration.headers"] or ():
            if name.lower() == "content-encoding":
                path = f"configuration.headers.{name}"
                self._findings.warn(path, "has no effect with configuration.compression gzip, which sends its own")

    def _check_rate_limit(self) -> None:
        values = self._values_in("configuration.rateLimit")
        path = "configuration.rateLimit.burst"
        if values["burst"] is not None and values["requests"] is None and values["records"] is None:
            self._findings.warn(path, "has no effect without rateLimit.requests or rateLimit.records")

    def _check_batch(self) -> None:
        values = self._reader.values
        path = "configuration.batch"
        others = [field for field in fields.FIELDS if field.parent == path and field.name != "records"]
        is_batch = values["configuration.batch.records"] > DEFAULT_BATCH_RECORDS
        if not is_batch and any(self._reader.given(field) is not None for field in others):
            self._findings.warn(path, "has no effect without batch.records above 1: each record goes alone")

    def _check_attachments(self) -> None:
        values = self._reader.values
        if values["sendAttachments"] and values["configuration.batch.records"] > DEFAULT_BATCH_RECORDS:
            self._findings.fault(
                "sendAttachments",
                "stands beside configuration.batch, whose requests hold no data of attachments: leave one of the two "
                "out, or make a forwarder for each",
            )

    def _check_aws_keys(self) -> None:
        keys = [fields.FIELDS[f"kinesisOptions.{name}"] for name in ("awsClientKey", "awsClientSecret")]
        given = {field.path: self._reader.given(field) for field in keys}
        absent = [path for path, text in given.items() if not isinstance(text, str) or not text]
        if len(absent) == 1:
            path = absent[0]
            if not self._findings.is_faulty(path):
                self._findings.fault(path, "is absent: give both key and secret, or neither")
        elif absent and not self._rules.trusted:
            self._findings.fault(
                "kinesisOptions.awsClientKey",
                "and awsClientSecret are absent, and a document from a service or a database may not use the worker's "
                "own AWS credentials (--trust_references allows it)",
            )


_HTTP_WISHES = ("batch", "compression", "rateLimit", "signingSecret")
"""Fields of `configuration` that count over HTTP alone, and that nobody writes but for what they do."""

_TOGETHER: dict[str, Callable[[_Check], None]] = {
    "organisation": _Check._check_organisation,
    "configuration.clientKey": _Check._check_http,
    "configuration.batch.outcome": _Check._check_batch,
    "configuration.compression": _Check._check_compression,
    "configuration.rateLimit.burst": _Check._check_rate_limit,
    "kinesisOptions.awsClientSecret": _Check._check_aws_keys,
    "kinesisOptions.aggregate": _Check._check_kinesis,
    "sendAttachments": _Check._check_attachments,
}
"""The rules about several fields, each by the last of them: it is asked once that has been read."""


def _usual_payload(target: HttpTarget | KinesisTarget, full_document: bool) -> Any:
    """What is sent by a document that does not say."""
    if full_document:
        return "document"
    return "record" if isinstance(target, KinesisTarget) and target.service == "streams" else "statement"
