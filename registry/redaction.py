"""Which parts of a forwarder document are secret, and how they are taken out, put back and kept.

The table of fields says what is secret. A stored document is two things: what anybody who sees the document may see,
with `[redacted]` where a secret was, and the secrets, sealed. Lists, filters, sorting and cursors work on the first
alone, so that none of them can leak the second. The rules are in docs/spec/forwarders.md sections 1 and 5.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache
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

_PARTS = (
    "secret", "passw", "passphrase", "passcode", "passkey", "pwd", "token", "credential", "creds", "apikey",
    "accesskey", "clientkey", "privatekey", "private", "signature", "bearer", "jwt", "cookie", "hmac",
    "connectionstring",
)  # fmt: skip
"""What a name holds, written small and together, that stands for a secret: `dbPassword2`, `aws_access_key_id`."""

_ENDS = ("key", "keys", "pass", "headers")
"""How the name of a secret ends, written small and together."""

_WORDS = frozenset(("auth", "pw", "pass", "pin", "otp", "sas", "pat", "dsn"))
"""Words of a name that stand for a secret, if they are words of their own."""

_AUTHORIZES = re.compile(r"auth(?!or)|authori[sz]")
"""In a name written small and together: what logs in. An author and an authority do not."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NO_LETTER = re.compile(r"[^a-z0-9]")


def is_secret_name(name: str) -> bool:
    """Whether a field of this name, in a place that the table does not know, is taken for a secret.

    It is told by the name alone, however its words are joined: `accessKey`, `ACCESS_KEY`, `access-key`, `accesskey`. A
    name that is taken for a secret and is none costs no more than that its value is not shown.
    """
    return _together(name) in fields.FIELDS.secret_names or _sounds_secret(name)


@lru_cache(maxsize=4096)
def _sounds_secret(name: str) -> bool:
    together = _together(name)
    return (
        any(part in together for part in _PARTS)
        or together.endswith(_ENDS)
        or bool(_AUTHORIZES.search(together))
        or not _WORDS.isdisjoint(word.lower() for word in _WORD.findall(name))
    )


def _together(name: str) -> str:
    """A name written small and together."""
    return _NO_LETTER.sub("", name.lower())


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
        if _kind(path) in ("url", "endpoint") and isinstance(stored, str):
            return _restored_url(value, stored)
        if _kind(path) == "headers" and isinstance(stored, str):
            return _restored_headers(value, stored)
        if not is_redacted(value) or stored is None or isinstance(stored, dict | list):
            return value
        lists = [path[: index + 1] for index, step in enumerate(path) if isinstance(step, int)]
        if any(_length(document, place) != _length(before, place) for place in lists):
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
            rebuilt[name] = _rebuilt_options((name,), value, visit)
        elif field is None:
            rebuilt[name] = _rebuilt_unknown((name,), value, visit)
        elif field.secret:
            rebuilt[name] = _leaves((name,), value, visit)
        elif field.kind == "any" and isinstance(value, dict | list):
            # The job does not look at it, so that it may hold anything.
            rebuilt[name] = _rebuilt_members((name,), value, visit)
        else:
            rebuilt[name] = value
    return rebuilt


def _rebuilt_unknown(path: Path, value: Any, visit: _Visit) -> Any:
    """What stands under a name that is not known, at any depth: a secret if its name sounds like one."""
    if is_secret_name(str(path[-1])):
        return _leaves(path, value, visit)
    if isinstance(value, dict | list):
        return _rebuilt_members(path, value, visit)
    return visit(path, value, _redaction_of(path, value)) if _kind(path) in _PARTLY else value


def _rebuilt_members(path: Path, value: Any, visit: _Visit) -> Any:
    if isinstance(value, dict):
        return {name: _rebuilt_unknown((*path, name), member, visit) for name, member in value.items()}
    if isinstance(value, list):
        return [_rebuilt_members((*path, index), member, visit) for index, member in enumerate(value)]
    return value


def _rebuilt_options(path: tuple[str, ...], options: Any, visit: _Visit) -> Any:
    """One of the objects that hold secrets. A field that is not known is one too: a misspelt `secert` is a secret."""
    if not isinstance(options, dict):
        return _leaves(path, options, visit)
    rebuilt = {}
    for option, value in options.items():
        inner = (*path, option)
        field = fields.FIELDS.at(*inner)
        is_shown = field is not None and not field.secret and field.kind not in _PARTLY
        if is_shown and not isinstance(value, dict | list):
            rebuilt[option] = value
        elif ".".join(inner) in fields.FIELDS.objects:
            rebuilt[option] = _rebuilt_options(inner, value, visit)
        else:
            rebuilt[option] = _leaves(inner, value, visit)
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
    is_secret = is_text or (is_number and any(is_secret_name(step) for step in path if isinstance(step, str)))
    return REDACTED if is_secret else value


def _kind(path: Path) -> str:
    """The kind of the field at a path; empty for what is no known field.

    In a place that is not known, a name that sounds like that of a url or of headers is one: `webhookUrl`, `HEADERS`.
    """
    field = fields.FIELDS.at(*path)
    if field is not None:
        return field.kind
    if path[0] in fields.FIELDS.objects or not isinstance(path[-1], str):
        return ""
    together = _together(path[-1])
    return "headers" if together.endswith("headers") else "url" if together.endswith(("url", "uri")) else ""


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


_PARTLY: dict[str, Callable[[str], str]] = {
    "url": redacted_url,
    "endpoint": redacted_url,
    "headers": redacted_headers,
}
"""Kinds of fields of which parts are secret: how a text of that kind is redacted."""
