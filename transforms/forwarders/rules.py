"""The rules of forwarders.md section 1: from documents to forwarders, with every fault of every document at once."""

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from schemas.delivery import PayloadKind
from schemas.query_document import QUERY_NAMES
from transforms.forwarders import fields
from transforms.forwarders.documents import Document, Documents, JsonObject, loads_strictly
from transforms.forwarders.model import (
    AuthType,
    Fault,
    Forwarder,
    Forwarders,
    HttpTarget,
    KinesisTarget,
    Service,
)
from transforms.forwarders.secrets import References, Secret, is_redacted, is_reference

CompileQuery = Callable[[Any], object]
"""`compile_query` of transforms.query: takes a query's text, its object or None; raises ValueError for a bad one."""

PROTOCOLS = ("http", "https", "Kinesis")
AUTH_TYPES: tuple[AuthType, ...] = ("no auth", "token", "basic auth")
SERVICES: tuple[Service, ...] = ("firehose", "streams")
PAYLOADS: tuple[PayloadKind, ...] = ("statement", "record", "document")
MOST_RETRIES = 10
LONGEST_TIMEOUT = 3600
MOST_CONCURRENCY = 1000

_TOP_LEVEL = fields.names(
    "_id description createdAt updatedAt owner __v timezone organisation lrs_id active isPublic query fullDocument "
    "configuration kinesisOptions payload sendAttachments oldQuery hasBeenMigrated"
)
_CONFIGURATION = fields.names(
    "protocol url authType secret basicUsername basicPassword maxRetries headers timeout concurrency signingSecret "
    "caFile clientCertificate clientKey method"
)
_KINESIS_OPTIONS = fields.names("streamName awsClientKey awsClientSecret awsRegion service")

