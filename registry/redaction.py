"""Which parts of a forwarder document are secret, and how they are taken out, put back and kept.

The table of fields says what is secret. A stored document is two things: what anybody who sees the document may see,
with `[redacted]` where a secret was, and the secrets, sealed. Lists, filters, sorting and cursors work on the first
alone, so that none of them can leak the second. The rules are in docs/spec/forwarders.md sections 1 and 5.
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from schemas.json_values import JsonObject
from transforms.forwarders import fields
from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.secrets import REDACTED, is_redacted

Path = tuple[str | int, ...]
"""The names, and indices of lists, that lead to a place in a document."""

Secrets = list[tuple[Path, Any]]
"""Secrets of one document, each with its place."""

_LIKE_A_SECRET = re.compile(r"secret|passw|token|credential|api_?key|auth|private", re.IGNORECASE)


def split(document: JsonObject) -> tuple[JsonObject, Secrets]:
    """Take the secrets out of a document.

    Args:
        document: whole. A redaction that stands in it already stays, and is no secret.

    Returns:
        The document as it may be shown, and the secrets.
    """
    secrets: Secrets = []

    def take_out(path: Path, value: Any, redacted: Any) -> Any:
        if redacted != value:
            secrets.append((path, value))
        return redacted

    return _rebuilt(document, take_out), secrets


def join(shown: JsonObject, secrets: Secrets) -> JsonObject:
    """Put secrets back where `split` has left redactions. A place that holds something else by now keeps that."""
    by_path = dict(secrets)

    def put_back(path: Path, value: Any, redacted: Any) -> Any:
        if path in by_path and redacted == value == _redaction_of(path, by_path[path]):
            return by_path[path]
        return value

    return _rebuilt(shown, put_back)


def restore(document: JsonObject, before: JsonObject) -> JsonObject:
    """Replace the redactions that a client has sent back by the secrets that are stored in their places.

    The values of headers and of the url's parameters are found again by their names. A redaction of nothing stays one;
    the job's rules refuse it where it matters (docs/spec/forwarders.md section 5).

    Args:
        document: as it is to be, with redactions.
        before: the whole document as it is stored.
    """

    def kept(path: Path, value: Any, redacted: Any) -> Any:
        if not isinstance(value, str):
            return value
        stored = _at(before, path)
        if _kind(path) == "url":
            return _restored_url(value, stored) if isinstance(stored, str) else value
        if _kind(path) == "headers":
            return _restored_headers(value, stored) if isinstance(stored, str) else value
        if not is_redacted(value) or stored is None or isinstance(stored, dict | list):
            return value
        if isinstance(path[-1], int) and _length(document, path) != _length(before, path):
            # Which of a list's secrets is meant is known only while the list is as long as it was.
            return value
        return stored

    return _rebuilt(document, kept)


def redactions(document: JsonObject) -> list[Path]:
    """Where the document holds redactions instead of secrets."""
    paths: list[Path] = []

    def look(path: Path, value: Any, redacted: Any) -> Any:
        if isinstance(value, str) and (is_redacted(value) or (_kind(path) in _PARTLY and REDACTED in unquote(value))):
            paths.append(path)
        return value

    _rebuilt(document, look)
    return paths


_Visit = Callable[[Path, Any, Any], Any]
"""Called for each place that may hold a secret: with its path, what stands there, and that redacted.

