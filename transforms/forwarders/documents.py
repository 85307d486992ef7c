"""Reads forwarder documents from the bytes of files: a JSON array, JSON Lines, or documents that follow each other."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from schemas.json_values import JsonObject
from transforms.forwarders.model import Fault
from transforms.forwarders.values import DEPTH_MESSAGE
from transforms.query.parse import MAX_DEPTH


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document. It may hold secrets: its repr does not show the content, and it does not pickle.

    Attributes:
        where: its place in its source, for messages.
        duplicates: the paths of keys that occur twice in one object.
    """

    where: str
    content: JsonObject = field(repr=False)
    duplicates: tuple[str, ...] = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a forwarder document holds secrets and does not pickle: read it on the worker instead")


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of one source.

    Attributes:
        faults: what in the source could not be read as documents.
        digest: the same for the same documents, however they are laid out in files.
        digests: of each document, in the order of `documents`.
    """

    documents: tuple[Document, ...]
    faults: tuple[Fault, ...]
    digest: str
    digests: tuple[bytes, ...]


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys came twice."""

    __slots__ = ("twice",)

    twice: tuple[str, ...]


def read_documents(files: Mapping[str, bytes]) -> Documents:
    """Read the forwarder documents in files.

    What cannot be read is a fault with its file and line. The rest is read all the same, so that every fault is told.

    Args:
        files: contents by name. Each holds an array of documents, JSON Lines, or one document.
    """
    documents: list[Document] = []
    faults: list[Fault] = []
    unread: list[bytes] = []
    for name in sorted(files):
        read, file_faults = _read(name, files[name])
        documents += read
        faults += file_faults
        if file_faults:
            unread.append(files[name])
    return _with_digests(documents, faults, unread)


def documents_from(contents: Iterable[JsonObject], where: str) -> Documents:
    """Documents that are parsed already.

    One that cannot be used is a fault of its own, so that it does not take the others with it.

    Args:
        contents: the documents.
        where: the service or the database that they are from, for messages.
    """
    documents, faults = _documents((f"{where}[{index}]", content) for index, content in enumerate(contents))
    return _with_digests(documents, faults, [str(fault).encode() for fault in faults])


def _with_digests(documents: Iterable[Document], faults: Iterable[Fault], unread: Iterable[bytes]) -> Documents:
    # The order of keys counts, since it means something inside of a query. White space, names of files and the order of
    # documents do not count, so that a copy of the same set elsewhere has the same digest.
    documents = tuple(documents)
    parts = (json.dumps(document.content, separators=(",", ":")).encode() for document in documents)
    digests = tuple(hashlib.sha256(part).digest() for part in parts)
    of_unread = (hashlib.sha256(part).digest() for part in unread)
    return Documents(documents, tuple(faults), digest_of((*digests, *of_unread)), digests)


def digest_of(digests: Iterable[bytes]) -> str:
    """The digest of a set of documents, of the digests of each: their order does not count."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


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
    """Read JSON Lines of which some are broken; `problem` is what is wrong with the text as a whole."""
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
        # It is one document over many lines. What is wrong with the whole says more than a fault for each line.
        return [], [Fault(None, name, "", problem)]
    documents, wrong = _documents(good)
    return documents, faults + wrong


def _read_array(name: str, text: str) -> tuple[list[Document], list[Fault]]:
    """Read the elements of a JSON array. Those before a syntax error are read too, so that their faults are told."""
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
    """The JSON values that follow each other in a text, and what is wrong with the rest of it, if anything."""
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
            _inspect(value, "", 1, duplicates)
        except ValueError as error:
            faults.append(Fault(None, where, "", f"is not a forwarder document: {error}"))
            continue
        documents.append(Document(where, value, tuple(duplicates)))
    return documents, faults


def _inspect(value: object, path: str, depth: int, duplicates: list[str]) -> None:
    """Add the paths of keys that came twice to `duplicates`.

    Raises:
        ValueError: a text has no UTF-8 form, or the value is nested too deeply.
    """
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise ValueError(f"it {DEPTH_MESSAGE}")
    elif isinstance(value, dict):
        for key in getattr(value, "twice", ()):
            duplicates.append(f"{path}.{key}" if path else key)
        for key, member in value.items():
            _check_text(key, path)
            _inspect(member, f"{path}.{key}" if path else key, depth + 1, duplicates)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _inspect(member, f"{path}[{index}]", depth + 1, duplicates)


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


def _whole_number(digits: str) -> int | float:
    # Python refuses to read numbers of thousands of digits. Like any number that is too large it becomes an infinity,
    # which is a fault of the document that holds it.
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


_MOST_DIGITS = 400
"""Digits of the longest whole number that is read as one. A double holds none of more than 309."""

_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_whole_number)
_LENIENT = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole_number)
"""Takes NaN and infinities too, for answers of services: they are a fault of one document, and not of all."""


def _loads(text: str) -> object:
    value: object = _DECODER.decode(text)
    return value


def _reason(error: Exception) -> str:
    # The decoder's message holds the place, and never the text around it, which may be a secret.
    return f"it {DEPTH_MESSAGE}" if isinstance(error, RecursionError) else str(error)


def loads_strictly(text: str) -> tuple[object, tuple[str, ...]]:
    """Parse JSON that some client has written.

    Returns:
        The value, and the paths of keys that occur twice in one object.

    Raises:
        ValueError: the text is not JSON, holds NaN or an infinity, has no UTF-8 form, or is nested too deeply.
    """
    duplicates: list[str] = []
    try:
        value = _loads(text)
    except RecursionError as error:
        raise ValueError(_reason(error)) from None
    _inspect(value, "", 1, duplicates)
    return value, tuple(duplicates)


def loads_leniently(text: str) -> object:
    """Parse the answer of a service. What is wrong with one of its documents is for `documents_from` to find.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply to be read at all.
    """
    try:
        value: object = _LENIENT.decode(text)
    except RecursionError as error:
        raise ValueError(_reason(error)) from None
    return value