_SMALL_NUMBER = re.compile(r"[0-9]{1,3}")
_STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NO_SERVICE_REFERENCES = (
    "is a reference to a secret of the worker, which a document from a service or a database may not use "
    "(--trust_references allows it)"
)
_NO_SERVICE_FILES = (
    "names a file on the worker, which a document from a service or a database may not do "
    "(--trust_references allows it)"
)
_REDACTED = (
    "is a redaction, not the secret: read the documents with a client that is shown secrets, or write the secret again"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run lets documents do.

    `compile_query` judges queries. `trusted` is false for documents from a service or a database, unless
    `--trust_references` was given: they may use no reference, no file and not the AWS default credential chain.
    """

    compile_query: CompileQuery = field(repr=False)
    references: References = field(default_factory=References)
    trusted: bool = True
    require_organisation: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """What one document says. `forwarder` (and its compiled `query`) only if it is active and without a fault."""

    id: str | None
    active: bool
    forwarder: Forwarder | None
    query: object
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def load_forwarders(documents: Documents, rules: Rules) -> Forwarders:
    """Every forwarder in `documents`, and every fault in them. Reads no secret and asks nobody."""
    checked = [check_document(document, rules) for document in documents.documents]
    counts = Counter(one.id for one in checked if one.id is not None)
    faults = list(documents.faults)
    warnings: list[Fault] = []
    for document, one in zip(documents.documents, checked, strict=True):
        faults += one.faults
        warnings += one.warnings
        if one.id is not None and counts[one.id] > 1:
            faults.append(
                Fault(
                    one.id, document.where, "_id", f"is the id of {counts[one.id]} documents: all of them are refused"
                )
            )
    unique = [one for one in checked if one.id is not None and counts[one.id] == 1]
    return Forwarders(
        forwarders=tuple(one.forwarder for one in unique if one.forwarder is not None),
        inactive=tuple(one.id for one in unique if one.id is not None and not one.active),
        faults=tuple(faults),
        warnings=tuple(warnings),
        digest=documents.digest,
        queries={one.forwarder.id: one.query for one in unique if one.forwarder is not None},
    )


def check_document(document: Document, rules: Rules) -> Checked:
    """The rules of section 1 for one document, all its faults at once. Whether its id is unique is for the caller."""
    return _Check(document, rules).run()


class _Check:
    """One pass over one document. Collects faults and warnings; a value that is faulty is read as if absent."""

    def __init__(self, document: Document, rules: Rules) -> None:
        self.document = document
        self.rules = rules
        self.id = self._read_id(document.content.get("_id"))
        self.active = document.content.get("active") is True
        self.faults: list[Fault] = []
        self.faulty: set[str] = set()
        self.warnings: list[Fault] = []

    def run(self) -> Checked:
        content = self.document.content
        forwarder, query = self._forwarder(content)
        faults, warnings = self.faults, self.warnings
        if not self.active:
            # The rule asks an inactive document for its _id alone.
            faults, warnings = [], faults + warnings
            forwarder = None
        if "active" in self.document.duplicates or "_id" in self.document.duplicates:
            faults = faults or [self._said("", "has _id or active twice: it is not clear what is meant")]
        if self.id is None:
            faults = [self._said("_id", 'is absent or not a non-empty string (or {"$oid": 24 hex digits})'), *faults]
        if faults:
            forwarder = None
        return Checked(self.id, self.active, forwarder, query, tuple(faults), tuple(warnings))

    def _forwarder(self, content: JsonObject) -> tuple[Forwarder | None, object]:
        for path in self.document.duplicates:
            self.fault(path, "occurs twice in one object: it is not clear which is meant")
        self._known(content, _TOP_LEVEL, "")
        self._activity(content)
        configuration = self._object(content, "configuration")
        options = self._object(content, "kinesisOptions")
        self._known(configuration, _CONFIGURATION, "configuration.")
        self._known(options, _KINESIS_OPTIONS, "kinesisOptions.")
        self._no_redaction(configuration, "configuration.", ("secret", "basicPassword", "headers"))
        self._no_redaction(options, "kinesisOptions.", ("awsClientSecret", "awsClientKey"))

        organisation = self._scope(content, "organisation")
        if organisation is None and self.active and not self._faulty("organisation"):
            if self.rules.require_organisation:
                self.fault("organisation", "is absent, and --require_organisation is given: set it")
            else:
                self.warn("organisation", "is absent: records of every organisation are forwarded")
        lrs_id = self._scope(content, "lrs_id")

        protocol = self._choice(configuration, "configuration.protocol", PROTOCOLS) or "http"
        target: HttpTarget | KinesisTarget | None
        if protocol == "Kinesis":
            target = self._kinesis(options)
        else:
            target = self._http(configuration, protocol)
            if options:
                self.warn("kinesisOptions", f"has no effect with configuration.protocol {protocol}")
        full_document = self._flag(content, "fullDocument")
        self._flag(content, "isPublic")
        payload = self._choice(content, "payload", PAYLOADS)
        if payload is None:
            on_stream = isinstance(target, KinesisTarget) and target.service == "streams"
            payload = "document" if full_document else "record" if on_stream else "statement"
        retries = self._retries(configuration, default=10 if protocol == "Kinesis" else 0)
        query, compiled = self._query(content.get("query"))
        if self.faults or self.id is None or target is None:
            return None, None
        description = content.get("description")
        forwarder = Forwarder(
            id=self.id,
            organisation=organisation,
            lrs_id=lrs_id,
            query=query,
            payload=cast(PayloadKind, payload),
            max_retries=retries,
            target=target,
            description=description if isinstance(description, str) else "",
        )
        return forwarder, compiled

    # HTTP

    def _http(self, configuration: JsonObject, protocol: str) -> HttpTarget | None:
        url = self._url(configuration.get("url"))
        auth_type = cast(AuthType, self._choice(configuration, "configuration.authType", AUTH_TYPES) or "no auth")
        secret = username = basic_password = None
        if auth_type == "token":
            secret = self._secret(configuration, "configuration.secret", fields.token, f"authType {auth_type}")
        elif auth_type == "basic auth":
            username = self._text(configuration, "configuration.basicUsername")
            if username is None and not self._faulty("configuration.basicUsername"):
                self.fault("configuration.basicUsername", "is absent: authType basic auth needs it")
            elif username is not None and (problem := fields.basic_username(username)):
                self.fault("configuration.basicUsername", problem)
            basic_password = self._secret(
                configuration, "configuration.basicPassword", fields.password, f"authType {auth_type}"
            )
        headers = self._headers(configuration.get("headers"), authorised=auth_type != "no auth")
        signing_secrets = self._signing_secrets(configuration.get("signingSecret"))
        timeout = self._number(configuration, "configuration.timeout", LONGEST_TIMEOUT, default=10.0)
        concurrency = self._number(configuration, "configuration.concurrency", MOST_CONCURRENCY, default=16)
        if concurrency != int(concurrency):
            self.fault("configuration.concurrency", "is not a whole number")
        ca_file, certificate, key = (
            self._file(configuration, f"configuration.{name}", protocol)
            for name in ("caFile", "clientCertificate", "clientKey")
        )
        if key and not certificate:
            self.fault("configuration.clientKey", "stands without a clientCertificate")
        if url is None:
            return None
        return HttpTarget(
            url=Secret(fields.full_url(protocol, url), pending=url.has_reference),
            host=url.host,
            auth_type=auth_type,
            secret=secret,
            basic_username=username,
            basic_password=basic_password,
            headers=headers,
            timeout=float(timeout),
            concurrency=int(concurrency),
            signing_secrets=signing_secrets,
            ca_file=ca_file,
            client_certificate=certificate,
            client_key=key,
        )

    def _url(self, value: object) -> fields.Url | None:
        name = "configuration.url"
        if value is None:
            if self.active and not self._faulty("configuration"):
                self.fault(name, "is absent: an active HTTP forwarder needs it")
            return None
        if not isinstance(value, str):
            self.fault(name, "is not a string")
            return None
        try:
            url = fields.parse_url(value)
        except ValueError as error:
            self.fault(name, str(error))
            return None
        if fields.query_is_redacted(url):
            self.fault(name, f"has a query that {_REDACTED}")
        for _, text in url.parameters:
            if is_reference(text):
                self._reference(name, text)
        return url

    def _headers(self, value: object, *, authorised: bool) -> tuple[tuple[str, Secret], ...]:
        name = "configuration.headers"
        if value is None or self._faulty(name):
            return ()
        if not isinstance(value, str):
            self.fault(
                name, 'is not a string: write a string that holds a JSON object, such as "{\\"Name\\": \\"value\\"}"'
            )
            return ()
        if not value.strip():
            return ()
        try:
            parsed, duplicates = loads_strictly(value)
        except ValueError as error:
            self.fault(name, f"is a string that does not hold JSON: {error}")
            return ()
        if parsed == []:
            return ()
        if not isinstance(parsed, dict):
            self.fault(name, "is a string that does not hold a JSON object of header name to string")
            return ()
        for duplicate in duplicates:
            self.fault(f"{name}.{duplicate}", "occurs twice")
        headers: list[tuple[str, Secret]] = []
        seen: set[str] = set()
        for header, text in parsed.items():
            path = f"{name}.{header}"
            if problem := fields.header_name(header, authorised=authorised):
                self.fault(path, problem)
            if header.lower() in seen:
                self.fault(path, "occurs twice: header names are the same in any case")
            seen.add(header.lower())
            if not isinstance(text, str):
                self.fault(path, "is not a string: write numbers and the like in quotes")
            elif (secret := self._secret_value(path, text, fields.header_value)) is not None:
                headers.append((header, secret))
        return tuple(headers)

    def _signing_secrets(self, value: object) -> tuple[Secret, ...]:
        name = "configuration.signingSecret"
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value]
        if not values:
            self.fault(name, "is an empty list: give a secret, or leave the field out")
        secrets: list[Secret] = []
        for index, text in enumerate(values):
            path = f"{name}[{index}]" if isinstance(value, list) else name
            if not isinstance(text, str):
                self.fault(path, "is not a string")
            elif (secret := self._secret_value(path, text, fields.signing_secret)) is not None:
                secrets.append(secret)
        return tuple(secrets)

    def _file(self, values: JsonObject, path: str, protocol: str) -> str | None:
        text = self._text(values, path)
        if text is None:
            return None
        if not text or "\0" in text:
            self.fault(path, "is not the path of a file")
            return None
        if not self.rules.trusted:
            self.fault(path, _NO_SERVICE_FILES)
        elif text.startswith("env:"):
            self.fault(path, "is a reference to a variable: give a path, or file:PATH under --secrets_dir")
        elif is_reference(text):
            self._reference(path, text)
        if protocol == "http":
            self.warn(path, "has no effect with configuration.protocol http")
        return text

    # Kinesis

    def _kinesis(self, options: JsonObject) -> KinesisTarget | None:
        service = cast(Service, self._choice(options, "kinesisOptions.service", SERVICES) or "firehose")
        stream = self._text(options, "kinesisOptions.streamName")
        if not stream:
            if self.active and not (self._faulty("kinesisOptions.streamName") or self._faulty("kinesisOptions")):
                self.fault("kinesisOptions.streamName", "is absent: an active Kinesis forwarder needs it")
        elif not _STREAM_NAME.fullmatch(stream):
            self.fault("kinesisOptions.streamName", "is not a stream's name: 1 to 128 of A-Z a-z 0-9 _ . -")
        region = self._text(options, "kinesisOptions.awsRegion") or None
        key = self._text(options, "kinesisOptions.awsClientKey") or None
        secret = self._text(options, "kinesisOptions.awsClientSecret") or None
        if (key is None) != (secret is None):
            absent = "awsClientKey" if key is None else "awsClientSecret"
            if not self._faulty(f"kinesisOptions.{absent}"):
                self.fault(f"kinesisOptions.{absent}", "is absent: give both key and secret, or neither")
        elif key is None and not self.rules.trusted:
            self.fault(
                "kinesisOptions.awsClientKey",
                "and awsClientSecret are absent, and a document from a service or a database may not use the worker's "
                "own AWS credentials (--trust_references allows it)",
            )
        if key is not None:
            self._secret_value("kinesisOptions.awsClientKey", key, fields.token)
        hidden = None
        if secret is not None:
            hidden = self._secret_value("kinesisOptions.awsClientSecret", secret, fields.token)
        if not stream:
            return None
        return KinesisTarget(service, stream, region, key, hidden)

    # What both have

    def _retries(self, configuration: JsonObject, default: int) -> int:
        value = _unwrapped(configuration.get("maxRetries"))
        if value is None:
            return default
        if isinstance(value, str) and _SMALL_NUMBER.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            # The MongoDB shell writes every number as a double, and mongoexport prints that as 3.0.
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
            self.fault("configuration.maxRetries", f"is not a whole number from 0 to {MOST_RETRIES}")
            return default
        return value

    def _query(self, value: object) -> tuple[str | None, object]:
        if value is not None and not isinstance(value, str | dict):
            self.fault("query", "is neither a string nor an object")
            return None, None
        try:
            compiled = self.rules.compile_query(value)
        except ValueError as error:
            self.fault("query", f"is refused: {error}")
            return None, None
        text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name in sorted(query_names(text) - QUERY_NAMES):
            self.warn("query", f"asks for {_shown(name)}, which no record has{_nearest(name, QUERY_NAMES)}")
        return text, compiled

    def _scope(self, content: JsonObject, name: str) -> str | None:
        value = _unwrapped(content.get(name))
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self.fault(name, "is not a non-empty string")
            return None
        return value

    def _activity(self, content: JsonObject) -> None:
        if "active" not in content:
            self.warn("active", "is absent, and only true forwards: the forwarder is read as inactive")
        elif not isinstance(content["active"], bool):
            self.warn(
                "active", f"is {_shown(content['active'])}, and only true forwards: the forwarder is read as inactive"
            )

    def _secret(self, values: JsonObject, path: str, check: fields.Check, needed_by: str) -> Secret | None:
        text = self._text(values, path)
        if text is None:
            if not self._faulty(path):
                self.fault(path, f"is absent: {needed_by} needs it")
            return None
        return self._secret_value(path, text, check)

    def _secret_value(self, path: str, text: str, check: fields.Check) -> Secret | None:
        """The secret `text` at `path`, its form judged; a reference stays one, its value is judged where it is read."""
        if is_redacted(text):
            if not self._faulty(path):
                self.fault(path, _REDACTED)
            return None
        if is_reference(text):
            self._reference(path, text)
            return Secret(text, pending=True)
        if problem := check(text):
            self.fault(path, problem)
            return None
        return Secret(text)

    def _reference(self, path: str, text: str) -> None:
        if not self.rules.trusted:
            self.fault(path, _NO_SERVICE_REFERENCES)
        elif problem := self.rules.references.problem(text):
            self.fault(path, problem)

    def _no_redaction(self, values: JsonObject, prefix: str, names: Iterable[str]) -> None:
        """A redaction is refused where it is of no use too: it tells that the client is not shown secrets."""
        for name in names:
            text = values.get(name)
            if isinstance(text, str) and is_redacted(text):
                self.fault(prefix + name, _REDACTED)

    def _object(self, content: JsonObject, name: str) -> JsonObject:
        value = content.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fault(name, "is not an object")
            return {}
        return value

    def _text(self, values: JsonObject, path: str) -> str | None:
        value = values.get(path.rpartition(".")[2])
        if value is None or isinstance(value, str):
            return value
        self.fault(path, "is not a string")
        return None

    def _choice(self, values: JsonObject, path: str, choices: tuple[str, ...]) -> str | None:
        value = values.get(path.rpartition(".")[2])
        if value is None:
            return None
        if value not in choices:
            self.fault(path, f"is {_shown(value)}: it must be one of {', '.join(choices)}")
            return None
        return value

    def _flag(self, content: JsonObject, name: str) -> bool:
        value = content.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.fault(name, "is neither true nor false")
        return False

    def _number(self, values: JsonObject, path: str, most: int, default: float) -> float:
        value = _unwrapped(values.get(path.rpartition(".")[2]))
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not 0 < value <= most
        ):
            self.fault(path, f"is not a number above 0 and up to {most}")
            return default
        return value

    def _known(self, values: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
        for name in values:
            if name not in known:
                self.warn(prefix + name, f"is not a known field and has no effect{_nearest(name, known)}")

    def _faulty(self, path: str) -> bool:
        return path in self.faulty

    def _read_id(self, value: object) -> str | None:
        value = _unwrapped(value)
        return value if isinstance(value, str) and value and value.isprintable() else None

    def _said(self, path: str, message: str) -> Fault:
        # A path holds names out of the document: a line break in one must not forge a line of a log.
        return Fault(self.id, self.document.where, path if path.isprintable() else ascii(path), message)

    def fault(self, path: str, message: str) -> None:
        self.faults.append(self._said(path, message))
        self.faulty.add(path)

    def warn(self, path: str, message: str) -> None:
        self.warnings.append(self._said(path, message))


_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def _unwrapped(value: object) -> object:
    """The value inside a mongoexport's Extended JSON wrapper of ids and numbers; any other value as it is."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((name, inner),) = value.items()
    if not isinstance(inner, str):
        return value
    if name == "$oid" and _OBJECT_ID.fullmatch(inner):
        return inner.lower()
    if name in ("$numberInt", "$numberLong", "$numberDouble"):
        try:
            return float(inner) if name == "$numberDouble" else int(inner)
        except ValueError:
            return value
    return value


def query_names(query: str | None) -> frozenset[str]:
    """The first names of the paths that a query (one that compiles) asks for."""
    if query is None or not query.strip():
        return frozenset()
    names: set[str] = set()
    _collect_names(json.loads(query), names)
    return frozenset(names)


def _collect_names(query: object, names: set[str]) -> None:
    if isinstance(query, list):
        for part in query:
            _collect_names(part, names)
    elif isinstance(query, dict):
        for name, value in query.items():
            if name in ("$and", "$or", "$nor", "$match"):
                _collect_names(value, names)
            elif not name.startswith("$"):
                names.add(name.partition(".")[0])


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: object) -> str:
    """A value that is no secret, for a message: as JSON, cut when long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
