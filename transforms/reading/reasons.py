"""Why input was refused, in numbers: the reasons by their kind, how often each was met, and one place of each.

A reason's kind is its field and its rule, not the value: that `seq` is in quotes is one kind, whatever is in the quotes
and whichever response it is in. Where what was refused has the look of something well known, that is part of the kind.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import orjson

from schemas import Activity

MOST_KINDS = 64
"""How many kinds of reasons are kept. Few inputs have more than a handful; beyond, the rarest are counted together."""

_NAME_LENGTH = 80
"""Characters of the name of a kind, at most."""

_LOOKED_AT = 4096
"""Bytes of refused content that are looked at for a guess, unless it is JSON."""


Unit = Literal["line", "row", "element"]


class Place(msgspec.Struct, frozen=True):
    """Where something was refused, and what it was told.

    start: where the part of the file begins that was read by one worker: a byte offset, or 0.
    position: as the reject has it: byte offset of a line, or index of an element or row.
    line: the number of the line, counted from 1 in that part; None where the file is not read by lines.
    unit: what `position` counts where there is no line.
    reason: the whole reason, with the value.
    """

    file: str
    start: int
    position: int
    line: int | None
    unit: Unit
    field: str | None
    reason: str

    def comes_before(self, other: "Place") -> bool:
        """Whether it is the first of the two, by file and position."""
        return (self.file, self.position, self.reason) < (other.file, other.position, other.reason)


class Reason(msgspec.Struct):
    """One kind: how often it was met, and the first of its places, by file and position."""

    field: str | None
    rule: str
    guess: str | None
    count: int
    first: Place


class Reasons(msgspec.Struct):
    """The reasons of a part of the input, by kind; they add up.

    others: rejects of kinds that were too many to keep.
    """

    kinds: dict[str, Reason] = {}
    others: int = 0

    def add(self, place: Place, rule: str, guess: str | None, count: int = 1) -> None:
        """Count a reject, which may hold several rows."""
        field = _INDEX.sub("[]", place.field) if place.field else None
        # What looks like something else is refused for what happens to be missing in it first.
        key = guess or f"{field}\0{rule}"
        known = self.kinds.get(key)
        if known is None:
            self.kinds[key] = Reason(field, rule, guess, count, place)
            self._trim()
        else:
            known.count += count
            if place.comes_before(known.first):
                known.first = place

    def __add__(self, other: "Reasons") -> "Reasons":
        if not other.kinds and not other.others:
            return self
        whole = Reasons(dict(self.kinds), self.others + other.others)
        for key, reason in other.kinds.items():
            known = whole.kinds.get(key)
            if known is not None:
                first = reason.first if reason.first.comes_before(known.first) else known.first
                reason = Reason(reason.field, reason.rule, reason.guess, reason.count + known.count, first)
            whole.kinds[key] = reason
        whole._trim()
        return whole

    def commonest(self) -> list[Reason]:
        """All that are kept, the commonest first."""
        return [reason for _, reason in sorted(self.kinds.items(), key=_rank)]

    def _trim(self) -> None:
        if len(self.kinds) > MOST_KINDS:
            ranked = sorted(self.kinds.items(), key=_rank)
            self.others += sum(reason.count for _, reason in ranked[MOST_KINDS:])
            self.kinds = dict(ranked[:MOST_KINDS])


def _rank(kind: tuple[str, Reason]) -> tuple[int, str, int, str]:
    key, reason = kind
    return -reason.count, reason.first.file, reason.first.position, key


_INDEX = re.compile(r"\[[^\]]*\]")
_PATH = re.compile(r"([a-z_A-Z$][\w.$]*(?:\[[^\]]*\][\w.$]*)*): (?=\S)", re.ASCII)
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_DIGITS = re.compile(r"\d+")


def field_and_rule(reason: str) -> tuple[str | None, str]:
    """The field and the rule of a reason that is known as text only: `field: what is wrong`, without the values."""
    path = _PATH.match(reason)
    rest = reason[path.end() :] if path else reason
    return path[1] if path else None, _DIGITS.sub("#", _VALUE.sub("...", rest))[:200]


def name_of(field: str | None, rule: str) -> str:
    """What the board calls a kind of reasons: the field and the rule, without values."""
    named = f"{_INDEX.sub('[]', field)}: {rule}" if field else rule
    return named[:_NAME_LENGTH].rstrip()


_NAMES = {re.sub("_", "", name): name for name in Activity.__struct_fields__}
_REQUIRED = frozenset({"record_id", "user_id", "session_id", "activity_id", "action", "occurred_at"})

_STYLES = {
    "camelCase": re.compile(r"[a-z][a-zA-Z]*[A-Z][a-zA-Z]*"),
    "CapitalCase": re.compile(r"[A-Z][a-z]+[a-zA-Z]*"),
    "kebab-case": re.compile(r"[a-z\-]*-[a-z\-]*"),
    "capitals": re.compile(r"[A-Z_\-]+"),
}

_XAPI = "xAPI statements: give --input_format xapi"
_ANSWER = "an LRS's answer, with statements in it: give --input_format xapi"
_UTF_16 = "UTF-16: convert it to UTF-8, such as with iconv -f UTF-16 -t UTF-8"
_UTF_32 = "UTF-32: convert it to UTF-8, such as with iconv -f UTF-32 -t UTF-8"
_BYTES = (
    (b"\xff\xfe\0\0", _UTF_32),
    (b"\0\0\xfe\xff", _UTF_32),
    (b"\xff\xfe", _UTF_16),
    (b"\xfe\xff", _UTF_16),
    (b"PK\x03\x04", "a zip archive (or .xlsx): unpack it, and give the files in it"),
    (b"Obj\x01", "an Avro file: name it .avro, or give --file_format avro"),
    (b"PAR1", "a Parquet file: name it .parquet, or give --file_format parquet"),
    (b"%PDF", "a PDF document"),
)
_MARKUP = (
    (b"<!doctype html", "a page of HTML, such as one that asks to log in: download the file again"),
    (b"<html", "a page of HTML, such as one that asks to log in: download the file again"),
    (b"<?xml", "XML, such as the error of a storage service: download the file again"),
    (b"<error", "XML, such as the error of a storage service: download the file again"),
)


def guess(content: bytes) -> str | None:
    """What `content`, the bytes of refused activity, looks like, and what to do about that. None: nothing known."""
    return _guess(content, _guess_of_object)


def guess_of_statement(content: bytes) -> str | None:
    """As `guess`, where xAPI statements are read."""
    return _guess(content, _guess_where_statements_are_read)


def _guess(content: bytes, guess_of_object: Callable[[Mapping[str, Any]], str | None]) -> str | None:
    content = content.removeprefix(b"\xef\xbb\xbf")
    text = content.lstrip()
    if text[:1] not in (b"{", b"["):
        return next((told for magic, told in _BYTES if content.startswith(magic)), None) or _guess_of_text(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _guess_of_text(text)
    if isinstance(value, list):
        value = next((entry for entry in value if isinstance(entry, dict)), None)
    return guess_of_object(value) if isinstance(value, dict) else None


def _guess_of_text(text: bytes) -> str | None:
    head = text[:_LOOKED_AT]
    lower = head[:64].lower()
    for beginning, told in _MARKUP:
        if lower.startswith(beginning):
            return told
    zeros = [not byte for byte in head[:4]]
    if zeros in ([True, False, True, False], [False, True, False, True]):
        return _UTF_16
    if zeros in ([True, True, True, False], [False, True, True, True]):
        return _UTF_32
    if re.match(rb"\{\s*u?'", head):
        return "a dict as Python prints it: write it with json.dumps"
    if re.match(rb"\{\s*[A-Za-z_]\w*\s*:", head):
        return "JavaScript, not JSON: names need double quotes"
    first_line = head.split(b"\n", 1)[0]
    if (
        head[:1] not in (b"{", b"[")
        and b"\0" not in head
        and b'":' not in first_line  # JSON, with something before it
        and b'\\":' not in first_line  # JSON as text in JSON
        and max(first_line.count(mark) for mark in (b",", b";", b"\t")) >= len(_REQUIRED) - 1
    ):
        return "CSV: convert it to JSON Lines, with the names of the columns in every line"
    return None


def _guess_of_object(value: Mapping[str, Any]) -> str | None:
    if value.keys() >= _REQUIRED:
        return None
    return _guess_of_xapi(value) or _guess_of_others(value) or _guess_of_names(value)


def _guess_where_statements_are_read(value: Mapping[str, Any]) -> str | None:
    if value.keys() >= _REQUIRED:
        return "session activity: leave --input_format xapi out"
    return _guess_of_others(value) if "verb" not in value else None


def _guess_of_xapi(value: Mapping[str, Any]) -> str | None:
    if "actor" in value and "verb" in value and "object" in value:
        return _XAPI
    if isinstance(value.get("statements"), list):
        return _ANSWER
    hits = value.get("hits")
    if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
        return "an answer of Elasticsearch: give --input_format xapi if its hits are xAPI statements"
    for name in ("statement", "_source"):
        inner = value.get(name)
        if isinstance(inner, dict) and ("verb" in inner or "statement" in inner):
            exported = (
                "a mongoexport of an LRS" if isinstance(value.get("_id"), dict) else "xAPI statements in an envelope"
            )
            return f"{exported}: give --input_format xapi"
    if isinstance(value.get("verb"), dict) and "id" in value["verb"]:
        return _XAPI
    return None


def _guess_of_others(value: Mapping[str, Any]) -> str | None:
    if "meta" in value and "data" in value:
        return (
            "an answer of Learnosity's Data API: what is in its data are results of sessions, not activity "
            "(docs/spec/records.md section 1 says what activity is)"
        )
    context = value.get("@context")
    if isinstance(context, str) and "caliper" in context.lower():
        return "IMS Caliper events, which are not read"
    if isinstance(value.get("Records"), list):
        return "an event of AWS Lambda: give what its records hold"
    if str(value.get("event", "")).startswith("session-") or value.keys() >= {"num_attempted", "dt_started"}:
        return "messages that this job derives, not the activity that it derives them from"
    if any(isinstance(entry, dict) and any(name.startswith("$") for name in entry) for entry in value.values()):
        return "a mongoexport of documents that are no session activity"
    return None


def _guess_of_names(value: Mapping[str, Any]) -> str | None:
    spelled = {_NAMES.get(re.sub(r"[\s_\-]", "", name).lower()): name for name in value}
    found = [name for name in Activity.__struct_fields__ if name in _REQUIRED - value.keys() and name in spelled]
    if not found:
        return None
    named = "".join(spelled[name] for name in found)
    style = next((style for style, form in _STYLES.items() if form.fullmatch(named)), "another case")
    shown = ", ".join(f"{spelled[name][:40]} is {name}" for name in found)
    return f"names in {style}, which need to be renamed: {shown}"