It returns what is to stand there.
"""


def _rebuilt(document: JsonObject, visit: _Visit) -> JsonObject:
    """A copy of the document in which every place that may hold a secret was visited."""
    rebuilt: JsonObject = {}
    for name, value in document.items():
        field = fields.FIELDS.at(name)
        if name in fields.FIELDS.objects:
            rebuilt[name] = _rebuilt_options(name, value, visit)
        elif field.secret if field is not None else _LIKE_A_SECRET.search(name):
            rebuilt[name] = _leaves((name,), value, visit)
        else:
            rebuilt[name] = value
    return rebuilt


def _rebuilt_options(name: str, options: Any, visit: _Visit) -> Any:
    """One of the objects that hold secrets. A field that is not known is one too: a misspelt `secert` is a secret."""
    if not isinstance(options, dict):
        return _leaves((name,), options, visit)
    rebuilt = {}
    for option, value in options.items():
        field = fields.FIELDS.at(name, option)
        is_shown = field is not None and not field.secret and field.kind not in _PARTLY
        if is_shown and not isinstance(value, dict | list):
            rebuilt[option] = value
        else:
            rebuilt[option] = _leaves((name, option), value, visit)
    return rebuilt


def _leaves(path: Path, value: Any, visit: _Visit) -> Any:
    if isinstance(value, dict):
        return {name: _leaves((*path, name), member, visit) for name, member in value.items()}
    if isinstance(value, list):
        return [_leaves((*path, index), member, visit) for index, member in enumerate(value)]
    return visit(path, value, _redaction_of(path, value))


def _redaction_of(path: Path, value: Any) -> Any:
    redact = _PARTLY.get(_kind(path))
    if redact is not None and isinstance(value, str):
        return redact(value)
    is_text = isinstance(value, str) and bool(value) and not is_redacted(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_secret = is_text or (is_number and not fields.FIELDS.secret_names.isdisjoint(map(str, path)))
    return REDACTED if is_secret else value


def _kind(path: Path) -> str:
    """The kind of the field at a path; empty for what is no known field."""
    field = fields.FIELDS.at(*path)
    return "" if field is None else field.kind


def _at(document: Any, path: Path) -> Any:
    for step in path:
        if isinstance(document, dict) and isinstance(step, str):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int):
            document = document[step] if step < len(document) else None
        else:
            return None
    return document


def _length(document: JsonObject, path: Path) -> int:
    value = _at(document, path[:-1])
    return len(value) if isinstance(value, list) else 0


# A url's secrets are the values in its query, and user information, which no active document may have.


def redacted_url(url: str) -> str:
    """The url with redactions for every parameter's value and for what stands before an @."""
    head, mark, query = url.partition("?")
    scheme, slashes, rest = head.rpartition("//")
    user, at, host = rest.partition("@")
    if at and user:
        head = f"{scheme}{slashes}{REDACTED}@{host}"
    return head + mark + "&".join(_redacted_parameter(pair) for pair in query.split("&"))


def _redacted_parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals and name:
        # A parameter without a value may be the secret itself. Written so, the job sees that it is a redaction.
        return f"{REDACTED}={REDACTED}"
    return f"{name}={REDACTED}" if value else pair


def _restored_url(url: str, stored: str) -> str:
    head, mark, query = url.partition("?")
    stored_head, _, stored_query = stored.partition("?")
    if REDACTED + "@" in head and redacted_url(stored_head) == head:
        head = stored_head
    stored_pairs: dict[str, list[str]] = {}
    for pair in stored_query.split("&"):
        stored_pairs.setdefault(_redacted_parameter(pair).partition("=")[0], []).append(pair)
    pairs = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        same_name = stored_pairs.get(unquote(name) if unquote(name) == REDACTED else name)
        pairs.append(same_name.pop(0) if same_name and is_redacted(unquote(value)) else pair)
    return head + mark + "&".join(pairs)


# The headers are a text that holds a JSON object. Their values are secrets.


def redacted_headers(headers: str) -> str:
    """The text with a redaction for every header's value; a redaction as a whole if it is no JSON object of texts."""
    parsed = _parsed_headers(headers)
    if parsed is None:
        return headers if not headers.strip() or headers.strip() == "[]" or is_redacted(headers) else REDACTED
    return _dumped({name: REDACTED if value else value for name, value in parsed.items()})


def _restored_headers(headers: str, stored: str) -> str:
    if is_redacted(headers):
        return stored
    parsed, before = _parsed_headers(headers), _parsed_headers(stored)
    if parsed is None or before is None or not any(is_redacted(value) for value in parsed.values()):
        return headers
    values = {name.lower(): value for name, value in before.items()}
    return _dumped(
        {name: values.get(name.lower(), value) if is_redacted(value) else value for name, value in parsed.items()}
    )


def _parsed_headers(headers: str) -> dict[str, str] | None:
    try:
        parsed, duplicates = loads_strictly(headers)
    except ValueError:
        return None
    if duplicates or not isinstance(parsed, dict) or not all(isinstance(value, str) for value in parsed.values()):
        return None
    return parsed


def _dumped(headers: dict[str, str]) -> str:
    return json.dumps(headers, ensure_ascii=False, separators=(",", ":"))


_PARTLY: dict[str, Callable[[str], str]] = {"url": redacted_url, "headers": redacted_headers}
"""Kinds of fields of which parts are secret: how a text of that kind is redacted."""
