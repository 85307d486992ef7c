"""Reads the fields of one forwarder document, each as its kind in the table says, and notes what is wrong with them."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from schemas import KINDS
from schemas.json_values import JsonObject
from schemas.query_document import names_of, shapes_of
from transforms.forwarders.checks import header_name
from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.fields import Field, FieldKind
from transforms.forwarders.findings import Findings, nearest, shown
from transforms.forwarders.model import Rules
from transforms.forwarders.queries import query_names
from transforms.forwarders.secrets import Secret, is_redacted, is_reference
from transforms.forwarders.urls import OF_FORWARDERS, OF_TOKENS, Advice, Url, full_url, parse_url, query_is_redacted
from transforms.query import Query
from transforms.query.never import MOST_TOLD, never_matching

REDACTION = (
    "is a redaction, not the secret: read the documents with a client that is shown secrets, or write the secret again"
)
_NO_SERVICE_REFERENCES = (
    "is a reference to a secret of the worker, which a document from a service or a database may not use "
    "(--trust_references allows it)"
)
_NO_SERVICE_FILES = (
    "names a file on the worker, which a document from a service or a database may not do "
    "(--trust_references allows it)"
)
_SMALL_NUMBER = re.compile(r"[0-9]{1,3}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


class FieldReader:
    """Reads the fields that it is asked for, in that order. A field that is absent or faulty reads as its default.

    Attributes:
        values: what was read so far, by the field's path.
        compiled_query: what the rules' `compile_query` made of the query; None before it is read, and of a faulty one.
    """

    def __init__(self, content: JsonObject, rules: Rules, findings: Findings) -> None:
        self.values: dict[str, Any] = {}
        self.compiled_query: object = None
        self._content = content
        self._objects: dict[str, JsonObject | None] = {"": content}
        self._rules = rules
        self._findings = findings

    @property
    def is_active(self) -> bool:
        """Whether the document says that it forwards."""
        return self._content.get("active") is True

    def read(self, field: Field) -> Any:
        """The field's value, which `values` holds from now on; what is wrong with it is noted."""
        value = self.given(field)
        is_absent = value is None or (value == "" and field.blank_is_absent)
        if is_absent and field.kind not in _READ_WHEN_ABSENT:
            self._check_need(field)
            read = None
        else:
            read = _READERS[field.kind](self, field, value)
        self.values[field.path] = field.default if read is None else read
        return self.values[field.path]

    def given(self, field: Field) -> Any:
        """What the document holds in the field's place, as it is; None if it holds nothing there."""
        place = self._object(field.parent)
        return None if place is None else place.get(field.name)

    def _object(self, path: str) -> JsonObject | None:
        """The object at a path of the document; None if there is none. Many fields stand in each."""
        if path not in self._objects:
            parent, _, name = path.rpartition(".")
            around = self._object(parent)
            place = None if around is None else around.get(name)
            self._objects[path] = place if isinstance(place, dict) else None
        return self._objects[path]

    def _check_need(self, field: Field) -> None:
        """Note that an absent field is needed, if it is."""
        # An inactive document need not say yet where it sends to; half of a login is worth a warning in any document.
        if not field.needed_by:
            return
        is_needed = self.is_active or field.auth_type is not None
        is_faulty = self._findings.is_faulty(field.path) or self._findings.is_faulty(field.parent)
        if is_needed and not is_faulty:
            self._findings.fault(field.path, f"is absent: {field.needed_by} needs it")

    # One method for each kind: the value, or None where a fault was noted.

    def _any(self, field: Field, value: Any) -> Any:
        return value

    def _id(self, field: Field, value: Any) -> str | None:
        return read_id(value)

    def _active(self, field: Field, value: Any) -> bool:
        if field.name not in self._content:
            self._findings.warn(field.path, "is absent, and only true forwards: the forwarder is read as inactive")
        elif not isinstance(value, bool):
            self._findings.warn(
                field.path, f"is {shown(value)}, and only true forwards: the forwarder is read as inactive"
            )
        return value is True

    def _flag(self, field: Field, value: Any) -> bool | None:
        if isinstance(value, bool):
            return value
        self._findings.fault(field.path, "is neither true nor false")
        return None

    def _choice(self, field: Field, value: Any) -> str | None:
        if value in field.allowed:
            return str(value)
        self._findings.fault(field.path, f"is {shown(value)}: it must be one of {', '.join(field.allowed)}")
        return None

    def _choices(self, field: Field, value: Any) -> tuple[str, ...] | None:
        if not isinstance(value, list) or not value:
            self._findings.fault(field.path, f"is not a list of one or more of {', '.join(field.allowed)}")
            return None
        for index, member in enumerate(value):
            if member not in field.allowed:
                allowed = ", ".join(field.allowed)
                self._findings.fault(f"{field.path}[{index}]", f"is {shown(member)}: it must be one of {allowed}")
        return tuple(name for name in field.allowed if name in value)

    def _scope(self, field: Field, value: Any) -> str | None:
        value = _unwrapped(value)
        if isinstance(value, str) and value:
            return value
        self._findings.fault(field.path, "is not a non-empty string")
        return None

    def _query(self, field: Field, value: Any) -> str | None:
        if value is not None and not isinstance(value, str | dict):
            self._findings.fault(field.path, "is neither a string nor an object")
            return None
        try:
            self.compiled_query = self._rules.compile_query(value)
        except ValueError as error:
            self._findings.fault(field.path, f"is refused: {error}")
            return None
        text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shapes = shapes_of([kind for kind in self._rules.kinds if kind in (self.values.get("kinds") or KINDS)])
        known = names_of(shapes)
        unknown = sorted(query_names(text) - known) if shapes else []
        for name in unknown[:MOST_TOLD]:
            hint = nearest(name, known)
            self._findings.warn(field.path, f"asks for {shown(name)}, which no record has{hint}")
        if len(unknown) > MOST_TOLD:
            self._findings.warn(field.path, f"asks for {len(unknown) - MOST_TOLD} more names that no record has")
        if isinstance(self.compiled_query, Query) and shapes:
            for sentence in never_matching(self.compiled_query, shapes):
                self._findings.warn(field.path, f"asks for what no record has: {sentence}")
        return text

    def _text(self, field: Field, value: Any) -> str | None:
        text = self._string(field.path, value)
        if text is not None and field.check is not None and (problem := field.check(text)):
            self._findings.fault(field.path, problem)
            return None
        return text

    def _number(self, field: Field, value: Any) -> float | None:
        value = _unwrapped(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        is_above = is_number and (value > 0 if field.least is None else value >= field.least)
        if not is_above or value > field.most:
            beginning = "above 0 and up to" if field.least is None else f"from {field.least:g} to"
            self._findings.fault(field.path, f"is not a number {beginning} {field.most}")
            return None
        if not field.whole:
            return float(value)
        if value != int(value):
            self._findings.fault(field.path, "is not a whole number")
        return int(value)

    def _count(self, field: Field, value: Any) -> int | None:
        value = _unwrapped(value)
        if isinstance(value, str) and _SMALL_NUMBER.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            # The MongoDB shell writes every number as a double, and mongoexport prints that as 3.0.
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= field.most:
            return value
        self._findings.fault(field.path, f"is not a whole number from 0 to {field.most}")
        return None

    def _url(self, field: Field, value: Any, advice: Advice = OF_FORWARDERS) -> Url | None:
        text = self._string(field.path, value)
        if text is None:
            return None
        try:
            url = parse_url(text, advice)
        except ValueError as error:
            self._findings.fault(field.path, str(error))
            return None
        if query_is_redacted(url):
            self._findings.fault(field.path, f"has a query that {REDACTION}")
        for _, parameter in url.parameters:
            if is_reference(parameter):
                self._check_reference(field.path, parameter)
        return url

    def _endpoint(self, field: Field, value: Any) -> Secret | None:
        text = self._string(field.path, value)
        if text is None:
            return None
        scheme, slashes, rest = text.partition("://")
        if not slashes or scheme.lower() not in ("https", "http"):
            self._findings.fault(field.path, "does not start with https:// (or http:// within --allow_network)")
            return None
        url = self._url(field, rest, OF_TOKENS)
        return None if url is None else Secret(full_url(scheme.lower(), url), pending=url.has_reference)

    def _headers(self, field: Field, value: Any) -> tuple[tuple[str, Secret], ...] | None:
        if self._findings.is_faulty(field.path):
            return None
        if not isinstance(value, str):
            self._findings.fault(
                field.path,
                'is not a string: write a string that holds a JSON object, such as "{\\"Name\\": \\"value\\"}"',
            )
            return None
        if not value.strip():
            return None
        try:
            headers, duplicates = loads_strictly(value)
        except ValueError as error:
            self._findings.fault(field.path, f"is a string that does not hold JSON: {error}")
            return None
        if headers == []:
            return None
        if not isinstance(headers, dict):
            self._findings.fault(field.path, "is a string that does not hold a JSON object of header name to string")
            return None
        for name in duplicates:
            self._findings.fault(f"{field.path}.{name}", "occurs twice")
        return self._named_headers(field, headers)

    def _named_headers(self, field: Field, headers: JsonObject) -> tuple[tuple[str, Secret], ...]:
        authorised = self.values.get("configuration.authType") != "no auth"
        read: list[tuple[str, Secret]] = []
        seen: set[str] = set()
        for name, value in headers.items():
            path = f"{field.path}.{name}"
            if problem := header_name(name, authorised=authorised):
                self._findings.fault(path, problem)
            if name.lower() in seen:
                self._findings.fault(path, "occurs twice: header names are the same in any case")
            seen.add(name.lower())
            if not isinstance(value, str):
                self._findings.fault(path, "is not a string: write numbers and the like in quotes")
            elif (secret := self._secret_at(path, value, field)) is not None:
                read.append((name, secret))
        return tuple(read)

    def _secret(self, field: Field, value: Any) -> Secret | None:
        text = self._string(field.path, value)
        return None if text is None else self._secret_at(field.path, text, field)

    def _secrets(self, field: Field, value: Any) -> tuple[Secret, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            self._findings.fault(field.path, "is an empty list: give a secret, or leave the field out")
        secrets: list[Secret] = []
        for index, member in enumerate(values):
            path = f"{field.path}[{index}]" if isinstance(value, list) else field.path
            text = self._string(path, member)
            if text is not None and (secret := self._secret_at(path, text, field)) is not None:
                secrets.append(secret)
        return tuple(secrets)

    def _file(self, field: Field, value: Any) -> str | None:
        text = self._string(field.path, value)
        if text is None or (field.secret and is_redacted(text)):
            return None
        if not text or "\0" in text:
            self._findings.fault(field.path, "is not the path of a file")
            return None
        if not self._rules.trusted:
            self._findings.fault(field.path, _NO_SERVICE_FILES)
        elif text.startswith("env:"):
            self._findings.fault(
                field.path, "is a reference to a variable: give a path, or file:PATH under --secrets_dir"
            )
        elif is_reference(text):
            self._check_reference(field.path, text)
        if self.values.get("configuration.protocol") == "http":
            self._findings.warn(field.path, "has no effect with configuration.protocol http")
        return text

    # What several kinds have in common

    def _string(self, path: str, value: Any) -> str | None:
        if isinstance(value, str):
            return value
        self._findings.fault(path, "is not a string")
        return None

    def _secret_at(self, path: str, text: str, field: Field) -> Secret | None:
        """The secret that is written at `path`. A reference stays one: its value is judged where it is read."""
        if is_redacted(text):
            if not self._findings.is_faulty(path):
                self._findings.fault(path, REDACTION)
            return None
        if is_reference(text):
            self._check_reference(path, text)
            return Secret(text, pending=True)
        if field.check is not None and (problem := field.check(text)):
            self._findings.fault(path, problem)
            return None
        return Secret(text)

    def _check_reference(self, path: str, text: str) -> None:
        if not self._rules.trusted:
            self._findings.fault(path, _NO_SERVICE_REFERENCES)
        elif problem := self._rules.references.problem(text):
            self._findings.fault(path, problem)


_READERS: dict[FieldKind, Callable[[FieldReader, Field, Any], Any]] = {
    "any": FieldReader._any,
    "id": FieldReader._id,
    "active": FieldReader._active,
    "flag": FieldReader._flag,
    "choice": FieldReader._choice,
    "choices": FieldReader._choices,
    "scope": FieldReader._scope,
    "query": FieldReader._query,
    "text": FieldReader._text,
    "number": FieldReader._number,
    "count": FieldReader._count,
    "url": FieldReader._url,
    "endpoint": FieldReader._endpoint,
    "headers": FieldReader._headers,
    "secret": FieldReader._secret,
    "secrets": FieldReader._secrets,
    "file": FieldReader._file,
}
_READ_WHEN_ABSENT: tuple[FieldKind, ...] = ("active", "query")
"""Kinds that say something of a document without the field: a warning, a query that matches everything."""


def read_id(value: Any) -> str | None:
    """A document's id as a text; None for what cannot be one."""
    value = _unwrapped(value)
    return value if isinstance(value, str) and value and value.isprintable() else None


def _unwrapped(value: object) -> Any:
    """The value inside of a mongoexport's Extended JSON wrapper of an id or a number; any other value as it is."""
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
