"""Reading forwarder documents: a JSON array, JSON Lines, or a directory of files, as bytes that the caller opened."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from transforms.forwarders.model import Fault

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document and its place in its source. `duplicates` are the paths of keys that occur twice."""

    where: str
    content: JsonObject = field(repr=False)
    duplicates: tuple[str, ...] = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a forwarder document holds secrets and does not pickle: read it on the worker instead")


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of one source; `faults` tells what in it could not be read as documents."""

    documents: tuple[Document, ...]
    faults: tuple[Fault, ...]
    digest: str


class _Object(JsonObject):
    """A JSON object that remembers which of its keys came twice."""

    __slots__ = ("twice",)

    twice: tuple[str, ...]


def read_documents(files: Mapping[str, bytes]) -> Documents:
    """The forwarder documents in `files` (name to content): each holds an array, JSON Lines, or one document.

    What cannot be read is a fault with its file and line; the rest is read all the same, so that every fault shows.
    """
    documents: list[Document] = []
    faults: list[Fault] = []
    unread: list[bytes] = []
    for name in sorted(files):
        found, wrong = _read(name, files[name])
        documents += found
        faults += wrong
        if wrong:
            unread.append(files[name])
    return Documents(tuple(documents), tuple(faults), _digest(documents, unread))


def documents_from(contents: Iterable[JsonObject], where: str) -> Documents:
    """Documents that a service or a database handed over already parsed. `where` names it."""
    documents = [Document(f"{where}[{index}]", content) for index, content in enumerate(contents)]
    return Documents(tuple(documents), (), _digest(documents, ()))


def _digest(documents: Iterable[Document], unread: Iterable[bytes]) -> str:
    # The order of keys stays: it means something inside a query. White space, file names and the order of the
    # documents do not, so a copy of the same set elsewhere has the same digest.
    parts = [json.dumps(document.content, separators=(",", ":")).encode() for document in documents]
    digests = sorted(hashlib.sha256(part).digest() for part in (*parts, *unread))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _read(name: str, data: bytes) -> tuple[list[Document], list[Fault]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [Fault(None, name, "", f"is not UTF-8 text (byte {error.start})")]
    if not text.strip():
        return [], [Fault(None, name, "", "is empty: expected forwarder documents as JSON")]
    if text.lstrip()[0] == "[":
        return _read_array(name, text)
    values, problem = _read_values(text)
    if problem is None:
        if len(values) == 1:
            return _documents([(name, values[0])])
        return _documents((f"{name}[{index}]", value) for index, value in enumerate(values))
    return _read_lines(name, text, problem)


def _read_lines(name: str, text: str, problem: str) -> tuple[list[Document], list[Fault]]:
    """JSON Lines of which some are broken: each good line counts. `problem` is what the whole suffers from."""
    good: list[tuple[str, object]] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            good.append((where, _loads(line)))
        except (ValueError, RecursionError) as error:
            faults.append(Fault(None, where, "", f"is not JSON: {_reason(error)}"))
    if not any(isinstance(value, dict) for _, value in good):
        # One document over many lines: the fault of the whole says more than one fault a line.
        return [], [Fault(None, name, "", problem)]
    documents, wrong = _documents(good)
    return documents, faults + wrong


def _read_array(name: str, text: str) -> tuple[list[Document], list[Fault]]:
    """The elements of a JSON array; those before a syntax error count, so that their faults show too."""
    values: list[tuple[str, object]] = []
    position = _skip_blank(text, text.index("[") + 1)
    fault: str | None = None
    try:
        if text[position : position + 1] != "]":
            while True:
                value, end = _DECODER.raw_decode(text, position)
                values.append((f"{name}[{len(values)}]", value))
                position = _skip_blank(text, end)
                if text[position : position + 1] != ",":
                    break
                position = _skip_blank(text, position + 1)
        if text[position : position + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        position = _skip_blank(text, position + 1)
        if position != len(text):
            raise json.JSONDecodeError("Extra data after the array", text, position)
    except (ValueError, RecursionError) as error:
        fault = f"is not JSON: {_reason(error)}"
    documents, faults = _documents(values)
    return documents, [Fault(None, name, "", fault), *faults] if fault else faults


def _read_values(text: str) -> tuple[list[object], str | None]:
    """The JSON values that follow each other in `text`, or what is wrong."""
    values: list[object] = []
    position = _skip_blank(text, 0)
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            return values, f"is not JSON: {_reason(error)}"
        values.append(value)
        position = _skip_blank(text, end)
    return values, None


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _documents(values: Iterable[tuple[str, object]]) -> tuple[list[Document], list[Fault]]:
    documents: list[Document] = []
    faults: list[Fault] = []
    for where, value in values:
        if not isinstance(value, dict):
            faults.append(Fault(None, where, "", "is not a forwarder document: expected a JSON object"))
            continue
        duplicates: list[str] = []
        try:
            _inspect(value, "", duplicates)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(None, where, "", f"is not a forwarder document: {_reason(error)}"))
            continue
        documents.append(Document(where, value, tuple(duplicates)))
    return documents, faults


def _inspect(value: object, path: str, duplicates: list[str]) -> None:
    """Notes the keys that came twice; raises ValueError for text that has no UTF-8 form."""
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict):
        for key in getattr(value, "twice", ()):
            duplicates.append(f"{path}.{key}" if path else key)
        for key, member in value.items():
            _check_text(key, path)
            _inspect(member, f"{path}.{key}" if path else key, duplicates)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _inspect(member, f"{path}[{index}]", duplicates)


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the text at {path or 'its top'} holds half of a surrogate pair") from None


def _object(pairs: list[tuple[str, object]]) -> _Object:
    value = _Object(pairs)
    value.twice = ()
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice: list[str] = []
        for key, _ in pairs:
            if key in seen and key not in twice:
                twice.append(key)
            seen.add(key)
        value.twice = tuple(twice)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _loads(text: str) -> object:
    value: object = _DECODER.decode(text)
    return value


def _reason(error: Exception) -> str:
    # The decoder's own message holds the place, never the text around it, which may be a secret.
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def loads_strictly(text: str) -> tuple[object, tuple[str, ...]]:
    """The JSON value `text` and the paths of keys that occur twice in it. Raises ValueError."""
    duplicates: list[str] = []
    try:
        value = _loads(text)
        _inspect(value, "", duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value, tuple(duplicates)
