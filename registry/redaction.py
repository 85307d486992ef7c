"""Which parts of a forwarder document are secret, and how they are taken out, put back and kept (forwarders.md 1, 5).

A stored document is two things: what anybody who sees the document may see, with `[redacted]` where a secret was, and
the secrets, sealed. Lists, filters, sorting and cursors work on the first alone, so none of them can leak the second.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

from transforms.forwarders.documents import loads_strictly
from transforms.forwarders.secrets import REDACTED, is_redacted

JsonObject = dict[str, Any]
Path = tuple[str | int, ...]

# What may be seen of the two objects that hold secrets. Everything else in them is hidden, the unknown too: a
# misspelt `secert` is kept and warned about, and is a secret all the same.
_SHOWN: Final = {
    "configuration": frozenset(
        ("protocol", "url", "authType", "basicUsername", "maxRetries", "headers", "timeout", "concurrency", "caFile",
         "clientCertificate", "method")
    ),
    "kinesisOptions": frozenset(("streamName", "awsRegion", "service")),
}  # fmt: skip
_SECRETS: Final = frozenset(
    ("secret", "basicPassword", "signingSecret", "clientKey", "awsClientKey", "awsClientSecret")
)
_TOP_LEVEL: Final = frozenset(
    ("_id", "description", "createdAt", "updatedAt", "owner", "__v", "timezone", "organisation", "lrs_id", "active",
     "isPublic", "query", "fullDocument", "payload", "sendAttachments", "oldQuery", "hasBeenMigrated")
)  # fmt: skip
_LIKE_A_SECRET: Final = re.compile(r"secret|passw|token|credential|api_?key|auth|private", re.IGNORECASE)


def split(document: JsonObject) -> tuple[JsonObject, list[tuple[Path, Any]]]:
    """The document as it may be shown, and what was hidden: each secret with the path to it.

    A redaction that stands in the document already stays one and hides nothing.
    """
    hidden: list[tuple[Path, Any]] = []

    def hide(path: Path, value: Any, shown: Any) -> Any:
        if shown != value:
            hidden.append((path, value))
        return shown

    return _rebuilt(document, hide), hidden


def join(shown: JsonObject, hidden: list[tuple[Path, Any]]) -> JsonObject:
    """The document whose two parts these are. A place that was overwritten since keeps what it holds now."""
    secrets = dict(hidden)

    def put_back(path: Path, value: Any, redacted: Any) -> Any:
        if path in secrets and redacted == value == _redaction_of(path, secrets[path]):
            return secrets[path]
        return value

    return _rebuilt(shown, put_back)


def restore(document: JsonObject, before: JsonObject) -> JsonObject:
    """`document` with every redaction in it replaced by what `before`, the whole document as stored, has there.

    Source of the rule: forwarders.md section 5, "writing the redaction back keeps the stored secret". Header values and
    parameters of the url are found again by their names. A redaction of nothing stays one, and is refused by the
    job's rules where it matters.
    """

    def kept(path: Path, value: Any, redacted: Any) -> Any:
        if not isinstance(value, str):
            return value
        stored = _at(before, path)
        if path == _URL:
            return _restored_url(value, stored) if isinstance(stored, str) else value
        if path == _HEADERS:
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
    found: list[Path] = []

    def look(path: Path, value: Any, redacted: Any) -> Any:
        if isinstance(value, str) and (is_redacted(value) or (path in (_URL, _HEADERS) and REDACTED in unquote(value))):
            found.append(path)
        return value

    _rebuilt(document, look)
    return found


_URL: Final[Path] = ("configuration", "url")
_HEADERS: Final[Path] = ("configuration", "headers")

_Visit = Callable[[Path, Any, Any], Any]
"""Called with the path of a place that may hold a secret, what stands there, and that redacted; gives what is to stand
there."""


def _rebuilt(document: JsonObject, visit: _Visit) -> JsonObject:
    """A copy of the document in which every place that may hold a secret was visited."""
    rebuilt: JsonObject = {}
    for name, value in document.items():
        if name in _SHOWN:
            rebuilt[name] = _rebuilt_options(name, value, visit)
        elif name not in _TOP_LEVEL and _LIKE_A_SECRET.search(name):
            rebuilt[name] = _leaves((name,), value, visit)
        else:
            rebuilt[name] = value
    return rebuilt


def _rebuilt_options(name: str, options: Any, visit: _Visit) -> Any:
    if not isinstance(options, dict):
        return _leaves((name,), options, visit)
    rebuilt = {}
    for option, value in options.items():
        path = (name, option)
        if path in (_URL, _HEADERS) and isinstance(value, str):
            rebuilt[option] = visit(path, value, _redaction_of(path, value))
        elif option in _SHOWN[name] and not isinstance(value, dict | list):
            rebuilt[option] = value
        else:
            rebuilt[option] = _leaves(path, value, visit)
    return rebuilt


def _leaves(path: Path, value: Any, visit: _Visit) -> Any:
    if isinstance(value, dict):
        return {name: _leaves((*path, name), member, visit) for name, member in value.items()}
    if isinstance(value, list):
        return [_leaves((*path, index), member, visit) for index, member in enumerate(value)]
    return visit(path, value, _redaction_of(path, value))


def _redaction_of(path: Path, value: Any) -> Any:
    if path == _URL and isinstance(value, str):
        return redacted_url(value)
    if path == _HEADERS and isinstance(value, str):
        return redacted_headers(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (isinstance(value, str) and value and not is_redacted(value)) or (is_number and _SECRETS & set(map(str, path))):
        return REDACTED
    return value


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


# The url: user information, which no active document may have, and the values of its query.


def redacted_url(url: str) -> str:
    """The url with what may be secret in it hidden: every parameter's value, and what stands before an @."""
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
    known: dict[str, list[str]] = {}
    for pair in stored_query.split("&"):
        known.setdefault(_redacted_parameter(pair).partition("=")[0], []).append(pair)
    pairs = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        same_name = known.get(unquote(name) if unquote(name) == REDACTED else name)
        pairs.append(same_name.pop(0) if same_name and is_redacted(unquote(value)) else pair)
    return head + mark + "&".join(pairs)


# The headers: a string that holds a JSON object.


def redacted_headers(headers: str) -> str:
    """The string with every header's value hidden; wholly hidden when it is not a JSON object of strings."""
    parsed = _parsed_headers(headers)
    if parsed is None:
        return headers if not headers.strip() or headers.strip() == "[]" or is_redacted(headers) else REDACTED
    return _dumped({name: REDACTED if value else value for name, value in parsed.items()})


def _restored_headers(headers: str, stored: str) -> str:
    if is_redacted(headers):
        return stored
    parsed, known = _parsed_headers(headers), _parsed_headers(stored)
    if parsed is None or known is None or not any(is_redacted(value) for value in parsed.values()):
        return headers
    values = {name.lower(): value for name, value in known.items()}
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


def texts(hidden: list[tuple[Path, Any]]) -> Iterator[str]:
    """The secrets alone, as texts."""
    return (str(value) for _, value in hidden)
